/** The emulator's kernel is the one that the machine names: what it lists, what it refuses and with which errno. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import t, { type Test } from 'tap';
import { openSystem, TRACE_CHANNEL, type TraceEvent } from '../../lib/index.js';

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

/** The pieces of kernel memory that a copy of 1 MiB leaks. */
async function leaked(t: Test, kernel: string, iommu: string, sgls: boolean): Promise<number> {
  const machine = (await describe('switch')) as unknown as {
    functions: { nvme: { sgls: boolean } | null }[];
    iommu: string;
  };
  machine.iommu = iommu;
  for (const { nvme } of machine.functions) if (nvme !== null) nvme.sgls = sgls;
  const system = await openSystem({ machine, kernel });
  let count = 0;
  const seen = (event: unknown): void => {
    if ((event as TraceEvent).event === 'kernel_leak') count++;
  };
  subscribe(TRACE_CHANNEL, seen);
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 2 ** 20 - 1 });
  unsubscribe(TRACE_CHANNEL, seen);
  t.equal(receipt.transport, 'p2p-bus');
  const left = await system.close();
  t.same([left.iovas, left.requests], [0, 0], 'the leak is the emulated kernel’s, not ours');
  return count;
}

t.test('Linux 6.17 to 7.0.10 leak with each peer request by PRPs where an IOMMU translates', async (t) => {
  for (const [kernel, leaks] of [
    ['6.16.9', false],
    ['6.17.0', true],
    ['6.18.30', true],
    ['7.0.10', true],
    ['7.0.11', false],
    ['7.1.0', false],
  ] as const) {
    t.equal((await leaked(t, kernel, 'translating', false)) > 0, leaks, kernel);
  }
  t.equal(await leaked(t, '7.0.10', 'none', false), 0, 'without an IOMMU');
  t.equal(await leaked(t, '7.0.10', 'translating', true), 0, 'with SGLs');
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

t.test(
  'CMBs of 1 to 4 MiB: memory only in whole granules of memory hot-plug, which on x86 are 2 MiB',
  async (t) => {
    for (const [mib, registered] of [
      [1, undefined],
      [2, 2 * 2 ** 20],
      [3, undefined],
      [4, 4 * 2 ** 20],
    ] as const) {
      const machine = (await describe('switch')) as unknown as { functions: { nvme: object | null }[] };
      for (const { nvme } of machine.functions)
        if (nvme !== null) Object.assign(nvme, { cmb: { size: mib * 2 ** 20 } });
      const system = await openSystem({ machine });
      const [drive] = system.controllers;
      t.equal(drive!.pdev!.p2pmem?.size, registered, `${mib} MiB`);
      t.equal(drive!.cmb!.size, mib * 2 ** 20, 'the drive has it all the same');
      await system.close();
    }
  },
);
