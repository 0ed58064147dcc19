/**
 * mm/memory-failure.c (RFC patch 10, 6.12): a page frame turned out to be broken. Host memory is poisoned
 * and never pinned again; device memory depends on who owns it.
 */
import { PAGE_SIZE } from '../backend/hardware.js';
import { EHWPOISON, EINVAL, ENXIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import type { DevPagemap, Mm } from './memremap.js';
import { getDevPagemap, putDevPagemap } from './memremap.js';

function frameOf(phys: number): number {
  return Math.floor(phys / PAGE_SIZE);
}

/** Is `phys` inside any pagemap, whether or not its use is allowed? */
function isDeviceMemory(mm: Mm, phys: number): boolean {
  const pgmap = getDevPagemap(mm, phys, null, true);
  if (pgmap !== null) putDevPagemap(pgmap);
  return pgmap !== null;
}

/** memory_failure_dev_pagemap(): the reference is still the caller's. */
function memoryFailureDevPagemap(mm: Mm, phys: number, pgmap: DevPagemap): number {
  switch (pgmap.type) {
    case 'MEMORY_DEVICE_PRIVATE':
    case 'MEMORY_DEVICE_PCI_P2PDMA':
      return -ENXIO;
    case 'MEMORY_DEVICE_FS_DAX':
    case 'MEMORY_DEVICE_GENERIC':
      mm.poisoned.add(frameOf(phys));
      return 0;
  }
}

/**
 * memory_failure(): take the frame at `phys` out of use.
 *
 * @returns 0; -EHWPOISON if it already is; -ENXIO for device memory that the kernel cannot take out of use: P2P
 * memory is outside its control, because the lookup does not allow it (a 6.12 kernel finds the pagemap, cannot lock
 * its page and refuses as well); -EINVAL if `phys` is not a valid address.
 */
export function memoryFailure(mm: Mm, phys: number): number {
  const result = failFrame(mm, phys);
  if (tracing()) trace('memory-failure', 'memory_failure', { phys, result });
  return result;
}

function failFrame(mm: Mm, phys: number): number {
  if (!Number.isSafeInteger(phys) || phys < 0) return -EINVAL;
  if (mm.poisoned.has(frameOf(phys))) return -EHWPOISON;
  const pgmap = getDevPagemap(mm, phys, null, false);
  if (pgmap !== null) {
    const result = memoryFailureDevPagemap(mm, phys, pgmap);
    putDevPagemap(pgmap);
    return result;
  }
  if (isDeviceMemory(mm, phys)) return -ENXIO;
  mm.poisoned.add(frameOf(phys));
  return 0;
}

/** unpoison_memory(): put the frame back into use. Returns 0, also when it was not poisoned. */
export function unpoisonMemory(mm: Mm, phys: number): number {
  mm.poisoned.delete(frameOf(phys));
  return 0;
}

/** PageHWPoison() over a range: is any of its frames poisoned? */
export function isPoisoned(mm: Mm, phys: number, length: number): boolean {
  if (mm.poisoned.size === 0 || length <= 0) return false;
  const first = frameOf(phys);
  const last = frameOf(phys + length - 1);
  if (last - first >= mm.poisoned.size) {
    for (const frame of mm.poisoned) if (frame >= first && frame <= last) return true;
    return false;
  }
  for (let frame = first; frame <= last; frame++) if (mm.poisoned.has(frame)) return true;
  return false;
}
