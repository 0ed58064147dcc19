/** What a system counts: in an object, on the diagnostics channel, as Prometheus text. */

import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Counter, Gauge, Registry } from 'prom-client';
import t from 'tap';
import { METRICS_CHANNEL, type MetricsEvent, openSystem, prometheusMetrics } from '../../lib/index.js';

const MIB = 1024 * 1024;

t.test('a copy: bytes by path, requests, transports; nothing left in flight', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  t.same(system.metrics(), {
    backend: 'emulator',
    machine: 'switch',
    bytes: { read: 0, write: 0 },
    transfers: { read: 0, write: 0 },
    path: { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 },
    transports: { 'p2p-bus': 0, 'p2p-host-bridge': 0, 'host-memory': 0 },
    errors: {},
    inFlight: 0,
    open: { readers: 0, writers: 0, targets: 0, handles: 0 },
    pools: [],
    p2pmem: [
      { provider: '0000:03:00.0', size: 16 * MIB, available: 16646144 },
      { provider: '0000:04:00.0', size: 16 * MIB, available: 16646144 },
    ],
  });
  await system.pipeline('nvme0n1', 'nvme1n1', { end: 4 * MIB - 1, highWaterMark: MIB });
  t.match(system.metrics(), {
    bytes: { read: 4 * MIB, write: 4 * MIB },
    transfers: { read: 4, write: 4 },
    path: { internal: 4 * MIB, peerBus: 4 * MIB, hostBridge: 0, hostDram: 0 },
    transports: { 'p2p-bus': 2, 'host-memory': 0 },
    errors: {},
    inFlight: 0,
    open: { readers: 0, writers: 0, targets: 0, handles: 0 },
    pools: [],
  });
  await system.close();
  t.match(system.metrics(), { path: { peerBus: 4 * MIB }, p2pmem: [] }, 'the sums outlive the system');
});

t.test('while it runs: open streams, requests in flight, pools', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('nvme0n1', { highWaterMark: MIB, queueDepth: 4 });
  const writer = system.createWriteStream('nvme1n1');
  reader.pipe(writer);
  while (writer.bytesWritten < 8 * MIB) await new Promise(setImmediate);
  const now = system.metrics();
  t.match(now.open, { readers: 1, writers: 1, targets: 0 });
  t.ok(now.inFlight > 0 && now.inFlight <= 12, `${now.inFlight} in flight`);
  const [pool] = now.pools;
  t.match(pool, { provider: '0000:03:00.0', pools: 1, slots: 8, bytes: 8 * MIB });
  t.ok(pool!.inUse > 0 && pool!.inUse <= 8, `${pool!.inUse} in use`);
  t.equal(now.p2pmem[0]!.available, 16646144 - 8 * MIB);
  t.ok(now.bytes.write >= 8 * MIB && now.bytes.read >= now.bytes.write);
  reader.destroy();
  writer.destroy();
  await system.close();
});

t.test('targets count their own transfers', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const target = await system.target('nvme1n1', { write: true });
  const cmb = system.allocate('nvme0', 8192);
  await target.write(cmb.buffer, 0);
  await target.readv([cmb.buffer.subarray(0, 4096), cmb.buffer.subarray(4096)], 0);
  t.match(system.metrics(), {
    bytes: { read: 8192, write: 8192 },
    transfers: { read: 1, write: 1 },
    path: { peerBus: 16384 },
    open: { targets: 1 },
  });
  await target.close();
  t.match(system.metrics(), { bytes: { read: 8192 }, open: { targets: 0 } });
  await system.close();
});

t.test('handles count their own transfers, and a stream over one counts for itself', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const handle = await system.open('nvme0n1', 'r+');
  await handle.write(Buffer.alloc(8192, 1), 0, 8192, 0);
  await handle.read(Buffer.alloc(5), 0, 5, 100);
  t.match(system.metrics(), {
    bytes: { read: 5, write: 8192 },
    transfers: { read: 1, write: 1 },
    path: { peerBus: 0, hostDram: 8192 + 512 },
    inFlight: 0,
    open: { readers: 0, writers: 0, targets: 0, handles: 1 },
  });
  const reading = handle.read(Buffer.alloc(4096), 0, 4096, 0);
  t.equal(system.metrics().inFlight, 1);
  await reading;
  await handle.createReadStream({ start: 0, end: 4095 }).toArray();
  t.match(system.metrics(), { bytes: { read: 5 + 4096 + 4096 }, open: { handles: 0, readers: 0 } });
  await system.close();
});

t.test('a handle that node:fs serves counts too, and what fails', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const handle = await system.open(join(t.testdir({ log: '' }), 'log'), 'a+');
  await handle.appendFile('twelve bytes');
  t.equal(String((await handle.read(Buffer.alloc(12), 0, 12, 0)).buffer), 'twelve bytes');
  t.match(system.metrics(), { bytes: { read: 12, write: 12 }, path: { hostDram: 24 }, open: { handles: 1 } });
  await handle.close();
  const drive = await system.open('nvme0n1', 'r+');
  await t.rejects(drive.write('x', Number.MAX_SAFE_INTEGER - 1000), { code: 'ENOSPC' });
  t.match(system.metrics(), { bytes: { read: 12, write: 12 }, errors: { ENOSPC: 1 } });
  await system.close();
});

t.test('errors by code, each once', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  await t.rejects(system.target('nvme7n1'), { code: 'ENOENT' });
  await t.rejects(system.pipeline('nvme7n1', 'nvme1n1'), { code: 'ENOENT' });
  const endless = new Readable({ read: () => endless.push(randomBytes(MIB)) });
  await t.rejects(
    pipeline(endless, system.createWriteStream('nvme1n1', { signal: AbortSignal.timeout(50) })),
    { name: 'AbortError' },
  );
  await system.close();
  t.match(system.metrics().errors, { ENOENT: 2, ABORT_ERR: 1 });
});

t.test('diagnostics channel: a message for each that closes', async (t) => {
  const events: MetricsEvent[] = [];
  const listen = (event: unknown) => events.push(event as MetricsEvent);
  subscribe(METRICS_CHANNEL, listen);
  const system = await openSystem({ machine: 'switch' });
  await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1 });
  await system.close();
  unsubscribe(METRICS_CHANNEL, listen);
  t.same(events.map(({ closed, path }) => `${closed} ${path}`).sort(), ['reader nvme0n1', 'writer nvme1n1']);
  for (const event of events) {
    for (const said of [event, event.metrics]) t.match(said, { backend: 'emulator', machine: 'switch' });
  }
  t.match(events.at(-1)!.metrics, { path: { internal: MIB, peerBus: MIB }, open: { readers: 0 } });
});

t.test('Prometheus text: read at the scrape, counters that never fall', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const registry = new Registry();
  prometheusMetrics(system, { Counter, Gauge }, { registers: [registry], prefix: 'x_' });
  t.match(
    await registry.metrics(),
    /^x_path_bytes_total\{backend="emulator",machine="switch",path="peerBus"\} 0$/m,
  );
  const labels = 'backend="emulator",machine="switch"';
  for (const total of [MIB, 2 * MIB]) {
    await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1 });
    const text = await registry.metrics();
    t.match(text, new RegExp(`^x_path_bytes_total\\{${labels},path="peerBus"\\} ${total}$`, 'm'));
    t.match(text, new RegExp(`^x_bytes_total\\{${labels},op="write"\\} ${total}$`, 'm'));
    t.match(text, /^# TYPE x_path_bytes_total counter$/m);
    t.match(text, /^x_in_flight\{backend="emulator",machine="switch"\} 0$/m);
  }
  await system.close();
});
