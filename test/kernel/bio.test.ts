import t from 'tap';
import { EFAULT, EINVAL, EIO, EREMOTEIO } from '../../lib/base/errno.js';
import {
  type Bio,
  type BlkQueueLimits,
  bioAddPage,
  bioAlloc,
  bioChain,
  bioEndio,
  bioIovIterGetPages,
  bioPut,
  bioReleasePages,
  bioReset,
  bioSplitRw,
  type RequestQueue,
  submitBio,
} from '../../lib/kernel/bio.js';
import { iovIterBvec, iovIterIovec, iovIterUbuf, READ, WRITE } from '../../lib/kernel/iov_iter.js';
import { Mm, registerVma } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { fc } from '../helpers/random.js';

const nvmeLimits: BlkQueueLimits = {
  logicalBlockSize: 512,
  dmaAlignment: 4,
  maxTransfer: 1024 * 1024,
  maxSegments: 127,
  maxSegmentSize: 0x7ffff000,
  virtBoundary: 4096,
  pciP2pdma: true,
};

class FakeQueue implements RequestQueue {
  readonly limits: BlkQueueLimits;
  readonly taken: Bio[] = [];

  constructor(limits: Partial<BlkQueueLimits> = {}) {
    this.limits = { ...nvmeLimits, ...limits };
  }

  submitBio(bio: Bio): void {
    this.taken.push(bio);
  }
}

function machine(limits: Partial<BlkQueueLimits> = {}) {
  const memory = new FakeHostMemory();
  const queue = new FakeQueue(limits);
  return { memory, mm: new Mm(memory), queue, bio: bioAlloc(queue, 'read') };
}

/** Mmapped host memory, so that its pages have neighbours. */
function hostMapping(memory: FakeHostMemory, bytes: number): Uint8Array {
  const pages = memory.allocPages(bytes);
  registerVma({ buffer: pages.bytes.buffer as ArrayBuffer, phys: pages.phys, length: bytes, pgmap: null });
  return pages.bytes;
}

t.test('O_DIRECT alignment is what a booted kernel answered', async (t) => {
  const rows: [string, number, number, number, number][] = [
    ['aligned', 0, 0, 65536, 0],
    ['address +512', 0, 512, 65536, 0],
    ['address +4', 0, 4, 65536, 0],
    ['address +1', 0, 1, 65536, -EINVAL],
    ['address +2', 0, 2, 65536, -EINVAL],
    ['length 100', 0, 0, 100, -EINVAL],
    ['offset 100', 100, 0, 512, -EINVAL],
    ['offset 512', 512, 0, 512, 0],
    ['offset beyond 2^32', 2 ** 40, 0, 512, 0],
  ];
  for (const [name, offset, address, length, expected] of rows) {
    const { memory, mm, bio } = machine();
    bio.sector = offset;
    const view = new Uint8Array(new ArrayBuffer(131072), address, length);
    const iter = iovIterUbuf(READ, view);
    t.equal(bioIovIterGetPages(mm, bio, iter), expected, name);
    t.equal(iter.count, expected === 0 ? 0 : length);
    bioReleasePages(mm, bio);
    t.equal(memory.pages.pinned, 0);
  }
  const { mm, bio } = machine();
  const uneven = [new Uint8Array(500), new Uint8Array(524)];
  t.equal(
    bioIovIterGetPages(mm, bio, iovIterIovec(READ, uneven)),
    -EINVAL,
    'the sum being aligned does not help',
  );
  t.equal(bioIovIterGetPages(mm, bio, iovIterIovec(READ, [])), -EFAULT, 'nothing to do');
});

t.test('P2P memory on a queue that does not take it: EREMOTEIO, and no byte moves', async (t) => {
  const { memory, mm, queue, bio } = machine({ pciP2pdma: false });
  const { bytes, pgmap } = fakeCmb(mm);
  const host = new Uint8Array(4096);
  const iter = iovIterIovec(WRITE, [host, bytes.subarray(0, 4096)]);
  t.equal(bioIovIterGetPages(mm, bio, iter), -EREMOTEIO);
  t.strictSame([mm.pinned, memory.pages.pinned, pgmap.refs, bio.size, bio.vecs.length], [0, 0, 0, 0, 0]);
  t.equal(iter.count, 8192, 'the cursor is where it was');
  t.equal(queue.taken.length, 0);
});

