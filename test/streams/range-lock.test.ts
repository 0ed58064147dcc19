import fc from 'fast-check';
import t from 'tap';
import { lockedDevices, lockPlace, lockRange } from '../../lib/streams/range-lock.js';

t.test('whoever changes a part alone is alone, all are served, and nothing is left', async (t) => {
  const lock = fc.record({
    on: fc.constantFrom('a', 'b'),
    start: fc.nat(20),
    bytes: fc.integer({ min: 1, max: 10 }),
    exclusive: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(lock, { maxLength: 20 }), (locks) => {
      const held = new Map<number, () => void>();
      const ranges = locks.map(({ bytes, ...range }) => ({ ...range, end: range.start + bytes }));
      for (const [i, range] of ranges.entries()) lockRange(range, (release) => held.set(i, release));
      let served = 0;
      for (; held.size > 0; served++) {
        for (const i of held.keys()) {
          for (const j of held.keys()) {
            const [a, b] = [ranges[i]!, ranges[j]!];
            const meet = i !== j && a.on === b.on && a.start < b.end && b.start < a.end;
            if (meet && (a.exclusive || b.exclusive)) return false;
          }
        }
        const [first, release] = [...held][0]!;
        held.delete(first);
        release();
      }
      return served === locks.length && lockedDevices() === 0;
    }),
  );
  t.equal(lockedDevices(), 0);
});

t.test('a lock is on the deepest place that is known exactly', async (t) => {
  const disk = { name: 'disk', on: 'device 8:0', start: 4096, length: 100, exact: true };
  const part = { name: 'part', on: 'device 8:1', start: 0, length: 100, exact: true };
  const below = { ...disk, on: 'device 9:0', exact: false };
  t.same(lockPlace([part, disk, below], '/dev/part'), { on: 'device 8:0', base: 4096 });
  t.same(lockPlace([], '/dev/part'), { on: '/dev/part', base: 0 });
});
