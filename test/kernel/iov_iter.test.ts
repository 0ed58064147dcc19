import t from 'tap';
import { EFAULT, EREMOTEIO } from '../../lib/base/errno.js';
import { FOLL_LONGTERM, FOLL_PCI_P2PDMA, newPageRange, unpinUserPages } from '../../lib/kernel/gup.js';
import {
  copyFromIter,
  copyToIter,
  type IovIter,
  iovIterAlignment,
  iovIterBvec,
  iovIterDiscard,
  iovIterGapAlignment,
  iovIterIovec,
  iovIterIsAligned,
  iovIterNpages,
  iovIterUbuf,
  READ,
  WRITE,
} from '../../lib/kernel/iov_iter.js';
import {
  iovIterGetPages,
  iovIterGetPagesAlloc,
  iovIterGetPagesAllocFlags,
  iovIterGetPagesFlags,
} from '../../lib/kernel/iov_iter-pages.js';
import { Mm } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { fc } from '../helpers/random.js';

function machine() {
  const memory = new FakeHostMemory();
  return { memory, mm: new Mm(memory), out: newPageRange() };
}

/** Views of the given lengths with distinct bytes, each at some offset of a buffer of its own, and the bytes in a row. */
function scatter(lengths: readonly number[], offsets: readonly number[] = []) {
  let value = 1;
  const views = lengths.map((length, i) => {
    const view = new Uint8Array(new ArrayBuffer(length + (offsets[i] ?? 0)), offsets[i] ?? 0, length);
    for (let k = 0; k < length; k++) view[k] = value++ % 251;
    return view;
  });
  return { views, flat: new Uint8Array(Buffer.concat(views)) };
}

/** What is left in the iterator, through a copy of the cursor. */
function rest(iter: IovIter): Uint8Array {
  const out = new Uint8Array(iter.count);
  copyFromIter(out, iter.dup());
  return out;
}

const lengths = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 8 });

