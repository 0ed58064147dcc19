import { readFileSync } from 'node:fs';
import t from 'tap';
import { presets } from '../../lib/machine/presets.js';
import { drawScenario } from '../../lib/sim/draw.js';
import { Simulation } from '../../lib/sim/simulation.js';

const play = (one: number) => new Simulation(drawScenario(one)).run();

t.test('200 seeds: nothing is wrong', { timeout: 240_000 }, async (t) => {
  const first = 5001;
  let complete = 0;
  for (let one = first; one < first + 200; one++) {
    const { wrong, ended } = await play(one);
    if (wrong.length > 0) t.fail(`npm run sim -- --seed ${one}`, { wrong });
    complete += ended['copy complete'] ?? 0;
  }
  t.ok(complete > 100, `${complete} copies are complete`);
});

t.test('seeds that found a fault', { timeout: 240_000 }, async (t) => {
  const recorded = new URL('../../../test/sim/recorded.json', import.meta.url);
  const failures = JSON.parse(readFileSync(recorded, 'utf8')) as { seed: number; found: string }[];
  for (const { seed, found } of failures) t.strictSame((await play(seed)).wrong, [], `${seed}: ${found}`);
});

t.test('every built-in machine', { timeout: 240_000 }, async (t) => {
  for (const machine of Object.values(presets)) {
    const { hash, wrong } = await new Simulation(drawScenario(1, machine)).run();
    t.strictSame(wrong, [], `npm run sim -- --machine ${machine.name} --seed 1`);
    t.match(hash, /^[0-9a-f]{64}$/);
  }
});

t.test('the same seed ends in the same hash, and another seed in another', async (t) => {
  const hashes = new Set<string>();
  for (let one = 1; one <= 30; one++) {
    const first = await play(one);
    t.strictSame(await play(one), first, `seed ${one}`);
    hashes.add(first.hash);
  }
  t.equal(hashes.size, 30);
});

t.test('what a lane says after the end belongs to no history', async (t) => {
  const simulation = new Simulation(drawScenario(1));
  const { hash } = await simulation.run();
  simulation.note('late');
  t.equal(hash, (await play(1)).hash);
});

t.test('afterwards the time and the files of this process are its own again', async (t) => {
  const { setTimeout: timer } = globalThis;
  const { pid } = process;
  await play(1);
  t.equal(globalThis.setTimeout, timer);
  t.equal(process.pid, pid);
  t.equal((await import('node:fs')).existsSync('/sim/0a'), false);
});
