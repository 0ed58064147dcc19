import { channel } from 'node:diagnostics_channel';
import t from 'tap';
import type { Backend, BlockTarget, OpenOptions } from '../../lib/backend/backend.js';
import { METRICS_CHANNEL, type Metrics, type MetricsEvent } from '../../lib/streams/metrics.js';
import { StreamContext } from '../../lib/streams/session.js';

function rig() {
  const order: string[] = [];
  const openTarget = async (name: string, _options: OpenOptions) => {
    if (name === 'none') throw Object.assign(new Error('no such device'), { code: 'ENOENT' });
    return { path: name, close: async () => void order.push(`target ${name}`) } as unknown as BlockTarget;
  };
  const backend = {
    ...{ name: 'emulator', machine: 'switch', openTarget },
    topology: {
      functions: [
        { bdf: '0000:03:00.0', p2pmem: { size: 4096 } },
        { bdf: 'b', p2pmem: null },
      ],
    },
    memory: { available: () => 1024 },
    close: async () => {
      order.push('backend');
      return { slots: 0 };
    },
  };
  const context = new StreamContext(backend as unknown as Backend);
  const closable = (name: string) => ({ shutdown: async () => void order.push(name) });
  return { context, order, closable };
}

/** A reader that has read so much, in `transfers` transfers. */
const reader = (bytes: number, transfers: number) => ({
  ...{ metered: 'reader' as const, meteredPath: `of ${bytes}` },
  shutdown: async () => {},
  meter: (into: Metrics) => {
    into.bytes.read += bytes;
    into.transfers.read += transfers;
  },
});

t.test('what fails to close is told, and everything else is closed all the same', async (t) => {
  const { context, order, closable } = rig();
  context.add(closable('a'));
  context.add({ shutdown: async () => Promise.reject(new Error('lost')) });
  const target = await context.openTarget('b', {});
  const failing = await context.adopt(
    Promise.resolve({ close: async () => Promise.reject(new Error('told')) } as unknown as BlockTarget),
  );
  await t.rejects(context.closeTarget(failing), { message: 'told' });
  await context.closeTarget(target);
  await t.rejects(context.close(), { message: 'lost' }, 'and what its owner has been told is not told again');
  t.same(order, ['target b', 'a', 'backend']);
});

t.test('what is shut down sees a closed system, the first as well as the last', async (t) => {
  const { context } = rig();
  const seen: boolean[] = [];
  const looking = { shutdown: async () => void seen.push(context.closed) };
  context.add(looking);
  context.add({ ...looking });
  await context.close();
  t.same(seen, [true, true]);
});

t.test(
  'closing ends the newest first, then the backend; once, and nothing is opened behind it',
  async (t) => {
    const { context, order, closable } = rig();
    const gone = closable('gone');
    context.add(closable('a'));
    context.add(gone);
    await context.openTarget('b', {});
    context.add(closable('c'));
    context.remove(gone);
    context.mappings = 2;
    t.equal(context.closed, false);
    const closing = context.close();
    t.equal(context.close(), closing);
    t.equal(context.closed, true);
    t.match(await closing, { slots: 2 }, 'what was not given back is in the report');
    t.same(order, ['c', 'target b', 'a', 'backend']);
    t.throws(() => context.add(closable('late')), { code: 'ERR_STREAM_DESTROYED' });
    await t.rejects(context.openTarget('late', {}), { code: 'ERR_STREAM_DESTROYED' });
  },
);

t.test('a target that is being opened is closed too; one that was closed is not closed again', async (t) => {
  const { context, order } = rig();
  await context.closeTarget(await context.openTarget('closed', {}));
  const opening = context.openTarget('opening', {});
  await context.close();
  await opening;
  t.same(order, ['target closed', 'target opening', 'backend']);
});

t.test('a failure counts once, by its code', async (t) => {
  const { context, order } = rig();
  await t.rejects(context.openTarget('none', {}), { code: 'ENOENT' });
  const error = Object.assign(new Error('x'), { code: 'EIO' });
  for (const failure of [error, error, new TypeError('y'), {}, null, 'text']) context.failed(failure);
  t.strictSame(context.metrics().errors, { ENOENT: 1, EIO: 1, TypeError: 1, unknown: 1 });
  await context.close();
  t.same(order, ['backend'], 'what was not opened is not closed');
});

t.test('metrics: what is open and what was, each once; a copy that nobody changes', async (t) => {
  const { context } = rig();
  const [a, b] = [reader(100, 1), reader(20, 2)];
  context.add(a);
  context.add(b);
  const before = context.metrics();
  t.match(before, { bytes: { read: 120 }, transfers: { read: 3 }, open: { readers: 2, writers: 0 } });
  context.remove(a);
  context.remove(a);
  t.match(context.metrics(), { bytes: { read: 120 }, transfers: { read: 3 }, open: { readers: 1 } });
  t.match(before, { open: { readers: 2 } });
  t.same(before.p2pmem, [{ provider: '0000:03:00.0', size: 4096, available: 1024 }]);
  t.match(before, { backend: 'emulator', machine: 'switch', pools: [] });
});

t.test('metrics: pools, added up by whose memory it is', async (t) => {
  const { context } = rig();
  const provider = { bdf: '0000:03:00.0' };
  for (const [whose, slots, inUse] of [
    [provider, 3, 1],
    [null, 2, 2],
    [provider, 4, 0],
  ] as const) {
    context.pools.add({ provider: whose, bytes: slots * 512, slots: Array(slots).fill(0), inUse });
  }
  t.same(context.metrics().pools, [
    { provider: '0000:03:00.0', pools: 2, bytes: 3584, slots: 7, inUse: 1 },
    { provider: null, pools: 1, bytes: 1024, slots: 2, inUse: 2 },
  ]);
});

t.test('the channel has one event for each that closes', async (t) => {
  const { context, closable } = rig();
  const events: MetricsEvent[] = [];
  const listen = (event: unknown) => events.push(event as MetricsEvent);
  channel(METRICS_CHANNEL).subscribe(listen);
  t.teardown(() => channel(METRICS_CHANNEL).unsubscribe(listen));
  const [a, other] = [reader(100, 1), closable('no stream')];
  context.add(a);
  context.add(other);
  for (const closed of [a, a, other]) context.remove(closed);
  t.equal(events.length, 1);
  t.match(events[0], {
    closed: 'reader',
    path: 'of 100',
    machine: 'switch',
    metrics: { bytes: { read: 100 } },
  });
});
