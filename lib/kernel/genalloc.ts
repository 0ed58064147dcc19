/**
 * Mirrors the parts of lib/genalloc.c (6.12) that p2pmem pools need: a first-fit allocator of pages over one or more
 * chunks of addresses. Free space is kept as ranges in address order, so adjacent ranges are merged when they are
 * freed.
 */

import { PAGE_SIZE } from '../backend/hardware.js';
import { hexNumber } from '../base/words.js';

interface Extent {
  start: number;
  length: number;
}

interface PoolChunk {
  readonly start: number;
  readonly length: number;
  /** In address order; two ranges are never adjacent. */
  readonly free: Extent[];
}

/** The size that an allocation of `bytes` really takes. */
export function pageAlign(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}

/** struct gen_pool */
export class GenPool {
  /** gen_pool_size(): total bytes, free and allocated. */
  size = 0;
  /** gen_pool_avail(): free bytes. They are not necessarily contiguous. */
  available = 0;
  readonly #chunks: PoolChunk[] = [];

  /** gen_pool_add(): start and length must be page-aligned. */
  add(start: number, length: number): void {
    this.#chunks.push({ start, length, free: [{ start, length }] });
    this.size += length;
    this.available += length;
  }

  /** gen_pool_alloc(): the address of `bytes` (rounded up to pages), or null. */
  alloc(bytes: number): number | null {
    const length = pageAlign(bytes);
    if (!(length > 0) || length > this.available) return null;
    for (const chunk of this.#chunks) {
      const at = chunk.free.findIndex((extent) => extent.length >= length);
      if (at < 0) continue;
      const extent = chunk.free[at] as Extent;
      const { start } = extent;
      if (extent.length === length) {
        chunk.free.splice(at, 1);
      } else {
        extent.start += length;
        extent.length -= length;
      }
      this.available -= length;
      return start;
    }
    return null;
  }

  /** gen_pool_free(): free an allocation. Freeing a range that is already free, or outside the pool, is a bug and throws. */
  free(start: number, bytes: number): void {
    const length = pageAlign(bytes);
    const chunk = this.#chunks.find((c) => start >= c.start && start + length <= c.start + c.length);
    if (chunk === undefined) throw new Error(`p2pmem ${hexNumber(start)}+${length} is not of this pool`);
    const { free } = chunk;
    let at = free.findIndex((extent) => extent.start > start);
    if (at < 0) at = free.length;
    const before = free[at - 1];
    const after = free[at];
    if (
      (before !== undefined && before.start + before.length > start) ||
      (after !== undefined && after.start < start + length)
    ) {
      throw new Error(`p2pmem ${hexNumber(start)}+${length} was freed twice`);
    }
    const joinsBefore = before !== undefined && before.start + before.length === start;
    const joinsAfter = after !== undefined && after.start === start + length;
    if (joinsBefore && joinsAfter) {
      before.length += length + after.length;
      free.splice(at, 1);
    } else if (joinsBefore) {
      before.length += length;
    } else if (joinsAfter) {
      after.start = start;
      after.length += length;
    } else {
      free.splice(at, 0, { start, length });
    }
    this.available += length;
  }
}
