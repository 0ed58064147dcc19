/**
 * block/bio.c, with what it needs of block/blk-merge.c and block/fops.c (RFC patch 12, 6.12): one transfer
 * between memory and a queue.
 *
 *     IovIter ──bioIovIterGetPages──▶ Bio { vecs: ranges, pins } ──submitBio──▶ queue
 *                                       │  too much for one request
 *                                       ├──bioSplit──▶ child ──▶ queue ─┐ status, path
 *                                       └──bioSplit──▶ child ──▶ queue ─┴─▶ bio.endIo, once, after the last
 *
 * A vec is a range, however many pages it has: ranges that touch and belong to one pagemap become one. Pins
 * are kept beside the vecs, because a merged range is still as many pins as were taken.
 */

import type { PathBytes, QueueLimits } from '../backend/backend.js';
import { addPath, clearPath, zeroPath } from '../backend/path-bytes.js';
import { EFAULT, EINVAL } from '../base/errno.js';
import { P2pdmaError } from '../base/errors.js';
import { trace, tracing } from '../base/trace.js';
import { newPageRange, type PageRange, unpinUserPages } from './gup.js';
import {
  type BioVec,
  type IovIter,
  iovIterGetPagesFlags,
  iovIterIovec,
  iovIterIsAligned,
  READ,
} from './iov_iter.js';
import { type DevPagemap, FOLL_PCI_P2PDMA, type Mm } from './memremap.js';

export type { BioVec };

/** struct queue_limits, as far as it matters here. Sizes in bytes. */
export interface BlkQueueLimits extends QueueLimits {
  /** Largest segment; a longer range counts as several. */
  readonly maxSegmentSize: number;
  /** Ranges of one request may meet only at multiples of it (virt_boundary_mask + 1); 0: anywhere. */
  readonly virtBoundary: number;
  /** Largest discard and write-zeroes request; default: no limit of its own, and maxTransfer. */
  readonly maxDiscard?: number;
  readonly maxWriteZeroes?: number;
}

/** struct request_queue. */
export interface RequestQueue {
  readonly limits: BlkQueueLimits;
  /** Take a bio that fits the limits. It may end it before returning. */
  submitBio(bio: Bio): void;
}

/** struct gendisk: a queue that can be opened. */
export interface Gendisk extends RequestQueue {
  readonly name: string;
  readonly readOnly: boolean;
  /** Bytes; 0 once it is gone. */
  readonly capacity: number;
  /** GD_DEAD: nothing may be queued any more. */
  readonly dead: boolean;
}

export type BioOp = 'read' | 'write' | 'flush' | 'discard' | 'write_zeroes';

/** A merged range stays below what a scatterlist segment may be. */
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

/** struct bio. Get one from bioAlloc(), give it back with bioPut(). */
export class Bio {
  opf: BioOp = 'read';
  queue: RequestQueue = noQueue;
  /** bi_sector, but in bytes: where on the device it starts. */
  sector = 0;
  /** Bytes: of the vecs, or of the range on the device where there is no data. */
  size = 0;
  /** Exactly the ranges in use. */
  readonly vecs: BioVec[] = [];
  /** 0 or −errno. */
  status = 0;
  readonly path: PathBytes = zeroPath();
  /** The data went through kernel pages instead of straight to its memory (blk-map). */
  bounced = false;
  private: unknown = null;
  endIo: (bio: Bio) => void = noEnd;

  /** Ends that are still to come before endIo: its own, and one per chained child. */
  remaining = 1;
  /** bvec_iter: what bioSplit() has taken so far. */
  splitIndex = 0;
  splitOffset = 0;
  splitBytes = 0;

  readonly pins: PageRange[] = [];
  pinCount = 0;
  readonly spareVecs: BioVec[] = [];
}

const pool: Bio[] = [];
const POOL_LIMIT = 4096;

/** bio_alloc(): a fresh bio, from the pool if it has one. */
export function bioAlloc(queue: RequestQueue, opf: BioOp): Bio {
  const bio = pool.pop() ?? new Bio();
  bio.queue = queue;
  bio.opf = opf;
  return bio;
}

