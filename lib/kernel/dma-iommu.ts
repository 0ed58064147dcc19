/**
 * Mirrors drivers/iommu/dma-iommu.c (6.12; P2PDMA as in the RFC's patch 7): DMA behind a translating IOMMU.
 *
 * Each list gets one contiguous range of I/O virtual address space, in which each segment starts on its own page.
 * Peer memory below a common switch does not go through the IOMMU: it gets its bus address and no IOVA.
 *
 *     list      [ host 6K @512 ] [ peer 64K, bus ] [ host 8K ] [ host 4K ]
 *     IOVA      ├─ 2 pages ────┤                   ├ 2 pages ─┼ 1 page ──┤
 *     DMA side  iova+512, 6K     bus address, 64K   iova+8K, 12K              merged, but never across bus segments
 */
import { offsetInPage, PAGE_SIZE } from '../backend/hardware.js';
import type { PciDev } from '../backend/topology.js';
import { EINVAL, ENOMEM } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { dmaDirectMapPhys, dmaDirectMapSg, dmaDirectUnmapSg, isMappable } from './dma-direct.js';
import {
  type Device,
  DMA_ATTR_P2PDMA,
  DMA_F_PCI_P2PDMA_SUPPORTED,
  DMA_MAPPING_ERROR,
  type DmaDirection,
  type DmaMapOps,
} from './dma-map-ops.js';
import { type AddressRange, IovaDomain } from './iova.js';
import { PciP2pdmaMapState } from './pci-p2pdma.js';
import { type Scatterlist, SG_DMA_P2PDMA, sgNext } from './scatterlist.js';

/** Total size in bytes of the pages that [phys, phys + length) touches. */
function pageSpan(phys: number, length: number): number {
  return Math.ceil((offsetInPage(phys) + length) / PAGE_SIZE) * PAGE_SIZE;
}

/**
 * First pass: decide how each segment is mapped, and lay out those that need an IOVA. Stores bus addresses (flagged)
 * and offsets from the start of the IOVA in the DMA side. Returns the number of IOVA bytes needed, or a negative
 * errno.
 */
function layOut(dev: Device, sgl: Scatterlist, nents: number, attrs: number): number {
  const boundary = dev.dmaParms.segmentBoundaryMask + 1;
  const state = new PciP2pdmaMapState(dev, attrs);
  let iovaLength = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents; i++, sg = sgNext(sg)) {
    if (!isMappable(sg)) return -EINVAL;
    const byBus = state.mapSegment(sg);
    if (byBus < 0) return byBus;
    if (byBus === 1) continue;
    const span = pageSpan(sg.phys, sg.length);
    // The IOVA starts on a multiple of the boundary or ends before the next one, so the offset alone tells whether a
    // segment would cross a boundary.
    const room = boundary - (iovaLength % boundary);
    if (room < span && room < boundary) iovaLength += room;
    sg.dmaAddress = iovaLength + offsetInPage(sg.phys);
    sg.dmaLength = sg.length;
    iovaLength += span;
  }
  return iovaLength;
}

/** Second pass: map the segments in the IOMMU. Returns how many entries succeeded. */
function enter(dev: Device, sgl: Scatterlist, nents: number, iova: number, write: boolean): number {
  let done = 0;
  let sg: Scatterlist | null = sgl;
  try {
    for (; done < nents && sg !== null; done++, sg = sgNext(sg)) {
      if (sg.dmaLength >= SG_DMA_P2PDMA) continue;
      const inPage = offsetInPage(sg.phys);
      const at = iova + sg.dmaAddress - inPage;
      dev.iommu!.map(dev.pdev!, at, sg.phys - inPage, pageSpan(sg.phys, sg.length), write);
    }
  } catch (error) {
    if (tracing()) trace('dma-iommu', 'map_failed', { device: dev.name, error: String(error) });
  }
  return done;
}