t.test('CMB and host memory may be mixed, and what touches becomes one range', async (t) => {
  const { memory, mm, bio } = machine();
  const cmb = fakeCmb(mm);
  const host = hostMapping(memory, 16384);
  const segments = [
    host.subarray(0, 4096),
    host.subarray(4096, 8192),
    cmb.bytes.subarray(0, 4096),
    cmb.bytes.subarray(4096, 12288),
    cmb.bytes.subarray(0, 4096),
  ];
  t.equal(bioIovIterGetPages(mm, bio, iovIterIovec(READ, segments)), 0);
  t.strictSame(
    bio.vecs.map((v) => [v.length, v.pgmap === cmb.pgmap]),
    [
      [8192, false],
      [12288, true],
      [4096, true],
    ],
  );
  t.equal(bio.size, 24576);
  t.strictSame([bio.pinCount, cmb.pgmap.refs], [5, 3], 'a merged range is still as many pins');
  bioReleasePages(mm, bio);
  bioReleasePages(mm, bio);
  t.strictSame([mm.pinned, cmb.pgmap.refs], [0, 0]);
});

t.test('neighbours of different pagemaps stay apart, and no range reaches 2 GiB', async (t) => {
  const { mm, bio } = machine();
  const a = fakeCmb(mm, 0x80_0000_0000).pgmap;
  const b = fakeCmb(mm, 0x80_0040_0000).pgmap;
  bioAddPage(bio, a.start + a.length - 4096, 4096, a);
  bioAddPage(bio, b.start, 4096, b);
  t.equal(bio.vecs.length, 2);
  bioAddPage(bio, 0x1000_0000_0000, 0x7000_0000, null);
  bioAddPage(bio, 0x1000_7000_0000, 0x7000_0000, null);
  t.equal(bio.vecs.length, 4);
});

t.test('two pins that merged are released one by one', async (t) => {
  const { memory, mm, bio } = machine();
  const buffer = new ArrayBuffer(8192);
  const views = [new Uint8Array(buffer, 0, 4096), new Uint8Array(buffer, 4096, 4096)];
  t.equal(bioIovIterGetPages(mm, bio, iovIterIovec(WRITE, views)), 0);
  t.strictSame([bio.vecs.length, bio.pinCount, memory.calls.pin], [1, 2, 2]);
  bioReleasePages(mm, bio);
  t.strictSame([memory.calls.unpin, memory.pages.pinned], [2, 0]);
});

t.test('a bio of physical ranges holds no pins', async (t) => {
  const { mm, bio } = machine();
  const vecs = [{ phys: 0x1000, length: 4096, pgmap: null }];
  t.equal(bioIovIterGetPages(mm, bio, iovIterBvec(WRITE, vecs)), 0);
  t.strictSame(bio.vecs, vecs);
  bioReleasePages(mm, bio);
  t.equal(mm.pinned, 0);
});

t.test('a bio that fits goes down as it is', async (t) => {
  const { mm, queue, bio } = machine();
  bioIovIterGetPages(mm, bio, iovIterUbuf(READ, new Uint8Array(1024 * 1024)));
  let ended = 0;
  bio.endIo = () => ended++;
  submitBio(bio);
  t.equal(queue.taken[0], bio);
  bioEndio(bio);
  t.equal(ended, 1);
  t.throws(() => bioEndio(bio), /ended twice/);
});

t.test(
  'a long bio is split, and ends once after its last child with the first error and all bytes',
  async (t) => {
    const { mm, queue, bio } = machine({ maxTransfer: 4096 });
    const before = { internal: 1, peerBus: 10, hostBridge: 100, hostDram: 1000 };
    bioIovIterGetPages(mm, bio, iovIterUbuf(READ, new Uint8Array(4096 * 4)));
    bio.sector = 8192;
    const ends: number[] = [];
    bio.endIo = (b) => ends.push(b.status);
    submitBio(bio);
    const [a, b, c, d] = queue.taken;
    t.strictSame(
      queue.taken.map((child) => [child.sector, child.size]),
      [
        [8192, 4096],
        [12288, 4096],
        [16384, 4096],
        [20480, 4096],
      ],
    );
    for (const child of queue.taken) Object.assign(child.path, before);
    d!.bounced = true;
    bioEndio(d!);
    c!.status = -EIO;
    bioEndio(c!);
    b!.status = -EREMOTEIO;
    bioEndio(b!);
    t.strictSame(ends, []);
    bioEndio(a!);
    t.strictSame(ends, [-EIO]);
    t.strictSame(bio.path, { internal: 4, peerBus: 40, hostBridge: 400, hostDram: 4000 });
    t.strictSame([bio.bounced, bio.size, bio.sector], [true, 16384, 8192]);
    bioReleasePages(mm, bio);
    t.equal(mm.pinned, 0);
  },
);