/** bio_reset(): as if fresh from bioAlloc(). Its pages must have been released. */
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

/** bio_put(): back to the pool. */
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

/** bio_add_page() for a range, joined to the last one where they touch and belong together. */
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
 * blkdev_dio_invalid(): may O_DIRECT do this? Position and each length by logical block, each address by
 * dma_alignment.
 */
export function blkdevDioInvalid(limits: QueueLimits, offset: number, iter: IovIter): boolean {
  return (
    offset % limits.logicalBlockSize !== 0 ||
    !iovIterIsAligned(iter, limits.dmaAlignment - 1, limits.logicalBlockSize - 1)
  );
}

/**
 * bio_iov_iter_get_pages() behind blkdev_dio_invalid(): pin all that is left of `iter` into the bio, whose
 * `sector` is set. FOLL_PCI_P2PDMA goes along only if the queue takes P2P memory (RFC patch 12).
 *
 * All or nothing (the kernel would go on with what it got): on an error nothing is pinned and `iter` has not
 * moved. @returns 0; -EINVAL misaligned; -EREMOTEIO P2P memory, and the queue does not take it; else see
 * pinUserPages().
 */
export function bioIovIterGetPages(mm: Mm, bio: Bio, iter: IovIter): number {
  if (blkdevDioInvalid(bio.queue.limits, bio.sector, iter)) return -EINVAL;
  return bioIovIterGetPagesUnaligned(mm, bio, iter);
}

/** __bio_iov_iter_get_pages(): without the rules of O_DIRECT, for passthrough. */
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

/** bvec_gap_to_prev(): may a request not have these two ranges one after the other? */
function isGap(virtBoundary: number, end: number, start: number): boolean {
  return virtBoundary > 0 && (end % virtBoundary !== 0 || start % virtBoundary !== 0);
}

