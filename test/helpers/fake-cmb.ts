import type { HostBridge, PciDev } from '../../lib/backend/topology.js';
import { type DevPagemap, type Mm, memremapPages, registerVma, type Vma } from '../../lib/kernel/memremap.js';

const hostBridge: HostBridge = { domain: 0, bus: 0, firstDevice: null };

/** An endpoint of which only the address is known. */
export function fakePciDev(bdf = '0000:03:00.0'): PciDev {
  const [domain, bus, slot, fn] = bdf.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  const devfn = slot! * 8 + fn!;
  return {
    bdf,
    id: domain! * 65536 + bus! * 256 + devfn,
    devfn,
    vendor: 0x1b36,
    device: 0x0010,
    class: 0x010802,
    portType: 'endpoint',
    upstream: null,
    hostBridge,
    acs: 'none',
    bars: [],
    numaNode: null,
    iommuGroup: null,
    p2pmem: null,
  };
}

/** A pagemap of P2P memory that is not registered with any `Mm` yet. */
export function fakePgmap(
  start: number,
  length: number,
  type: DevPagemap['type'] = 'MEMORY_DEVICE_PCI_P2PDMA',
) {
  const provider = type === 'MEMORY_DEVICE_PCI_P2PDMA' ? fakePciDev() : null;
  const pgmap: DevPagemap = { type, start, length, provider, busOffset: 0, refs: 0, dead: false };
  return pgmap;
}

export interface FakeCmb {
  readonly pgmap: DevPagemap;
  readonly vma: Vma;
  /** The mapping, which starts at the start of the pagemap. */
  readonly bytes: Uint8Array;
}

/** Device memory that is registered with `mm` and mapped. */
export function fakeCmb(
  mm: Mm,
  start = 0x80_0000_0000,
  length = 4 * 1024 * 1024,
  type: DevPagemap['type'] = 'MEMORY_DEVICE_PCI_P2PDMA',
): FakeCmb {
  const pgmap = fakePgmap(start, length, type);
  const error = memremapPages(mm, pgmap);
  if (error !== 0) throw new Error(`memremapPages: ${error}`);
  const buffer = new ArrayBuffer(length);
  const vma: Vma = { buffer, phys: start, length, pgmap };
  registerVma(vma);
  return { pgmap, vma, bytes: new Uint8Array(buffer) };
}
