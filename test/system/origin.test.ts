/** Whatever a system says carries whose word it is: a real kernel's, or an emulated machine's and which. */

import t from 'tap';
import { openSystem, type Progress } from '../../lib/index.js';

const EMULATED = { backend: 'emulator', machine: 'four-drives' };
const MIB = 1024 * 1024;

t.test('system, route, receipt, onProgress, streams', async (t) => {
  const system = await openSystem({ machine: 'four-drives' });
  t.match(system, EMULATED);
  t.match(system.route(['nvme0n1', 'nvme1n1']), EMULATED);
  t.match(system.metrics(), EMULATED);
  const seen: Progress[] = [];
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', {
    end: 4 * MIB - 1,
    bandwidth: 16 * MIB,
    verify: true,
    onProgress: (...words: unknown[]) => {
      t.equal(words.length, 1, 'one object');
      seen.push(words[0] as Progress);
    },
  });
  t.match(receipt, { ...EMULATED, verified: true });
  t.same([...new Set(seen.map(({ phase }) => phase))], ['copy', 'verify']);
  for (const progress of seen) {
    t.match(progress, EMULATED);
    t.same(Object.keys(progress).sort(), [
      ...['backend', 'bytes', 'bytesPerSecond', 'etaSeconds', 'machine', 'phase', 'provider'],
      ...['queueDepth', 'total', 'transport', 'type'],
    ]);
  }
  t.ok(seen.some(({ transport, provider }) => transport === 'p2p-bus' && provider === '0000:03:00.0'));
  await system.close();
});

t.test('the name is the description’s own', async (t) => {
  const first = await openSystem({ machine: 'switch' });
  const system = await openSystem({ machine: first.snapshot({ name: 'my laptop' }) });
  t.equal(system.machine, 'my laptop');
  await first.close();
  await system.close();
});

t.test('a stream that is not open yet claims nothing', async (t) => {
  const system = await openSystem({ machine: 'four-drives' });
  const reader = system.createReadStream('nvme0n1', { end: 4095 });
  t.match(reader.receipt, { backend: null, machine: null });
  for await (const chunk of reader) t.equal(chunk.length, 4096);
  t.match(reader.receipt, EMULATED);
  await system.close();
});

t.test('this machine has no name', async (t) => {
  const system = await openSystem({ backend: 'native', inspect: true });
  t.match(system, { backend: 'native', machine: null });
  t.match(system.metrics(), { backend: 'native', machine: null });
  await system.close();
});
