import fc from 'fast-check';
import t from 'tap';
import { Frontier } from '../../lib/streams/frontier.js';

t.test('only what has no gap before it counts', async (t) => {
  const frontier = new Frontier(100);
  frontier.add(110, 10);
  t.equal(frontier.at, 100);
  frontier.add(100, 0);
  t.equal(frontier.at, 100);
  frontier.add(100, 10);
  t.equal(frontier.at, 120);
  frontier.add(90, 5);
  t.equal(frontier.at, 120, 'what lies before is no step back');
});

t.test('pieces in any order end where all of them end; less one, where it is missing', async (t) => {
  const pieces = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.nat(1000), pieces, fc.infiniteStream(fc.nat()), (start, lengths, order) => {
      let at = start;
      const all = lengths.map((bytes) => {
        const offset = at;
        at += bytes;
        return { offset, bytes, key: order.next().value as number };
      });
      all.sort((a, b) => a.key - b.key);
      const [missing, ...rest] = all;
      const frontier = new Frontier(start);
      for (const { offset, bytes } of rest) frontier.add(offset, bytes);
      if (frontier.at !== missing!.offset) return false;
      frontier.add(missing!.offset, missing!.bytes);
      return frontier.at === at;
    }),
  );
  t.pass('held');
});
