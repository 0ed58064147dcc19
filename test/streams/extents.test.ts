import t from 'tap';
import type { BlockTarget } from '../../lib/backend/backend.js';
import { Extents } from '../../lib/streams/extents.js';
import { fc } from '../helpers/random.js';

/** A target by what lies at each byte: `#` data, `.` a hole. Counts how often it is asked. */
function targetOf(map: string) {
  let asked = 0;
  const find = (what: string) => (from: number) => {
    asked++;
    const at = map.indexOf(what, from);
    return at < 0 ? map.length : at;
  };
  const target = { size: map.length, seekData: find('#'), seekHole: find('.') } as unknown as BlockTarget;
  return { extents: new Extents(target), asked: () => asked };
}

t.test('a walk over a target sees its holes and its data', async () => {
  const map = fc
    .array(fc.tuple(fc.constantFrom('#', '.'), fc.integer({ min: 1, max: 9 })), { maxLength: 8 })
    .map((runs) => runs.map(([what, length]) => what.repeat(length)).join(''));
  fc.assert(
    fc.property(map, fc.nat(80), fc.nat(80), (all, a, b) => {
      const [from, end] = [Math.min(a, b, all.length), Math.min(Math.max(a, b), all.length)];
      const { extents } = targetOf(all);
      let seen = '';
      for (let at = from; at < end; ) {
        const hole = extents.holeAt(at, end);
        // Data is read in pieces: within it nobody asks for a hole of another length.
        const next = hole > 0 ? at + hole : Math.min(end, extents.dataEnd, at + 3);
        if (next <= at) return false;
        seen += (hole > 0 ? '.' : '#').repeat(next - at);
        at = next;
      }
      return seen === all.slice(from, end);
    }),
  );
});

t.test('within data that is known the target is not asked again', async (t) => {
  const { extents, asked } = targetOf('######....');
  t.same([extents.holeAt(0, 10), extents.dataEnd, asked()], [0, 6, 2]);
  t.same([extents.holeAt(5, 10), asked()], [0, 2]);
  t.same([extents.holeAt(6, 8), extents.holeAt(6, 10)], [2, 4], 'up to the end that is asked for');
});
