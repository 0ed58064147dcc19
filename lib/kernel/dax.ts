/**
 * drivers/dax/super.c (RFC patch 10, 6.12's include/linux/dax.h): which memory belongs to a filesystem and is
 * accessed without the page cache. The lookup does not allow P2P memory, so a CMB is never taken for such memory.
 */
import type { Mm, Vma } from './memremap.js';
import { getDevPagemap, putDevPagemap } from './memremap.js';

/** generic_fsdax_supported(): does one fs-dax pagemap cover all of `phys … phys + length`? */
export function genericFsdaxSupported(mm: Mm, phys: number, length: number): boolean {
  if (length <= 0) return false;
  const pgmap = getDevPagemap(mm, phys, null, false);
  if (pgmap === null) return false;
  const supported = pgmap.type === 'MEMORY_DEVICE_FS_DAX' && phys + length <= pgmap.start + pgmap.length;
  putDevPagemap(pgmap);
  return supported;
}

/** vma_is_fsdax(): such memory must not be pinned for a long time, because the filesystem may have to move its blocks. */
export function vmaIsFsdax(mm: Mm, vma: Vma): boolean {
  return vma.pgmap !== null && genericFsdaxSupported(mm, vma.phys, vma.length);
}
