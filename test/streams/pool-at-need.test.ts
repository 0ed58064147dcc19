import t from 'tap';
import { PoolAtNeed } from '../../lib/streams/pool-at-need.js';
import type { Slot, SlotPool } from '../../lib/streams/slot-pool.js';

/** A pool of `count` slots that says what became of it. */
function poolOf(count: number) {
  const free = Array.from({ length: count }, () => {
    const slot = { filling: true, settle: () => !slot.filling && free.push(slot as unknown as Slot) };
    return slot as unknown as Slot;
  });
  const state = { closed: 0, free };
  const pool = { take: () => free.pop() ?? null, close: async () => void state.closed++ };
  return { pool: pool as unknown as SlotPool, state };
}

t.test('a pool is made for the first, shared by the next, and closed behind the last', async (t) => {
  const { pool, state } = poolOf(2);
  let made = 0;
  const make = () => {
    made++;
    return pool;
  };
  const need = new PoolAtNeed();
  const got: Slot[] = [];
  need.take(make, (slot) => got.push(slot));
  need.take(make, (slot) => got.push(slot));
  t.same([made, got.length], [1, 2], 'at once');
  need.giveBack(got[0]!);
  t.same([state.closed, state.free.length], [0, 1], 'one is still in use');
  need.giveBack(got[1]!);
  t.same([state.closed, state.free.length], [1, 2]);
  for (const slot of got) slot.filling = true;
  need.take(make, () => {});
  t.equal(made, 2, 'and a new one when it is needed again');
});

t.test('who finds none waits, and gets one in the order of coming', async (t) => {
  const { pool, state } = poolOf(1);
  const need = new PoolAtNeed();
  const got: [string, Slot][] = [];
  for (const name of ['a', 'b', 'c']) {
    need.take(
      () => pool,
      (slot) => got.push([name, slot]),
    );
  }
  const names = () => got.map(([name]) => name).join('');
  t.equal(names(), 'a');
  need.giveBack(got[0]![1]);
  t.equal(names(), 'ab');
  need.giveBack(got[1]![1]);
  t.same([names(), state.closed], ['abc', 0]);
  need.giveBack(got[2]![1]);
  t.same([state.closed, state.free.length], [1, 1]);
});

t.test('what cannot be made is thrown, and tried again by the next', async (t) => {
  const need = new PoolAtNeed();
  const make = () => {
    throw new Error('no memory');
  };
  t.throws(() => need.take(make, () => t.fail()), { message: 'no memory' });
  let ready = 0;
  need.take(
    () => poolOf(1).pool,
    () => ready++,
  );
  t.equal(ready, 1);
});
