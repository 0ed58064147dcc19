/**
 * lib/iov_iter.c and include/linux/uio.h (RFC patch 11, 6.12): a cursor over scattered memory.
 *
 *     segments   [ aaaa | bbbbbbbb | cc ]        count: bytes from the cursor to the end
 *                          ▲
 *              index 1, offset 3                 advance() moves it on, revert() back
 *
 * Iterating, splitting and alignment checks need no machine (the native backend uses them this way); taking pages
 * needs one (iov_iter-pages.ts). Here, only the offset of an address in its page is known, which is enough for alignment
 * checks: memory is pinned and mapped so that `byteOffset` keeps its offset in the page.
 */
import { offsetInPage, PAGE_SIZE } from '../backend/hardware.js';
import type { DevPagemap } from './memremap.js';

/** The iterator is the destination: data is read from a device into it. */
export const READ = 0;
/** The iterator is the source: it is written to a device. */
export const WRITE = 1;
export type IterDirection = typeof READ | typeof WRITE;

export type IterType =
  /** One user buffer. */
  | 'ITER_UBUF'
  /** Several user buffers. */
  | 'ITER_IOVEC'
  /** Physical ranges, already pinned by their creator. */
  | 'ITER_BVEC'
  /** No destination: data that is read is discarded. */
  | 'ITER_DISCARD';

/** struct bio_vec, multi-page: a physically contiguous range of one pagemap. */
export interface BioVec {
  phys: number;
  length: number;
  pgmap: DevPagemap | null;
}

const none: readonly never[] = [];
const nothing = new Uint8Array(0);

/** struct iov_iter. Reusable: the init methods reset an existing object to a new cursor. */
export class IovIter {
  iterType: IterType = 'ITER_DISCARD';
  dataSource: IterDirection = READ;
  /** Bytes left. */
  count = 0;
  /** The segment that the cursor is in, and the offset in that segment. */
  index = 0;
  offset = 0;
  ubuf: Uint8Array = nothing;
  iovec: readonly Uint8Array[] = none;
  bvec: readonly BioVec[] = none;

  private start(type: IterType, direction: IterDirection, count: number): this {
    this.iterType = type;
    this.dataSource = direction;
    this.count = count;
    this.index = 0;
    this.offset = 0;
    return this;
  }

  initUbuf(direction: IterDirection, view: Uint8Array): this {
    this.ubuf = view;
    this.iovec = none;
    this.bvec = none;
    return this.start('ITER_UBUF', direction, view.length);
  }

  initIovec(direction: IterDirection, views: readonly Uint8Array[]): this {
    let count = 0;
    for (let i = 0; i < views.length; i++) count += views[i]!.length;
    this.ubuf = nothing;
    this.iovec = views;
    this.bvec = none;
    return this.start('ITER_IOVEC', direction, count);
  }

  initBvec(direction: IterDirection, bvecs: readonly BioVec[]): this {
    let count = 0;
    for (let i = 0; i < bvecs.length; i++) count += bvecs[i]!.length;
    this.ubuf = nothing;
    this.iovec = none;
    this.bvec = bvecs;
    return this.start('ITER_BVEC', direction, count);
  }

  initDiscard(direction: IterDirection, count: number): this {
    this.ubuf = nothing;
    this.iovec = none;
    this.bvec = none;
    return this.start('ITER_DISCARD', direction, count);
  }

  /** dup_iter(): an independent cursor over the same memory. */
  dup(): IovIter {
    const copy = new IovIter();
    copy.ubuf = this.ubuf;
    copy.iovec = this.iovec;
    copy.bvec = this.bvec;
    copy.start(this.iterType, this.dataSource, this.count);
    copy.index = this.index;
    copy.offset = this.offset;
    return copy;
  }

  /** Number of segments, empty ones included. */
  get nrSegs(): number {
    if (this.iterType === 'ITER_IOVEC') return this.iovec.length;
    return this.iterType === 'ITER_BVEC' ? this.bvec.length : 1;
  }

  private segmentLength(index: number): number {
    return this.iterType === 'ITER_IOVEC' ? this.iovec[index]!.length : this.bvec[index]!.length;
  }

