/**
 * Mirrors include/linux/dma-map-ops.h and the types of include/linux/dma-mapping.h (6.12): what a driver and
 * the DMA implementations (dma-direct, dma-iommu, others) agree on. dma-mapping.ts exports all of it; it is a
 * file of its own because dma-mapping.ts imports dma-direct.ts, which needs it too.
 */
import type { HostMemory, IommuHardware } from '../backend/hardware.js';
import type { PciDev } from '../backend/topology.js';
import type { IovaDomain } from './iova.js';
import type { Scatterlist } from './scatterlist.js';

/** Which way the data goes (enum dma_data_direction). */
export type DmaDirection = 'DMA_TO_DEVICE' | 'DMA_FROM_DEVICE' | 'DMA_BIDIRECTIONAL';

/** Attribute of a map call: the caller knows that P2P segments may come back flagged, and reads lengths so. */
export const DMA_ATTR_P2PDMA = 1 << 10;

/** DmaMapOps.flags: mapSg understands PCI P2PDMA memory. */
export const DMA_F_PCI_P2PDMA_SUPPORTED = 1 << 0;

/** What dmaMapPhysSingle() returns on failure; never an address. */
export const DMA_MAPPING_ERROR = -1;

/** What the device can take in one DMA segment (struct device_dma_parameters). */
export interface DeviceDmaParameters {
  /** Bytes. The DMA layer caps it below 2 GiB. */
  maxSegmentSize: number;
  /** A power of two minus one: no segment crosses a multiple of the power. */
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

/** struct dma_map_ops. What returns a number returns a negative errno on failure. */
export interface DmaMapOps {
  readonly name: string;
  readonly flags: number;
  /** Fill the DMA side of `nents` entries; returns how many DMA entries there are. All or nothing. */
  mapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDirection, attrs: number): number;
  /** `nents` as it was given to mapSg. */
  unmapSg(dev: Device, sgl: Scatterlist, nents: number, dir: DmaDirection, attrs: number): void;
  /** Map ordinary memory: a DMA address, or DMA_MAPPING_ERROR. */
  mapPhys(dev: Device, phys: number, length: number, dir: DmaDirection): number;
  unmapPhys(dev: Device, dmaAddress: number, length: number, dir: DmaDirection): void;
}
