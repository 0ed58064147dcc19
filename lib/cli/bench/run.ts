/** What `p2pdma bench` measures: the same transfers through CMB memory and through host memory, alternately. */
import { P2pdmaError, pipeline, type System, type Target } from '../../index.js';

export type Way = 'p2p' | 'host';

/** One run over one route. */
export interface Sample {
  readonly bytes: number;
  readonly seconds: number;
  /** CPU time of this process, in seconds. */
  readonly userCpu: number;
  readonly systemCpu: number;
}

/** Medians over all rounds. */
export interface WayResult {
  readonly bytesPerSecond: number;
  readonly cpuSecondsPerGiB: number;
  readonly userCpuSecondsPerGiB: number;
  readonly samples: readonly Sample[];
}

export interface BenchRow {
  /** `'read nvme0n1'`, `'copy nvme0n1 → nvme1n1'` */
  readonly what: string;
  /** Chunk size in bytes. */
  readonly highWaterMark: number;
  /** Null: no peer-to-peer route. */
  readonly p2p: WayResult | null;
  readonly host: WayResult;
  /** Speed of peer to peer divided by that of host memory: the median of the quotients of all rounds. */
  readonly ratio: number | null;
  /** `'same'`: the rounds do not agree. */
  readonly faster: Way | 'same' | null;
}

export interface BenchSettings {
  readonly chunks: readonly number[];
  readonly bytes: number;
  readonly depth: number;
  readonly rounds: number;
}

/** A transfer that can be done over either route. */
export interface Job {
  readonly what: string;
  /** The maximum number of bytes to transfer. */
  readonly size: number;
  /** @returns how many bytes were moved */
  run(way: Way, chunk: number, bytes: number): Promise<number>;
}

const GIB = 2 ** 30;

/**
 * Run a job, which has a chunk at least, over both routes alternately, after one round each that is not counted. The route that
 * goes first changes each round.
 * @throws P2pdmaError ERR_SHORT_TRANSFER: a round moved less than it should, so there is nothing to compare
 */
export async function compare(
  job: Job,
  chunk: number,
  p2pPossible: boolean,
  { bytes: wanted, rounds }: BenchSettings,
): Promise<BenchRow> {
  const bytes = Math.floor(Math.min(wanted, job.size) / chunk) * chunk;
  const samples: Record<Way, Sample[]> = { p2p: [], host: [] };
  for (let round = 0; round <= rounds; round++) {
    const ways: Way[] = round % 2 === 0 ? ['p2p', 'host'] : ['host', 'p2p'];
    for (const way of ways) {
      if (way === 'p2p' && !p2pPossible) continue;
      const cpu = process.cpuUsage();
      const began = performance.now();
      const moved = await job.run(way, chunk, bytes);
      const seconds = (performance.now() - began) / 1000;
      const { user, system } = process.cpuUsage(cpu);
      if (moved !== bytes) {
        throw new P2pdmaError('ERR_SHORT_TRANSFER', `${job.what}: ${moved} of ${bytes} bytes were moved`, {
          hint: 'Measure a source that does not change meanwhile.',
        });
      }
      if (round > 0) samples[way].push({ bytes, seconds, userCpu: user / 1e6, systemCpu: system / 1e6 });
    }
  }
  const quotients = samples.p2p.map((sample, i) => samples.host[i]!.seconds / sample.seconds);
  return {
    what: job.what,
    highWaterMark: chunk,
    p2p: p2pPossible ? summary(samples.p2p) : null,
    host: summary(samples.host),
    ratio: p2pPossible ? median(quotients) : null,
    faster: p2pPossible ? verdict(quotients) : null,
  };
}

/** At least four rounds in five must agree. */
function verdict(quotients: readonly number[]): BenchRow['faster'] {
  const wins = quotients.filter((quotient) => quotient > 1).length;
  if (wins >= quotients.length * 0.8) return 'p2p';
  return wins <= quotients.length * 0.2 ? 'host' : 'same';
}

function summary(samples: readonly Sample[]): WayResult {
  const perGiB = (of: (sample: Sample) => number) =>
    median(samples.map((sample) => (of(sample) * GIB) / sample.bytes));
  return {
    bytesPerSecond: median(samples.map(({ bytes, seconds }) => bytes / seconds)),
    cpuSecondsPerGiB: perGiB(({ userCpu, systemCpu }) => userCpu + systemCpu),
    userCpuSecondsPerGiB: perGiB(({ userCpu }) => userCpu),
    samples,
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Reads a device into the CMB of `provider`, or into host memory. */
export function readJob(system: System, target: Target, provider: string | null, depth: number): Job {
  return {
    what: `read ${target.name}`,
    size: target.size,
    async run(way, chunk, bytes) {
      const memory = system.allocate(way === 'p2p' ? provider : null, chunk * depth);
      try {
        let next = 0;
        let moved = 0;
        const lane = async (i: number) => {
          const view = memory.buffer.subarray(i * chunk, (i + 1) * chunk);
          while (next < bytes) {
            const at = next;
            next += chunk;
            const got = await target.read(view, at);
            moved += got;
          }
        };
        await Promise.all(Array.from({ length: depth }, (_, i) => lane(i)));
        return moved;
      } finally {
        memory.free();
      }
    },
  };
}

/** Copies the first device to the others, and overwrites them. */
export function copyJob(
  system: System,
  [source, ...destinations]: readonly string[],
  provider: string | null,
  size: number,
  { depth, force }: { depth: number; force: boolean },
): Job {
  return {
    what: `copy ${source} → ${destinations.join(', ')}`,
    size,
    async run(way, chunk, bytes) {
      const receipt = await pipeline(source!, destinations, {
        system,
        end: bytes - 1,
        highWaterMark: chunk,
        queueDepth: depth,
        provider: way === 'p2p' ? provider! : 'none',
        requireP2p: way === 'p2p',
        flags: 'r+',
        force,
      });
      return receipt.bytes;
    },
  };
}
