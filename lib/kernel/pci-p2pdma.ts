/**
 * Mirrors drivers/pci/p2pdma.c (6.12; RFC patches 1 to 3 and 14). Two halves have their own files, which this one
 * exports: pci-p2pdma-distance (may a pair communicate, and what is its distance) and pci-p2pdma-pool (the memory).
 * This file connects them: orchestrators choose a provider, and mappers request the map type.
 */
import type { PciDev, Topology } from '../backend/topology.js';
import { ENODEV, EREMOTEIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Device, DMA_ATTR_P2PDMA } from './dma-map-ops.js';
import type { DevPagemap } from './memremap.js';
import {
  calcMapTypeAndDist,
  type PciP2pdmaMapType,
  type RulingHost,
  walkDistance,
} from './pci-p2pdma-distance.js';
import { p2pdmaOf, pciHasP2pmem } from './pci-p2pdma-pool.js';
import { type Scatterlist, SG_DMA_P2PDMA } from './scatterlist.js';

export {
  calcMapTypeAndDist,
  cpuSupportsP2pdma,
  type DistanceRule,
  type DistanceVerdict,
  disableAcsRedir,
  type HostBridgeVerdict,
  hostBridgeVerdict,
  type PciP2pdmaMapType,
  pciBridgeHasAcsRedir,
  pciHostBridgeDev,
  type RulingHost,
} from './pci-p2pdma-distance.js';
export {
  type BarMapper,
  type BarRange,
  type MmapRequest,
  type P2pmem,
  P2pmemMapping,
  pciAllocP2pmem,
  pciFreeP2pmem,
  pciHasP2pmem,
  pciMmapP2pmem,
  pciP2pdmaAddResource,
  pciP2pdmaRelease,
  pciP2pmemAllocSgl,
  pciP2pmemAvailable,
  pciP2pmemFreeSgl,
  pciP2pmemPublish,
  pciP2pmemSize,
  pciP2pmemVirtToBus,
} from './pci-p2pdma-pool.js';

/**
 * The verdict for a pair, cached with the provider if the function is one. `verbose` adds to the trace why the pair
 * is refused or redirected, and what would help (the kernel's warning in dmesg).
 */
function computeMapType(host: RulingHost, provider: PciDev, client: PciDev, verbose: boolean) {
  const walk = walkDistance(host, provider, client);
  p2pdmaOf(provider)?.mapTypes.set(client.id, walk.mapType);
  if (verbose && walk.mapType !== 'PCI_P2PDMA_MAP_BUS_ADDR' && tracing()) {
    const { reason, remedy } = calcMapTypeAndDist(host, provider, client);
    trace('pci-p2pdma', 'warn', {
      provider: provider.bdf,
      client: client.bdf,
      mapType: walk.mapType,
      // Without a common bridge, ACS is not the reason why the traffic goes up.
      acs: walk.commonBridge === null ? [] : walk.acs.map((f) => f.bdf),
      reason,
      remedy,
    });
  }
  return walk;
}

export interface DistanceOptions {
  /** Write to the trace why a pair is refused or redirected. */
  readonly verbose?: boolean;
}

/**
 * pci_p2pdma_distance_many(): the sum over all clients, or -1: there are none, one is not a PCI function (null),
 * or one cannot reach the provider. A pair whose ACS settings are unknown counts as possible.
 */
export function pciP2pdmaDistanceMany(
  host: RulingHost,
  provider: PciDev,
  clients: readonly (PciDev | null)[],
  options: DistanceOptions = {},
): number {
  if (clients.length === 0) return -1;
  let sum = 0;
  let refused = false;
  for (const client of clients) {
    if (client === null) return -1;
    const { mapType, distance } = computeMapType(host, provider, client, options.verbose ?? false);
    // In verbose mode, continue, so that every obstacle is reported.
    if (mapType === 'PCI_P2PDMA_MAP_NOT_SUPPORTED') refused = true;
    if (refused && !options.verbose) return -1;
    sum += distance;
  }
  return refused ? -1 : sum;
}

/** pci_p2pdma_distance() */
export function pciP2pdmaDistance(
  host: RulingHost,
  provider: PciDev,
  client: PciDev | null,
  options: DistanceOptions = {},
): number {
  return pciP2pdmaDistanceMany(host, provider, [client], options);
}

/**
 * pci_p2pmem_find_many(): the published provider with the smallest summed distance to all clients, or null. Among
 * providers at the same distance, each is chosen with the same probability, to spread the load; `random` is in [0,
 * 1).
 */
export function pciP2pmemFindMany(
  topology: RulingHost & Pick<Topology, 'functions'>,
  clients: readonly (PciDev | null)[],
  random: () => number = Math.random,
): PciDev | null {
  let closest = Number.POSITIVE_INFINITY;
  const nearest: PciDev[] = [];
  for (const pdev of topology.functions) {
    if (!pciHasP2pmem(pdev)) continue;
    const distance = pciP2pdmaDistanceMany(topology, pdev, clients);
    if (distance < 0 || distance > closest) continue;
    if (distance < closest) {
      nearest.length = 0;
      closest = distance;
    }
    nearest.push(pdev);
  }
  return nearest[Math.floor(random() * nearest.length)] ?? null;
}

