/**
 * npm run sim -- [--seed N | --from N --seeds N | --seconds N] [--workers N] [--machine PRESET|FILE] [--twice] [--until-failure]
 *
 * Plays one scenario per seed, and prints what is wrong, as a test. A failing seed is made small first.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { loadMachine } from '../../lib/machine/load.js';
import { drawScenario } from '../../lib/sim/draw.js';
import { type Outcome, Simulation } from '../../lib/sim/simulation.js';
import { printed, shrunk } from './shrink.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    from: { type: 'string' },
    seeds: { type: 'string' },
    seconds: { type: 'string' },
    machine: { type: 'string' },
    workers: { type: 'string', default: '1' },
    stride: { type: 'string', default: '1' },
    twice: { type: 'boolean', default: false },
    'until-failure': { type: 'boolean', default: false },
    'as-is': { type: 'boolean', default: false },
    lines: { type: 'boolean', default: false },
  },
});

/** One line of a worker: a failure, or at the end what it did. */
interface Line {
  readonly seed?: number;
  readonly wrong?: readonly string[];
  readonly done?: Totals;
}

interface Totals {
  seeds: number;
  failed: number;
  powerCuts: number;
  events: number;
  cpuSeconds: number;
  ended: Record<string, number>;
}

const none = (): Totals => ({ seeds: 0, failed: 0, powerCuts: 0, events: 0, cpuSeconds: 0, ended: {} });

function add(sum: Totals, more: Totals): void {
  for (const key of ['seeds', 'failed', 'powerCuts', 'events', 'cpuSeconds'] as const) sum[key] += more[key];
  for (const [key, n] of Object.entries(more.ended)) sum.ended[key] = (sum.ended[key] ?? 0) + n;
}

const machine = values.machine === undefined ? null : await loadMachine(values.machine);
const from = Number(values.seed ?? values.from ?? Math.floor(Math.random() * 2 ** 31));
const count =
  values.seed === undefined ? Number(values.seeds ?? (values.seconds === undefined ? 1000 : 1e9)) : 1;
const until = performance.now() + Number(values.seconds ?? 1e9) * 1000;
const realNow = performance.now.bind(performance);

async function play(seed: number): Promise<Outcome> {
  const outcome = await new Simulation(drawScenario(seed, machine)).run();
  if (!values.twice) return outcome;
  const again = await new Simulation(drawScenario(seed, machine)).run();
  if (again.hash === outcome.hash) return outcome;
  return { ...outcome, wrong: [...outcome.wrong, 'determinism: the same seed ended in another hash'] };
}

/** Plays its share of the seeds. */
async function work(tell: (line: Line) => void | Promise<void>): Promise<void> {
  const totals = none();
  const began = process.cpuUsage();
  for (let seed = from; seed < from + count && realNow() < until; seed += Number(values.stride)) {
    const { wrong, events, ended, powerCut } = await play(seed);
    const failed = wrong.length > 0 ? 1 : 0;
    add(totals, {
      seeds: 1,
      failed,
      powerCuts: powerCut ? 1 : 0,
      events,
      cpuSeconds: 0,
      ended: { ...ended },
    });
    if (failed === 0) continue;
    await tell({ seed, wrong });
    if (values['until-failure']) break;
  }
  const { user, system } = process.cpuUsage(began);
  totals.cpuSeconds = (user + system) / 1e6;
  await tell({ done: totals });
}

/** Plays the seeds in several processes. */
async function share(workers: number, tell: (line: Line) => Promise<void>): Promise<void> {
  const rest = process.argv.slice(2).filter((arg) => arg !== '--lines');
  await Promise.all(
    Array.from({ length: workers }, async (_, i) => {
      const own = [
        '--workers',
        '1',
        '--from',
        String(from + i),
        '--seeds',
        String(count - i),
        '--stride',
        String(workers),
      ];
      const child: ChildProcess = spawn(
        process.execPath,
        [...process.execArgv, process.argv[1]!, ...rest, ...own, '--lines'],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      const closed = once(child, 'close');
      for await (const line of createInterface({ input: child.stdout! })) await tell(JSON.parse(line));
      const [code] = await closed;
      // The exit code says whether one of its seeds failed; anything else has ended it.
      if (code > 1 || code === null) throw new Error(`a worker ended with ${code}`);
    }),
  );
}

async function show(seed: number, wrong: readonly string[]): Promise<void> {
  console.log(`seed ${seed} fails; again: npm run sim -- --seed ${seed}`);
  for (const words of wrong) console.log(`  ${words}`);
  if (!values['as-is']) console.log(printed(await shrunk(drawScenario(seed, machine))));
}

const sum = none();
const workers = values.seed === undefined ? Number(values.workers) : 1;
const report = async ({ seed, wrong, done }: Line) => {
  if (done !== undefined) add(sum, done);
  else await show(seed!, wrong!);
};
if (values.lines) {
  let failed = 0;
  await work((line) => {
    failed += line.done?.failed ?? 0;
    console.log(JSON.stringify(line));
  });
  process.exitCode = failed > 0 ? 1 : 0;
} else {
  console.log(`seeds from ${from}${workers > 1 ? `, ${workers} workers` : ''}`);
  await (workers > 1 ? share(workers, report) : work(report));
  const { seeds, failed, powerCuts, events, cpuSeconds, ended } = sum;
  const rows = Object.entries(ended).sort(([a], [b]) => (a < b ? -1 : 1));
  console.log(rows.map(([key, n]) => `${key}: ${n}`).join(', '));
  console.log(
    `${seeds} seeds, ${failed} failed; ${powerCuts} power cuts, ${events} events, ${(seeds / cpuSeconds).toFixed(0)} seeds per second of CPU`,
  );
  process.exitCode = failed > 0 || seeds === 0 ? 1 : 0;
}
