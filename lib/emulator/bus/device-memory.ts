import { EBUSY, EINVAL, ENOMEM } from '../../base/errno.js';
import { errnoError } from '../../base/errors.js';
import { Views } from './views.js';

/**
 * Memory behind a BAR: a CMB. It is a list of extents, each with its own ArrayBuffer. Memory outside all extents was
 * never touched and reads as zeros, so a CMB costs nothing until it is used.
 *
 *     offset  0        128K                1M128K                        16M
 *             │ kernel │ mapped (mapBar)   │ never touched                │
 *
 * Mapping a range moves its contents into one extent, whose ArrayBuffer is the mapping. Unmapping transfers the memory
 * (without a copy) to another ArrayBuffer, which detaches the ArrayBuffer of the mapping.
 */
export class DeviceMemory {
  readonly size: number;
  /** Sorted by offset, without overlap. */
  readonly #extents: Extent[] = [];
  #last: Extent | null = null;

  constructor(size: number) {
    this.size = size;
  }

  /** Bytes that are allocated in this process. */
  get resident(): number {
    let sum = 0;
    for (const extent of this.#extents) sum += extent.end - extent.start;
    return sum;
  }

  /** Bytes that are currently mapped. */
  get mapped(): number {
    let sum = 0;
    for (const extent of this.#extents) if (extent.mapped) sum += extent.end - extent.start;
    return sum;
  }

  /** The memory at `offset`: at most `length` bytes, fewer if an extent ends. A long range can need several calls. */
  window(offset: number, length: number): Uint8Array {
    let extent = this.#last;
    if (extent === null || offset < extent.start || offset >= extent.end) {
      extent = this.#touch(offset, length);
      this.#last = extent;
    }
    const { bytes } = extent.views;
    // User code transferred the ArrayBuffer of the mapping; the device's memory must still be there.
    if (bytes.length === 0)
      return this.#restore(extent).subarray(offset - extent.start, offset - extent.start + length);
    const from = offset - extent.start;
    const n = Math.min(length, extent.end - offset);
    return from === 0 && n === bytes.length ? bytes : extent.views.of(from, n);
  }

  /** The whole range, in pieces. */
  view(offset: number, length: number): Uint8Array[] {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new RangeError(`${offset}+${length} is outside the ${this.size} bytes of device memory`);
    }
    const pieces: Uint8Array[] = [];
    for (let done = 0; done < length; ) {
      const piece = this.window(offset + done, length - done);
      pieces.push(piece);
      done += piece.length;
    }
    return pieces;
  }

  /**
   * Returns a new ArrayBuffer that is the memory at `offset` until `unmap` detaches it.
   * @throws P2pdmaError EINVAL (out of range), EBUSY (partly mapped already), ENOMEM
   */
  mapBar(offset: number, length: number): { readonly buffer: ArrayBuffer; unmap(): void } {
    if (!(offset >= 0 && length > 0 && offset + length <= this.size)) {
      throw errnoError(-EINVAL, 'mmap', null, {
        what: `${offset}+${length} is outside the ${this.size} bytes of device memory`,
      });
    }
    const end = offset + length;
    const first = this.#indexOf(offset);
    let last = first;
    for (; last < this.#extents.length && this.#extents[last]!.start < end; last++) {
      if (this.#extents[last]!.mapped) {
        throw errnoError(-EBUSY, 'mmap', null, {
          what: `device memory at ${offset}+${length} is mapped already`,
        });
      }
    }
    const old = this.#extents.slice(first, last);
    const same = old.length === 1 && old[0]!.start === offset && old[0]!.end === end ? old[0]! : null;
    const bytes = same !== null && isWhole(same.views.bytes) ? same.views.bytes : gather(old, offset, length);
    const extent: Extent = { start: offset, end, views: new Views(bytes), mapped: true };
    const replacement = [extent];
    const head = old[0];
    const tail = old[old.length - 1];
    if (head !== undefined && head.start < offset) replacement.unshift(trim(head, head.start, offset));
    if (tail !== undefined && tail.end > end) replacement.push(trim(tail, end, tail.end));
    this.#extents.splice(first, old.length, ...replacement);
    this.#last = extent;
    return { buffer: bytes.buffer, unmap: () => this.#unmap(extent) };
  }

  #unmap(extent: Extent): void {
    if (!extent.mapped) return;
    extent.mapped = false;
    this.#restore(extent);
  }

  /** Moves the memory of an extent to an ArrayBuffer that nobody else references. */
  #restore(extent: Extent): Uint8Array<ArrayBuffer> {
    const { buffer } = extent.views.bytes;
    const moved = buffer.byteLength === 0 ? new ArrayBuffer(extent.end - extent.start) : transfer(buffer);
    extent.views = new Views(new Uint8Array(moved));
    return extent.views.bytes;
  }

  /** The extent that holds `offset`. If there is none, a new extent is created that ends before the next one starts. */
  #touch(offset: number, length: number): Extent {
    const i = this.#indexOf(offset);
    const next = this.#extents[i];
    if (next !== undefined && next.start <= offset) return next;
    const before = this.#extents[i - 1];
    const start = Math.max(before?.end ?? 0, Math.floor(offset / GRAIN) * GRAIN);
    const end = Math.min(next?.start ?? this.size, Math.ceil((offset + length) / GRAIN) * GRAIN);
    const extent = { start, end, views: new Views(allocate(end - start)), mapped: false };
    this.#extents.splice(i, 0, extent);
    return extent;
  }

  /** Index of the first extent that ends after `offset`. */
  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#extents[middle]!.end > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

interface Extent {
  readonly start: number;
  readonly end: number;
  views: Views;
  mapped: boolean;
}

/** Unmapped memory is allocated in multiples of this size. */
const GRAIN = 0x10000;

function allocate(bytes: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw errnoError(-ENOMEM, 'mmap', null, { what: `no ${bytes} bytes for emulated device memory`, cause });
  }
}

/** Do the bytes cover their whole ArrayBuffer? Only then may the ArrayBuffer become a mapping. */
function isWhole(bytes: Uint8Array): boolean {
  return bytes.byteLength === bytes.buffer.byteLength;
}

function gather(old: readonly Extent[], offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = allocate(length);
  for (const extent of old) {
    const from = Math.max(extent.start, offset);
    const to = Math.min(extent.end, offset + length);
    bytes.set(extent.views.bytes.subarray(from - extent.start, to - extent.start), from - offset);
  }
  return bytes;
}

/** The part of an unmapped extent that remains. A small part is copied, so that it does not keep a large ArrayBuffer alive. */
function trim(extent: Extent, start: number, end: number): Extent {
  const bytes = extent.views.bytes.subarray(start - extent.start, end - extent.start);
  const kept = bytes.byteLength * 2 < bytes.buffer.byteLength ? bytes.slice() : bytes;
  return { start, end, views: new Views(kept), mapped: false };
}

/** Move an ArrayBuffer's memory into a new one; the old one is detached. (Node 20 has no ArrayBuffer.prototype.transfer.) */
function transfer(buffer: ArrayBuffer): ArrayBuffer {
  const modern = buffer as ArrayBuffer & { transfer?(): ArrayBuffer };
  return modern.transfer?.() ?? structuredClone(buffer, { transfer: [buffer] });
}