/** Unmap the segments of the first `count` entries again. */
function takeOut(dev: Device, sgl: Scatterlist, count: number, iova: number): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < count && sg !== null; i++, sg = sgNext(sg)) {
    if (sg.dmaLength >= SG_DMA_P2PDMA) continue;
    const at = iova + sg.dmaAddress - offsetInPage(sg.phys);
    dev.iommu!.unmap(dev.pdev!, at, pageSpan(sg.phys, sg.length));
  }
}

/**
 * __finalise_sg(): turn offsets into addresses and merge adjacent segments as far as the device's segment limits
 * allow. It writes only at or before the entry that it reads. Returns the number of DMA segments.
 */
function finalise(dev: Device, sgl: Scatterlist, nents: number, iova: number): number {
  const maxSegment = Math.min(dev.dmaParms.maxSegmentSize, SG_DMA_P2PDMA - 1);
  const boundary = dev.dmaParms.segmentBoundaryMask + 1;
  let count = 0;
  let out: Scatterlist | null = null;
  let outStart = 0;
  let outLength = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    const byBus = sg.dmaLength >= SG_DMA_P2PDMA;
    const start = byBus ? sg.dmaAddress : iova + sg.dmaAddress;
    const length = sg.dmaLength;
    // A preceding bus-address entry never satisfies this condition: its flagged length exceeds every maxSegment.
    if (
      out !== null &&
      !byBus &&
      outStart + outLength === start &&
      outLength + length <= maxSegment &&
      (outStart % boundary) + outLength + length <= boundary
    ) {
      outLength += length;
      out.dmaLength = outLength;
      continue;
    }
    out = out === null ? sgl : sgNext(out)!;
    outStart = start;
    outLength = length;
    out.dmaAddress = start;
    out.dmaLength = length;
    count++;
  }
  if (out !== null && count < nents) clear(sgNext(out)!, nents - count);
  return count;
}

function clear(sgl: Scatterlist, nents: number): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) sg.dmaLength = 0;
}

/** iommu_dma_map_sg(): maps all entries or none. */
function iommuDmaMapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDirection,
  attrs: number,
): number {
  const iovaLength = layOut(dev, sgl, nents, attrs);
  let iova = 0;
  if (iovaLength > 0) {
    iova = dev.iommuDomain!.alloc(iovaLength);
    const entered = iova === 0 ? 0 : enter(dev, sgl, nents, iova, dir !== 'DMA_TO_DEVICE');
    if (entered < nents) {
      if (iova !== 0) {
        takeOut(dev, sgl, entered, iova);
        dev.iommuDomain!.free(iova);
      }
      clear(sgl, nents);
      return -ENOMEM;
    }
  } else if (iovaLength < 0) {
    clear(sgl, nents);
    return iovaLength;
  }
  const count = finalise(dev, sgl, nents, iova);
  if (tracing()) trace('dma-iommu', 'map_sg', { device: dev.name, nents, segments: count, iova, iovaLength });
  return count;
}

/**
 * iommu_dma_unmap_sg(): the DMA addresses of the list determine what to unmap. The first segment that is not a bus
 * address lies in the first page of the IOVA; the padding between segments was never mapped.
 */
function iommuDmaUnmapSg(dev: Device, sgl: Scatterlist, nents: number): void {
  let iova = 0;
  let runStart = 0;
  let runEnd = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null && sg.dmaLength !== 0; i++, sg = sgNext(sg)) {
    if (sg.dmaLength >= SG_DMA_P2PDMA) continue;
    const start = sg.dmaAddress - offsetInPage(sg.dmaAddress);
    if (iova === 0) iova = start;
    if (start !== runEnd) {
      if (runEnd !== 0) dev.iommu!.unmap(dev.pdev!, runStart, runEnd - runStart);
      runStart = start;
    }
    runEnd = start + pageSpan(sg.dmaAddress, sg.dmaLength);
  }
  if (runEnd !== 0) dev.iommu!.unmap(dev.pdev!, runStart, runEnd - runStart);
  clear(sgl, nents);
  if (iova !== 0) dev.iommuDomain!.free(iova);
  if (tracing()) trace('dma-iommu', 'unmap_sg', { device: dev.name, nents, iova });
}