  private get segmented(): boolean {
    return this.iterType === 'ITER_IOVEC' || this.iterType === 'ITER_BVEC';
  }

  /** iov_iter_single_seg_count(): bytes from the cursor to the end of its segment. Steps over empty segments. */
  singleSegCount(): number {
    if (!this.segmented) return this.count;
    const segments = this.nrSegs;
    while (this.index < segments) {
      const left = this.segmentLength(this.index) - this.offset;
      if (left > 0) return Math.min(left, this.count);
      this.index++;
      this.offset = 0;
    }
    return 0;
  }

  /** iov_iter_advance(). The cursor stops at the end. */
  advance(bytes: number): void {
    const step = Math.min(bytes, this.count);
    this.count -= step;
    if (!this.segmented) {
      this.offset += step;
      return;
    }
    let left = step + this.offset;
    const segments = this.nrSegs;
    while (this.index < segments) {
      const length = this.segmentLength(this.index);
      if (left < length) break;
      left -= length;
      this.index++;
    }
    this.offset = this.index < segments ? left : 0;
  }

  /** iov_iter_revert(). The cursor stops at the start. */
  revert(bytes: number): void {
    if (bytes === 0) return;
    if (!this.segmented) {
      if (bytes > this.offset)
        throw new RangeError(`revert ${bytes} bytes, only ${this.offset} were advanced`);
      this.offset -= bytes;
      this.count += bytes;
      return;
    }
    let index = this.index;
    let at = this.offset - bytes;
    while (at < 0) {
      if (index === 0) throw new RangeError(`revert ${bytes} bytes, only ${bytes + at} were advanced`);
      index--;
      at += this.segmentLength(index);
    }
    this.index = index;
    this.offset = at;
    this.count += bytes;
  }

  /** iov_iter_truncate(): limit the remaining bytes to `count`. */
  truncate(count: number): void {
    if (count < this.count) this.count = count;
  }

  /** iov_iter_reexpand(): undo truncate(). */
  reexpand(count: number): void {
    this.count = count;
  }

  /**
   * The memory from the cursor to the end of its segment, at most `maxBytes` of it. It is empty at the end, for
   * iterators without user memory, and where a buffer has been detached in the meantime.
   */
  peek(maxBytes: number): Uint8Array {
    const whole = this.iterType === 'ITER_UBUF' ? this.ubuf : this.segmentHere();
    const length = Math.min(this.singleSegCount(), whole.length - this.offset, maxBytes);
    if (length <= 0) return nothing;
    return length === whole.length ? whole : whole.subarray(this.offset, this.offset + length);
  }

  private segmentHere(): Uint8Array {
    if (this.iterType !== 'ITER_IOVEC') return nothing;
    this.singleSegCount();
    return this.iovec[this.index] ?? nothing;
  }
}

export function iovIterUbuf(direction: IterDirection, view: Uint8Array): IovIter {
  return new IovIter().initUbuf(direction, view);
}

export function iovIterIovec(direction: IterDirection, views: readonly Uint8Array[]): IovIter {
  return new IovIter().initIovec(direction, views);
}

export function iovIterBvec(direction: IterDirection, bvecs: readonly BioVec[]): IovIter {
  return new IovIter().initBvec(direction, bvecs);
}

export function iovIterDiscard(direction: IterDirection, count: number): IovIter {
  return new IovIter().initDiscard(direction, count);
}

/** user_backed_iter(). */
export function userBackedIter(iter: IovIter): boolean {
  return iter.iterType === 'ITER_UBUF' || iter.iterType === 'ITER_IOVEC';
}

/** Offset of the current segment in its page. */
function inPage(iter: IovIter, index: number, offset: number): number {
  switch (iter.iterType) {
    case 'ITER_UBUF':
      return offsetInPage(iter.ubuf.byteOffset + offset);
    case 'ITER_IOVEC':
      return offsetInPage(iter.iovec[index]!.byteOffset + offset);
    case 'ITER_BVEC':
      return offsetInPage(iter.bvec[index]!.phys + offset);
    case 'ITER_DISCARD':
      return 0;
  }
}

