import t from 'tap';
import { EFAULT, EINVAL, EREMOTEIO } from '../../lib/base/errno.js';
import { type Bio, type BlkQueueLimits, bioAlloc, bioPut } from '../../lib/kernel/bio.js';
import { blkRqMapUserIov, blkRqUnmapUser } from '../../lib/kernel/blk-map.js';
import {
  iovIterBvec,
  iovIterDiscard,
  iovIterIovec,
  iovIterUbuf,
  READ,
  WRITE,
} from '../../lib/kernel/iov_iter.js';
import { Mm } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { fc } from '../helpers/random.js';

const limits: BlkQueueLimits = {
  logicalBlockSize: 512,
  dmaAlignment: 4,
  maxTransfer: 65536,
  maxSegments: 4,
  maxSegmentSize: 65536,
  virtBoundary: 4096,
  pciP2pdma: true,
};

function machine(opf: 'read' | 'write', more: Partial<BlkQueueLimits> = {}) {
  const memory = new FakeHostMemory();
  const bio = bioAlloc({ limits: { ...limits, ...more }, submitBio() {} }, opf);
  return { memory, mm: new Mm(memory), bio };
}

/** The memory that a device would move, all of it. */
function deviceView(memory: FakeHostMemory, bio: Bio): Uint8Array[] {
  return bio.vecs.map((vec) => memory.at(vec.phys, vec.length));
}

t.test('aligned memory is mapped straight, whatever its length in words', async (t) => {
  const { memory, mm, bio } = machine('read');
  const view = new Uint8Array(new ArrayBuffer(4096), 4, 100);
  t.equal(blkRqMapUserIov(mm, bio, iovIterUbuf(READ, view)), 0);
  t.equal(bio.bounced, false);
  deviceView(memory, bio)[0]!.fill(9);
  t.equal(blkRqUnmapUser(mm, bio), 0);
  t.strictSame(view, new Uint8Array(100).fill(9));
  t.strictSame([mm.pinned, memory.pages.pinned, memory.pages.allocated], [0, 0, 0]);
});

t.test('CMB memory is mapped straight on a queue that takes it', async (t) => {
  const { mm, bio } = machine('write');
  const { bytes, pgmap } = fakeCmb(mm);
  t.equal(blkRqMapUserIov(mm, bio, iovIterUbuf(WRITE, bytes.subarray(4096, 8192))), 0);
  t.match(bio, { bounced: false, size: 4096 });
  t.equal(bio.vecs[0]?.pgmap, pgmap);
  t.equal(bio.vecs[0]?.phys, pgmap.start + 4096);
  blkRqUnmapUser(mm, bio);
  t.equal(pgmap.refs, 0);
});

t.test('aligned CMB memory on a queue without the feature (the admin queue): EREMOTEIO', async (t) => {
  const { memory, mm, bio } = machine('read', { pciP2pdma: false });
  const { bytes, pgmap } = fakeCmb(mm);
  const iter = iovIterUbuf(READ, bytes.subarray(0, 4096));
  t.equal(blkRqMapUserIov(mm, bio, iter), -EREMOTEIO);
  t.strictSame([iter.count, pgmap.refs, memory.pages.allocated, bio.bounced], [4096, 0, 0, false]);
});

t.test('address +2 works, bounced through host memory and marked so, also for CMB memory', async (t) => {
  for (const pciP2pdma of [true, false]) {
    const { memory, mm, bio } = machine('read', { pciP2pdma });
    const { bytes, pgmap } = fakeCmb(mm);
    const view = bytes.subarray(2, 2 + 4096);
    t.equal(blkRqMapUserIov(mm, bio, iovIterUbuf(READ, view)), 0);
    t.strictSame([bio.bounced, bio.size, bio.vecs.length, bio.vecs[0]?.pgmap], [true, 4096, 1, null]);
    t.strictSame([pgmap.refs, memory.pages.allocated], [0, 1]);
    deviceView(memory, bio)[0]!.fill(7);
    t.equal(bytes[2], 0);
    t.equal(blkRqUnmapUser(mm, bio), 0);
    t.strictSame([...bytes.subarray(0, 4)], [0, 0, 7, 7]);
    t.strictSame([bytes[4097], bytes[4098], memory.pages.allocated], [7, 0, 0]);
  }
});

t.test('a length that is not whole words is bounced', async (t) => {
  const { memory, mm, bio } = machine('write');
  const view = new Uint8Array(new ArrayBuffer(4096), 0, 1001).fill(3);
  t.equal(blkRqMapUserIov(mm, bio, iovIterUbuf(WRITE, view)), 0);
  t.equal(bio.bounced, true);
  t.strictSame(deviceView(memory, bio), [view]);
  blkRqUnmapUser(mm, bio);
  t.equal(memory.pages.allocated, 0);
});

