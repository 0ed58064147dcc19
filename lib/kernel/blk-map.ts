/**
 * block/blk-map.c (RFC patch 13, 6.12): user memory for a passthrough command.
 *
 *     aligned address and length, pieces that may meet ──▶ bioMapUserIov:  pinned, straight to its memory
 *     anything else                                    ──▶ bioCopyUserIov: through kernel pages, silently
 *
 * The kernel does not report that it bounced the data. Here the bio is marked (`bounced`). Because the DMA then goes
 * to kernel pages, the bus monitor counts its bytes as hostDram.
 */
import { EFAULT, EINVAL } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Bio, bioAddPage, bioIovIterGetPagesUnaligned, bioReleasePages, bioSplitRw } from './bio.js';
import {
  copyFromIter,
  copyToIter,
  type IovIter,
  iovIterAlignment,
  iovIterGapAlignment,
  userBackedIter,
  WRITE,
} from './iov_iter.js';
import type { Mm } from './memremap.js';

/** struct bio_map_data: the kernel pages of a bounced bio, and the destination to which a read must be copied at the end. */
interface BioMapData {
  readonly phys: number;
  readonly bytes: Uint8Array;
  readonly iter: IovIter;
}

const mapData = new WeakMap<Bio, BioMapData>();

/**
 * bio_map_user_iov(): pin the memory, with FOLL_PCI_P2PDMA if the queue takes P2P memory (RFC patch 13).
 * @returns 0; -EINVAL: nothing to map, or more than fits into one request; -EREMOTEIO and other errors come from gup.
 */
export function bioMapUserIov(mm: Mm, bio: Bio, iter: IovIter): number {
  const length = iter.count;
  if (length === 0) return -EINVAL;
  const error = bioIovIterGetPagesUnaligned(mm, bio, iter);
  if (error !== 0) return error;
  if (bioSplitRw(bio) === 0) return 0;
  bioReleasePages(mm, bio);
  iter.revert(length);
  return -EINVAL;
}

/** bio_copy_user_iov(): use kernel pages instead. A write copies the data into them now, a read copies it out at the end. */
export function bioCopyUserIov(mm: Mm, bio: Bio, iter: IovIter): number {
  const length = iter.count;
  if (length === 0 || length > bio.queue.limits.maxTransfer) return -EINVAL;
  const { phys, bytes } = mm.memory.allocPages(length);
  const data: BioMapData = { phys, bytes: bytes.subarray(0, length), iter: iter.dup() };
  if (iter.dataSource === WRITE) {
    const copied = copyFromIter(data.bytes, iter);
    if (copied < length) {
      iter.revert(copied);
      mm.memory.freePages(phys);
      return -EFAULT;
    }
  } else {
    iter.advance(length);
  }
  bioAddPage(bio, phys, length, null);
  bio.bounced = true;
  mapData.set(bio, data);
  if (tracing()) trace('blk-map', 'bio_copy_user_iov', { bytes: length, op: bio.opf });
  return 0;
}

/** Does blk_rq_map_user_iov() have to copy the data? */
function mustCopy(bio: Bio, iter: IovIter): boolean {
  const { dmaAlignment, virtBoundary } = bio.queue.limits;
  if (!userBackedIter(iter)) return iter.iterType !== 'ITER_BVEC';
  if ((iovIterAlignment(iter) & (dmaAlignment - 1)) !== 0) return true;
  return virtBoundary > 0 && (iovIterGapAlignment(iter) & (virtBoundary - 1)) !== 0;
}

/**
 * blk_rq_map_user_iov(): give a passthrough bio the memory of `iter`, directly if its alignment allows this,
 * otherwise through kernel pages. Copying works with any memory, so misaligned P2P memory works on a queue that would
 * refuse aligned P2P memory. Call blkRqUnmapUser() at the end.
 */
export function blkRqMapUserIov(mm: Mm, bio: Bio, iter: IovIter): number {
  return mustCopy(bio, iter) ? bioCopyUserIov(mm, bio, iter) : bioMapUserIov(mm, bio, iter);
}

/**
 * blk_rq_unmap_user(): unpin the memory, or copy the data of a read to the user memory and free the kernel pages.
 * Returns 0 or -EFAULT.
 */
export function blkRqUnmapUser(mm: Mm, bio: Bio): number {
  const data = mapData.get(bio);
  if (data === undefined) {
    bioReleasePages(mm, bio);
    return 0;
  }
  mapData.delete(bio);
  const { phys, bytes, iter } = data;
  const length = bytes.byteLength;
  const copied = iter.dataSource === WRITE ? length : copyToIter(bytes, iter);
  mm.memory.freePages(phys);
  return copied === length ? 0 : -EFAULT;
}
