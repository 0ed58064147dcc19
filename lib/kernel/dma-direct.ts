/**
 * Mirrors kernel/dma/direct.c (6.12; P2PDMA as in the RFC's patch 5): DMA without an IOMMU. A device is given
 * CPU physical addresses, except for peer memory below a common switch, which it must address as the bus does:
 *
 *     host DRAM, or peer memory through the host bridge      dmaAddress = phys
 *     peer memory on the bus                                 dmaAddress = phys + busOffset, flagged
 */
import { EINVAL, EREMOTEIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Device, DMA_ATTR_P2PDMA, type DmaDirection } from './dma-map-ops.js';
import type { DevPagemap } from './memremap.js';
import { pciP2pdmaBusOffset, pciP2pdmaShouldMapBus } from './pci-p2pdma.js';
import { type Scatterlist, SG_DMA_P2PDMA, sgNext } from './scatterlist.js';

/** dma_direct_map_sg(): all entries or none. The number of entries, -EINVAL or -EREMOTEIO. */
export function dmaDirectMapSg(
  dev: Device,
  sgl: Scatterlist,
  nents: number,
  dir: DmaDirection,
  attrs: number,
): number {
  // The verdict for one pagemap holds for the whole list: lists are mostly of one kind.
  let lastPgmap: DevPagemap | null = null;
  let byBus = 0;
  let busOffset = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < nents; i++) {
    if (sg === null || sg.length < 1 || sg.length >= SG_DMA_P2PDMA)
      return undo(dev, sgl, i, dir, attrs, -EINVAL);
    const pgmap = sg.pgmap;
    if (pgmap !== null && pgmap.type === 'MEMORY_DEVICE_PCI_P2PDMA') {
      if (pgmap !== lastPgmap) {
        byBus = (attrs & DMA_ATTR_P2PDMA) === 0 ? -1 : pciP2pdmaShouldMapBus(dev, pgmap);
        if (byBus < 0) return undo(dev, sgl, i, dir, attrs, -EREMOTEIO);
        busOffset = pciP2pdmaBusOffset(pgmap);
        lastPgmap = pgmap;
      }
      if (byBus === 1) {
        sg.dmaAddress = sg.phys + busOffset;
        sg.dmaLength = sg.length + SG_DMA_P2PDMA;
        sg = sgNext(sg);
        continue;
      }
    }
    sg.dmaAddress = sg.phys;
    sg.dmaLength = sg.length;
    sg = sgNext(sg);
  }
  if (tracing()) trace('dma-direct', 'map_sg', { device: dev.name, nents });
  return nents;
}

function undo(
  dev: Device,
  sgl: Scatterlist,
  mapped: number,
  dir: DmaDirection,
  attrs: number,
  errno: number,
): number {
  dmaDirectUnmapSg(dev, sgl, mapped, dir, attrs);
  return errno;
}

/**
 * dma_direct_unmap_sg(). Identity mappings hold nothing, so all there is to do is to make the DMA side of the
 * list unusable.
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
