import { openSystem } from 'p2pdma';
import {
  atLeast,
  atMost,
  type Competitor,
  type Figure,
  median,
  type Ratio,
  type Result,
  race,
  ratio,
  ratioOfSums,
  type Settings,
} from '../harness.js';
import { floorCold, ourCold } from './cold.js';
import { cp } from './cp.js';
import { dd } from './dd.js';
import { type Devices, openDevices } from './devices.js';
import { withEventLoopDelay } from './event-loop.js';
import { fioRandomReads, fioReadAndWrite } from './fio.js';
import { fsStreams } from './fs-streams.js';
import { fsDownload, ourDownload } from './http.js';
import { ourPipe, ourPipeline } from './ours.js';
import { openPipes } from './pipe.js';
import { ourRandomReads } from './random-reads.js';
import { ringCopies, ringCopy, withRingCopy } from './ring-copy.js';
import { rssGrowth } from './rss.js';
import { run } from './run.js';
import { openSmallFiles } from './small-files.js';
import { emptyModule, importing, nothing, version } from './start-up.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const WARM_UP = 4;
/** What is copied where a fresh process copies it. */
const COLD_BYTES = 512 * MIB;

/**
 * The native figures: copying one device to another, against the tools people have, and against fio as the ceiling of
 * this machine. Competitors of one part run in turn; CPU time is more robust than wall time on a shared machine.
 */
export async function figures({ rounds, only, log }: Settings): Promise<Figure[]> {
  await run('fio', ['--version'], 'fio');
  const system = await openSystem({ backend: 'native' });
  const devices = await openDevices(Number(process.env.P2PDMA_BENCH_BYTES ?? 2 * GIB));
  log(devices.words);
  const report: Figure[] = [];
  try {
    // V8 compiles for as long as it takes to copy some GiB: about 0.15 s of CPU time, once per process.
    for (let i = 0; i < WARM_UP; i++) await ourPipe(system, devices, { chunk: 128 * KIB }).run();
    for (const [name, part] of Object.entries(parts)) {
      if (!name.includes(only)) continue;
      log(name);
      report.push(...(await part({ system, devices, rounds, log })));
    }
  } finally {
    await system.close();
    await devices.close();
  }
  return report;
}

interface Bench {
  readonly system: Awaited<ReturnType<typeof openSystem>>;
  readonly devices: Devices;
  readonly rounds: number;
  readonly log: Settings['log'];
}

