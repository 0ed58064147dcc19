/**
 * mm/huge_memory.c (RFC patch 10; the lookups as they were before 6.12 moved them into gup.c): device memory mapped
 * by one page-middle (2 MiB) or page-upper (1 GiB) directory entry is looked up in one step, under the same rule as a
 * single page: P2P memory is returned only to callers that set FOLL_PCI_P2PDMA.
 *
 *      phys  0x…200000            0x…400000                 0x…600000
 *        ───────┬──────────────────────┬────────────────────────┬─────
 *         pte … │        one pmd       │        one pmd         │ pte …
 *        ───────┴──────────────────────┴────────────────────────┴─────
 */
import type { DevPagemap, Mm } from './memremap.js';
import { FOLL_PCI_P2PDMA, getDevPagemap } from './memremap.js';

export const PMD_SIZE = 2 * 1024 * 1024;
export const PUD_SIZE = 1024 * 1024 * 1024;

/** The pagemap a walk has reached, with the reference it holds. */
export interface FollowContext {
  pgmap: DevPagemap | null;
}

function followDevmapHuge(mm: Mm, phys: number, flags: number, context: FollowContext, size: number): number {
  if ((phys & (size - 1)) !== 0) return 0;
  const hint = context.pgmap;
  const pgmap = getDevPagemap(mm, phys, hint, (flags & FOLL_PCI_P2PDMA) !== 0);
  context.pgmap = pgmap;
  if (pgmap === null || phys + size > pgmap.start + pgmap.length) return 0;
  return size;
}

/**
 * follow_devmap_pmd(): the number of bytes that one pmd maps at `phys`, or 0 if no pmd can map there: `phys` is not
 * aligned, less than a pmd is left, there is no pagemap, or the flags do not allow it.
 */
export function followDevmapPmd(
  mm: Mm,
  phys: number,
  length: number,
  flags: number,
  context: FollowContext,
): number {
  return length < PMD_SIZE ? 0 : followDevmapHuge(mm, phys, flags, context, PMD_SIZE);
}

/** follow_devmap_pud(). */
export function followDevmapPud(
  mm: Mm,
  phys: number,
  length: number,
  flags: number,
  context: FollowContext,
): number {
  return length < PUD_SIZE ? 0 : followDevmapHuge(mm, phys, flags, context, PUD_SIZE);
}