/** pci_p2pmem_find() */
export function pciP2pmemFind(
  topology: RulingHost & Pick<Topology, 'functions'>,
  client: PciDev | null,
  random?: () => number,
): PciDev | null {
  return pciP2pmemFindMany(topology, [client], random);
}

/**
 * pci_p2pdma_map_type(): how `dev` must map memory of this pagemap. The first call for a pair computes the verdict
 * and writes the reason to the trace; later calls use the cached verdict, until the provider is removed.
 */
export function pciP2pdmaMapType(pgmap: DevPagemap, dev: PciDev | null): PciP2pdmaMapType {
  const { provider } = pgmap;
  if (provider === null || dev === null) return 'PCI_P2PDMA_MAP_NOT_SUPPORTED';
  const p2pdma = p2pdmaOf(provider);
  if (p2pdma === null) return 'PCI_P2PDMA_MAP_NOT_SUPPORTED';
  const cached = p2pdma.mapTypes.get(dev.id);
  if (cached !== undefined) return cached;
  return computeMapType(p2pdma.host, provider, dev, true).mapType;
}

/**
 * pci_p2pdma_should_map_bus(): 1: give the device the bus address (phys + pciP2pdmaBusOffset()); 0: map it like
 * ordinary memory; -1: it must not be mapped for this device.
 */
export function pciP2pdmaShouldMapBus(dev: Device, pgmap: DevPagemap): 1 | 0 | -1 {
  const mapType = pciP2pdmaMapType(pgmap, dev.pdev);
  switch (mapType) {
    case 'PCI_P2PDMA_MAP_BUS_ADDR':
      return 1;
    case 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE':
      return 0;
    case 'PCI_P2PDMA_MAP_NOT_SUPPORTED':
    case 'PCI_P2PDMA_MAP_UNKNOWN':
      return -1;
    default:
      return mapType satisfies never;
  }
}

/** pci_p2pdma_bus_offset(): the offset to add to a CPU physical address to get the bus address. */
export function pciP2pdmaBusOffset(pgmap: DevPagemap): number {
  return pgmap.busOffset;
}

/**
 * struct pci_p2pdma_map_state: caches the verdict on the last pagemap while a list is mapped, because the memory of a
 * list is mostly of one kind.
 */
export class PciP2pdmaMapState {
  readonly #dev: Device;
  readonly #attrs: number;
  #pgmap: DevPagemap | null = null;
  #byBus = 0;
  #busOffset = 0;

  constructor(dev: Device, attrs: number) {
    this.#dev = dev;
    this.#attrs = attrs;
  }

  /**
   * pci_p2pdma_map_segment(): 1: it is peer memory, and its bus address is set and flagged; 0: map it like ordinary
   * memory; -EREMOTEIO: it must not be mapped for this device.
   */
  mapSegment(sg: Scatterlist): number {
    const { pgmap } = sg;
    if (pgmap === null || pgmap.type !== 'MEMORY_DEVICE_PCI_P2PDMA') return 0;
    if (pgmap !== this.#pgmap) {
      this.#byBus = (this.#attrs & DMA_ATTR_P2PDMA) === 0 ? -1 : pciP2pdmaShouldMapBus(this.#dev, pgmap);
      this.#busOffset = pciP2pdmaBusOffset(pgmap);
      this.#pgmap = pgmap;
    }
    if (this.#byBus < 0) return -EREMOTEIO;
    if (this.#byBus === 0) return 0;
    sg.dmaAddress = sg.phys + this.#busOffset;
    sg.dmaLength = sg.length + SG_DMA_P2PDMA;
    return 1;
  }
}

/** The content of an attribute (sysfs, configfs) that enables P2PDMA. */
export interface P2pdmaEnable {
  readonly useP2pdma: boolean;
  /** The provider that it names; null: any provider. */
  readonly provider: PciDev | null;
}

/**
 * pci_p2pdma_enable_store(): parse the text of such an attribute: the name of a PCI function, or a boolean. -ENODEV:
 * the function has no (published) peer memory, or the text is neither.
 *
 * `0` and `1` are accepted only as the whole text: the name of a function that does not exist, such as
 * `0000:01:00.1`, must not be read as "off".
 */
export function pciP2pdmaEnableStore(page: string, topology: Pick<Topology, 'find'>): P2pdmaEnable | number {
  const text = page.endsWith('\n') ? page.slice(0, -1) : page;
  const provider = topology.find(text);
  if (provider !== null && provider.bdf === text) {
    return pciHasP2pmem(provider) ? { useP2pdma: true, provider } : -ENODEV;
  }
  if (/^[01]\P{Cc}/u.test(text)) return -ENODEV;
  const useP2pdma = kstrtobool(text);
  return useP2pdma === null ? -ENODEV : { useP2pdma, provider: null };
}

/** kstrtobool(): only the first letter counts, or the first two if the first is an o. */
function kstrtobool(text: string): boolean | null {
  if (/^([yt1]|on)/i.test(text)) return true;
  if (/^([nf0]|of)/i.test(text)) return false;
  return null;
}

/** pci_p2pdma_enable_show(): the attribute's text. */
export function pciP2pdmaEnableShow(enable: P2pdmaEnable): string {
  if (!enable.useP2pdma) return '0\n';
  return enable.provider === null ? '1\n' : `${enable.provider.bdf}\n`;
}
