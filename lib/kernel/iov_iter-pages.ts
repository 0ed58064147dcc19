/** lib/iov_iter.c (RFC patch 11, 6.12), the part that needs a machine: taking the pages under an iterator. */
import { EFAULT } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { FOLL_WRITE, type PageRange, pinUserRange, type UserRange, unpinUserPages } from './gup.js';
import { type IovIter, READ } from './iov_iter.js';
import type { Mm } from './memremap.js';

const NO_MEMORY = new Uint8Array(0);
/** One shared object is enough, because pinning is synchronous. It keeps no memory alive between calls. */
const part: UserRange = { view: NO_MEMORY, start: 0, length: 0 };

/**
 * iov_iter_get_pages_flags() (RFC patch 11), advancing as iov_iter_get_pages2() does: pin the next
 * contiguous run, at most `maxBytes` of it. A read into user memory adds FOLL_WRITE.
 *
 * Ranges of a bvec iterator are only described: their pins belong to the creator of the iterator.
 * @returns bytes, 0 at the end, or -errno; give the range to unpinUserPages() afterwards.
 */
export function iovIterGetPagesFlags(
  mm: Mm,
  iter: IovIter,
  out: PageRange,
  maxBytes: number,
  gupFlags: number,
): number {
  out.held = null;
  if (iter.count === 0 || maxBytes <= 0) return 0;
  const run = iter.singleSegCount();
  const length = Math.min(run, maxBytes);
  if (length === 0) return -EFAULT;
  if (tracing()) trace('iov_iter', 'get_pages', { iter: iter.iterType, bytes: length, count: iter.count });
  let got: number;
  if (iter.iterType === 'ITER_BVEC') {
    const bvec = iter.bvec[iter.index]!;
    out.phys = bvec.phys + iter.offset;
    out.length = length;
    out.pgmap = bvec.pgmap;
    got = length;
  } else if (iter.iterType === 'ITER_DISCARD') {
    return -EFAULT;
  } else {
    part.view = iter.iterType === 'ITER_UBUF' ? iter.ubuf : iter.iovec[iter.index]!;
    part.start = iter.offset;
    part.length = length;
    const flags = iter.dataSource === READ ? gupFlags | FOLL_WRITE : gupFlags;
    got = pinUserRange(mm, part, flags, out);
    part.view = NO_MEMORY;
  }
  if (got > 0) iter.advance(got);
  return got;
}

/** iov_iter_get_pages(): the same with flags 0, so never P2P memory. */
export function iovIterGetPages(mm: Mm, iter: IovIter, out: PageRange, maxBytes: number): number {
  return iovIterGetPagesFlags(mm, iter, out, maxBytes, 0);
}

/**
 * iov_iter_get_pages_alloc_flags(): pin the next `maxBytes`, which may be any number of runs. On an error nothing is
 * pinned and the iterator has not moved.
 */
export function iovIterGetPagesAllocFlags(
  mm: Mm,
  iter: IovIter,
  maxBytes: number,
  gupFlags: number,
): PageRange[] | number {
  const ranges: PageRange[] = [];
  let done = 0;
  while (done < maxBytes) {
    const range: PageRange = { phys: 0, length: 0, pgmap: null, held: null };
    const got = iovIterGetPagesFlags(mm, iter, range, maxBytes - done, gupFlags);
    if (got === 0) break;
    if (got < 0) {
      for (const pinned of ranges) unpinUserPages(mm, pinned);
      iter.revert(done);
      return got;
    }
    ranges.push(range);
    done += got;
  }
  return ranges;
}

/** iov_iter_get_pages_alloc(): the same with flags 0. */
export function iovIterGetPagesAlloc(mm: Mm, iter: IovIter, maxBytes: number): PageRange[] | number {
  return iovIterGetPagesAllocFlags(mm, iter, maxBytes, 0);
}
