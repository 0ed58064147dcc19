/**
 * block/bio.c, with the parts of block/blk-merge.c that it needs (RFC patch 12, 6.12): one transfer between memory and a
 * queue.
 *
 *     IovIter ──bioIovIterGetPages──▶ Bio { vecs: ranges, pins } ──submitBio──▶ queue
 *                                       │  too much for one request
 *                                       ├──bioSplit──▶ child ──▶ queue ─┐ status, path
 *                                       └──bioSplit──▶ child ──▶ queue ─┴─▶ bio.endIo, once, after the last
 *
 * A vec is a range of any number of pages: adjacent ranges of the same pagemap are merged. Pins are kept separately
 * from the vecs, because a merged range still holds every pin that was taken for its parts.
 */

import type { PathBytes, QueueLimits } from '../backend/backend.js';
import { addPath, clearPath, zeroPath } from '../backend/path-bytes.js';
import { EFAULT, EINVAL } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { blkdevDioInvalid } from './bio-user.js';
import { newPageRange, type PageRange, unpinUserPages } from './gup.js';
import type { BioVec, IovIter } from './iov_iter.js';
import { iovIterGetPagesFlags } from './iov_iter-pages.js';
import { type DevPagemap, FOLL_PCI_P2PDMA, type Mm } from './memremap.js';

export type { BioVec };

/** The fields of struct queue_limits that are used here. Sizes are in bytes. */
export interface BlkQueueLimits extends QueueLimits {
  /** Largest segment; a longer range counts as several segments. */
  readonly maxSegmentSize: number;
  /** Ranges of one request may meet only at multiples of this value (virt_boundary_mask + 1); 0: anywhere. */
  readonly virtBoundary: number;
  /** Largest discard and write-zeroes request; default: no separate limit, so maxTransfer applies. */
  readonly maxDiscard?: number;
  readonly maxWriteZeroes?: number;
  /** No request crosses a multiple of this (chunk_sectors; of a zoned disk the size of its zones); 0 or absent: any may. */
  readonly chunk?: number;
}

/** struct request_queue. */
export interface RequestQueue {
  readonly limits: BlkQueueLimits;
  /** Accept a bio that fits the limits. The queue may end the bio before this call returns. */
  submitBio(bio: Bio): void;
}

/** struct gendisk: a queue that can be opened. */
export interface Gendisk extends RequestQueue {
  readonly name: string;
  readonly readOnly: boolean;
  /** In bytes; 0 once the disk is gone. */
  readonly capacity: number;
  /** GD_DEAD: nothing may be queued any more. */
  readonly dead: boolean;
}

export type BioOp = 'read' | 'write' | 'flush' | 'discard' | 'write_zeroes';

/** A merged range never exceeds the maximum length of a scatterlist segment. */
const BVEC_MAX_LENGTH = 0x7ffff000;

const noQueue: RequestQueue = {
  limits: {
    logicalBlockSize: 512,
    dmaAlignment: 1,
    maxTransfer: 0,
    maxSegments: 0,
    maxSegmentSize: 0,
    virtBoundary: 0,
    pciP2pdma: false,
  },
  submitBio() {
    throw new Error('this bio was put back to the pool');
  },
};

function noEnd(): void {}

/** struct bio. Allocate it with bioAlloc() and release it with bioPut(). */
export class Bio {
  opf: BioOp = 'read';
  queue: RequestQueue = noQueue;
  /** bi_sector, but in bytes: the start position on the device. */
  sector = 0;
  /** Length in bytes: of the vecs or, when there is no data, of the range on the device. */
  size = 0;
  /** Exactly the ranges in use. */
  readonly vecs: BioVec[] = [];
  /** 0 or −errno. */
  status = 0;
  readonly path: PathBytes = zeroPath();
  /** The data went through kernel pages instead of directly to or from the user memory (blk-map). */
  bounced = false;
  private: unknown = null;
  endIo: (bio: Bio) => void = noEnd;