t.test('advance and revert are steps in a plain byte array', async (t) => {
  type Op = { op: 'advance' | 'revert' | 'truncate'; n: number };
  const ops = fc.array(
    fc.record<Op>({
      op: fc.constantFrom('advance', 'revert', 'truncate'),
      n: fc.integer({ min: 0, max: 60 }),
    }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(lengths, ops, (lengths, ops) => {
      const { views, flat } = scatter(lengths);
      const single = scatter([flat.length]);
      single.views[0]!.set(flat);
      for (const iter of [iovIterIovec(WRITE, views), iovIterUbuf(WRITE, single.views[0]!)]) {
        let at = 0;
        let end = flat.length;
        for (const { op, n } of ops) {
          if (op === 'advance') {
            iter.advance(n);
            at = Math.min(at + n, end);
          } else if (op === 'revert') {
            const back = Math.min(n, at);
            iter.revert(back);
            at -= back;
          } else {
            iter.truncate(n);
            end = Math.min(end, at + n);
          }
          t.strictSame(rest(iter), flat.slice(at, end));
        }
      }
    }),
    { numRuns: 200 },
  );
});

t.test('revert beyond the start is refused', async (t) => {
  const iter = iovIterIovec(READ, scatter([3, 4]).views);
  iter.advance(5);
  t.throws(() => iter.revert(6), RangeError);
  iter.revert(5);
  t.equal(iter.count, 7);
  t.throws(() => iovIterUbuf(READ, new Uint8Array(4)).revert(1), RangeError);
});

t.test('get_pages covers exactly the same bytes, in runs of any size', async (t) => {
  fc.assert(
    fc.property(
      lengths,
      fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 8, maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (lengths, offsets, sizes) => {
        const { memory, mm, out } = machine();
        const { views, flat } = scatter(lengths, offsets);
        const iter = iovIterIovec(WRITE, views);
        const seen: number[] = [];
        for (let i = 0; iter.count > 0; i++) {
          const max = sizes[i % sizes.length]!;
          const got = iovIterGetPagesFlags(mm, iter, out, max, 0);
          t.ok(got > 0 && got <= max && got === out.length);
          seen.push(...memory.at(out.phys, got));
          unpinUserPages(mm, out);
        }
        t.strictSame(Uint8Array.from(seen), flat);
        t.equal(iovIterGetPagesFlags(mm, iter, out, 10, 0), 0, 'and then nothing');
        t.strictSame([mm.pinned, memory.pages.pinned], [0, 0]);
      },
    ),
    { numRuns: 100 },
  );
});

t.test('get_pages_alloc pins all that was asked for, or nothing', async (t) => {
  const { memory, mm } = machine();
  const cmb = fakeCmb(mm);
  const { views, flat } = scatter([100, 0, 200]);
  const segments = [...views, cmb.bytes.subarray(4096, 8192)];
  const iter = iovIterIovec(READ, segments);

  t.equal(iovIterGetPagesAlloc(mm, iter, 10_000), -EREMOTEIO, 'the old name asks for no P2P memory');
  t.equal(iter.count, 300 + 4096, 'the cursor is where it was');
  t.strictSame([mm.pinned, memory.pages.pinned, cmb.pgmap.refs], [0, 0, 0]);

  const ranges = iovIterGetPagesAllocFlags(mm, iter, 10_000, FOLL_PCI_P2PDMA);
  if (typeof ranges === 'number') return t.fail(`${ranges}`);
  t.strictSame(
    ranges.map((r) => r.length),
    [100, 200, 4096],
  );
  t.strictSame(memory.at(ranges[1]!.phys, 200), flat.slice(100));
  t.match(ranges[2], { phys: cmb.pgmap.start + 4096, pgmap: cmb.pgmap });
  for (const range of ranges) unpinUserPages(mm, range);
  t.strictSame([mm.pinned, memory.pages.pinned, cmb.pgmap.refs], [0, 0, 0]);

  const some = iovIterGetPagesAllocFlags(mm, iovIterIovec(READ, segments), 150, 0);
  if (typeof some === 'number') return t.fail(`${some}`);
  t.strictSame(
    some.map((r) => r.length),
    [100, 50],
  );
  for (const range of some) unpinUserPages(mm, range);
});

t.test('the names without flags never give P2P memory', async (t) => {
  const { mm, out } = machine();
  const { bytes, pgmap } = fakeCmb(mm);
  const iter = iovIterUbuf(WRITE, bytes);
  t.equal(iovIterGetPages(mm, iter, out, 4096), -EREMOTEIO);
  t.equal(iter.count, bytes.length);
  t.equal(iovIterGetPagesFlags(mm, iter, out, 4096, FOLL_PCI_P2PDMA), 4096);
  t.equal(out.pgmap, pgmap);
  t.equal(iter.count, bytes.length - 4096);
  unpinUserPages(mm, out);
  t.equal(pgmap.refs, 0);
});

t.test('a read into memory adds FOLL_WRITE, a write from it does not', async (t) => {
  const { mm, out } = machine();
  const { bytes } = fakeCmb(mm);
  t.equal(iovIterGetPagesFlags(mm, iovIterUbuf(READ, bytes), out, 4096, FOLL_LONGTERM), -EFAULT);
  t.equal(iovIterGetPagesFlags(mm, iovIterUbuf(WRITE, bytes), out, 4096, FOLL_LONGTERM), -EREMOTEIO);
});

t.test('a bvec iterator describes ranges without pinning them', async (t) => {
  const { mm, out } = machine();
  const { pgmap } = fakeCmb(mm);
  const iter = iovIterBvec(WRITE, [
    { phys: 0x5000, length: 100, pgmap: null },
    { phys: pgmap.start, length: 50, pgmap },
  ]);
  iter.advance(30);
  t.equal(iovIterGetPagesFlags(mm, iter, out, 1000, 0), 70);
  t.match(out, { phys: 0x5000 + 30, length: 70, pgmap: null });
  t.equal(iovIterGetPagesFlags(mm, iter, out, 1000, 0), 50);
  t.equal(out.pgmap, pgmap);
  unpinUserPages(mm, out);
  t.strictSame([pgmap.refs, mm.pinned], [0, 0]);
});

t.test('there are no pages behind nowhere, nor behind a buffer that was detached', async (t) => {
  const { mm, out } = machine();
  t.equal(iovIterGetPages(mm, iovIterDiscard(READ, 100), out, 10), -EFAULT);
  const views = scatter([64, 64]).views;
  const iter = iovIterIovec(READ, views);
  const alone = iovIterUbuf(READ, views[1]!);
  structuredClone(views[1]!.buffer, { transfer: [views[1]!.buffer as ArrayBuffer] });
  t.equal(iovIterGetPages(mm, iter, out, 1000), 64);
  unpinUserPages(mm, out);
  t.equal(iovIterGetPages(mm, iter, out, 1000), -EFAULT);
  t.equal(iovIterGetPages(mm, alone, out, 1000), -EFAULT);
  t.equal(copyToIter(new Uint8Array(64), iter), 0);
});

t.test('alignment looks at each segment that is left', async (t) => {
  const page = new ArrayBuffer(16384);
  const at = (offset: number, length: number) => new Uint8Array(page, offset, length);
  const iter = iovIterIovec(READ, [at(512, 512), at(4100, 1024), at(1, 0), at(8192, 512)]);
  t.equal(iovIterIsAligned(iter, 3, 511), true);
  t.equal(iovIterIsAligned(iter, 511, 511), false, 'the second one starts at +4');
  t.equal(iovIterAlignment(iter) & 511, 4);
  iter.advance(512 + 1024);
  t.equal(iovIterIsAligned(iter, 511, 511), true);
  t.equal(iovIterIsAligned(iovIterUbuf(READ, at(1, 512)), 3, 511), false);
  t.equal(iovIterIsAligned(iovIterUbuf(READ, at(4, 100)), 3, 511), false);
  t.equal(iovIterIsAligned(iovIterDiscard(READ, 512), 3, 511), true);
  t.equal(
    iovIterIsAligned(iovIterBvec(READ, [{ phys: 0x1_0000_0002, length: 512, pgmap: null }]), 3, 511),
    false,
  );
});

t.test('gap alignment looks only at where segments meet', async (t) => {
  const page = new ArrayBuffer(16384);
  const at = (offset: number, length: number) => new Uint8Array(page, offset, length);
  t.equal(iovIterGapAlignment(iovIterUbuf(READ, at(3, 5))), 0);
  t.equal(iovIterGapAlignment(iovIterIovec(READ, [at(512, 3584), at(8192, 4096), at(0, 100)])), 0);
  t.not(iovIterGapAlignment(iovIterIovec(READ, [at(512, 3584), at(8704, 512)])), 0);
  t.not(iovIterGapAlignment(iovIterIovec(READ, [at(512, 512), at(8192, 512)])), 0);
});

t.test('npages counts pages touched', async (t) => {
  const page = new ArrayBuffer(16384);
  t.equal(iovIterNpages(iovIterUbuf(READ, new Uint8Array(page, 4000, 200)), 100), 2);
  t.equal(iovIterNpages(iovIterUbuf(READ, new Uint8Array(page, 0, 16384)), 3), 3);
  const iter = iovIterIovec(READ, [new Uint8Array(page, 0, 1), new Uint8Array(page, 4095, 2)]);
  t.equal(iovIterNpages(iter, 100), 3);
});

t.test('copies go to and from exactly the bytes at the cursor', async (t) => {
  fc.assert(
    fc.property(lengths, fc.nat(400), fc.uint8Array({ maxLength: 400 }), (lengths, skip, bytes) => {
      const { views, flat } = scatter(lengths);
      const iter = iovIterIovec(READ, views);
      iter.advance(skip);
      const from = Math.min(skip, flat.length);
      const copied = copyToIter(bytes, iter);
      t.equal(copied, Math.min(bytes.length, flat.length - from));
      flat.set(bytes.subarray(0, copied), from);
      t.strictSame(new Uint8Array(Buffer.concat(views)), flat);
      t.equal(iter.count, flat.length - from - copied);
    }),
    { numRuns: 100 },
  );
  const nowhere = iovIterDiscard(READ, 10);
  t.equal(copyToIter(new Uint8Array(16), nowhere), 10);
  t.equal(copyFromIter(new Uint8Array(16), iovIterBvec(WRITE, [{ phys: 0, length: 16, pgmap: null }])), 0);
});

t.test('peek gives the segment itself where it can, and the kind of view it got', async (t) => {
  const buffer = Buffer.alloc(64);
  const iter = iovIterIovec(WRITE, [buffer]);
  t.equal(iter.peek(1000), buffer);
  iter.advance(10);
  t.ok(Buffer.isBuffer(iter.peek(5)));
  t.equal(iter.peek(5).byteOffset, buffer.byteOffset + 10);
  t.equal(iovIterDiscard(READ, 5).peek(5).length, 0);
  iter.truncate(3);
  t.equal(iter.peek(100).length, 3);
  iter.reexpand(54);
  t.equal(iter.peek(100).length, 54);
});
