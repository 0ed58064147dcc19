/**
 * Competitors run in turn, round after round, in one process and one machine state; what is reported are
 * medians and ratios of medians. Absolute numbers of a shared machine mean little.
 */
import { performance } from 'node:perf_hooks';

export interface Settings {
  readonly rounds: number;
  /** Run only the parts whose name holds this. */
  readonly only: string;
  /** Say what is being done. */
  log(text: string): void;
}

/** One implementation of a job. `run` does it once; what it returns beside the time is kept. */
export interface Competitor {
  readonly name: string;
  run(): Promise<Measured | unknown>;
}

export interface Measured {
  /** Replaces the wall time measured around `run`, in seconds. */
  seconds?: number;
  /** User CPU time in seconds, and CPU time with that of the kernel, if it was not this process that did the work. */
  userCpu?: number;
  cpu?: number;
  [figure: string]: number | undefined;
}

export interface Result {
  readonly name: string;
  readonly seconds: number;
  readonly userCpu: number;
  readonly spread: number;
  readonly figures: Record<string, number>;
  /** Every counted round. */
  readonly runs: readonly Measured[];
}

/** Medians over `rounds` interleaved rounds, after one round that is not counted. */
export async function race(competitors: readonly Competitor[], rounds = 5): Promise<Map<string, Result>> {
  const times = new Map(competitors.map(({ name }) => [name, [] as Measured[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const competitor of competitors) {
      (globalThis as { gc?: () => void }).gc?.();
      const cpu = process.cpuUsage();
      const began = performance.now();
      const own = ((await competitor.run()) ?? {}) as Measured;
      const seconds = (performance.now() - began) / 1000;
      const { user, system } = process.cpuUsage(cpu);
      const measured = { seconds, userCpu: user / 1e6, cpu: (user + system) / 1e6 };
      if (round > 0) times.get(competitor.name)!.push({ ...measured, ...own });
    }
  }
  return new Map(
    competitors.map(({ name }) => {
      const runs = times.get(name)!;
      const seconds = runs.map((run) => run.seconds!);
      const keys = Object.keys(runs[0] ?? {}).filter((key) => !['seconds', 'userCpu', 'cpu'].includes(key));
      return [
        name,
        {
          name,
          seconds: median(seconds),
          userCpu: median(runs.map((run) => run.userCpu!)),
          spread: (Math.max(...seconds) - Math.min(...seconds)) / median(seconds),
          figures: Object.fromEntries(keys.map((key) => [key, median(runs.map((run) => run[key] ?? 0))])),
          runs,
        },
      ];
    }),
  );
}

/** A value, and the lowest and the highest of the rounds it comes from. */
export interface Ratio {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/**
 * How many times `a` takes what `b` takes: the median of the quotients within each round, so that what else the machine
 * does hits both sides of a quotient.
 */
export function ratio(results: Map<string, Result>, a: Competitor, b: Competitor, figure = 'seconds'): Ratio {
  const quotients = quotientsOf(results, a, b, figure);
  return { value: median(quotients), low: Math.min(...quotients), high: Math.max(...quotients) };
}

/**
 * The same for CPU times: the quotient of the sums of all rounds. The kernel finds out by its timer's tick (1 to 10 ms) which part
 * of a process's time is user time, so one round of a tool that needs few milliseconds says little, and may say 0.
 */
export function ratioOfSums(
  results: Map<string, Result>,
  a: Competitor,
  b: Competitor,
  figure = 'userCpu',
): Ratio {
  const sum = ({ name }: Competitor) => results.get(name)!.runs.reduce((all, run) => all + run[figure]!, 0);
  const quotients = quotientsOf(results, a, b, figure).filter((quotient) => Number.isFinite(quotient));
  return { value: sum(a) / sum(b), low: Math.min(...quotients), high: Math.max(...quotients) };
}

function quotientsOf(results: Map<string, Result>, a: Competitor, b: Competitor, figure: string): number[] {
  const [over, under] = [results.get(a.name)!.runs, results.get(b.name)!.runs];
  return over.map((run, i) => run[figure]! / under[i]![figure]!);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One line of a report: what was measured, what we hope for. */
export interface Figure {
  readonly figure: string;
  readonly value: number;
  /** The lowest and the highest round; null: there was one round. */
  readonly spread: readonly [low: number, high: number] | null;
  readonly unit: string;
  readonly goal: string;
  readonly reached: boolean;
}

export function atLeast(figure: string, measured: number | Ratio, goal: number, unit = '×'): Figure {
  const row = figureOf(figure, measured, `≥ ${goal}`, unit);
  return { ...row, reached: row.value >= goal };
}

export function atMost(figure: string, measured: number | Ratio, goal: number, unit = '×'): Figure {
  const row = figureOf(figure, measured, `≤ ${goal}`, unit);
  return { ...row, reached: row.value <= goal };
}

function figureOf(figure: string, measured: number | Ratio, goal: string, unit: string) {
  if (typeof measured === 'number') return { figure, value: measured, spread: null, unit, goal };
  const { value, low, high } = measured;
  return { figure, value, spread: [low, high] as const, unit, goal };
}