t.test('a queue that fails at once does not end the bio early', async (t) => {
  const { mm, bio } = machine();
  let seen = 0;
  let ended = 0;
  const queue: RequestQueue = {
    limits: { ...nvmeLimits, maxTransfer: 512 },
    submitBio(child) {
      seen++;
      t.equal(ended, 0);
      child.status = -EIO;
      bioEndio(child);
    },
  };
  bioReset(bio, queue, 'write');
  bioIovIterGetPages(mm, bio, iovIterUbuf(WRITE, new Uint8Array(2048)));
  bio.endIo = () => ended++;
  submitBio(bio);
  t.strictSame([seen, ended, bio.status], [4, 1, -EIO]);
});

t.test('splits cover the bytes exactly and obey every limit', async (t) => {
  const limits = fc.record({
    logicalBlockSize: fc.constantFrom(512, 4096),
    maxTransfer: fc.integer({ min: 4096, max: 70000 }),
    maxSegments: fc.integer({ min: 1, max: 5 }),
    maxSegmentSize: fc.constantFrom(4096, 8192, 65536),
    virtBoundary: fc.constantFrom(0, 4096),
  });
  const vec = fc.record({
    page: fc.nat(50),
    offset: fc.integer({ min: 0, max: 7 }),
    blocks: fc.integer({ min: 1, max: 80 }),
  });
  fc.assert(
    fc.property(limits, fc.array(vec, { minLength: 1, maxLength: 8 }), (limits, vecs) => {
      const { queue, bio } = machine(limits);
      const lbs = limits.logicalBlockSize;
      const bytes: number[] = [];
      for (const { page, offset, blocks } of vecs) {
        const phys = 2 ** 40 + page * 4096 + offset * 512;
        bioAddPage(bio, phys, blocks * lbs, null);
        for (let k = 0; k < blocks * lbs; k += 512) bytes.push(phys + k);
      }
      bio.sector = lbs * 3;
      let ended = false;
      bio.endIo = () => {
        ended = true;
      };
      submitBio(bio);
      const seen: number[] = [];
      let at = bio.sector;
      for (const child of queue.taken) {
        t.equal(child.sector, at);
        t.ok(child.size > 0 && child.size % lbs === 0 && child.size <= limits.maxTransfer);
        const segments = child.vecs.reduce((n, v) => n + Math.ceil(v.length / limits.maxSegmentSize), 0);
        t.ok(segments <= limits.maxSegments, 'segments');
        child.vecs.forEach((v, i) => {
          const next = child.vecs[i + 1];
          if (limits.virtBoundary > 0 && next !== undefined) {
            t.equal((v.phys + v.length) % limits.virtBoundary, 0);
            t.equal(next.phys % limits.virtBoundary, 0);
          }
          for (let k = 0; k < v.length; k += 512) seen.push(v.phys + k);
        });
        t.equal(
          child.vecs.reduce((n, v) => n + v.length, 0),
          child.size,
        );
        at += child.size;
      }
      t.strictSame(seen, bytes);
      t.equal(at, bio.sector + bio.size);
      for (const child of queue.taken.reverse()) {
        t.equal(ended, false);
        bioEndio(child);
      }
      t.equal(ended, true);
    }),
    { numRuns: 100 },
  );
});

