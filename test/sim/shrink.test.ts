import fs from 'node:fs';
import t from 'tap';
import { drawScenario } from '../../lib/sim/draw.js';
import type { Op, Scenario } from '../../lib/sim/scenario.js';
import { Simulation } from '../../lib/sim/simulation.js';
import { printed, shrunk } from './shrink.js';

/** There is no such device, and nothing in the scenario explains that. */
const wrong: Op = { kind: 'trespass', end: 'nvme9n9' };

t.test('of a failing scenario only what makes it fail is left, and printed as a test', async (t) => {
  const drawn = drawScenario(3);
  const [first, ...rest] = drawn.lanes;
  const scenario: Scenario = { ...drawn, lanes: [[...first!, wrong], ...rest], troubles: [] };
  const { wrong: said } = await new Simulation(scenario).run();
  t.match(said, [/^trespass: nothing explains .*ENOENT/]);
  const small = await shrunk(scenario);
  t.strictSame(small.lanes.flat(), [wrong]);
  t.match(printed(small), "{ kind: 'trespass', end: 'nvme9n9' }");
  t.match(printed(small), /^t\.test\('seed 3', async/);
  t.match((await new Simulation(small).run()).wrong[0], /ENOENT/, 'it still fails');
});

t.test('what does not fail stays as it is', async (t) => {
  const scenario = drawScenario(1);
  t.equal(await shrunk(scenario), scenario);
});

t.test('out of time, it leaves no simulation under way', async (t) => {
  const before = fs.open;
  const drawn = drawScenario(3);
  const [first, ...rest] = drawn.lanes;
  await shrunk({ ...drawn, lanes: [[...first!, wrong], ...rest] }, 0.001);
  t.equal(fs.open, before, 'node:fs is as it was');
});