function lengthAt(iter: IovIter, index: number): number {
  switch (iter.iterType) {
    case 'ITER_IOVEC':
      return iter.iovec[index]!.length;
    case 'ITER_BVEC':
      return iter.bvec[index]!.length;
    case 'ITER_UBUF':
    case 'ITER_DISCARD':
      return iter.offset + iter.count;
  }
}

/**
 * iov_iter_is_aligned(): true if every segment's address has no bits in common with the address mask, and its length
 * has none in common with the length mask. Masks are smaller than a page.
 */
export function iovIterIsAligned(iter: IovIter, addrMask: number, lenMask: number): boolean {
  let left = iter.count;
  let offset = iter.offset;
  for (let i = iter.index; left > 0 && i < iter.nrSegs; i++) {
    const length = Math.min(lengthAt(iter, i) - offset, left);
    if (length > 0) {
      if ((offsetInPage(length) & lenMask) !== 0) return false;
      if ((inPage(iter, i, offset) & addrMask) !== 0) return false;
      left -= length;
    }
    offset = 0;
  }
  return true;
}

/** iov_iter_alignment(): the bitwise OR of all addresses and lengths, as far as they are within a page. */
export function iovIterAlignment(iter: IovIter): number {
  let result = 0;
  let left = iter.count;
  let offset = iter.offset;
  for (let i = iter.index; left > 0 && i < iter.nrSegs; i++) {
    const length = Math.min(lengthAt(iter, i) - offset, left);
    if (length > 0) {
      result |= inPage(iter, i, offset) | offsetInPage(length);
      left -= length;
    }
    offset = 0;
  }
  return result;
}

/** iov_iter_gap_alignment(): the bitwise OR of the ends and starts at which segments meet inside the iterator. */
export function iovIterGapAlignment(iter: IovIter): number {
  let result = 0;
  let left = iter.count;
  let offset = iter.offset;
  let end = -1;
  for (let i = iter.index; left > 0 && i < iter.nrSegs; i++) {
    const length = Math.min(lengthAt(iter, i) - offset, left);
    if (length > 0) {
      const start = inPage(iter, i, offset);
      if (end >= 0) result |= start | end;
      end = offsetInPage(start + length);
      left -= length;
    }
    offset = 0;
  }
  return result;
}

/** iov_iter_npages(): number of pages that the rest of the iterator touches, at most `maxPages`. */
export function iovIterNpages(iter: IovIter, maxPages: number): number {
  let pages = 0;
  let left = iter.count;
  let offset = iter.offset;
  for (let i = iter.index; left > 0 && pages < maxPages && i < iter.nrSegs; i++) {
    const length = Math.min(lengthAt(iter, i) - offset, left);
    if (length > 0) {
      pages += Math.ceil((inPage(iter, i, offset) + length) / PAGE_SIZE);
      left -= length;
    }
    offset = 0;
  }
  return Math.min(pages, maxPages);
}

/**
 * copy_to_iter(): the CPU copies `from` to the cursor position, and the cursor advances. Returns the number of bytes
 * copied.
 */
export function copyToIter(from: Uint8Array, iter: IovIter): number {
  let done = 0;
  while (done < from.length && iter.count > 0) {
    if (iter.iterType === 'ITER_DISCARD') {
      const dropped = Math.min(from.length - done, iter.count);
      iter.advance(dropped);
      return done + dropped;
    }
    const to = iter.peek(from.length - done);
    if (to.length === 0) break;
    to.set(from.subarray(done, done + to.length));
    iter.advance(to.length);
    done += to.length;
  }
  return done;
}

/** copy_from_iter(). Ranges of a bvec iterator cannot be copied: the CPU has no view of them. */
export function copyFromIter(to: Uint8Array, iter: IovIter): number {
  let done = 0;
  while (done < to.length && iter.count > 0) {
    const from = iter.peek(to.length - done);
    if (from.length === 0) break;
    to.set(from, done);
    iter.advance(from.length);
    done += from.length;
  }
  return done;
}
