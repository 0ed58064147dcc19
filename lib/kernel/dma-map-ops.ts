/**
 * Mirrors include/linux/dma-map-ops.h and the types of include/linux/dma-mapping.h (6.12): the interface between a
 * driver and the DMA implementations (dma-direct, dma-iommu, others). dma-mapping.ts exports all of it. It is a
 * separate file because dma-mapping.ts imports dma-direct.ts, which needs it too.
 */
import type { HostMemory, IommuHardware } from '../backend/hardware.js';
import type { PciDev } from '../backend/topology.js';
import type { IovaDomain } from './iova.js';
import type { Scatterlist } from './scatterlist.js';

/** Direction of the transfer (enum dma_data_direction). */
export type DmaDirection = 'DMA_TO_DEVICE' | 'DMA_FROM_DEVICE' | 'DMA_BIDIRECTIONAL';

/**
 * Attribute of a map call: the caller knows that P2P segments may be returned with the flag, and masks it when it
 * reads lengths.
 */
export const DMA_ATTR_P2PDMA = 1 << 10;

/** DmaMapOps.flags: mapSg supports PCI P2PDMA memory. */
export const DMA_F_PCI_P2PDMA_SUPPORTED = 1 << 0;

/** Returned by dmaMapPhysSingle() on failure; it is never a valid address. */
export const DMA_MAPPING_ERROR = -1;

/** Limits of the device for one DMA segment (struct device_dma_parameters). */
export interface DeviceDmaParameters {
  /** Bytes. The DMA layer caps it below 2 GiB. */
  maxSegmentSize: number;
  /** A power of two minus one: no segment crosses a multiple of that power of two. */
  segmentBoundaryMask: number;
}

/** The part of struct device that DMA mapping uses. */
export interface Device {
  readonly name: string;
  /** The PCI function that does the DMA; null: not a PCI device. */
  readonly pdev: PciDev | null;
  /** Null: dma-direct. */
  dmaOps: DmaMapOps | null;
  readonly dmaParms: DeviceDmaParameters;
  readonly memory: HostMemory;
  readonly iommu: IommuHardware | null;
  /** Set by iommuSetupDmaOps(): the I/O virtual addresses of this device. */
  iommuDomain: IovaDomain | null;
}

/** struct dma_map_ops. Functions that return a number return a negative errno on failure. */
export interface DmaMapOps {
  readonly name: string;
  readonly flags: number;
  /** Fill the DMA side of `nents` entries; returns the number of DMA entries. Maps all entries or none. */
  mapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDirection, attrs: number): number;
  /** `nents` as it was passed to mapSg. */
  unmapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDirection, attrs: number): void;
  /** Map ordinary memory: a DMA address, or DMA_MAPPING_ERROR. */
  mapPhys(dev: Device, phys: number, length: number, dir: DmaDirection): number;
  unmapPhys(dev: Device, dmaAddress: number, length: number, dir: DmaDirection): void;
}