t.test('pieces that leave a gap in a page are bounced, pieces that do not are mapped', async (t) => {
  const buffer = new ArrayBuffer(16384);
  const at = (offset: number, length: number) => new Uint8Array(buffer, offset, length);
  for (const [segments, bounced] of [
    [[at(512, 512), at(8192, 512)], true],
    [[at(512, 3584), at(8192, 512)], false],
  ] as const) {
    const { mm, bio } = machine('write');
    t.equal(blkRqMapUserIov(mm, bio, iovIterIovec(WRITE, segments)), 0);
    t.equal(bio.bounced, bounced);
    blkRqUnmapUser(mm, bio);
    const anywhere = machine('write', { virtBoundary: 0 });
    t.equal(blkRqMapUserIov(anywhere.mm, anywhere.bio, iovIterIovec(WRITE, segments)), 0);
    t.equal(anywhere.bio.bounced, false);
  }
});

t.test('a command is one request: what does not fit is EINVAL, with nothing pinned', async (t) => {
  const { memory, mm, bio } = machine('read');
  const long = new Uint8Array(new ArrayBuffer(65536 + 4096));
  const iter = iovIterUbuf(READ, long);
  t.equal(blkRqMapUserIov(mm, bio, iter), -EINVAL);
  t.equal(iter.count, long.length);
  t.equal(blkRqMapUserIov(mm, bioAlloc(bio.queue, 'read'), iovIterUbuf(READ, long.subarray(1))), -EINVAL);
  t.equal(blkRqMapUserIov(mm, bioAlloc(bio.queue, 'read'), iovIterUbuf(READ, long.subarray(0, 0))), -EINVAL);
  const pages = Array.from({ length: 5 }, (_, i) => long.subarray(i * 8192, i * 8192 + 4096));
  t.equal(
    blkRqMapUserIov(mm, bioAlloc(bio.queue, 'read'), iovIterIovec(READ, pages)),
    -EINVAL,
    'five segments',
  );
  t.strictSame([mm.pinned, memory.pages.pinned, memory.pages.allocated], [0, 0, 0]);
});

t.test('memory that goes away under a bounce is EFAULT, and the kernel pages are freed', async (t) => {
  const detach = (view: Uint8Array) =>
    structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  const early = machine('write');
  const gone = new Uint8Array(new ArrayBuffer(64), 1, 32);
  const iter = iovIterUbuf(WRITE, gone);
  detach(gone);
  t.equal(blkRqMapUserIov(early.mm, early.bio, iter), -EFAULT);
  t.equal(early.memory.pages.allocated, 0);

  const late = machine('read');
  const view = new Uint8Array(new ArrayBuffer(64), 1, 32);
  t.equal(blkRqMapUserIov(late.mm, late.bio, iovIterUbuf(READ, view)), 0);
  detach(view);
  t.equal(blkRqUnmapUser(late.mm, late.bio), -EFAULT);
  t.equal(late.memory.pages.allocated, 0);
});

t.test('physical ranges are used as they are; nowhere is a bounce that is dropped', async (t) => {
  const { memory, mm, bio } = machine('read');
  const vecs = [{ phys: 0x10000, length: 4096, pgmap: null }];
  t.equal(blkRqMapUserIov(mm, bio, iovIterBvec(READ, vecs)), 0);
  t.strictSame([bio.vecs, bio.bounced], [vecs, false]);
  const drop = bioAlloc(bio.queue, 'read');
  t.equal(blkRqMapUserIov(mm, drop, iovIterDiscard(READ, 100)), 0);
  t.equal(drop.bounced, true);
  t.equal(blkRqUnmapUser(mm, drop), 0);
  t.equal(memory.pages.allocated, 0);
});

t.test('any vector, either way, bounced or not: the device meets exactly its bytes', async (t) => {
  const segment = fc.record({ offset: fc.nat(9), length: fc.nat(3000) });
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 3 }), fc.boolean(), (segments, write) => {
      const { memory, mm, bio } = machine(write ? 'write' : 'read');
      const views = segments.map(
        ({ offset, length }) => new Uint8Array(new ArrayBuffer(4096), offset, length),
      );
      let value = 0;
      for (const view of views) for (let i = 0; i < view.length; i++) view[i] = value++ % 251;
      const before = new Uint8Array(Buffer.concat(views));
      const result = blkRqMapUserIov(mm, bio, iovIterIovec(write ? WRITE : READ, views));
      if (before.length === 0) {
        t.equal(result, -EINVAL);
        return;
      }
      t.equal(result, 0);
      const device = deviceView(memory, bio);
      if (write) {
        t.strictSame(new Uint8Array(Buffer.concat(device)), before);
      } else {
        let back = 0;
        for (const range of device)
          for (let i = 0; i < range.length; i++) range[i] = before[before.length - 1 - back++]!;
      }
      t.equal(blkRqUnmapUser(mm, bio), 0);
      t.strictSame(new Uint8Array(Buffer.concat(views)), write ? before : before.reverse());
      t.strictSame([mm.pinned, memory.pages.pinned, memory.pages.allocated], [0, 0, 0]);
      bioPut(bio);
    }),
    { numRuns: 100 },
  );
});