/** iommu_dma_map_page() */
function iommuDmaMapPhys(dev: Device, phys: number, length: number, dir: DmaDirection): number {
  const inPage = offsetInPage(phys);
  const span = pageSpan(phys, length);
  const iova = dev.iommuDomain!.alloc(span);
  if (iova === 0) return DMA_MAPPING_ERROR;
  try {
    dev.iommu!.map(dev.pdev!, iova, phys - inPage, span, dir !== 'DMA_TO_DEVICE');
  } catch {
    dev.iommuDomain!.free(iova);
    return DMA_MAPPING_ERROR;
  }
  return iova + inPage;
}

/** iommu_dma_unmap_page() */
function iommuDmaUnmapPhys(dev: Device, dmaAddress: number, length: number): void {
  const iova = dmaAddress - offsetInPage(dmaAddress);
  dev.iommu!.unmap(dev.pdev!, iova, pageSpan(dmaAddress, length));
  dev.iommuDomain!.free(iova);
}

/** iommu_dma_ops */
export const iommuDmaOps: DmaMapOps = {
  name: 'dma-iommu',
  flags: DMA_F_PCI_P2PDMA_SUPPORTED,
  mapSg: iommuDmaMapSg,
  unmapSg: iommuDmaUnmapSg,
  mapPhys: iommuDmaMapPhys,
  unmapPhys: iommuDmaUnmapPhys,
};

/**
 * DMA ops of an IOMMU driver without P2PDMA support (the RFC names those of ARM and PowerPC of 2020). The flag is not
 * set, so queues do not offer P2PDMA, and a list that contains peer memory is refused as a whole. Ordinary memory is
 * mapped; for a device that iommuSetupDmaOps() did not set up, it is mapped untranslated.
 */
export const legacyIommuOps: DmaMapOps = {
  name: 'legacy-iommu',
  flags: 0,
  mapSg(dev, sgl, nents, dir, attrs) {
    const known = attrs & ~DMA_ATTR_P2PDMA;
    return dev.iommuDomain === null
      ? dmaDirectMapSg(dev, sgl, nents, dir, known)
      : iommuDmaMapSg(dev, sgl, nents, dir, known);
  },
  unmapSg(dev, sgl, nents, dir, attrs) {
    if (dev.iommuDomain === null) dmaDirectUnmapSg(dev, sgl, nents, dir, attrs);
    else iommuDmaUnmapSg(dev, sgl, nents);
  },
  mapPhys(dev, phys, length, dir) {
    return dev.iommuDomain === null
      ? dmaDirectMapPhys(dev, phys, length)
      : iommuDmaMapPhys(dev, phys, length, dir);
  },
  unmapPhys(dev, dmaAddress, length) {
    if (dev.iommuDomain !== null) iommuDmaUnmapPhys(dev, dmaAddress, length);
  },
};

export interface IommuSetupOptions {
  /** The DMA ops of the IOMMU driver; default: iommuDmaOps. */
  readonly ops?: DmaMapOps;
  /**
   * All functions of the machine: the bus addresses of their BARs must not be used as IOVAs, or a switch would route
   * the request to that BAR instead of up to the IOMMU (iova_reserve_pci_windows()).
   */
  readonly functions?: readonly PciDev[];
}

/** iommu_setup_dma_ops(): from now on this device's DMA goes through its IOMMU. */
export function iommuSetupDmaOps(dev: Device, options: IommuSetupOptions = {}): void {
  if (dev.iommu === null || dev.pdev === null) throw new Error(`${dev.name} has no IOMMU`);
  const reserved: AddressRange[] = [];
  for (const { bars } of options.functions ?? []) {
    for (const bar of bars) {
      if (bar?.kind === 'memory') reserved.push({ start: bar.busAddress, length: bar.size });
    }
  }
  dev.iommuDomain = new IovaDomain({ reserved });
  dev.dmaOps = options.ops ?? iommuDmaOps;
}

/** Number of IOVA ranges that this device holds now. */
export function iovasInUse(dev: Device): number {
  return dev.iommuDomain?.inUse ?? 0;
}