const parts: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  async rss({ system, devices }) {
    await ourPipe(system, devices).run();
    const passes = 4;
    const growth = await rssGrowth(system, devices, passes);
    const length = (passes * devices.bytes) / GIB;
    return [atMost(`RSS growth over ${length} GiB, beyond the pool`, growth, 16, 'MiB')];
  },

  async tools({ system, devices, rounds, log }) {
    const [rivalDd, rivalCp] = [dd(devices), cp(devices)];
    const [rivalDefault, rivalMib] = [fsStreams(devices), fsStreams(devices, MIB)];
    const [mib, ours, pipeline] = [
      ourPipe(system, devices, { chunk: MIB }),
      ourPipe(system, devices),
      ourPipeline(system, devices),
    ];
    const fio = fioReadAndWrite(devices, MIB, 8);
    const rivals = [rivalDd, mib, fio, rivalCp, ours, rivalDefault, pipeline, rivalMib];
    const results = await race(rivals, rounds);
    tell(results, devices, log);
    log(
      `  the ceiling against dd: ${ratio(results, rivalDd, fio).value.toFixed(2)} ×; no copy can be faster`,
    );
    return [
      atLeast('pipe, 1 MiB, against dd', ratio(results, rivalDd, mib), 1.5),
      atLeast('pipe, 1 MiB, against fs streams at 1 MiB', ratio(results, rivalMib, mib), 3),
      atLeast('pipe against fs streams, each at its default', ratio(results, rivalDefault, ours), 10),
      atLeast('pipe, default, against cp', ratio(results, rivalCp, ours), 1),
      atLeast('pipeline() against pipe, each at its default', ratio(results, ours, pipeline), 0.95),
    ];
  },

  ceiling1m: (bench) => ceiling(bench, { chunk: MIB, depth: 8 }, { speed: 1, userCpu: 2 }),
  ceiling128k: (bench) => ceiling(bench, { chunk: 128 * KIB, depth: 8 }, { speed: 0.97, userCpu: 1.5 }),
  ceiling64k: (bench) => ceiling(bench, { chunk: 64 * KIB, depth: 8 }, { speed: 0.95, userCpu: 1.5 }),
  ceiling4k: (bench) => ceiling(bench, { chunk: 4 * KIB, depth: 32 }, { speed: 0.9, userCpu: null }),

  async concurrent({ system, devices, rounds, log }) {
    const pipes = [1, 2, 4].map((n) => ourPipe(system, devices, { pipes: n }));
    const results = await race(pipes, rounds);
    tell(results, devices, log);
    const [one, two, four] = pipes as [Competitor, Competitor, Competitor];
    return [
      atLeast('2 pipes at once, in sum, against 1', ratio(results, one, two), 0.9),
      atLeast('4 pipes at once, in sum, against 1', ratio(results, one, four), 0.9),
    ];
  },

  async delay({ system, devices, rounds, log }) {
    const pumps = withEventLoopDelay(ourPipe(system, devices, { pipes: 4 }));
    const [results, aside] = await withRingCopy(async (program) => {
      const inC = ringCopies(program, devices, { chunk: 512 * KIB, depth: 8, count: 4 });
      const aside = withEventLoopDelay(inC);
      return [await race([aside, pumps], rounds), aside] as const;
    });
    const delay = ({ name }: Competitor, of: 'delayMs' | 'idleMs' | 'busyMs' | 'longestMs'): Ratio => {
      const all = results.get(name)!.runs.map((run) => run[of]!);
      return { value: median(all), low: Math.min(...all), high: Math.max(...all) };
    };
    log(`  of an idle event loop: ${delay(pumps, 'idleMs').value.toFixed(2)} ms`);
    log(
      `  of an idle event loop while four C programs copy: ${delay(aside, 'delayMs').value.toFixed(2)} ms, of it busy ${delay(aside, 'busyMs').value.toFixed(2)} ms`,
    );
    log(`  the longest time that the loop was busy: ${delay(pumps, 'longestMs').value.toFixed(2)} ms`);
    return [
      atMost('event loop delay, p99, during four copies', delay(pumps, 'delayMs'), 1, 'ms'),
      atMost('of it, p99 of the time it was busy', delay(pumps, 'busyMs'), 1, 'ms'),
    ];
  },

  async small({ system, rounds, log }) {
    const files = openSmallFiles(system);
    log(`  ${files.words}`);
    const report: Figure[] = [];
    try {
      for (const atOnce of [1, 16]) {
        const { fs, fsByNode, pipeline, pipe, node } = files.copying(atOnce);
        const copied = await race([fs, fsByNode, pipeline, pipe, node], rounds);
        const [time, cpu] = [ratio(copied, fsByNode, fs), ratioOfSums(copied, fsByNode, fs, 'cpu')];
        log(
          `  ${fsByNode.name}: ${time.value.toFixed(2)} × the time, ${cpu.value.toFixed(2)} × the CPU of its pipe`,
        );
        for (const ours of [pipeline, pipe, node]) {
          report.push(
            atMost(`64 KiB file, ${ours.name}: time against fs streams`, ratio(copied, ours, fs), 0.8),
            atMost(`64 KiB file, ${ours.name}: CPU`, ratioOfSums(copied, ours, fs, 'cpu'), 0.8),
          );
        }
        const { fs: reader, ours } = files.reading(atOnce);
        const read = await race([reader, ours], rounds);
        report.push(
          atMost(`64 KiB file, ${ours.name}: time against fs streams`, ratio(read, ours, reader), 1),
          atMost(`64 KiB file, ${ours.name}: CPU`, ratioOfSums(read, ours, reader, 'cpu'), 1),
        );
      }
    } finally {
      files.close();
    }
    return report;
  },

  async http({ system, devices, rounds, log }) {
    const report: Figure[] = [];
    const bytes = Math.min(devices.bytes, COLD_BYTES);
    for (const chunk of [64 * KIB, 512 * KIB]) {
      for (const clients of [1, 20]) {
        const downloads = { clients, bytes, chunk };
        const [fs, ours] = [fsDownload(devices, downloads), ourDownload(system, devices, downloads)];
        const results = await race([fs, ours], rounds);
        tell(results, { ...devices, bytes }, log);
        const what = `HTTP against node:fs, ${chunk / KIB} KiB, ${clients} client${clients > 1 ? 's' : ''}`;
        report.push(
          atLeast(`${what}: throughput`, ratio(results, fs, ours), 1.2),
          atMost(`${what}: CPU`, ratioOfSums(results, ours, fs, 'cpu'), 0.8),
        );
      }
    }
    return report;
  },

  async pipe({ devices, rounds, log }) {
    const pipes = openPipes(devices.bytes);
    try {
      const { into, out } = pipes;
      const written = await race([into.ours, into.dd], rounds);
      const read = await race([out.ours, out.dd], rounds);
      for (const results of [written, read]) tell(results, devices, log);
      return [
        atLeast('copy - FILE against dd from the same pipe', ratio(written, into.dd, into.ours), 0.9),
        atLeast('copy FILE - against dd into the same pipe', ratio(read, out.dd, out.ours), 0.9),
      ];
    } finally {
      pipes.close();
    }
  },

  async start({ rounds, log }) {
    const results = await race([nothing, version, emptyModule, importing], rounds);
    for (const { name, userCpu, runs } of results.values()) {
      const cpu = median(runs.map((run) => run.cpu!));
      log(
        `  ${name}: ${(userCpu * 1000).toFixed(0)} ms of user CPU, ${(cpu * 1000).toFixed(0)} with the kernel's`,
      );
    }
    const [whole, empty] = [results.get(importing.name)!.runs, results.get(emptyModule.name)!.runs];
    const beyond = whole.map((run, i) => (run.cpu! - empty[i]!.cpu!) * 1000);
    const cost = { value: median(beyond), low: Math.min(...beyond), high: Math.max(...beyond) };
    return [
      atMost('user CPU of p2pdma --version against node -e 0', ratioOfSums(results, version, nothing), 1.5),
      atMost("CPU of import 'p2pdma', beyond an empty module", cost, 60, 'ms'),
    ];
  },

  async random({ system, devices, rounds, log }) {
    const [fio, ours] = [fioRandomReads(devices, 32, 2), ourRandomReads(system, devices, 32, 2)];
    const results = await race([fio, ours], rounds);
    const iops = ({ name }: Competitor) => results.get(name)!.figures.iops!;
    for (const rival of [fio, ours]) {
      const micros = (results.get(rival.name)!.userCpu / (iops(rival) * 2)) * 1e6;
      log(`  ${rival.name}: ${Math.round(iops(rival))} IOPS, ${micros.toFixed(2)} µs of user CPU each`);
    }
    return [atLeast('random reads, 4 KiB, depth 32, against fio', ratio(results, ours, fio, 'iops'), 0.5)];
  },
};

