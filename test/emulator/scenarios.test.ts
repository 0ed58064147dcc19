/**
 * The scenarios of test/vm on the emulator, against what a booted kernel answered when it was last asked.
 * `npm run test:vm` asks the kernel again, and checks the recording itself.
 */
import t from 'tap';
import { COUNTS_AS, compare, differences, readRecorded } from '../vm/differential.js';
import { loadScenarios } from '../vm/scenarios.js';

const scenarios = loadScenarios();
const machines = [...new Set(scenarios.map(({ machine }) => machine))];
const recorded = readRecorded();

t.test('at least 60 scenarios over at least 8 machines, all of them recorded', async (t) => {
  t.ok(scenarios.length >= 60, `${scenarios.length} scenarios`);
  t.ok(machines.length >= 8, `${machines.length} machines`);
  t.strictSame(
    Object.keys(recorded),
    scenarios.map(({ name }) => name),
    'test:vm --record renews it',
  );
});

for (const machine of machines) {
  t.test(`${machine}: the emulator answers as the kernel did`, async (t) => {
    for (const row of await compare(machine, recorded)) {
      const { scenario, verdict } = row;
      if (COUNTS_AS[verdict] === 'skip') t.pass(scenario.name, { skip: `excused: ${scenario.excused}` });
      else t.strictSame(differences(row), [], scenario.name);
    }
  });
}
