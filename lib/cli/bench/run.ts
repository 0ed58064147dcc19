/** What `p2pdma bench` measures: the same transfers through CMB memory and through host memory, in turn. */
import { pipeline, type System, type Target } from '../../index.js';

export type Way = 'p2p' | 'host';

/** One run of one way. */
export interface Sample {
  readonly bytes: number;
  readonly seconds: number;
  /** CPU time of this process, in seconds. */
  readonly userCpu: number;
  readonly systemCpu: number;
}

/** Medians over the rounds. */
export interface WayResult {
  readonly bytesPerSecond: number;
  readonly cpuSecondsPerGiB: number;
  readonly userCpuSecondsPerGiB: number;
  readonly samples: readonly Sample[];
}

export interface BenchRow {
  /** `'read nvme0n1'`, `'copy nvme0n1 → nvme1n1'` */
  readonly what: string;
  readonly chunk: number;
  /** Null: no peer-to-peer route. */
  readonly p2p: WayResult | null;
  readonly host: WayResult;
  /** Speed of P2P over that of host memory: the median of the quotients of each round. */
  readonly ratio: number | null;
  /** `'same'`: not every round agrees. */
  readonly faster: Way | 'same' | null;
}

export interface BenchSettings {
  readonly chunks: readonly number[];
  readonly bytes: number;
  readonly depth: number;
  readonly rounds: number;
}

/** Something that can be done either way. */
export interface Job {
  readonly what: string;
  /** How many bytes there are to move at most. */
  readonly size: number;
  run(way: Way, chunk: number, bytes: number): Promise<void>;
}

const GIB = 2 ** 30;

/** Run a job both ways, in turn, after one round each that is not counted; the way that begins changes each round. */
export async function compare(
  job: Job,
  chunk: number,
  p2pPossible: boolean,
  { bytes: wanted, rounds }: BenchSettings,
): Promise<BenchRow> {
  const bytes = Math.max(chunk, Math.floor(Math.min(wanted, job.size) / chunk) * chunk);
  const samples: Record<Way, Sample[]> = { p2p: [], host: [] };
  for (let round = 0; round <= rounds; round++) {
    const ways: Way[] = round % 2 === 0 ? ['p2p', 'host'] : ['host', 'p2p'];
    for (const way of ways) {
      if (way === 'p2p' && !p2pPossible) continue;
      const cpu = process.cpuUsage();
      const began = performance.now();
      await job.run(way, chunk, bytes);
      const seconds = (performance.now() - began) / 1000;
      const { user, system } = process.cpuUsage(cpu);
      if (round > 0) samples[way].push({ bytes, seconds, userCpu: user / 1e6, systemCpu: system / 1e6 });
    }
  }
  const quotients = samples.p2p.map((sample, i) => samples.host[i]!.seconds / sample.seconds);
  return {
    what: job.what,
    chunk,
    p2p: p2pPossible ? summary(samples.p2p) : null,
    host: summary(samples.host),
    ratio: p2pPossible ? median(quotients) : null,
    faster: p2pPossible ? verdict(quotients) : null,
  };
}

/** All rounds but one in five must agree. */
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

/** Reads of a device into the CMB of `provider`, or into host memory. */
export function readJob(system: System, target: Target, provider: string | null, depth: number): Job {
  return {
    what: `read ${target.name}`,
    size: target.size,
    async run(way, chunk, bytes) {
      const memory = system.allocate(way === 'p2p' ? provider : null, chunk * depth);
      try {
        let next = 0;
        const lane = async (i: number) => {
          const view = memory.buffer.subarray(i * chunk, (i + 1) * chunk);
          while (next < bytes) {
            const at = next;
            next += chunk;
            await target.read(view, at);
          }
        };
        await Promise.all(Array.from({ length: depth }, (_, i) => lane(i)));
      } finally {
        memory.free();
      }
    },
  };
}

/** Copies from the first device to the others. Overwrites them. */
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
      await pipeline(source!, destinations, {
        system,
        end: bytes - 1,
        highWaterMark: chunk,
        queueDepth: depth,
        provider: way === 'p2p' ? provider! : 'none',
        requireP2p: way === 'p2p',
        flags: 'r+',
        force,
      });
    },
  };
}
