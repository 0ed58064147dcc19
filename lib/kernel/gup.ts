/**
 * mm/gup.c (RFC patch 10, 6.12): pin the memory behind a view so that a device can reach it.
 *
 *     view ──▶ mmapped?  no ──▶ HostMemory.pin(): an address for as long as the pin lasts
 *                │
 *               yes ──▶ check_vma_flags ──▶ follow: pud, pmd, pte steps, one pagemap reference for all
 *                                              └─ P2P memory without FOLL_PCI_P2PDMA: -EREMOTEIO
 *
 * Here, a view of one ArrayBuffer is physically contiguous, so one pin is one range and never a list of pages.
 */
import { EFAULT, EHWPOISON, EINVAL, EOPNOTSUPP, EREMOTEIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { vmaIsFsdax } from './dax.js';
import { type FollowContext, followDevmapPmd, followDevmapPud, PMD_SIZE } from './huge_memory.js';
import { isPoisoned } from './memory-failure.js';
import {
  type DevPagemap,
  FOLL_GET,
  FOLL_LONGTERM,
  FOLL_PCI_P2PDMA,
  FOLL_PIN,
  FOLL_WRITE,
  findVma,
  getDevPagemap,
  type Mm,
  putDevPagemap,
  type Vma,
} from './memremap.js';

export { FOLL_GET, FOLL_LONGTERM, FOLL_PCI_P2PDMA, FOLL_PIN, FOLL_WRITE };

/** The part of a view to pin. Mutable: callers reuse it. */
export interface UserRange {
  view: Uint8Array;
  start: number;
  length: number;
}

/** One pinned, physically contiguous run. Mutable: callers reuse it. */
export interface PageRange {
  phys: number;
  length: number;
  pgmap: DevPagemap | null;
  /** What the pin holds, which unpinUserPages() needs: a mapping, an address of HostMemory, or nothing. */
  held?: Vma | 'memory' | null;
}

export function newPageRange(): PageRange {
  return { phys: 0, length: 0, pgmap: null, held: null };
}

const follow: FollowContext = { pgmap: null };

/** is_valid_gup_args(): it must be possible to remove a pagemap at any time, so P2P memory cannot be pinned long-term. */
function isValidGupArgs(gupFlags: number): boolean {
  return (gupFlags & FOLL_LONGTERM) === 0 || (gupFlags & FOLL_PCI_P2PDMA) === 0;
}

/**
 * check_vma_flags(). A CMB is a shared writable file mapping, so it cannot be pinned long-term for writing
 * (io_uring's fixed buffers).
 */
function checkVmaFlags(mm: Mm, vma: Vma, gupFlags: number): number {
  if ((gupFlags & FOLL_LONGTERM) === 0) return 0;
  if (vmaIsFsdax(mm, vma)) return -EOPNOTSUPP;
  if (vma.pgmap?.type === 'MEMORY_DEVICE_PCI_P2PDMA' && (gupFlags & FOLL_WRITE) !== 0) return -EFAULT;
  return 0;
}

/** follow_page_mask() over the whole range: returns 0 with one reference in `follow.pgmap`, or -errno without a reference. */
function followRange(mm: Mm, phys: number, length: number, pgmap: DevPagemap, flags: number): number {
  const allow = (flags & FOLL_PCI_P2PDMA) !== 0;
  follow.pgmap = null;
  let done = 0;
  while (done < length) {
    const at = phys + done;
    let step = 0;
    if (length - done >= PMD_SIZE) {
      step = followDevmapPud(mm, at, length - done, flags, follow);
      if (step === 0) step = followDevmapPmd(mm, at, length - done, flags, follow);
    }
    if (step === 0) {
      follow.pgmap = getDevPagemap(mm, at, follow.pgmap, allow);
      step = PMD_SIZE - (at & (PMD_SIZE - 1));
    }
    if (follow.pgmap !== pgmap) {
      if (follow.pgmap !== null) putDevPagemap(follow.pgmap);
      follow.pgmap = null;
      return pgmap.type === 'MEMORY_DEVICE_PCI_P2PDMA' && !allow ? -EREMOTEIO : -EFAULT;
    }
    done += step;
  }
  return 0;
}

/** A detached buffer looks like an empty one; on Node 20, only creating a view of it tells the two apart. */
function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/**
 * pin_user_pages(): pin all of `view`. `out` describes the pinned range; pass it to unpinUserPages() later.
 *
 * @returns bytes pinned (0 for an empty view) or -errno, and then nothing is pinned:
 * -EREMOTEIO: P2P memory, and FOLL_PCI_P2PDMA is not set;
 * -EFAULT: the memory is gone (detached, unmapped, its device removed), or P2P memory is to be pinned for
 * long and written to, as io_uring's fixed buffers are;
 * -EINVAL: FOLL_LONGTERM and FOLL_PCI_P2PDMA exclude each other;
 * -EOPNOTSUPP: fs-dax memory cannot be pinned for long;
 * -EHWPOISON: memory-failure took it out of use.
 */
export function pinUserPages(mm: Mm, view: Uint8Array, gupFlags: number, out: PageRange): number {
  return pinUserRange(mm, { view, start: 0, length: view.length }, gupFlags, out);
}

/** pinUserPages() for a part of a view. It creates a view of that part only where one is needed. */
export function pinUserRange(mm: Mm, range: UserRange, gupFlags: number, out: PageRange): number {
  const result = pinRange(mm, range, gupFlags, out);
  if (tracing()) {
    const provider = out.pgmap?.provider?.bdf ?? null;
    const { length } = range;
    trace('gup', 'pin_user_pages', { bytes: length, flags: gupFlags, provider, phys: out.phys, result });
  }
  return result;
}

function pinRange(mm: Mm, range: UserRange, gupFlags: number, out: PageRange): number {
  out.length = 0;
  out.pgmap = null;
  out.held = null;
  if (!isValidGupArgs(gupFlags)) return -EINVAL;
  const { view, start, length } = range;
  const vma = findVma(view);
  if (vma === null) return -EFAULT;
  if (length === 0) return isDetached(view.buffer) ? -EFAULT : 0;
  if (start + length > view.length) return -EFAULT;
  return vma === undefined ? pinMemory(mm, range, out) : pinVma(mm, vma, range, gupFlags, out);
}

function pinMemory(mm: Mm, { view, start, length }: UserRange, out: PageRange): number {
  const all = start === 0 && length === view.length;
  const phys = mm.memory.pin(all ? view : new Uint8Array(view.buffer, view.byteOffset + start, length));
  if (isPoisoned(mm, phys, length)) {
    mm.memory.unpin(phys);
    return -EHWPOISON;
  }
  out.phys = phys;
  out.length = length;
  out.held = 'memory';
  mm.pinned++;
  return length;
}

function pinVma(mm: Mm, vma: Vma, range: UserRange, gupFlags: number, out: PageRange): number {
  const refused = checkVmaFlags(mm, vma, gupFlags);
  if (refused !== 0) return refused;
  const { length } = range;
  const offset = range.view.byteOffset + range.start;
  if (offset + length > vma.length) return -EFAULT;
  const phys = vma.phys + offset;
  if (vma.pgmap !== null) {
    const error = followRange(mm, phys, length, vma.pgmap, gupFlags | FOLL_PIN);
    if (error !== 0) return error;
  }
  if (isPoisoned(mm, phys, length)) {
    if (vma.pgmap !== null) putDevPagemap(vma.pgmap);
    return -EHWPOISON;
  }
  out.phys = phys;
  out.length = length;
  out.pgmap = vma.pgmap;
  out.held = vma;
  vma.pins = (vma.pins ?? 0) + 1;
  mm.pinned++;
  return length;
}

/** unpin_user_pages(). A range that holds no pin (or no longer holds one) is ignored. */
export function unpinUserPages(mm: Mm, range: PageRange): void {
  const held = range.held;
  if (held === undefined || held === null) return;
  range.held = null;
  mm.pinned--;
  if (held === 'memory') {
    mm.memory.unpin(range.phys);
    return;
  }
  if (held.pgmap !== null) putDevPagemap(held.pgmap);
  held.pins = (held.pins ?? 1) - 1;
  if (held.pins === 0 && held.onUnpinned) {
    const gone = held.onUnpinned;
    held.onUnpinned = null;
    gone();
  }
}
