/**
 * The scenarios of test/vm on the emulator, against what a booted kernel answered when it was last asked.
 * `npm run test:vm` asks the kernel again, and checks the recording itself.
 */
import t from 'tap';
import { COUNTS_AS, compare, differences, readRecorded, recordedSeries } from '../vm/differential.js';
import { loadScenarios, NEWER, scenariosOf } from '../vm/scenarios.js';

const scenarios = loadScenarios();
const machines = [...new Set(scenarios.map(({ machine }) => machine))];
const referee = readRecorded('6.12')!;

t.test('at least 60 scenarios over at least 8 machines, all of them recorded', async (t) => {
  t.ok(scenarios.length >= 60, `${scenarios.length} scenarios`);
  t.ok(machines.length >= 8, `${machines.length} machines`);
  t.strictSame(
    Object.keys(referee.answers),
    scenarios.map(({ name }) => name),
    'test:vm --record renews it',
  );
});

t.test('every difference of the newer kernels is seen on one of them', async (t) => {
  const seen = new Set<string>();
  for (const series of ['stock-7.2', 'stock-7.3']) {
    for (const machine of ['switch', 'root-ports', 'kinds']) {
      for (const { verdict, scenario } of await compare(machine, readRecorded(series)!)) {
        if (verdict === 'excused' && scenario.excused === null) seen.add(scenario.operation);
      }
    }
  }
  t.strictSame([...seen].sort(), NEWER.flatMap(({ operations }) => operations).sort());
});

for (const series of recordedSeries()) {
  const recorded = readRecorded(series)!;
  const asked = machines.filter((machine) =>
    scenariosOf(machine).some(({ name }) => name in recorded.answers),
  );
  for (const machine of asked) {
    t.test(`${machine}: the emulator answers as Linux ${recorded.release} did`, async (t) => {
      for (const row of await compare(machine, recorded)) {
        const { scenario, verdict, excuse } = row;
        if (COUNTS_AS[verdict] === 'skip') t.pass(scenario.name, { skip: `excused: ${excuse}` });
        else t.strictSame(differences(row), [], scenario.name);
      }
    });
  }
}
