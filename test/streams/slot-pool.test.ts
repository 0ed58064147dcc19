/** The account of who has a slot, on memory that says when it was given back. */
import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import type { StreamContext } from '../../lib/streams/session.js';
import { assertChunkFits, retirePool, type Slot, SlotPool, slotOf } from '../../lib/streams/slot-pool.js';
import { fc } from '../helpers/random.js';

const SLOT = 64;

function rig(count = 3) {
  let unmapped = 0;
  const closables = new Set<{ shutdown(): Promise<void> }>();
  const allocHost = (bytes: number) => ({
    ...{ buffer: new ArrayBuffer(bytes), bytes, provider: null },
    munmap: () => unmapped++,
  });
  const context = {
    ...{ backend: { memory: { allocHost } }, mappings: 0, pools: new Set(), closed: false },
    add: (closable: { shutdown(): Promise<void> }) => closables.add(closable),
    remove: (closable: { shutdown(): Promise<void> }) => closables.delete(closable),
  };
  const pool = new SlotPool(context as unknown as StreamContext, null, SLOT, count);
  return { context, pool, closables, unmapped: () => unmapped };
}

t.test('each slot is memory of its own, and is found by any view of it', async (t) => {
  const { pool, context } = rig();
  t.same([pool.bytes, pool.inUse, context.mappings, context.pools.size], [3 * SLOT, 0, 1, 1]);
  for (const [i, slot] of pool.slots.entries()) {
    t.equal(slot.buffer.byteOffset, i * SLOT);
    t.equal(slotOf(slot.buffer.subarray(SLOT - 1)), slot, 'its last byte');
    t.equal(slotOf(new Uint8Array(slot.buffer.buffer, slot.buffer.byteOffset, 1)), slot, 'its first');
  }
  t.equal(slotOf(Buffer.alloc(10)), null, 'other memory');
});

t.test('of a slot that is gone nothing is seen', async (t) => {
  const { pool } = rig();
  const slot = pool.take()!;
  t.equal(slot.view(SLOT), slot.buffer);
  t.same([slot.view(10).byteOffset, slot.view(10).length], [slot.buffer.byteOffset, 10]);
  structuredClone(null, { transfer: [slot.buffer.buffer as ArrayBuffer] });
  t.ok(slot.isGone);
  t.equal(slot.view(10).length, 0);
});

t.test('a slot is free again only when it is not being filled, nor lent, nor held', async (t) => {
  type Step = 'take' | 'filled' | 'lend' | 'release' | 'hold' | 'unhold';
  const step = fc.tuple(
    fc.constantFrom<Step>('take', 'filled', 'lend', 'release', 'hold', 'unhold'),
    fc.nat(5),
  );
  let freed = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { pool } = rig();
      let told = 0;
      pool.onFree = () => told++;
      const model = new Map<Slot, { filling: boolean; lent: boolean; holds: number }>();
      for (const [what, index] of steps) {
        if (what === 'take') {
          const slot = pool.take();
          if ((slot === null) !== (model.size === 3) || (slot !== null && model.has(slot))) return false;
          if (slot !== null) model.set(slot, { filling: true, lent: false, holds: 0 });
          continue;
        }
        const [slot, user] = [...model][index % Math.max(1, model.size)] ?? [];
        if (slot === undefined || user === undefined) continue;
        if (what === 'filled') {
          slot.filling = user.filling = false;
          slot.settle();
        } else if (what === 'lend' && user.filling) slot.lent = user.lent = true;
        else if (what === 'release' && user.lent) {
          user.lent = false;
          pool.release(slot.buffer.subarray(3));
        } else if (what === 'hold') {
          user.holds++;
          slot.hold();
        } else if (what === 'unhold' && user.holds > 0) {
          user.holds--;
          slot.unhold();
        }
        if (!user.filling && !user.lent && user.holds === 0) {
          model.delete(slot);
          if (--told !== 0) return false;
          freed++;
        }
        if (told !== 0 || pool.inUse !== model.size) return false;
      }
      return true;
    }),
  );
  t.ok(freed > 0);
});

t.test('two writers hold it: the second to be done frees it', async (t) => {
  const { pool } = rig();
  const slot = pool.take()!;
  slot.hold();
  slot.hold();
  slot.filling = false;
  slot.unhold();
  t.equal(pool.inUse, 1);
  slot.unhold();
  t.equal(pool.inUse, 0);
});

t.test('release() of what is not on loan here', async (t) => {
  const [{ pool }, other] = [rig(), rig()];
  const [slot, theirs] = [pool.take()!, other.pool.take()!];
  theirs.lent = true;
  for (const chunk of [slot.buffer, theirs.buffer, Buffer.alloc(4)]) {
    t.throws(() => pool.release(chunk), { code: 'ERR_NOT_LENT' });
  }
  slot.lent = true;
  slot.filling = false;
  pool.release(slot.buffer);
  t.throws(() => pool.release(slot.buffer), { code: 'ERR_NOT_LENT' }, 'twice');
  t.equal(pool.inUse, 0);
});

t.test('close(): the memory goes back when the last slot has come back', async (t) => {
  const { pool, context, unmapped } = rig();
  const [a, b] = [pool.take()!, pool.take()!];
  pool.onFree = () => t.fail('nobody is to read into it any more');
  let over = false;
  const closed = pool.close().then(() => {
    over = true;
  });
  t.equal(pool.close(), pool.close(), 'once');
  a.filling = false;
  a.settle();
  await new Promise(setImmediate);
  t.same([over, unmapped(), context.mappings], [false, 0, 1]);
  b.filling = false;
  b.settle();
  await closed;
  t.same([unmapped(), context.mappings, context.pools.size], [1, 0, 0]);
});

t.test('revoke(): what is on loan comes back at once, what is being filled or held does not', async (t) => {
  const { pool, unmapped } = rig(4);
  const [lent, filling, held] = [pool.take()!, pool.take()!, pool.take()!];
  lent.filling = held.filling = false;
  lent.lent = held.lent = true;
  held.hold();
  const closed = pool.revoke();
  t.same([pool.inUse, unmapped(), held.lent], [2, 0, false]);
  held.unhold();
  filling.filling = false;
  filling.settle();
  await closed;
  t.equal(unmapped(), 1);
});

t.test('retirePool(): the system knows of it until it is unmapped, and can revoke', async (t) => {
  const { pool, context, closables, unmapped } = rig();
  const slot = pool.take()!;
  slot.lent = true;
  slot.filling = false;
  retirePool(context as unknown as StreamContext, pool);
  t.equal(closables.size, 1);
  await [...closables][0]!.shutdown();
  await new Promise(setImmediate);
  t.same([unmapped(), closables.size], [1, 0]);
});

t.test('a chunk fits up to the size of the CMB', async (t) => {
  const provider = { bdf: '0000:03:00.0', p2pmem: { size: 4096 } } as unknown as PciDev;
  assertChunkFits(4096, provider);
  const error = { code: 'ERR_CHUNK_TOO_LARGE', option: 'highWaterMark', received: 4097 };
  t.throws(() => assertChunkFits(4097, provider), error);
  t.throws(() => assertChunkFits(1, { ...provider, p2pmem: null }), { code: 'ERR_CHUNK_TOO_LARGE' });
});
