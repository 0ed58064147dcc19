/** Hooks of a module loader take real time for each `import()`, also of what is there. No history may depend on that. */
import { register } from 'node:module';
import t from 'tap';
import { drawScenario } from '../../lib/sim/draw.js';
import { Simulation } from '../../lib/sim/simulation.js';

const SLOW = `
  export async function resolve(specifier, context, next) {
    await new Promise((done) => setTimeout(done, 5));
    return next(specifier, context);
  }
`;

const SEEDS = Array.from({ length: 40 }, (_, i) => 1 + i);

async function play(): Promise<string[]> {
  const hashes: string[] = [];
  for (const seed of SEEDS) hashes.push((await new Simulation(drawScenario(seed)).run()).hash);
  return hashes;
}

t.test('the same seed ends in the same hash, whatever hooks the module loader has', async (t) => {
  const without = await play();
  register(`data:text/javascript,${encodeURIComponent(SLOW)}`, import.meta.url);
  const began = performance.now();
  await import('../../lib/sim/draw.js');
  t.ok(performance.now() - began >= 4, 'an import takes its time');
  t.strictSame(await play(), without);
});
