/**
 * mm/memremap.c and include/linux/memremap.h (RFC patch 10, checked against 6.12), with the flags of
 * include/linux/mm_types.h that control how memory is looked up.
 *
 * Two registries identify memory:
 *
 *     ArrayBuffer ──vmaOf()──▶ Vma ──phys──▶ [ DRAM | pagemap of 03:00.0's CMB | DRAM | … ]  one Mm per machine
 *          ▲                     │                        ▲
 *      any Buffer view           └────────pgmap───────────┘ getDevPagemap(phys)
 *
 * A Vma is keyed by its ArrayBuffer, so a chunk, a `subarray` of it or a Buffer over it can be identified anywhere,
 * like a page in the kernel. An ArrayBuffer without a Vma is ordinary memory.
 */

import type { HostMemory } from '../backend/hardware.js';
import { MEMREMAP_COMPAT_ALIGN, misaligned, PAGE_SIZE } from '../backend/hardware.js';
import type { PciDev } from '../backend/topology.js';
import { EINVAL, ENOMEM } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { hexNumber } from '../base/words.js';

/** The device will write to the memory, which means a read from the device. */
export const FOLL_WRITE = 1 << 0;
/** Take a page reference. */
export const FOLL_GET = 1 << 2;
/** The pin may be held for an unlimited time (io_uring's fixed buffers). */
export const FOLL_LONGTERM = 1 << 8;
/** The caller can handle PCI P2PDMA memory (RFC patch 10). */
export const FOLL_PCI_P2PDMA = 1 << 10;
/** Pin for DMA; gup sets this flag itself. */
export const FOLL_PIN = 1 << 19;

/** enum memory_type, without the types that need a CPU-coherent device. */
export type MemoryType =
  /** BAR memory of a PCI function, for DMA between devices. */
  | 'MEMORY_DEVICE_PCI_P2PDMA'
  /** Persistent memory under a filesystem with DAX. */
  | 'MEMORY_DEVICE_FS_DAX'
  /** Memory that the CPU cannot reach. */
  | 'MEMORY_DEVICE_PRIVATE'
  /** Device DAX and the like. */
  | 'MEMORY_DEVICE_GENERIC';

/** struct dev_pagemap, with the fields that struct pci_p2pdma_pagemap adds. */
export interface DevPagemap {
  readonly type: MemoryType;
  /** CPU physical address; 0 in the native backend, where it is not known. */
  readonly start: number;
  readonly length: number;
  /** P2P: the function that the BAR belongs to. */
  readonly provider: PciDev | null;
  /** P2P: BAR bus address − BAR CPU address. */
  readonly busOffset: number;
  /** References held by users: getDevPagemap() takes one, putDevPagemap() drops it. */
  refs: number;
  /** No new references can be taken; the memory is removed when the last reference is dropped. */
  dead: boolean;
}

/** All the physical memory that one machine knows: its DRAM and its device pagemaps. One per emulated System. */
export class Mm {
  readonly memory: HostMemory;
  /** Device pagemaps in address order. Dead ones that still have references are included: their range is not free yet. */
  readonly pagemaps: DevPagemap[] = [];
  /** Frame numbers that memory-failure took out of use. */
  readonly poisoned = new Set<number>();
  /** Number of ranges that gup has pinned and that are not unpinned yet. */
  pinned = 0;
  /** memremap_compat_align(): device memory starts and ends on multiples of it. */
  readonly compatAlign: number;

  constructor(memory: HostMemory, { compatAlign = MEMREMAP_COMPAT_ALIGN }: { compatAlign?: number } = {}) {
    this.memory = memory;
    this.compatAlign = compatAlign;
  }
}

/** The Mm from which a dying pagemap must be removed when its last reference is dropped. */
const dying = new WeakMap<DevPagemap, Mm>();

