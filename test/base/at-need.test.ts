import t from 'tap';
import { atNeed, loadParts } from '../../lib/base/at-need.js';

t.test('a part is loaded when somebody needs it, and once', async (t) => {
  let loads = 0;
  const part = atNeed(async () => ({ loads: ++loads }));
  t.equal(loads, 0);
  const [one, other] = await Promise.all([part(), part()]);
  t.equal(one, other);
  t.strictSame(one, { loads: 1 });
});

t.test('a part that is loaded is there within the same turn', async (t) => {
  const part = atNeed(() => import('node:os'));
  await part();
  let turns = 0;
  setImmediate(() => turns++);
  await part();
  t.equal(turns, 0);
});

t.test('a failure is told, and the next who needs the part loads it again', async (t) => {
  let loads = 0;
  const part = atNeed(async () => {
    if (++loads === 1) throw new Error('no file could be opened');
    return loads;
  });
  await t.rejects(part(), { message: 'no file could be opened' });
  t.equal(await part(), 2);
});

t.test('every part can be loaded at once', async (t) => {
  const loaded: string[] = [];
  for (const name of ['a', 'b']) atNeed(async () => loaded.push(name));
  await loadParts();
  t.strictSame(loaded, ['a', 'b']);
  await loadParts();
  t.strictSame(loaded, ['a', 'b'], 'none of them twice');
});
