/** The emulator's kernel is the one that the machine names: what it lists, what it refuses and with which errno. */
import t from 'tap';
import { openSystem } from '../../lib/index.js';

interface Described {
  hostBridges: { peerRouting: boolean }[];
  functions: { bdf: string; vendor: number; device: number; bars: { size: number }[] }[];
}

async function describe(preset: string): Promise<Described> {
  const system = await openSystem({ machine: preset });
  const machine = structuredClone(system.snapshot()) as unknown as Described;
  await system.close();
  return machine;
}

t.test('a copy goes as the named kernel lets it', async (t) => {
  const machine = await describe('root-ports');
  Object.assign(machine.functions.find(({ bdf }) => bdf === '0000:00:00.0')!, {
    vendor: 0x8086,
    device: 0x0b25,
  });
  machine.hostBridges[0]!.peerRouting = true;
  for (const [kernel, transport, p2p] of [
    ['6.12.117', 'host-memory', false],
    ['7.1.2', 'host-memory', false],
    ['7.1.3', 'p2p-host-bridge', true],
    ['7.2.0', 'p2p-host-bridge', true],
  ] as const) {
    const system = await openSystem({ machine, kernel });
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 2 ** 20 - 1 });
    t.equal(receipt.transport, transport, kernel);
    t.equal(receipt.path.hostBridge > 0, p2p, kernel);
    t.equal(receipt.bytes, 2 ** 20);
    await system.close();
  }
});

t.test(
  'where the list is not known, one copy settles it: tried, refused, done through host memory',
  async (t) => {
    const machine = await describe('root-ports');
    const system = await openSystem({ machine, kernel: '6.6.0-28.oe2403.x86_64' });
    t.match(system.route(['nvme0n1', 'nvme1n1']), { transport: 'p2p-host-bridge', unproven: /openEuler/ });
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 2 ** 20 - 1 });
    t.match(receipt, {
      transport: 'host-memory',
      reason: /the kernel refused CMB memory .*EREMOTEIO/,
      bytes: 2 ** 20,
    });
    await system.close();
  },
);

t.test('a misaligned CMB: skipped without a message, or before that refused at registration', async (t) => {
  const machine = await describe('misaligned-cmb');
  for (const [kernel, why] of [
    ['6.12.22', /could not be registered as peer memory \(EINVAL\)/],
    ['6.12.23', /not a multiple of 2097152 bytes/],
    ['6.12', /not a multiple of 2097152 bytes/],
    ['6.14.0', /not a multiple of 2097152 bytes/],
  ] as const) {
    const system = await openSystem({ machine, kernel });
    const cmbs = system.controllers.flatMap(({ cmb }) => cmb ?? []);
    t.ok(cmbs.length > 0);
    t.match(cmbs[0]!.unusable, { kind: 'misaligned', text: why }, kernel);
    await system.close();
  }
});