/** bio_split_rw_at(): bytes from the split cursor on that one request can take. */
function bioSplitRwAt(bio: Bio): number {
  const { maxTransfer, maxSegments, maxSegmentSize, virtBoundary } = bio.queue.limits;
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

/** Bytes of a bio without data that one request can take. */
function bioSplitRange(bio: Bio): number {
  const { limits } = bio.queue;
  const max =
    bio.opf === 'discard'
      ? (limits.maxDiscard ?? Number.POSITIVE_INFINITY)
      : (limits.maxWriteZeroes ?? limits.maxTransfer);
  return Math.min(bio.size - bio.splitBytes, max);
}

/**
 * bio_split_rw() and its like for other operations: how much the next request can take from the split
 * cursor, in whole logical blocks. 0: all that is left; -EINVAL: it cannot be cut so.
 */
export function bioSplitRw(bio: Bio): number {
  const left = bio.size - bio.splitBytes;
  if (left === 0 || bio.opf === 'flush') return 0;
  const bytes = bio.vecs.length > 0 ? bioSplitRwAt(bio) : bioSplitRange(bio);
  if (bytes >= left) return 0;
  const blocks = bytes - (bytes % bio.queue.limits.logicalBlockSize);
  return blocks > 0 ? blocks : -EINVAL;
}

/** bio_split(): a bio for the next `bytes`. It shares the pins, which stay with `bio`. */
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

/** bio_chain(): `parent` does not end before `bio` has; the first error and all path bytes arrive there. */
export function bioChain(bio: Bio, parent: Bio): void {
  bio.private = parent;
  bio.endIo = bioChainEndio;
  parent.remaining++;
}

/** bio_alloc_clone(): the same range and memory, for another queue. The pins stay with `bio`, which must not end before it. */
export function bioClone(bio: Bio, queue: RequestQueue): Bio {
  const clone = bioAlloc(queue, bio.opf);
  clone.sector = bio.sector;
  for (const { phys, length, pgmap } of bio.vecs) bioAddPage(clone, phys, length, pgmap);
  clone.size = bio.size;
  return clone;
}

/** A clone has ended: what it moved was moved for `bio`, which goes on. */
export function bioEndClone(clone: Bio, bio: Bio): void {
  addPath(bio.path, clone.path);
  bioPut(clone);
}

/** bio_io_error() and its like: end it without a transfer. */
export function bioEndWith(bio: Bio, status: number): void {
  bio.status = status;
  bioEndio(bio);
}

/** bio_endio(): the transfer is over, `status` and `path` say how. Once per bio: a second time is the caller's bug. */
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
 * submit_bio(): down to the queue, in as many requests as its limits make of it. `endIo` is called once, when
 * the last is done; before submitBio returns, if a request was refused at once.
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

/** One of the requests that bioCutUser() makes. */
export interface UserRequest {
  readonly offset: number;
  readonly segments: Uint8Array[];
}

/**
 * What submitBio() does to a bio, for a queue we only see from user space: cut `segments`, to be moved at
 * `offset`, into requests that fit the limits. Nothing empty, nothing misaligned.
 *
 * `kindOf`: no request mixes segments for which it answers differently, because a CMB's owner fails a command
 * that mixes its CMB with other memory. Null: mixing is fine.
 * @throws P2pdmaError EINVAL, as O_DIRECT would, naming what is not aligned.
 */
export function bioCutUser(
  segments: readonly Uint8Array[],
  offset: number,
  limits: QueueLimits,
  kindOf: ((view: Uint8Array) => unknown) | null,
): UserRequest[] {
  const iter = iovIterIovec(READ, segments);
  if (blkdevDioInvalid(limits, offset, iter)) throw misaligned(segments, offset, limits);
  const most = Math.min(limits.maxTransfer, Number.MAX_SAFE_INTEGER);
  const max = most - (most % limits.logicalBlockSize);
  if (iter.count > 0 && (max <= 0 || limits.maxSegments < 1)) {
    throw new P2pdmaError(
      'ERR_OUT_OF_RANGE',
      `maxTransfer ${limits.maxTransfer} is less than a logical block`,
    );
  }
  const requests: UserRequest[] = [];
  let at = offset;
  while (iter.count > 0) {
    const request: UserRequest = { offset: at, segments: [] };
    at += cutOne(iter, max, limits.maxSegments, kindOf, request.segments);
    requests.push(request);
  }
  return requests;
}

/** Fill one request from the cursor on; returns its bytes, at least one block. */
function cutOne(
  iter: IovIter,
  max: number,
  maxSegments: number,
  kindOf: ((view: Uint8Array) => unknown) | null,
  into: Uint8Array[],
): number {
  let bytes = 0;
  let kind: unknown;
  while (iter.count > 0 && bytes < max) {
    const piece = iter.peek(max - bytes);
    if (kindOf !== null) {
      const here = kindOf(piece);
      if (bytes > 0 && here !== kind) break;
      kind = here;
    }
    const last = into[into.length - 1];
    if (last !== undefined && last.buffer === piece.buffer && endOf(last) === piece.byteOffset) {
      into[into.length - 1] = new Uint8Array(
        last.buffer,
        last.byteOffset,
        last.byteLength + piece.byteLength,
      );
    } else if (into.length < maxSegments) into.push(piece);
    else break;
    iter.advance(piece.byteLength);
    bytes += piece.byteLength;
  }
  return bytes;
}

function endOf(view: Uint8Array): number {
  return view.byteOffset + view.byteLength;
}

function misaligned(segments: readonly Uint8Array[], offset: number, limits: QueueLimits): P2pdmaError {
  const { logicalBlockSize, dmaAlignment } = limits;
  let what = `offset ${offset} is not a multiple of ${logicalBlockSize}`;
  if (offset % logicalBlockSize === 0) {
    const at = segments.findIndex(
      (s) => s.byteLength % logicalBlockSize !== 0 || (s.byteLength > 0 && s.byteOffset % dmaAlignment !== 0),
    );
    const segment = segments[at];
    what =
      segment !== undefined && segment.byteLength % logicalBlockSize === 0
        ? `address of segment ${at} (…+${segment.byteOffset}) is not a multiple of ${dmaAlignment}`
        : `length ${segment?.byteLength} of segment ${at} is not a multiple of ${logicalBlockSize}`;
  }
  return new P2pdmaError('EINVAL', what, { begins: 'EINVAL', errno: -EINVAL });
}
