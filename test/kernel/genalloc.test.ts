import t from 'tap';
import { GenPool } from '../../lib/kernel/genalloc.js';
import { fc } from '../helpers/random.js';

t.test('takes whole pages, first fit, and gives them back', async (t) => {
  const pool = new GenPool();
  pool.add(0x10000, 0x4000);
  t.equal(pool.alloc(1000), 0x10000);
  t.equal(pool.available, 0x3000);
  t.equal(pool.alloc(0x2000), 0x11000);
  t.equal(pool.alloc(0x2000), null);
  t.equal(pool.alloc(0), null);
  t.equal(pool.alloc(Number.NaN), null);
  pool.free(0x10000, 1000);
  t.equal(pool.alloc(0x1000), 0x10000);
});

t.test('freeing twice, or what is not the pool’s, is a bug that shows', async (t) => {
  const pool = new GenPool();
  pool.add(0x10000, 0x4000);
  const at = pool.alloc(0x2000)!;
  pool.free(at, 0x2000);
  t.throws(() => pool.free(at, 0x2000), /twice/);
  t.throws(() => pool.free(0x20000, 0x1000), /not of this pool/);
  pool.alloc(0x1000);
  t.throws(() => pool.free(at, 0x2000), /twice/, 'half of it is free');
});

t.test('property: allocations never overlap, and what is freed merges again', async (t) => {
  const step = fc.record({ free: fc.boolean(), at: fc.nat(), bytes: fc.integer({ min: 1, max: 20000 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const pool = new GenPool();
      pool.add(0x100000, 0x10000);
      pool.add(0x200000, 0x8000);
      const live: { start: number; bytes: number }[] = [];
      for (const { free, at, bytes } of steps) {
        if (free && live.length > 0) {
          const [one] = live.splice(at % live.length, 1);
          pool.free(one!.start, one!.bytes);
          continue;
        }
        const start = pool.alloc(bytes);
        if (start === null) continue;
        if (live.some((l) => start < l.start + l.bytes && l.start < start + bytes)) return false;
        live.push({ start, bytes });
      }
      for (const { start, bytes } of live) pool.free(start, bytes);
      return (
        pool.available === pool.size && pool.alloc(0x10000) === 0x100000 && pool.alloc(0x8000) === 0x200000
      );
    }),
  );
  t.pass();
});
