import t from 'tap';
import { Frontier } from '../../lib/streams/frontier.js';
import { fc } from '../helpers/random.js';

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

t.test('what has no gap before it counts, in whatever order pieces end', async () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 12 }), fc.nat(), (sizes, seed) => {
      let at = 7;
      const pieces = sizes.map((bytes) => {
        at += bytes;
        return { offset: at - bytes, bytes };
      });
      const shuffled = pieces.map((piece, i) => ({ piece, key: (i * 7919 + seed) % 13 }));
      shuffled.sort((a, b) => a.key - b.key);
      const frontier = new Frontier(7);
      const ended = new Set<number>();
      return shuffled.every(({ piece }) => {
        frontier.add(piece.offset, piece.bytes);
        ended.add(piece.offset);
        const gap = pieces.find(({ offset }) => !ended.has(offset));
        return frontier.at === (gap?.offset ?? at);
      });
    }),
  );
});

t.test('a part that was written counts, and the piece once more in its place', async (t) => {
  const frontier = new Frontier(0);
  frontier.add(10, 10);
  frontier.add(0, 4);
  t.equal(frontier.at, 4, 'failed after 4 of 10 bytes');
  frontier.add(0, 10);
  t.equal(frontier.at, 20);
  frontier.add(20, 0);
  t.equal(frontier.at, 20);
});