t.test('random vectors: pins of every kind, errors or not, end at zero', async (t) => {
  const segment = fc.record({
    kind: fc.constantFrom('host' as const, 'foreign' as const, 'cmb' as const, 'gone' as const),
    offset: fc.nat(7),
    blocks: fc.nat(8),
  });
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 6 }), fc.boolean(), (segments, pciP2pdma) => {
      const { memory, mm, bio } = machine({ pciP2pdma });
      const cmb = fakeCmb(mm);
      const host = hostMapping(memory, 65536);
      const gone = new Uint8Array(65536);
      const memories = { host, foreign: new Uint8Array(65536), cmb: cmb.bytes, gone };
      const views = segments.map((s) =>
        memories[s.kind].subarray(s.offset * 512, (s.offset + s.blocks) * 512),
      );
      const iter = iovIterIovec(READ, views);
      structuredClone(gone.buffer, { transfer: [gone.buffer] });
      const total = iter.count;
      const result = bioIovIterGetPages(mm, bio, iter);
      const used = segments.filter((s) => s.blocks > 0);
      const bad = used.some((s) => s.kind === 'gone' || (s.kind === 'cmb' && !pciP2pdma));
      if (bad || total === 0) {
        t.ok(result < 0);
        t.strictSame([iter.count, bio.size, bio.vecs.length], [total, 0, 0]);
      } else {
        t.equal(result, 0);
        t.strictSame([iter.count, bio.size], [0, total]);
        t.equal(mm.pinned, used.length);
      }
      bioReleasePages(mm, bio);
      t.strictSame([mm.pinned, memory.pages.pinned, cmb.pgmap.refs, cmb.vma.pins], [0, 0, 0, 0]);
    }),
    { numRuns: 100 },
  );
});

t.test('what cannot be split is EINVAL', async (t) => {
  const { queue, bio } = machine({ virtBoundary: 4096 });
  bioAddPage(bio, 0x10000, 100, null);
  bioAddPage(bio, 0x20000, 412, null);
  let status = 0;
  bio.endIo = (b) => {
    status = b.status;
  };
  t.equal(bioSplitRw(bio), -EINVAL);
  submitBio(bio);
  t.strictSame([status, queue.taken.length], [-EINVAL, 0]);
});

t.test('operations without data are split by limits of their own', async (t) => {
  const cut = (opf: 'flush' | 'discard' | 'write_zeroes', limits: Partial<BlkQueueLimits>, size: number) => {
    const { queue, bio } = machine(limits);
    bio.opf = opf;
    bio.size = size;
    submitBio(bio);
    return queue.taken.map((b) => [b.opf, b.sector, b.size]);
  };
  t.strictSame(cut('flush', {}, 0), [['flush', 0, 0]]);
  t.strictSame(cut('discard', {}, 2 ** 40), [['discard', 0, 2 ** 40]]);
  t.strictSame(cut('discard', { maxDiscard: 1024 }, 1536), [
    ['discard', 0, 1024],
    ['discard', 1024, 512],
  ]);
  t.equal(cut('write_zeroes', {}, 4 * 1024 * 1024).length, 4);
  t.equal(cut('write_zeroes', { maxWriteZeroes: 2 ** 25 }, 4 * 1024 * 1024).length, 1);
});

t.test('bio_chain: a parent waits for a bio of another queue', async (t) => {
  const { queue, bio: parent } = machine();
  const child = bioAlloc(queue, 'write');
  let ended = 0;
  parent.endIo = () => ended++;
  bioChain(child, parent);
  bioEndio(parent);
  t.equal(ended, 0);
  child.status = -EIO;
  bioEndio(child);
  t.strictSame([ended, parent.status], [1, -EIO]);
});

t.test('a bio from the pool remembers nothing', async (t) => {
  const { mm, queue, bio } = machine();
  bioIovIterGetPages(mm, bio, iovIterUbuf(READ, new Uint8Array(4096)));
  bio.status = -EIO;
  bio.bounced = true;
  bio.path.hostDram = 5;
  bio.sector = 4096;
  bio.private = {};
  t.throws(() => bioPut(bio), /still pinned/);
  bioReleasePages(mm, bio);
  bioPut(bio);
  t.throws(() => bio.queue.submitBio(bio), /put back/);
  const again = bioAlloc(queue, 'write');
  t.equal(again, bio);
  t.strictSame(
    [again.status, again.bounced, again.path.hostDram, again.sector, again.private],
    [0, false, 0, 0, null],
  );
  t.strictSame([again.size, again.vecs.length, again.remaining], [0, 0, 1]);
});
