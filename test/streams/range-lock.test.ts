import t from 'tap';
import type { Backend } from '../../lib/backend/backend.js';
import { lockPlace, locksOf, RangeLocks } from '../../lib/streams/range-lock.js';
import { fc } from '../helpers/random.js';

const rangeLocks = new RangeLocks();

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
      for (const [i, range] of ranges.entries()) rangeLocks.lock(range, (release) => held.set(i, release));
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
      return served === locks.length && rangeLocks.lockedDevices === 0;
    }),
  );
  t.equal(rangeLocks.lockedDevices, 0);
});

t.test(
  'a lock is on the deepest place that is known exactly, so two names of one device share theirs',
  async (t) => {
    const disk = { name: 'nvme0n1', on: 'device 259:0', start: 1048576, length: 4096, exact: true };
    const part = { name: 'nvme0n1p1', on: 'device 259:1', start: 0, length: 4096, exact: true };
    const below = { ...disk, on: 'device 8:0', exact: false };
    t.same(lockPlace([part, disk], '/dev/nvme0n1p1'), { on: 'device 259:0', base: 1048576 });
    t.same(lockPlace([part, disk, below], '/dev/nvme0n1p1'), { on: 'device 259:0', base: 1048576 });
    t.same(lockPlace([part, { ...disk, exact: false }], '/dev/nvme0n1p1'), { on: 'device 259:1', base: 0 });
    t.same(lockPlace([], '/dev/nvme0n1p1'), { on: '/dev/nvme0n1p1', base: 0 });
  },
);

t.test('whole blocks side by side, a part of one alone', async (t) => {
  const held: string[] = [];
  const releases = new Map<string, () => void>();
  const lock = (name: string, start: number, end: number, exclusive: boolean, on = 'disk') =>
    rangeLocks.lock({ on, start, end, exclusive }, (release) => {
      held.push(name);
      releases.set(name, release);
    });
  lock('whole', 0, 4096, false);
  lock('beside', 512, 8192, false);
  lock('part', 512, 1024, true);
  lock('behind', 0, 1024, false);
  lock('elsewhere', 16384, 16896, true);
  lock('other disk', 512, 1024, true, 'other');
  t.same(held, ['whole', 'beside', 'elsewhere', 'other disk'], 'the part waits, and who comes after it');
  releases.get('whole')!();
  t.equal(held.length, 4);
  releases.get('beside')!();
  t.equal(held.at(-1), 'part');
  releases.get('part')!();
  t.equal(held.at(-1), 'behind');
  for (const name of ['behind', 'elsewhere', 'other disk']) releases.get(name)!();
  t.equal(rangeLocks.lockedDevices, 0, 'nothing is kept');
});

t.test('real devices have the same locks for every system, an emulated machine has its own', async (t) => {
  const backend = (machine: string | null) => ({ machine }) as Backend;
  const [one, other] = [backend('switch'), backend('switch')];
  t.equal(locksOf(backend(null)), locksOf(backend(null)));
  t.equal(locksOf(one), locksOf(one));
  t.not(locksOf(one), locksOf(other));
  t.not(locksOf(one), locksOf(backend(null)));
});

t.test('a lock that is released twice takes nobody else’s along, and is no error', async (t) => {
  const locks = new RangeLocks();
  const releases: (() => void)[] = [];
  const lock = (exclusive: boolean) =>
    locks.lock({ on: 'disk', start: 0, end: 4096, exclusive }, (release) => releases.push(release));
  lock(false);
  lock(false);
  releases[0]!();
  releases[0]!();
  lock(true);
  t.equal(releases.length, 2, 'the second is still held, so who wants to be alone waits');
  releases[1]!();
  t.equal(releases.length, 3);
  releases[2]!();
  t.equal(locks.lockedDevices, 0);
  releases[2]!();
  lock(true);
  releases[2]!();
  lock(true);
  t.equal(releases.length, 4, 'nor does one that was released before the device had other locks');
  releases[3]!();
  releases[4]!();
  t.equal(locks.lockedDevices, 0);
});
