import { openSystem } from 'p2pdma';
import {
  atLeast,
  atMost,
  type Competitor,
  type Figure,
  type Result,
  race,
  ratio,
  type Settings,
} from '../harness.js';
import { cp } from './cp.js';
import { dd } from './dd.js';
import { type Devices, openDevices } from './devices.js';
import { withEventLoopDelay } from './event-loop.js';
import { fioRandomReads, fioReadAndWrite } from './fio.js';
import { fsStreams } from './fs-streams.js';
import { ourPipe, ourPipeline } from './ours.js';
import { ourRandomReads } from './random-reads.js';
import { rssGrowth } from './rss.js';
import { run } from './run.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const WARM_UP = 4;

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
    return [atMost(`RSS growth over ${length} GiB, beyond the pool`, growth, 64, 'MiB')];
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
    log(`  the ceiling against dd: ${ratio(results, rivalDd, fio).toFixed(2)} ×; no copy can be faster`);
    return [
      atLeast('pipe, 1 MiB, against dd', ratio(results, rivalDd, mib), 1.5),
      atLeast('pipe, 1 MiB, against fs streams at 1 MiB', ratio(results, rivalMib, mib), 3),
      atLeast('pipe against fs streams, each at its default', ratio(results, rivalDefault, ours), 10),
      atLeast('pipe, default, against cp', ratio(results, rivalCp, ours), 1),
      atLeast('pipeline() against pipe, each at its default', ratio(results, ours, pipeline), 0.95),
    ];
  },

  ceiling1m: (bench) => ceiling(bench, MIB, 0.85),
  ceiling128k: (bench) => ceiling(bench, 128 * KIB, 0.75),

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
    const idle = withEventLoopDelay(fioReadAndWrite(devices, MIB, 8));
    const ours = withEventLoopDelay(ourPipe(system, devices));
    const results = await race([idle, ours], rounds);
    const delay = ({ name }: Competitor) => results.get(name)!.figures.delayMs!;
    log(`  of an idle event loop while fio runs: ${delay(idle).toFixed(2)} ms`);
    return [atMost('event loop delay, p99, during a copy', delay(ours), 5, 'ms')];
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

async function ceiling(
  { system, devices, rounds, log }: Bench,
  chunk: number,
  goal: number,
): Promise<Figure[]> {
  const depth = 8;
  const [fio, ours] = [fioReadAndWrite(devices, chunk, depth), ourPipe(system, devices, { chunk, depth })];
  const results = await race([fio, ours], rounds);
  tell(results, devices, log);
  const at = `${chunk / KIB} KiB, depth ${depth}`;
  return [
    atLeast(`pipe against fio's ceiling, ${at}`, ratio(results, fio, ours), goal),
    atMost(`user CPU per GiB against fio's, ${at}`, ratio(results, ours, fio, 'userCpu'), 2),
  ];
}

function tell(results: Map<string, Result>, { bytes }: Devices, log: Settings['log']): void {
  for (const { name, seconds, userCpu, runs } of results.values()) {
    const rate = (bytes / GIB / seconds).toFixed(2);
    const best = (bytes / GIB / Math.min(...runs.map((run) => run.seconds!))).toFixed(2);
    const cpu = ((userCpu * 1000 * GIB) / bytes).toFixed(1);
    log(`  ${name}: ${rate} GiB/s, best ${best}, ${cpu} ms of user CPU per GiB here`);
  }
}
