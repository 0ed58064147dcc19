/**
 * Mirrors include/linux/scatterlist.h and lib/scatterlist.c (6.12; the P2PDMA flag as in the RFC's patch 4).
 *
 * A scatterlist describes the memory of a transfer twice: `phys`/`length` as the CPU sees it and, once mapped,
 * `dmaAddress`/`dmaLength` as the device needs it. Mapping may merge entries, so the DMA side can have fewer entries
 * than the CPU side; it is stored in the first `SgTable.nents` entries.
 *
 *     SgTable.sgl ─▶ [0][1] … [126][link]─┐        a table longer than maxSingle is chained: the last
 *                                         ▼        place of a chunk links to the next chunk, and
 *                                    [127][128]    sgNext() steps over it
 *
 * Entries are ranges, not pages, and are reused: sgAllocTable() on a table that was used before takes the entries
 * that the table still has, so a request that keeps its table allocates nothing after its first use.
 */
import { EINVAL } from '../base/errno.js';
import type { DevPagemap } from './memremap.js';

/**
 * Top bit of dmaLength: dmaAddress is a PCI bus address, not an IOVA, and must not be unmapped (SG_DMA_P2PDMA_FLAG).
 * Therefore every segment must be smaller than 2 GiB.
 */
export const SG_DMA_P2PDMA = 0x80000000;

/** Entries in one chunk of a chained list (SG_MAX_SINGLE_ALLOC: one page of them). */
export const SG_MAX_SINGLE_ALLOC = 128;

/** struct scatterlist */
export class Scatterlist {
  /** CPU physical address, of any alignment. */
  phys = 0;
  length = 0;
  /** The pagemap of its device memory; null: host DRAM. */
  pgmap: DevPagemap | null = null;
  dmaAddress = 0;
  /** Read it through sgDmaP2pdmaLen() wherever P2P segments may occur. 0: no DMA entry. */
  dmaLength = 0;
  /** The next place in the same chunk. */
  following: Scatterlist | null = null;
  /** If set, this place holds no memory but links to the next chunk. */
  chain: Scatterlist | null = null;
  /** This is the last entry of the list. */
  end = false;
}

/** struct sg_table */
export class SgTable {
  sgl: Scatterlist = new Scatterlist();
  /** Number of entries with a DMA address (after mapping). */
  nents = 0;
  /** Number of entries with memory. */
  origNents = 0;
  /** The entry marked as end, so that reuse can unmark it. */
  lastEntry: Scatterlist = this.sgl;
  /** Number of entries that exist, in chunks of `maxSingle`. */
  capacity = 1;
  maxSingle: number = SG_MAX_SINGLE_ALLOC;

  constructor() {
    this.sgl.end = true;
  }
}

/** sg_next(): the entry after this one, or null after the last. */
export function sgNext(sg: Scatterlist): Scatterlist | null {
  if (sg.end) return null;
  const next = sg.following;
  return next !== null && next.chain !== null ? next.chain : next;
}

/** sg_last(): the last entry of a list of nents entries. */
export function sgLast(sgl: Scatterlist, nents: number): Scatterlist {
  let sg = sgl;
  for (let i = 1; i < nents; i++) sg = sgNext(sg) ?? sg;
  return sg;
}

/** sg_nents(): number of entries up to the end mark. */
export function sgNents(sgl: Scatterlist): number {
  let n = 0;
  for (let sg: Scatterlist | null = sgl; sg !== null; sg = sgNext(sg)) n++;
  return n;
}

/**
 * sg_init_table() for a new chunk: `nents` consecutive places, the last one marked as end. (The kernel initialises an
 * array of the caller; here the chunk is created.)
 */
export function sgInitTable(nents: number): Scatterlist {
  const first = new Scatterlist();
  let sg = first;
  for (let i = 1; i < nents; i++) {
    sg.following = new Scatterlist();
    sg = sg.following;
  }
  sg.end = true;
  return first;
}

/**
 * sg_chain(): let the last of the `prvNents` places of `prv` link to `sgl`. That place no longer holds memory, so
 * `prv` contributes prvNents - 1 entries.
 */
