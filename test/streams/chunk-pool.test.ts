/** How large a reader's chunks are and how many, on a CMB of which the test says how much is free. */
import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { P2pdmaError } from '../../lib/base/errors.js';
import { takeChunkPool } from '../../lib/streams/chunk-pool.js';
import { hostRoute, type Route } from '../../lib/streams/route.js';
import type { StreamContext } from '../../lib/streams/session.js';

const MIB = 1024 * 1024;
const PAGE = 4096;
const host = hostRoute('as asked');

const wanted = {
  highWaterMark: 65536,
  queueDepth: 4,
  block: 512,
  bytes: 64 * MIB,
  writers: 0,
  required: false,
};

/** A function whose CMB has `size` bytes, of which `available` are free. */
function rig(size = 16 * MIB, available = size, fails: Error | null = null) {
  const provider = { bdf: '0000:03:00.0', p2pmem: { size } } as unknown as PciDev;
  const mapped = (bytes: number, of: PciDev | null) => ({
    ...{ buffer: new ArrayBuffer(bytes), bytes, provider: of, munmap: () => {} },
  });
  const memory = {
    allocHost: (bytes: number) => mapped(bytes, null),
    mmapP2pmem: (of: PciDev, bytes: number) => {
      if (fails !== null) throw fails;
      return mapped(bytes, of);
    },
    available: () => available,
  };
  const context = { backend: { memory }, mappings: 0, pools: new Set() } as unknown as StreamContext;
  const p2p: Route = { transport: 'p2p-bus', provider, reason: 'a switch', unproven: null };
  const take = (route: Route, changed: Partial<typeof wanted> = {}) => {
    const { route: taken, chunk, pool } = takeChunkPool(context, route, { ...wanted, ...changed });
    return [taken.transport, chunk, pool === null ? null : pool.slots.length];
  };
  return { take, p2p, context };
}

t.test('four small chunks for each transfer in flight, and no more than there is to read', async (t) => {
  const { take, p2p } = rig();
  const pumped = { writers: 1 };
  t.same(take(p2p, pumped), ['p2p-bus', 65536, 16]);
  t.same(take(host, pumped), ['host-memory', 65536, 16], 'read, written, and two that wait');
  t.same(take(host, { ...pumped, highWaterMark: MIB }), ['host-memory', MIB, 10], '2 MiB wait');
  t.same(
    take(host, { ...pumped, highWaterMark: 4 * MIB, bytes: 64 * MIB }),
    ['host-memory', 4 * MIB, 8],
    'none waits',
  );
  t.same(take(p2p), ['p2p-bus', 65536, 8], 'chunks that are lent wait with their consumer');
  t.same(take(host, { bytes: 3 * 65536 }), ['host-memory', 65536, 4], 'one more shows whether it has grown');
  t.same(take(host, { bytes: 3 * 65536 - 1 }), ['host-memory', 65536, 3]);
  t.same(take(host, { bytes: 1000 }), ['host-memory', 1024, 1], 'one short chunk of whole blocks');
  t.same(take(host, { bytes: 1024 }), ['host-memory', 1536, 1]);
  for (const bytes of [0, -512]) t.same(take(host, { bytes }), ['host-memory', 512, 1], 'nothing is known');
});

t.test('a CMB with little left: fewer chunks, and a page twice for each writer', async (t) => {
  const of = (available: number, writers: number) => {
    const { take, p2p } = rig(16 * MIB, available);
    return take(p2p, { writers });
  };
  t.same(of(3 * 65536, 0), ['p2p-bus', 65536, 3]);
  t.same(of(3 * 65536 - 1, 0), ['p2p-bus', 65536, 2]);
  t.same(of(12 * 65536 + 2 * PAGE, 1), ['p2p-bus', 65536, 8], 'those that wait leave half of it to others');
  t.same(of(20 * 65536 + 2 * PAGE, 1), ['p2p-bus', 65536, 10]);
  t.same(of(3 * 65536, 1), ['p2p-bus', 65536, 2]);
  t.same(of(3 * 65536 + 4 * PAGE, 2), ['p2p-bus', 65536, 3]);
  t.same(of(65536 + 2 * PAGE - 1, 1), ['p2p-bus', 65536 - 512, 1], 'room for one: by so much shorter');
  t.same(of(65536, 8), ['host-memory', 65536, 16], 'nothing is left but for the pages');
  t.same(of(65535, 0), ['host-memory', 65536, 8], 'not one');
});

t.test('why it is host memory is in the reason; what has to be peer-to-peer gets none', async (t) => {
  const { context, p2p, take } = rig(16 * MIB, 1000);
  const { route } = takeChunkPool(context, p2p, wanted);
  t.equal(route.reason, 'provider 0000:03:00.0: its pool has 1000 bytes free, a chunk needs 65536');
  t.same(take(p2p, { required: true }), ['host-memory', 65536, null]);
});

t.test('memory that cannot be mapped', async (t) => {
  const error = new P2pdmaError('ENOMEM', 'somebody was faster');
  const refused = rig(16 * MIB, 16 * MIB, error);
  t.equal(
    takeChunkPool(refused.context, refused.p2p, wanted).route.reason,
    'provider 0000:03:00.0: somebody was faster',
  );
  t.throws(() => refused.take(refused.p2p, { required: true }), error);
  const broken = rig(16 * MIB, 16 * MIB, new TypeError('a bug'));
  t.throws(() => broken.take(broken.p2p), { message: 'a bug' }, 'what is no answer of the kernel is thrown');
});

t.test('a chunk that the whole CMB does not hold is refused; a default is cut down to fit', async (t) => {
  const { take, p2p } = rig(MIB);
  t.throws(() => take(p2p, { highWaterMark: MIB + 512 }), { code: 'ERR_CHUNK_TOO_LARGE' });
  t.same(take(p2p, { highWaterMark: MIB }), ['p2p-bus', MIB, 1]);
  const { context } = rig(MIB);
  const { chunk, pool } = takeChunkPool(context, p2p, { ...wanted, highWaterMark: undefined });
  t.ok(chunk * pool!.slots.length * 2 <= MIB, 'no more than half');
});
