import t from 'tap';
import type { QueueLimits } from '../../lib/backend/backend.js';
import { EINVAL } from '../../lib/base/errno.js';
import { bioCutUser } from '../../lib/kernel/bio-user.js';
import { Mm, pgmapOf } from '../../lib/kernel/memremap.js';
import { fakeCmb } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { fc } from '../helpers/random.js';

const limits: QueueLimits = {
  logicalBlockSize: 512,
  dmaAlignment: 4,
  maxTransfer: 65536,
  maxSegments: 4,
  pciP2pdma: true,
};

t.test('what fits goes as it is', async (t) => {
  const chunk = Buffer.from(new ArrayBuffer(65536));
  const [request, ...more] = bioCutUser([chunk], 4096, limits, null);
  t.strictSame([request?.offset, more.length], [4096, 0]);
  t.equal(request?.segments[0], chunk);
  t.strictSame(bioCutUser([], 0, limits, null), []);
  t.strictSame(bioCutUser([Buffer.alloc(0)], 0, limits, null), []);
});

t.test('requests to the owner of a CMB are all CMB or all host memory', async (t) => {
  const cmb = fakeCmb(new Mm(new FakeHostMemory())).bytes;
  const host = new Uint8Array(8192);
  const segments = [
    host.subarray(0, 4096),
    cmb.subarray(0, 4096),
    cmb.subarray(8192, 12288),
    host.subarray(4096),
  ];
  t.equal(bioCutUser(segments, 0, limits, null).length, 1);
  const cut = bioCutUser(segments, 0, limits, pgmapOf);
  t.strictSame(
    cut.map((r) => [r.offset, r.segments.length]),
    [
      [0, 1],
      [4096, 2],
      [12288, 1],
    ],
  );
});

t.test('neighbours in one buffer are one segment', async (t) => {
  const chunk = new Uint8Array(new ArrayBuffer(8192));
  const cut = bioCutUser(
    [chunk.subarray(0, 512), chunk.subarray(512, 4096)],
    0,
    { ...limits, maxSegments: 1 },
    null,
  );
  t.strictSame(
    cut.map((r) => r.segments.map((s) => [s.byteOffset, s.byteLength])),
    [[[0, 4096]]],
  );
});

t.test('what is not aligned is EINVAL, and the message says what', async (t) => {
  const buffer = new ArrayBuffer(8192);
  const cut =
    (offset: number, ...segments: Uint8Array[]) =>
    () =>
      bioCutUser(segments, offset, limits, null);
  const errno = { name: 'P2pdmaError', code: 'EINVAL', errno: -EINVAL };
  const fine = new Uint8Array(buffer, 0, 512);
  t.throws(cut(100, fine), { ...errno, message: /offset 100 .* 512/ });
  t.throws(cut(0, fine, new Uint8Array(buffer, 0, 100)), { ...errno, message: /length 100 of segment 1/ });
  t.throws(cut(0, new Uint8Array(buffer, 2, 512)), { ...errno, message: /address of segment 0/ });
  t.throws(() => bioCutUser([fine], 0, { ...limits, maxTransfer: 100 }, null), { code: 'ERR_OUT_OF_RANGE' });
});

t.test(
  'any vector: never empty, never misaligned, within the limits, the same bytes in the same order',
  async (t) => {
    const memories = [0, 1, 2].map((n) => new Uint8Array(new ArrayBuffer(65536)).fill(n));
    const segment = fc.record({ memory: fc.nat(2), start: fc.nat(60), blocks: fc.nat(20) });
    const someLimits = fc.record({
      logicalBlockSize: fc.constantFrom(512, 4096),
      maxTransfer: fc.oneof(fc.integer({ min: 4096, max: 60000 }), fc.constant(Number.POSITIVE_INFINITY)),
      maxSegments: fc.integer({ min: 1, max: 5 }),
    });
    fc.assert(
      fc.property(
        fc.array(segment, { maxLength: 10 }),
        someLimits,
        fc.nat(1000),
        fc.boolean(),
        (segments, some, block, oneKind) => {
          const use = { ...limits, ...some };
          const lbs = use.logicalBlockSize;
          const views = segments.map(({ memory, start, blocks }) => {
            const from = start * 512;
            const length = Math.min(blocks * lbs, Math.floor((65536 - from) / lbs) * lbs);
            return memories[memory]!.subarray(from, from + length);
          });
          const kindOf = (view: Uint8Array) => view.buffer;
          const cut = bioCutUser(views, block * lbs, use, oneKind ? kindOf : null);
          const where = (all: Uint8Array[]) =>
            all.flatMap((v) =>
              Array.from({ length: v.length / 512 }, (_, i) => `${v[0]}:${v.byteOffset + i * 512}`),
            );
          t.strictSame(where(cut.flatMap((r) => r.segments)), where(views));
          let at = block * lbs;
          for (const request of cut) {
            const bytes = request.segments.reduce((n, s) => n + s.length, 0);
            t.equal(request.offset, at);
            t.ok(bytes > 0 && bytes <= use.maxTransfer && bytes % lbs === 0);
            t.ok(request.segments.length <= use.maxSegments);
            t.ok(
              request.segments.every((s) => s.length > 0 && s.length % lbs === 0 && s.byteOffset % 4 === 0),
            );
            if (oneKind) t.equal(new Set(request.segments.map(kindOf)).size, 1);
            at += bytes;
          }
        },
      ),
      { numRuns: 150 },
    );
  },
);
