// npm run sim -- [--seed N] [--seeds N] [--from N] [--seconds N] [--workers N] [--twice]
// Plays scenarios, one per seed, and prints what fails. One seed decides everything, so that it fails again.
import { parseArgs } from 'node:util';
import { drawScenario } from '../../lib/sim/draw.js';
import { Simulation } from '../../lib/sim/simulation.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    twice: { type: 'boolean', default: false },
    show: { type: 'boolean', default: false },
  },
});
const first = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const ended: Record<string, number> = {};
let [failed, events, cuts] = [0, 0, 0];
const began = process.cpuUsage();
for (let seed = first; seed < first + count; seed++) {
  const outcome = await new Simulation(drawScenario(seed)).run();
  events += outcome.events;
  if (outcome.powerCut) cuts++;
  for (const [key, n] of Object.entries(outcome.ended)) ended[key] = (ended[key] ?? 0) + n;
  const wrong = [...outcome.wrong];
  if (values.twice) {
    const again = await new Simulation(drawScenario(seed)).run();
    if (again.hash !== outcome.hash) wrong.push('determinism: another hash');
  }
  if (values.show) console.log(JSON.stringify(drawScenario(seed), null, 1), outcome);
  if (wrong.length > 0) {
    failed++;
    console.log(`seed ${seed}: ${wrong.slice(0, 3).join('\n   ')}`);
  }
}
const { user, system } = process.cpuUsage(began);
const seconds = (user + system) / 1e6;
console.log(JSON.stringify(ended));
console.log(
  `${count} seeds, ${failed} failed, ${cuts} power cuts, ${events} events, ${(count / seconds).toFixed(0)} seeds/s of one core`,
);