/**
 * `pipeline()` without a flush, against fio reading and writing at once: in a fresh process, with and without the look at the
 * machine that its first call needs, and warmed up in this one. Beside it is what a plain program in C reaches.
 */
async function ceiling(
  { system, devices, rounds, log }: Bench,
  { chunk, depth }: { chunk: number; depth: number },
  goals: { speed: number; userCpu: number | null },
): Promise<Figure[]> {
  const bytes = Math.min(devices.bytes, COLD_BYTES);
  const part = { ...devices, bytes };
  const fio = fioReadAndWrite(part, chunk, depth);
  const ours: [string, Competitor][] = [
    ['cold', ourCold(part, { bytes, chunk, depth, opened: false })],
    ['machine known', ourCold(part, { bytes, chunk, depth, opened: true })],
    ['warm', ourPipeline(system, part, { chunk, depth, flush: false })],
  ];
  const floor = floorCold(part, { bytes, chunk, depth });
  const [results, inC] = await withRingCopy(async (program) => {
    const inC = ringCopy(program, part, chunk, depth);
    const all = [fio, inC, floor, ...ours.map(([, competitor]) => competitor)];
    return [await race(all, rounds), inC] as const;
  });
  tell(results, part, log);
  const plain = ratio(results, fio, inC);
  log(`  io_uring in C: ${inWords(plain)} × fio`);
  const least = ratioOfSums(results, floor, fio);
  log(
    `  the addon alone, cold: ${inWords(ratio(results, fio, floor))} × fio, ${least.value.toFixed(2)} × its user CPU`,
  );
  for (const [how, competitor] of ours)
    log(`  ${how}: ${inWords(ratio(results, inC, competitor))} × that program`);
  const at = `${chunk / KIB} KiB, depth ${depth}`;
  return ours.flatMap(([how, competitor]) => {
    const speed = ratio(results, fio, competitor);
    const figures = [atLeast(`copy against fio, ${at}, ${how}`, speed, goals.speed)];
    const userCpu = ratioOfSums(results, competitor, fio);
    const cpu = ratioOfSums(results, competitor, fio, 'cpu');
    log(`  ${how}: ${cpu.value.toFixed(2)} × the CPU time of fio, the kernel's included`);
    if (goals.userCpu !== null) figures.push(atMost(`user CPU against fio, ${how}`, userCpu, goals.userCpu));
    return figures;
  });
}

function inWords({ value, low, high }: Ratio): string {
  return `${value.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
}

function tell(results: Map<string, Result>, { bytes }: Devices, log: Settings['log']): void {
  for (const { name, seconds, userCpu, runs } of results.values()) {
    const rate = (bytes / GIB / seconds).toFixed(2);
    const best = (bytes / GIB / Math.min(...runs.map((run) => run.seconds!))).toFixed(2);
    const cpu = ((userCpu * 1000 * GIB) / bytes).toFixed(1);
    log(`  ${name}: ${rate} GiB/s, best ${best}, ${cpu} ms of user CPU per GiB here`);
  }
}