  /** Completions still missing before endIo is called: the bio's own, and one per chained child. */
  remaining = 1;
  /** bvec_iter: how much bioSplit() has taken so far. */
  splitIndex = 0;
  splitOffset = 0;
  splitBytes = 0;

  readonly pins: PageRange[] = [];
  pinCount = 0;
  readonly spareVecs: BioVec[] = [];
}

const pool: Bio[] = [];
const POOL_LIMIT = 4096;

/** bio_alloc(): a new bio, taken from the pool if the pool has one. */
export function bioAlloc(queue: RequestQueue, opf: BioOp): Bio {
  const bio = pool.pop() ?? new Bio();
  bio.queue = queue;
  bio.opf = opf;
  return bio;
}

/** bio_reset(): return the bio to the state after bioAlloc(). Its pages must already have been released. */
export function bioReset(bio: Bio, queue: RequestQueue, opf: BioOp): void {
  if (bio.pinCount !== 0) throw new Error(`bio reset with ${bio.pinCount} ranges still pinned`);
  bio.queue = queue;
  bio.opf = opf;
  bio.sector = 0;
  bioClearVecs(bio);
  bio.status = 0;
  clearPath(bio.path);
  bio.bounced = false;
  bio.private = null;
  bio.endIo = noEnd;
  bio.remaining = 1;
  bio.splitIndex = 0;
  bio.splitOffset = 0;
  bio.splitBytes = 0;
}

/** bio_put(): return the bio to the pool. */
export function bioPut(bio: Bio): void {
  bioReset(bio, noQueue, 'read');
  if (pool.length < POOL_LIMIT) pool.push(bio);
}

function bioClearVecs(bio: Bio): void {
  const { vecs, spareVecs } = bio;
  while (vecs.length > 0) {
    const vec = vecs.pop()!;
    vec.pgmap = null;
    spareVecs.push(vec);
  }
  bio.size = 0;
}

/** bio_add_page() for a range. It is merged with the last range if both are adjacent and of the same pagemap. */
export function bioAddPage(bio: Bio, phys: number, length: number, pgmap: DevPagemap | null): void {
  const { vecs } = bio;
  bio.size += length;
  if (vecs.length > 0) {
    const last = vecs[vecs.length - 1]!;
    if (last.phys + last.length === phys && last.pgmap === pgmap && last.length + length <= BVEC_MAX_LENGTH) {
      last.length += length;
      return;
    }
  }
  const vec = bio.spareVecs.pop();
  if (vec === undefined) {
    vecs.push({ phys, length, pgmap });
    return;
  }
  vec.phys = phys;
  vec.length = length;
  vec.pgmap = pgmap;
  vecs.push(vec);
}

/**
 * bio_iov_iter_get_pages() behind blkdev_dio_invalid(): pin the rest of `iter` into the bio, whose `sector` is
 * already set. FOLL_PCI_P2PDMA is passed only if the queue takes P2P memory (RFC patch 12).
 *
 * All or nothing (the kernel would continue with the part that it could pin): on an error nothing is pinned and
 * `iter` has not moved. @returns 0; -EINVAL misaligned; -EREMOTEIO P2P memory that the queue does not take; for other
 * errors see pinUserPages().
 */
export function bioIovIterGetPages(mm: Mm, bio: Bio, iter: IovIter): number {
  if (blkdevDioInvalid(bio.queue.limits, bio.sector, iter)) return -EINVAL;
  return bioIovIterGetPagesUnaligned(mm, bio, iter);
}

