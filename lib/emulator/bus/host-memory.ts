import { type HostMemory, PAGE_SIZE } from '../../backend/hardware.js';
import { EFAULT, ENOMEM } from '../../base/errno.js';
import { errnoError } from '../../base/errors.js';
import { hexNumber } from '../../base/words.js';
import { Views } from './views.js';

/*
 * DRAM. JS memory has no physical address, so it gets one for as long as a device may access it. An address is not
 * reused soon: an access after free or unpin faults instead of reaching the bytes of another buffer.
 *
 * An address encodes its size class, so that the memory behind it is found without a search:
 *
 *     base + class × 2^40 + slot × size        class 0: slots of 8 KiB … class 23: slots of 64 GiB
 *
 * A slot is at least a page larger than its contents. An access to the gap faults, and the gap ensures that two buffers
 * are never physically contiguous.
 */

const CLASS_SPAN = 2 ** 40;
const SMALLEST_SLOT = 2 * PAGE_SIZE;
const CLASSES = 24;

/** The size of the address space that a HostMemory uses, starting at its base. The base is a multiple of it. */
export const DRAM_SPAN = 2 ** 45;

interface Extent {
  readonly base: number;
  /** The whole buffer. */
  readonly bytes: Uint8Array;
  /** Of parts of it, when a device has accessed one. */
  views: Views<ArrayBufferLike> | null;
  readonly pages: number;
  pins: number;
  allocated: boolean;
}

interface SizeClass {
  readonly base: number;
  readonly slotSize: number;
  readonly slots: number;
  readonly live: Map<number, Extent>;
  next: number;
}

export class EmulatedHostMemory implements HostMemory {
  readonly base: number;
  readonly pages = { pinned: 0, allocated: 0 };
  readonly #classes: SizeClass[] = [];
  readonly #byBuffer = new WeakMap<ArrayBufferLike, Extent>();
  #last: Extent | null = null;

  constructor(base = DRAM_SPAN) {
    this.base = base;
    for (let i = 0; i < CLASSES; i++) {
      const slotSize = SMALLEST_SLOT * 2 ** i;
      this.#classes.push({
        base: base + i * CLASS_SPAN,
        slotSize,
        slots: CLASS_SPAN / slotSize,
        live: new Map(),
        next: 0,
      });
    }
  }

  allocPages(bytes: number): { readonly phys: number; readonly bytes: Uint8Array } {
    const length = Math.max(1, Math.ceil(bytes / PAGE_SIZE)) * PAGE_SIZE;
    const extent = this.#place(new Uint8Array(newBuffer(length)));
    extent.allocated = true;
    this.pages.allocated += extent.pages;
    return { phys: extent.base, bytes: extent.bytes };
  }

  /** Pages that are still pinned stay reachable until the last unpin. */
  freePages(phys: number): void {
    const extent = this.#find(phys);
    if (extent === null || !extent.allocated || extent.base !== phys) {
      throw new RangeError(`freePages(${hexNumber(phys)}): nothing is allocated there`);
    }
    extent.allocated = false;
    this.pages.allocated -= extent.pages;
    this.#dropIfUnused(extent);
  }

  pin(view: Uint8Array): number {
    const { buffer } = view;
    if (buffer.byteLength === 0)
      throw errnoError(-EFAULT, 'pin', null, { what: 'the memory is detached or empty' });
    const extent = this.#byBuffer.get(buffer) ?? this.#place(new Uint8Array(buffer));
    if (extent.pins++ === 0) this.pages.pinned += extent.pages;
    return extent.base + view.byteOffset;
  }

  unpin(phys: number): void {
    const extent = this.#find(phys);
    if (extent === null || extent.pins === 0) {
      throw new RangeError(`unpin(${hexNumber(phys)}): nothing is pinned there`);
    }
    if (--extent.pins > 0) return;
    this.pages.pinned -= extent.pages;
    this.#dropIfUnused(extent);
  }

  /** Is this address in the DRAM range, whether or not memory is allocated there? */
  contains(phys: number): boolean {
    return phys >= this.base && phys < this.base + DRAM_SPAN;
  }

  /**
   * The memory at `phys`: at most `length` bytes, fewer if the memory ends. Null: there is no memory at this address
   * (any more).
   */
  window(phys: number, length: number): Uint8Array | null {
    const extent = this.#find(phys);
    if (extent === null) return null;
    const { bytes } = extent;
    const from = phys - extent.base;
    const n = Math.min(length, bytes.length - from);
    if (n <= 0) return null;
    if (n === bytes.length) return bytes;
    extent.views ??= new Views(bytes);
    return extent.views.of(from, n);
  }

  #place(bytes: Uint8Array): Extent {
    const size = this.#classes.find((c) => c.slotSize >= bytes.length + PAGE_SIZE);
    if (size === undefined || size.live.size === size.slots) {
      throw errnoError(-ENOMEM, 'mmap', null, {
        what: `no physical addresses for ${bytes.length} bytes`,
      });
    }
    while (size.live.has(size.next)) size.next = (size.next + 1) % size.slots;
    const extent: Extent = {
      base: size.base + size.next * size.slotSize,
      bytes,
      views: null,
      pages: Math.ceil(bytes.length / PAGE_SIZE),
      pins: 0,
      allocated: false,
    };
    size.live.set(size.next, extent);
    size.next = (size.next + 1) % size.slots;
    this.#byBuffer.set(bytes.buffer, extent);
    return extent;
  }

  #find(phys: number): Extent | null {
    const last = this.#last;
    if (last !== null && phys >= last.base && phys < last.base + last.bytes.length) return last;
    const offset = phys - this.base;
    const size = this.#classes[Math.floor(offset / CLASS_SPAN)];
    if (offset < 0 || size === undefined) return null;
    const extent = size.live.get(Math.floor((phys - size.base) / size.slotSize)) ?? null;
    if (extent !== null) this.#last = extent;
    return extent;
  }

  #dropIfUnused(extent: Extent): void {
    if (extent.pins > 0 || extent.allocated) return;
    const size = this.#classes[Math.floor((extent.base - this.base) / CLASS_SPAN)]!;
    size.live.delete((extent.base - size.base) / size.slotSize);
    this.#byBuffer.delete(extent.bytes.buffer);
    if (this.#last === extent) this.#last = null;
  }
}

function newBuffer(length: number): ArrayBuffer {
  try {
    return new ArrayBuffer(length);
  } catch (cause) {
    throw errnoError(-ENOMEM, 'mmap', null, { what: `no ${length} bytes of host memory`, cause });
  }
}
