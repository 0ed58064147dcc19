/**
 * Mirrors kernel/dma/direct.c (6.12; P2PDMA as in the RFC's patch 5): DMA without an IOMMU. A device gets CPU
 * physical addresses, except for peer memory below a common switch, for which it must use bus addresses:
 *
 *     host DRAM, or peer memory through the host bridge      dmaAddress = phys
 *     peer memory on the bus                                 dmaAddress = phys + busOffset, flagged
 */
import { EINVAL } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import type { Device, DmaDirection } from './dma-map-ops.js';
import { PciP2pdmaMapState } from './pci-p2pdma.js';
import { type Scatterlist, SG_DMA_P2PDMA, sgNext } from './scatterlist.js';

/** dma_direct_map_sg(): maps all entries or none. Returns the number of entries, -EINVAL or -EREMOTEIO. */
export function dmaDirectMapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDirection,
  attrs: number,
): number {
  const state = new PciP2pdmaMapState(dev, attrs);
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents; i++) {
    const byBus = isMappable(sg) ? state.mapSegment(sg) : -EINVAL;
    if (sg === null || byBus < 0) {
      dmaDirectUnmapSg(dev, sgl, i, dir, attrs);
      return byBus;
    }
    if (byBus === 0) {
      sg.dmaAddress = sg.phys;
      sg.dmaLength = sg.length;
    }
    sg = sgNext(sg);
  }
  if (tracing()) trace('dma-direct', 'map_sg', { device: dev.name, nents });
  return nents;
}

/** True if the entry exists and its length leaves the flag bit free. */
export function isMappable(sg: Scatterlist | null): sg is Scatterlist {
  return sg !== null && sg.length >= 1 && sg.length < SG_DMA_P2PDMA;
}

/**
 * dma_direct_unmap_sg(). Identity mappings hold no resources, so this only makes the DMA side of the list unusable.
 */
export function dmaDirectUnmapSg(
  _dev: Device,
  sgl: Scatterlist,
  nents: number,
  _dir: DmaDirection,
  _attrs: number,
): void {
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents && sg !== null; i++) {
    sg.dmaLength = 0;
    sg = sgNext(sg);
  }
}

/** dma_direct_map_page(), for ordinary memory. */
export function dmaDirectMapPhys(_dev: Device, phys: number, _length: number): number {
  return phys;
}
