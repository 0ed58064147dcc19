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

t.test('what has no gap before it counts, in whatever order pieces end', async (t) => {
  const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 12 });
  fc.assert(
    fc.property(fc.nat(1000), sizes, fc.infiniteStream(fc.nat()), (start, sizes, order) => {
      let at = start;
      const pieces = sizes.map((bytes) => {
        at += bytes;
        return { offset: at - bytes, bytes, key: order.next().value as number };
      });
      const frontier = new Frontier(start);
      const ended = new Set<number>();
      return pieces
        .toSorted((a, b) => a.key - b.key)
        .every(({ offset, bytes }) => {
          frontier.add(offset, bytes);
          ended.add(offset);
          const gap = pieces.find((piece) => !ended.has(piece.offset));
          return frontier.at === (gap?.offset ?? at);
        });
    }),
  );
  t.pass('held');
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
