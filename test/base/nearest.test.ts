import t, { type Test } from 'tap';
import { didYouMean, nearest } from '../../lib/base/nearest.js';
import { createReadStream, openSystem, P2pdmaError } from '../../lib/index.js';
import { fc } from '../helpers/random.js';

t.test('a stroke wrong, missing, too many, or two swapped', async (t) => {
  const names = ['switch', 'nested-switches', 'zen', 'acs', 'acs-listed'];
  for (const word of ['swich', 'switsch', 'swithc', 'swetch', 'SWITCH'])
    t.same(nearest(word, names), ['switch']);
  t.same(nearest('acs-liste', names), ['acs-listed']);
  t.same(nearest('nest', names), ['nested-switches'], 'what begins so');
  t.same(nearest('elephant', names), []);
  t.same(nearest('', names), []);
  t.same(nearest('ac', []), []);
});

t.test('all that are equally near, unless they are many', async (t) => {
  t.equal(didYouMean('nvme7n1', ['nvme0n1', 'nvme1n1']), "Did you mean one of 'nvme0n1', 'nvme1n1'?");
  t.equal(didYouMean('swich', ['switch', 'switch']), "Did you mean 'switch'?");
  const many = Array.from({ length: 9 }, (_, i) => `nvme${i}n1`);
  t.equal(didYouMean('nvme9n1', many), '', 'a list of everything is no help');
});

t.test('what is near is what somebody would find by hand', async () => {
  const letter = fc.constantFrom('a', 'b', 'c');
  const word = fc.array(letter, { maxLength: 6 }).map((letters) => letters.join(''));
  // All words that one stroke makes of this one.
  const oneStroke = (from: string): Set<string> => {
    const made = new Set<string>();
    for (let i = 0; i <= from.length; i++) {
      for (const c of ['a', 'b', 'c']) {
        made.add(from.slice(0, i) + c + from.slice(i));
        made.add(from.slice(0, i) + c + from.slice(i + 1));
      }
      made.add(from.slice(0, i) + from.slice(i + 1));
      made.add(from.slice(0, i) + (from[i + 1] ?? '') + (from[i] ?? '') + from.slice(i + 2));
    }
    return made;
  };
  fc.assert(
    fc.property(word, word, (asked, name) => {
      const near = nearest(asked, [name]).length > 0;
      const begins = asked.length >= 3 && name.startsWith(asked);
      const one = asked === name || oneStroke(asked).has(name);
      const two = one || [...oneStroke(asked)].some((between) => oneStroke(between).has(name));
      // Six letters allow two strokes; swapping over a change of the same letters counts as one more.
      return asked.length < 6 ? near === (one || begins) : near ? two || begins : !one && !begins;
    }),
  );
});

async function hinted(t: Test, attempt: () => unknown, wanted: string | RegExp): Promise<void> {
  const error = await Promise.resolve()
    .then(attempt)
    .catch((thrown: unknown) => thrown);
  t.type(error, P2pdmaError);
  t.match((error as P2pdmaError).hint, wanted);
}

t.test('the library says it, too', async (t) => {
  await hinted(t, () => openSystem({ machine: 'swich' }), /^Did you mean 'switch'\? Presets: /);
  await hinted(t, () => createReadStream('x', { engine: 'urign' as 'uring' }), "Did you mean 'uring'?");
  await hinted(
    t,
    () => createReadStream('x', { highwaterMark: 1 } as object),
    "Did you mean 'highWaterMark'?",
  );
  const system = await openSystem({ machine: 'switch' });
  await hinted(t, () => system.allocate('nvm0', 4096), /^Did you mean 'nvme0'\?/);
  await hinted(t, () => system.explain('nvme0', ['nvme1n2']), /^Did you mean 'nvme1n1'\?/);
  await hinted(t, () => system.target('/dev/nvme0n9'), /^Did you mean 'nvme0n1'\?/);
  await hinted(t, () => system.target('nvme0'), /'nvme0' is a controller: name its namespace \(nvme0n1\)/);
  await system.close();
});

t.test('a file is not made in the place of a device', async (t) => {
  const folder = t.testdir({ file: 'hello' });
  for (const machine of ['switch', undefined]) {
    const system = await openSystem(machine === undefined ? {} : { machine });
    for (const name of ['/dev/p2pdma-typo', '/dev/nvme77n1', 'nvme77n1', 'sdzz', '/dev/../dev/p2pdma-typo']) {
      const run = system.pipeline(`${folder}/file`, name);
      await t.rejects(run, { code: 'ENOENT' }, `${system.backend}: ${name}`);
      await t.rejects(system.target(name, { write: true }), { code: 'ENOENT' });
    }
    await system.close();
  }
});