export function sgChain(prv: Scatterlist, prvNents: number, sgl: Scatterlist): void {
  let place = prv;
  for (let i = 1; i < prvNents; i++) {
    const following = place.following;
    if (following === null) throw new RangeError(`sgChain: the chunk has ${i} places, not ${prvNents}`);
    place = following;
  }
  place.end = false;
  place.phys = 0;
  place.length = 0;
  place.pgmap = null;
  place.chain = sgl;
}

/**
 * sg_alloc_table(): give the table `nents` entries, in chunks of at most `maxSingle` places. A table that already had
 * that many entries reuses them with their old content: set each with sgSetPage(). -EINVAL: no entries, or chunks too
 * small to chain.
 */
export function sgAllocTable(sgt: SgTable, nents: number, maxSingle: number = SG_MAX_SINGLE_ALLOC): number {
  if (nents < 1 || maxSingle < 1 || (nents > maxSingle && maxSingle < 2)) return -EINVAL;
  if (nents > sgt.capacity || maxSingle !== sgt.maxSingle) {
    sgt.sgl = allocChunks(nents, maxSingle);
    sgt.capacity = nents;
    sgt.maxSingle = maxSingle;
  } else {
    sgt.lastEntry.end = false;
  }
  const last = sgLast(sgt.sgl, nents);
  last.end = true;
  sgt.lastEntry = last;
  sgt.nents = nents;
  sgt.origNents = nents;
  return 0;
}

function allocChunks(nents: number, maxSingle: number): Scatterlist {
  const first = sgInitTable(Math.min(nents, maxSingle));
  let chunk = first;
  let left = nents;
  while (left > maxSingle) {
    left -= maxSingle - 1;
    const next = sgInitTable(Math.min(left, maxSingle));
    sgChain(chunk, maxSingle, next);
    chunk = next;
  }
  sgLast(chunk, left).end = false;
  return first;
}

/** sg_free_table(): clear the references of the entries to memory. The table keeps its entries for its next use. */
export function sgFreeTable(sgt: SgTable): void {
  for (let sg: Scatterlist | null = sgt.sgl; sg !== null; sg = sgNext(sg)) {
    sg.pgmap = null;
    sg.length = 0;
    sg.dmaLength = 0;
  }
  sgt.nents = 0;
  sgt.origNents = 0;
}

/**
 * sg_set_page(): point an entry at memory. -EINVAL for 2 GiB or more: a length must leave the top bit of dmaLength
 * free, and is never truncated.
 */
export function sgSetPage(sg: Scatterlist, phys: number, length: number, pgmap: DevPagemap | null): number {
  if (length >= SG_DMA_P2PDMA || length < 0) return -EINVAL;
  sg.phys = phys;
  sg.length = length;
  sg.pgmap = pgmap;
  sg.dmaLength = 0;
  return 0;
}

/** Is the entry's memory peer memory (is_pci_p2pdma_page())? */
export function sgIsPciP2pdma(sg: Scatterlist): boolean {
  return sg.pgmap !== null && sg.pgmap.type === 'MEMORY_DEVICE_PCI_P2PDMA';
}

/** sg_dma_is_p2pdma() (6.x: sg_dma_is_bus_address()): is dmaAddress a PCI bus address? */
export function sgDmaIsP2pdma(sg: Scatterlist): boolean {
  return sg.dmaLength >= SG_DMA_P2PDMA;
}

/** sg_dma_p2pdma_len(): the DMA length without the flag. */
export function sgDmaP2pdmaLen(sg: Scatterlist): number {
  return sg.dmaLength >= SG_DMA_P2PDMA ? sg.dmaLength - SG_DMA_P2PDMA : sg.dmaLength;
}

/** sg_dma_mark_p2pdma() (6.x: sg_dma_mark_bus_address()): set the flag. Idempotent. */
export function sgDmaMarkP2pdma(sg: Scatterlist): void {
  if (sg.dmaLength < SG_DMA_P2PDMA) sg.dmaLength += SG_DMA_P2PDMA;
}

/** sg_dma_unmark_bus_address(): clear the flag. Idempotent. */
export function sgDmaUnmarkP2pdma(sg: Scatterlist): void {
  if (sg.dmaLength >= SG_DMA_P2PDMA) sg.dmaLength -= SG_DMA_P2PDMA;
}
