/** Each event on the diagnostics channel says which machine it is of, and whether a real kernel is behind it. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import t from 'tap';
import { openSystem, type TraceEvent } from '../../lib/index.js';
import { skipNative } from '../helpers/native.js';

/** What is traced while `work` runs. */
async function eventsOf(work: () => Promise<unknown>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  const listen = (event: unknown) => events.push(event as TraceEvent);
  subscribe('p2pdma:trace', listen);
  try {
    await work();
  } finally {
    unsubscribe('p2pdma:trace', listen);
  }
  return events;
}

const origins = (events: readonly TraceEvent[]) =>
  [...new Set(events.map(({ backend, machine }) => `${backend} ${machine}`))].sort();

async function useAll(machine: string): Promise<void> {
  await using system = await openSystem({ machine });
  await system.pipeline('nvme0n1', 'nvme1n1', { end: 1024 * 1024 - 1, verify: true, flush: true });
  using memory = system.allocate(null, 4096);
  await using target = await system.target('nvme0n1', { write: true });
  await target.write(memory.buffer, 0);
  await target.flush();
  await target.passthrough({ opcode: 2, data: memory.buffer.subarray(0, 512) });
}

t.test('one machine, from its boot to its end', async (t) => {
  const events = await eventsOf(() => useAll('switch'));
  t.same(origins(events), ['emulator switch']);
  const layers = new Set(events.map(({ layer }) => layer));
  for (const layer of [
    'boot',
    'nvme-pci',
    'pci-p2pdma',
    'bio',
    'fabric',
    'nvme-controller',
    'streams',
    'nvme-ioctl',
  ]) {
    t.ok(layers.has(layer), layer);
  }
});

t.test('two machines at once: each event is of the one that it happens on', async (t) => {
  const events = await eventsOf(() => Promise.all([useAll('switch'), useAll('iommu-switch')]));
  t.same(origins(events), ['emulator iommu-switch', 'emulator switch']);
  const mapped = events.filter(({ layer }) => layer === 'dma-iommu');
  t.not(mapped.length, 0);
  t.same(origins(mapped), ['emulator iommu-switch'], 'an IOMMU is in one of them only');
});

t.test('a machine that was opened before anybody listened', async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const events = await eventsOf(() => system.pipeline('nvme0n1', 'nvme1n1', { end: 65535 }));
  t.same(origins(events), ['emulator switch']);
});

t.test('this machine', { skip: skipNative }, async (t) => {
  const folder = t.testdir({ from: Buffer.alloc(100_000, 1) });
  const events = await eventsOf(async () => {
    await using system = await openSystem({ backend: 'native' });
    await system.pipeline(join(folder, 'from'), join(folder, 'to'));
  });
  t.same(origins(events), ['native null']);
});
