/**
 * Mirrors kernel/dma/mapping.c and include/linux/dma-mapping.h (6.12): the DMA calls a driver makes. They are
 * forwarded to the device's dma_map_ops or, if it has none, to dma-direct.
 *
 *     nvme-pci ─▶ dmaMapSgtable ─┬─ dev.dmaOps === null ─▶ dma-direct     (no IOMMU)
 *                                ├─ iommuDmaOps         ─▶ dma-iommu      (translating IOMMU)
 *                                └─ legacyIommuOps      ─▶ legacy-iommu   (a driver that cannot do P2PDMA)
 */
import { PAGE_SIZE } from '../backend/hardware.js';
import { EINVAL, EIO, ENOMEM, EREMOTEIO, errnoName } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { dmaDirectMapPhys, dmaDirectMapSg, dmaDirectUnmapSg } from './dma-direct.js';
import {
  type Device,
  DMA_F_PCI_P2PDMA_SUPPORTED,
  DMA_MAPPING_ERROR,
  type DmaDirection,
} from './dma-map-ops.js';
import type { Scatterlist, SgTable } from './scatterlist.js';

export {
  type Device,
  type DeviceDmaParameters,
  DMA_ATTR_P2PDMA,
  DMA_F_PCI_P2PDMA_SUPPORTED,
  DMA_MAPPING_ERROR,
  type DmaDirection,
  type DmaMapOps,
} from './dma-map-ops.js';

const DEFAULT_MAX_SEG_SIZE = 0x10000;
const DEFAULT_SEG_BOUNDARY = 0xffffffff;

/** The DMA parameters of a device until its driver changes them. */
export function dmaDefaultParms(): Device['dmaParms'] {
  return { maxSegmentSize: DEFAULT_MAX_SEG_SIZE, segmentBoundaryMask: DEFAULT_SEG_BOUNDARY };
}

function mapSgErrno(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDirection, attrs: number): number {
  if (nents < 1) return -EINVAL;
  const mapped =
    dev.dmaOps === null
      ? dmaDirectMapSg(dev, sgl, nents, dir, attrs)
      : dev.dmaOps.mapSg(dev, sgl, nents, dir, attrs);
  if (tracing()) {
    trace('dma-mapping', 'map_sg', {
      device: dev.name,
      ops: dev.dmaOps?.name ?? 'dma-direct',
      nents,
      mapped: Math.max(mapped, 0),
      error: mapped < 0 ? errnoName(mapped) : null,
    });
  }
  if (mapped > 0) return mapped;
  // Only these errors may reach a driver; any other is a bug in the layer below.
  if (mapped === -EINVAL || mapped === -ENOMEM || mapped === -EREMOTEIO) return mapped;
  return -EIO;
}

/** dma_map_sg_attrs(): returns how many entries of the list carry a DMA segment now; 0 on any failure. */
export function dmaMapSgAttrs(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDirection,
  attrs: number,
): number {
  const mapped = mapSgErrno(dev, sgl, nents, dir, attrs);
  return Math.max(mapped, 0);
}

/** dma_unmap_sg_attrs(): `nents` as it was passed to the map call. */
export function dmaUnmapSgAttrs(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDirection,
  attrs: number,
): void {
  if (tracing()) trace('dma-mapping', 'unmap_sg', { device: dev.name, nents });
  if (dev.dmaOps === null) dmaDirectUnmapSg(dev, sgl, nents, dir, attrs);
  else dev.dmaOps.unmapSg(dev, sgl, nents, dir, attrs);
}

/**
 * dma_map_sgtable(): map the whole table; `sgt.nents` becomes the number of DMA segments. Returns 0, or -EREMOTEIO
 * (the table holds peer memory that this device cannot reach), -EINVAL, -ENOMEM or -EIO; after an error nothing is
 * mapped.
 */
export function dmaMapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: number): number {
  const mapped = mapSgErrno(dev, sgt.sgl, sgt.origNents, dir, attrs);
  if (mapped < 0) return mapped;
  sgt.nents = mapped;
  return 0;
}

/** dma_unmap_sgtable() */
export function dmaUnmapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: number): void {
  dmaUnmapSgAttrs(dev, sgt.sgl, sgt.origNents, dir, attrs);
}

/**
 * dma_map_page() for a physically contiguous range of ordinary memory (peer memory needs a scatterlist). Returns the
 * address for the device, or DMA_MAPPING_ERROR.
 */
export function dmaMapPhysSingle(dev: Device, phys: number, length: number, dir: DmaDirection): number {
  if (dev.dmaOps === null) return dmaDirectMapPhys(dev, phys, length);
  return dev.dmaOps.mapPhys(dev, phys, length, dir);
}

/** dma_unmap_page() */
export function dmaUnmapPhysSingle(dev: Device, dmaAddress: number, length: number, dir: DmaDirection): void {
  dev.dmaOps?.unmapPhys(dev, dmaAddress, length, dir);
}

/** Memory that is coherent between CPU and device, until dmaFreeCoherent(). */
export interface CoherentBlock {
  readonly cpu: Uint8Array;
  readonly phys: number;
  readonly dmaHandle: number;
}

/** dma_alloc_coherent(): the memory is zeroed and page-aligned; null when there is no address space left for it. */
export function dmaAllocCoherent(dev: Device, size: number): CoherentBlock | null {
  const bytes = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
  const pages = dev.memory.allocPages(bytes);
  const dmaHandle = dmaMapPhysSingle(dev, pages.phys, bytes, 'DMA_BIDIRECTIONAL');
  if (dmaHandle === DMA_MAPPING_ERROR) {
    dev.memory.freePages(pages.phys);
    return null;
  }
  return { cpu: pages.bytes.subarray(0, size), phys: pages.phys, dmaHandle };
}

/** dma_free_coherent() */
export function dmaFreeCoherent(dev: Device, block: CoherentBlock): void {
  const bytes = Math.ceil(block.cpu.length / PAGE_SIZE) * PAGE_SIZE;
  dmaUnmapPhysSingle(dev, block.dmaHandle, bytes, 'DMA_BIDIRECTIONAL');
  dev.memory.freePages(block.phys);
}

/** dma_pci_p2pdma_supported(): may this device's queue take peer memory at all? */
export function dmaPciP2pdmaSupported(dev: Device): boolean {
  return dev.dmaOps === null || (dev.dmaOps.flags & DMA_F_PCI_P2PDMA_SUPPORTED) !== 0;
}

/** dma_get_max_seg_size() */
export function dmaGetMaxSegSize(dev: Device): number {
  return dev.dmaParms.maxSegmentSize;
}

/** dma_set_max_seg_size() */
export function dmaSetMaxSegSize(dev: Device, size: number): void {
  dev.dmaParms.maxSegmentSize = size;
}

/** dma_get_seg_boundary() */
export function dmaGetSegBoundary(dev: Device): number {
  return dev.dmaParms.segmentBoundaryMask;
}

/** dma_set_seg_boundary() */
export function dmaSetSegBoundary(dev: Device, mask: number): void {
  dev.dmaParms.segmentBoundaryMask = mask;
}