/** __bio_iov_iter_get_pages(): without the alignment rules of O_DIRECT, for passthrough commands. */
export function bioIovIterGetPagesUnaligned(mm: Mm, bio: Bio, iter: IovIter): number {
  if (iter.count === 0) return -EFAULT;
  const gupFlags = bio.queue.limits.pciP2pdma ? FOLL_PCI_P2PDMA : 0;
  let done = 0;
  while (iter.count > 0) {
    let pin = bio.pins[bio.pinCount];
    if (pin === undefined) {
      pin = newPageRange();
      bio.pins.push(pin);
    }
    const got = iovIterGetPagesFlags(mm, iter, pin, iter.count, gupFlags);
    if (got <= 0) {
      iter.revert(done);
      bioReleasePages(mm, bio);
      bioClearVecs(bio);
      return got === 0 ? -EFAULT : got;
    }
    bio.pinCount++;
    bioAddPage(bio, pin.phys, got, pin.pgmap);
    done += got;
  }
  return 0;
}

/** bio_release_pages(): unpin. Does nothing the second time. */
export function bioReleasePages(mm: Mm, bio: Bio): void {
  for (let i = 0; i < bio.pinCount; i++) {
    const pin = bio.pins[i]!;
    unpinUserPages(mm, pin);
    pin.pgmap = null;
  }
  bio.pinCount = 0;
}

/** bvec_gap_to_prev(): is it forbidden for these two ranges to follow each other in one request? */
function isGap(virtBoundary: number, end: number, start: number): boolean {
  return virtBoundary > 0 && (end % virtBoundary !== 0 || start % virtBoundary !== 0);
}

/** blk_boundary_sectors_left(), in bytes: how far it is to the next multiple of `chunk`. */
function blkBoundarySectorsLeft({ sector, splitBytes, queue }: Bio): number {
  const { chunk = 0 } = queue.limits;
  return chunk === 0 ? Number.POSITIVE_INFINITY : chunk - ((sector + splitBytes) % chunk);
}

/** bio_split_rw_at(): how many bytes, counted from the split cursor, fit into one request. */
function bioSplitRwAt(bio: Bio): number {
  const { maxSegments, maxSegmentSize, virtBoundary } = bio.queue.limits;
  const maxTransfer = Math.min(bio.queue.limits.maxTransfer, blkBoundarySectorsLeft(bio));
  const { vecs } = bio;
  let offset = bio.splitOffset;
  let bytes = 0;
  let segments = 0;
  let end = -1;
  for (let i = bio.splitIndex; i < vecs.length; i++) {
    const vec = vecs[i]!;
    const phys = vec.phys + offset;
    const left = vec.length - offset;
    if (end >= 0 && isGap(virtBoundary, end, phys)) break;
    const take = Math.min(left, maxTransfer - bytes, (maxSegments - segments) * maxSegmentSize);
    if (take <= 0) break;
    bytes += take;
    if (take < left) break;
    segments += take <= maxSegmentSize ? 1 : Math.ceil(take / maxSegmentSize);
    end = phys + take;
    offset = 0;
  }
  return bytes;
}

/** How many bytes of a bio without data fit into one request. */
function bioSplitRange(bio: Bio): number {
  const { limits } = bio.queue;
  const max =
    bio.opf === 'discard'
      ? (limits.maxDiscard ?? Number.POSITIVE_INFINITY)
      : (limits.maxWriteZeroes ?? limits.maxTransfer);
  return Math.min(bio.size - bio.splitBytes, max, blkBoundarySectorsLeft(bio));
}

/**
 * bio_split_rw() and its equivalents for other operations: how many bytes the next request can take from the split
 * cursor, in whole logical blocks. 0: all the remaining bytes; -EINVAL: the bio cannot be split this way.
 */
export function bioSplitRw(bio: Bio): number {
  const left = bio.size - bio.splitBytes;
  if (left === 0 || bio.opf === 'flush') return 0;
  const bytes = bio.vecs.length > 0 ? bioSplitRwAt(bio) : bioSplitRange(bio);
  if (bytes >= left) return 0;
  const blocks = bytes - (bytes % bio.queue.limits.logicalBlockSize);
  return blocks > 0 ? blocks : -EINVAL;
}

