import t from 'tap';
import { EmulatedHostMemory } from '../../../lib/emulator/bus/host-memory.js';
import { fc } from '../../helpers/random.js';

t.test('allocated pages are zeroed, page-aligned and reachable until they are freed', async (t) => {
  const memory = new EmulatedHostMemory();
  const { phys, bytes } = memory.allocPages(5000);
  t.equal(phys % 4096, 0);
  t.equal(bytes.byteLength, 8192);
  t.ok(bytes.every((b) => b === 0));
  t.strictSame(memory.pages, { pinned: 0, allocated: 2 });
  bytes[4097] = 7;
  t.equal(memory.window(phys + 4097, 1)?.[0], 7);
  t.equal(memory.window(phys + 8190, 100)?.byteLength, 2, 'ends where the memory ends');
  t.equal(memory.window(phys + 8192, 1), null, 'nothing behind it');
  memory.freePages(phys);
  t.equal(memory.window(phys, 1), null, 'gone');
  t.strictSame(memory.pages, { pinned: 0, allocated: 0 });
  t.throws(() => memory.freePages(phys), RangeError, 'only once');
});

t.test('a view is reachable while it is pinned; pins of one ArrayBuffer nest', async (t) => {
  const memory = new EmulatedHostMemory();
  const buffer = new ArrayBuffer(10_000);
  const a = memory.pin(new Uint8Array(buffer, 100, 50));
  const b = memory.pin(new Uint8Array(buffer, 5000, 50));
  t.equal(a % 4096, 100, 'the page offset is kept');
  t.equal(b - a, 4900, 'and so are distances');
  t.equal(memory.pages.pinned, 3);
  memory.window(a, 1)![0] = 9;
  t.equal(new Uint8Array(buffer)[100], 9);
  memory.unpin(a);
  t.ok(memory.window(a, 1), 'the other pin holds it');
  memory.unpin(b);
  t.equal(memory.window(b, 1), null);
  t.equal(memory.pages.pinned, 0);
  t.throws(() => memory.unpin(b), RangeError);
  t.not(memory.pin(new Uint8Array(buffer)), a - 100, 'and never at the same place again soon');
});

t.test('pages freed while pinned live until the last unpin', async (t) => {
  const memory = new EmulatedHostMemory();
  const { phys, bytes } = memory.allocPages(4096);
  t.equal(memory.pin(bytes), phys);
  memory.freePages(phys);
  t.ok(memory.window(phys, 4096));
  memory.unpin(phys);
  t.equal(memory.window(phys, 4096), null);
});

t.test('detached memory cannot be pinned, and faults if it was', async (t) => {
  const memory = new EmulatedHostMemory();
  const view = new Uint8Array(100);
  const phys = memory.pin(view);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  t.equal(memory.window(phys, 10), null);
  t.throws(() => memory.pin(view), { code: 'EFAULT' });
  memory.unpin(phys);
  t.equal(memory.pages.pinned, 0);
});

t.test(
  'whatever comes and goes: each address is at most one buffer, and the count ends at zero',
  async () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 70_000 }), fc.nat()), { maxLength: 60 }),
        (steps) => {
          const memory = new EmulatedHostMemory();
          const live: { phys: number; view: Uint8Array; drop: () => void }[] = [];
          for (const [what, size, pick] of steps) {
            if (what === 0) {
              const { phys, bytes } = memory.allocPages(size);
              live.push({ phys, view: bytes, drop: () => memory.freePages(phys) });
            } else if (what === 1) {
              const view = new Uint8Array(size).subarray(pick % size);
              const phys = memory.pin(view);
              live.push({ phys, view, drop: () => memory.unpin(phys) });
            } else if (live.length > 0) {
              const [gone] = live.splice(pick % live.length, 1);
              gone!.drop();
              if (memory.window(gone!.phys, 1) !== null) throw new Error('still reachable');
            }
            const sorted = [...live].sort((a, b) => a.phys - b.phys);
            sorted.forEach((x, i) => {
              const next = sorted[i + 1];
              if (next !== undefined && x.phys + x.view.byteLength >= next.phys)
                throw new Error('contiguous or overlapping');
              const window = memory.window(x.phys, x.view.byteLength)!;
              if (window.buffer !== x.view.buffer || window.byteOffset !== x.view.byteOffset)
                throw new Error('elsewhere');
            });
          }
          for (const x of live) x.drop();
          if (memory.pages.pinned !== 0 || memory.pages.allocated !== 0) throw new Error('leak');
        },
      ),
    );
  },
);