/** Index of the first pagemap that ends beyond `phys`. */
function lowerBound(pagemaps: readonly DevPagemap[], phys: number): number {
  let low = 0;
  let high = pagemaps.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const pgmap = pagemaps[middle]!;
    if (pgmap.start + pgmap.length <= phys) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * memremap_pages(): make device memory known to the machine.
 *
 * @returns 0; -EINVAL for an empty range or one not on subsection boundaries; -ENOMEM when it overlaps an existing
 * pagemap (including P2P pagemaps: the conflict check's lookup allows them).
 */
export function memremapPages(mm: Mm, pgmap: DevPagemap): number {
  const { start, length } = pgmap;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(start + length)) return -EINVAL;
  if (start < 0 || length <= 0) return -EINVAL;
  if (misaligned({ start, size: length }, mm.compatAlign) !== null) return -EINVAL;
  if (pgmap.dead || pgmap.refs !== 0) return -EINVAL;

  const at = lowerBound(mm.pagemaps, start);
  const next = mm.pagemaps[at];
  if (next !== undefined && next.start < start + length) return -ENOMEM;
  mm.pagemaps.splice(at, 0, pgmap);
  if (tracing())
    trace('memremap', 'memremap_pages', { type: pgmap.type, start, length, provider: bdfOf(pgmap) });
  return 0;
}

/**
 * memunmap_pages(): from now on no reference can be taken. The kernel sleeps until the last reference is dropped;
 * here the range stays occupied until then.
 */
export function memunmapPages(mm: Mm, pgmap: DevPagemap): void {
  if (pgmap.dead) return;
  pgmap.dead = true;
  if (tracing()) {
    trace('memremap', 'memunmap_pages', {
      type: pgmap.type,
      start: pgmap.start,
      refs: pgmap.refs,
      provider: bdfOf(pgmap),
    });
  }
  if (pgmap.refs === 0) removePagemap(mm, pgmap);
  else dying.set(pgmap, mm);
}

function removePagemap(mm: Mm, pgmap: DevPagemap): void {
  const at = mm.pagemaps.indexOf(pgmap);
  if (at >= 0) mm.pagemaps.splice(at, 1);
}

/**
 * get_dev_pagemap(), with RFC patch 10's third argument: the pagemap that covers `phys`, with a reference taken, or
 * null when there is none, it is dying, or it is P2P memory and the flags do not allow that.
 *
 * `pgmap` is the result of the caller's previous call, with its reference: if it covers `phys` it is returned
 * unchanged, otherwise its reference is dropped. So a walk holds only one reference, independent of its number of
 * steps.
 */
export function getDevPagemap(
  mm: Mm,
  phys: number,
  pgmap: DevPagemap | null,
  allowPciP2pdma: boolean,
): DevPagemap | null {
  let found = pgmap;
  if (found === null || phys < found.start || phys >= found.start + found.length) {
    if (found !== null) putDevPagemap(found);
    found = mm.pagemaps[lowerBound(mm.pagemaps, phys)] ?? null;
    if (found === null || phys < found.start || found.dead) return null;
    found.refs++;
  }
  if (!allowPciP2pdma && found.type === 'MEMORY_DEVICE_PCI_P2PDMA') {
    putDevPagemap(found);
    return null;
  }
  return found;
}

/** put_dev_pagemap(). */
export function putDevPagemap(pgmap: DevPagemap): void {
  if (pgmap.refs <= 0) throw new Error(`pagemap of ${bdfOf(pgmap) ?? pgmap.type}: reference dropped twice`);
  if (--pgmap.refs !== 0 || !pgmap.dead) return;
  const mm = dying.get(pgmap);
  if (mm === undefined) return;
  dying.delete(pgmap);
  removePagemap(mm, pgmap);
}

function bdfOf(pgmap: DevPagemap): string | null {
  return pgmap.provider?.bdf ?? null;
}

/** struct vm_area_struct: the physical range behind a mmapped ArrayBuffer. */
export interface Vma {
  readonly buffer: ArrayBuffer;
  /** Address of the buffer's first byte; page-aligned. 0 in the native backend, where it is not known. */
  readonly phys: number;
  readonly length: number;
  readonly pgmap: DevPagemap | null;
  /** Pins that gup holds on it now; registerVma() sets it to 0. */
  pins?: number;
  /**
   * Called when the last pin is released. munmap sets it when an I/O still uses the memory, so that the memory is
   * freed only then.
   */
  onUnpinned?: (() => void) | null;
}

/** Null: the buffer was mapped once but no longer is, so it must not be treated as ordinary memory. */
const vmas = new WeakMap<ArrayBufferLike, Vma | null>();

/** Register a mapping. */
export function registerVma(vma: Vma): void {
  if (vma.phys % PAGE_SIZE !== 0) throw new RangeError(`VMA at ${hexNumber(vma.phys)} is not page-aligned`);
  vma.pins ??= 0;
  vma.onUnpinned ??= null;
  vmas.set(vma.buffer, vma);
}

/** Remove a mapping. Its buffer is still recognised as unmapped: using it for I/O fails with -EFAULT. */
export function unregisterVma(buffer: ArrayBuffer): void {
  if (vmas.has(buffer)) vmas.set(buffer, null);
}

/** The mapping that contains a view, or null for ordinary memory or a removed mapping. */
export function vmaOf(view: ArrayBufferView): Vma | null {
  return vmas.get(view.buffer) ?? null;
}

/** Like vmaOf(), but returns undefined for ordinary memory and null for a removed mapping. */
export function findVma(view: ArrayBufferView): Vma | null | undefined {
  return vmas.get(view.buffer);
}

/** Which pagemap this memory belongs to; null: ordinary memory. */
export function pgmapOf(view: ArrayBufferView): DevPagemap | null {
  return vmas.get(view.buffer)?.pgmap ?? null;
}

/** is_pci_p2pdma_page(), for a view. */
export function isPciP2pdmaView(view: ArrayBufferView): boolean {
  return pgmapOf(view)?.type === 'MEMORY_DEVICE_PCI_P2PDMA';
}
