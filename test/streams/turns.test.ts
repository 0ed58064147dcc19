import t from 'tap';
import { Turns } from '../../lib/streams/turns.js';

t.test('one kind at a time, in the order of coming', async (t) => {
  const turns = new Turns<string>();
  const started: string[] = [];
  for (const [i, kind] of ['a', 'a', 'b', 'b', 'a'].entries()) {
    turns.run(kind, () => started.push(`${kind}${i}`));
  }
  t.same(started, ['a0', 'a1']);
  turns.over();
  t.same(started, ['a0', 'a1'], 'one of them is not over');
  turns.over();
  t.same(started, ['a0', 'a1', 'b2', 'b3'], 'the last waits its turn');
  turns.over();
  turns.over();
  t.same(started.at(-1), 'a4');
  turns.over();
  turns.run('b', () => started.push('b5'));
  t.equal(started.at(-1), 'b5', 'at once when nothing runs');
});