/** bio_split(): a bio for the next `bytes`. It shares the pins, which `bio` keeps. */
export function bioSplit(bio: Bio, bytes: number): Bio {
  const child = bioAlloc(bio.queue, bio.opf);
  child.sector = bio.sector + bio.splitBytes;
  bio.splitBytes += bytes;
  if (bio.vecs.length === 0) {
    child.size = bytes;
    return child;
  }
  let left = bytes;
  while (left > 0) {
    const vec = bio.vecs[bio.splitIndex]!;
    const here = vec.length - bio.splitOffset;
    const take = Math.min(left, here);
    bioAddPage(child, vec.phys + bio.splitOffset, take, vec.pgmap);
    left -= take;
    if (take < here) bio.splitOffset += take;
    else {
      bio.splitIndex++;
      bio.splitOffset = 0;
    }
  }
  return child;
}

function bioChainEndio(child: Bio): void {
  const parent = child.private as Bio;
  if (parent.status === 0) parent.status = child.status;
  addPath(parent.path, child.path);
  if (child.bounced) parent.bounced = true;
  bioPut(child);
  bioEndio(parent);
}

/** bio_chain(): `parent` does not end before `bio` has ended. It receives the first error and all path bytes. */
export function bioChain(bio: Bio, parent: Bio): void {
  bio.private = parent;
  bio.endIo = bioChainEndio;
  parent.remaining++;
}

/** bio_alloc_clone(): the same range and memory, for another queue. `bio` keeps the pins and must not end before the clone. */
export function bioClone(bio: Bio, queue: RequestQueue): Bio {
  const clone = bioAlloc(queue, bio.opf);
  clone.sector = bio.sector;
  for (const { phys, length, pgmap } of bio.vecs) bioAddPage(clone, phys, length, pgmap);
  clone.size = bio.size;
  return clone;
}

/** A clone has ended: its path bytes are added to those of `bio`, which continues. */
export function bioEndClone(clone: Bio, bio: Bio): void {
  addPath(bio.path, clone.path);
  bioPut(clone);
}

/** bio_io_error() and its equivalents: end the bio without a transfer. */
export function bioEndWith(bio: Bio, status: number): void {
  bio.status = status;
  bioEndio(bio);
}

/**
 * bio_endio(): the transfer is finished; `status` and `path` hold the result. Call it once per bio: a second call is
 * a bug in the caller.
 */
export function bioEndio(bio: Bio): void {
  if (bio.remaining <= 0) throw new Error(`bio (${bio.opf} at ${bio.sector}) ended twice`);
  if (--bio.remaining > 0) return;
  if (tracing()) {
    const { opf, sector, size, status } = bio;
    trace('bio', 'endio', { op: opf, offset: sector, bytes: size, status, path: { ...bio.path } });
  }
  bio.endIo(bio);
}

/**
 * submit_bio(): send the bio to the queue, split into as many requests as the queue's limits require. `endIo` is
 * called once, when the last request is done. If a request is refused immediately, that is before submitBio returns.
 */
export function submitBio(bio: Bio): void {
  if (tracing()) {
    const { opf, sector, size, vecs } = bio;
    trace('bio', 'submit', { op: opf, offset: sector, bytes: size, segments: vecs.length });
  }
  const { queue } = bio;
  let bytes = bioSplitRw(bio);
  if (bytes === 0) {
    queue.submitBio(bio);
    return;
  }
  while (bytes > 0) {
    submitChild(bio, bytes);
    bytes = bioSplitRw(bio);
  }
  if (bytes === 0) submitChild(bio, bio.size - bio.splitBytes);
  else if (bio.status === 0) bio.status = bytes;
  bioEndio(bio);
}

function submitChild(bio: Bio, bytes: number): void {
  const child = bioSplit(bio, bytes);
  bioChain(child, bio);
  if (tracing()) trace('bio', 'split', { op: bio.opf, offset: child.sector, bytes });
  child.queue.submitBio(child);
}
