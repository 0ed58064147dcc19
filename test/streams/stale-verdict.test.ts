/**
 * The kernel remembers which pairs may do peer-to-peer, and the streams foresee it: where the two differ (a register that
 * changed, a newer kernel's rule), the kernel refuses the memory when it is mapped.
 */
import t from 'tap';
import { openEmulator } from '../../lib/emulator/boot.js';
import { p2pdmaOf } from '../../lib/kernel/pci-p2pdma-pool.js';
import { presets } from '../../lib/machine/presets.js';
import { System } from '../../lib/system.js';

const BYTES = 2 * 1024 * 1024;

/** A switch whose kernel remembers that `client` may not reach the CMB of `provider`. */
async function machine(kernel: string, provider: string, client: string): Promise<System> {
  const backend = await openEmulator({ machine: { ...presets.switch, kernel } });
  const of = (name: string) => backend.controllers.find((controller) => controller.name === name)!.pdev!;
  p2pdmaOf(of(provider))!.mapTypes.set(of(client).id, 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
  return System.over(backend);
}

for (const [kernel, errno] of [
  ['6.12.117', 'EREMOTEIO'],
  ['6.17.0-35-generic', 'EINVAL'],
] as const) {
  for (const [end, provider, client] of [
    ['destination', 'nvme0', 'nvme1'],
    ['source', 'nvme1', 'nvme0'],
  ] as const) {
    t.test(`Linux ${kernel}: the ${end}'s mapping is refused with ${errno}`, async (t) => {
      const system = await machine(kernel, provider, client);
      const options = { end: BYTES - 1, provider };
      await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { ...options, requireP2p: true }), {
        code: 'ERR_P2P_REQUIRED',
        message: new RegExp(errno),
      });
      const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { ...options, verify: true });
      t.match(receipt, {
        bytes: BYTES,
        verified: true,
        transport: 'host-memory',
        reason: new RegExp(`${client}n1: the kernel refused CMB memory of .* \\(${errno}\\)`),
      });
      t.match(await system.close(), { iovas: 0, pages: 0, slots: 0, requests: 0 });
    });
  }
}
