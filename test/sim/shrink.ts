/**
 * Makes a failing scenario small, and prints it as a test. fast-check shrinks: each operation and trouble may be left out,
 * and each number may become smaller. The smaller scenario has to fail in the same way.
 */
import { inspect } from 'node:util';
import fc from 'fast-check';
import type { Op, Scenario, Trouble } from '../../lib/sim/scenario.js';
import { Simulation } from '../../lib/sim/simulation.js';

/** Something that is kept or left out. */
interface Kept<T> {
  readonly keep: boolean;
  readonly value: T;
}

/** What of a failure has to stay the same: its words, without numbers and names. */
function kindOf(wrong: readonly string[]): string | null {
  return wrong[0] === undefined ? null : /.*/.exec(wrong[0])![0].replace(/'[^']*'|\d+/g, '…');
}

/** Every value of this shape whose numbers are at most those of `value`. */
function smaller(value: unknown): fc.Arbitrary<unknown> {
  if (Number.isSafeInteger(value)) {
    const n = value as number;
    return fc.integer({ min: Math.min(0, n), max: Math.max(0, n) });
  }
  if (Array.isArray(value)) return fc.tuple(...value.map(smaller));
  if (typeof value !== 'object' || value === null) return fc.constant(value);
  const entries = Object.entries(value).map(([key, one]) => [key, smaller(one)] as const);
  return fc.record(Object.fromEntries(entries));
}

const kept = <T>(value: T): fc.Arbitrary<Kept<T>> =>
  fc.record({ keep: fc.boolean(), value: smaller(value) as fc.Arbitrary<T> });
const all = <T>(values: readonly T[]): Kept<T>[] => values.map((value) => ({ keep: true, value }));
const left = <T>(values: readonly Kept<T>[]): T[] =>
  values.flatMap(({ keep, value }) => (keep ? [value] : []));

export async function shrunk(scenario: Scenario, seconds = 20): Promise<Scenario> {
  const fails = async (one: Scenario) => kindOf((await new Simulation(one).run()).wrong);
  const kind = await fails(scenario);
  if (kind === null) return scenario;
  const lanes = fc.tuple(...scenario.lanes.map((ops) => fc.tuple(...ops.map((op) => kept<Op>(op)))));
  const troubles = fc.tuple(...scenario.troubles.map((trouble) => kept<Trouble>(trouble)));
  const example: [Kept<Op>[][], Kept<Trouble>[]] = [scenario.lanes.map(all), all(scenario.troubles)];
  const made = (lanes: Kept<Op>[][], troubles: Kept<Trouble>[]): Scenario => ({
    ...scenario,
    lanes: lanes.map(left),
    troubles: left(troubles),
  });
  let last: Promise<string | null> = Promise.resolve(null);
  const property = fc.asyncProperty(lanes, troubles, async (ops, causes) => {
    last = fails(made(ops, causes)).catch(() => null);
    if ((await last) === kind) throw new Error(kind);
  });
  const { counterexample } = await fc.check(property, {
    numRuns: 1,
    examples: [example],
    interruptAfterTimeLimit: seconds * 1000,
  });
  // Interrupted, it does not wait for the scenario that it is playing, which would write to the files of the next one.
  await last;
  return counterexample === null ? scenario : made(...counterexample);
}

/** As it goes into test/sim/recorded.test.ts. */
export function printed(scenario: Scenario): string {
  const text = inspect(scenario, { depth: null, compact: 3, breakLength: 108, maxArrayLength: null });
  return `t.test('seed ${scenario.seed}', async (t) => {
  const scenario: Scenario = ${text.replaceAll('\n', '\n  ')};
  t.strictSame((await new Simulation(scenario).run()).wrong, []);
});`;
}
