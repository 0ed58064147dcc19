/**
 * Mirrors drivers/iommu/iova.c (6.12): allocates the I/O virtual addresses of one domain.
 *
 * A block is a power-of-two number of pages and is naturally aligned, so it never crosses a boundary of its own size
 * or larger. Like the kernel, the allocator first uses addresses below 4 GiB, top down, and then the rest. Freed
 * blocks are reused first, from one stack per size (the kernel's magazines). All operations are O(1); free blocks are
 * merged or split only when the address space is exhausted.
 */

import { PAGE_SIZE } from '../backend/hardware.js';
import { hexNumber } from '../base/words.js';

export interface AddressRange {
  readonly start: number;
  readonly length: number;
}

const GiB = 2 ** 30;

/** The address range for interrupt messages on x86; it is never used for I/O virtual addresses. */
const MSI_WINDOW: AddressRange = { start: 0xfee00000, length: 0x100000 };

/** The first 64 KiB stay unused, so that a small wrong address, above all 0, causes a fault. */
const DEFAULT_APERTURE: readonly AddressRange[] = [
  { start: 0x10000, length: 4 * GiB - 0x10000 },
  { start: 4 * GiB, length: 2 ** 47 - 4 * GiB },
];

/** Block sizes: 2^0 … 2^31 pages. */
const ORDERS = 32;

export interface IovaDomainOptions {
  /** Address space to use, tried in order. Page-aligned. */
  readonly aperture?: readonly AddressRange[];
  /** Never allocated: the windows of peers' BARs, because a switch would route requests for them to the peer. */
  readonly reserved?: readonly AddressRange[];
}

/** struct iova_domain */
export class IovaDomain {
  /** Number of allocated blocks. */
  inUse = 0;
  readonly #regions: { low: number; next: number }[];
  readonly #reserved: AddressRange[];
  readonly #free: number[][] = Array.from({ length: ORDERS }, () => []);
  readonly #orderOf = new Map<number, number>();

  constructor(options: IovaDomainOptions = {}) {
    const aperture = options.aperture ?? DEFAULT_APERTURE;
    this.#regions = aperture.map(({ start, length }) => ({
      low: Math.max(start, PAGE_SIZE),
      next: start + length,
    }));
    this.#reserved = [MSI_WINDOW, ...(options.reserved ?? [])];
  }

  /** alloc_iova_fast(): an address range of `length` bytes, or 0 when there is none. */
  alloc(length: number): number {
    const order = orderFor(length);
    if (order >= ORDERS) return 0;
    const stack = this.#free[order] as number[];
    const iova = stack.pop() ?? this.#carve(order) ?? this.#split(order) ?? this.#reclaim(order);
    if (iova === undefined) return 0;
    this.#orderOf.set(iova, order);
    this.inUse++;
    return iova;
  }

  /** free_iova_fast(): free an address that alloc() returned, once. Any other call is a bug and throws. */
  free(iova: number): void {
    const order = this.#orderOf.get(iova);
    if (order === undefined) throw new Error(`IOVA ${hexNumber(iova)} is not allocated`);
    this.#orderOf.delete(iova);
    this.#free[order]?.push(iova);
    this.inUse--;
  }

  /** Take address space that was never used, from the top down. */
  #carve(order: number): number | undefined {
    const size = PAGE_SIZE * 2 ** order;
    for (const region of this.#regions) {
      let start = Math.floor((region.next - size) / size) * size;
      for (let hit = this.#overlap(start, size); hit !== null; hit = this.#overlap(start, size)) {
        start = Math.floor((hit.start - size) / size) * size;
      }
      if (start < region.low) continue;
      this.#keep(start + size, region.next);
      region.next = start;
      return start;
    }
    return undefined;
  }

  #overlap(start: number, size: number): AddressRange | null {
    for (const range of this.#reserved) {
      if (start < range.start + range.length && range.start < start + size) return range;
    }
    return null;
  }

  /** Put [start, end) on the stacks as aligned blocks that are as large as possible and contain no reserved addresses. */
  #keep(start: number, end: number): void {
    let at = start;
    while (at < end) {
      let size = PAGE_SIZE;
      let order = 0;
      const hit = this.#overlap(at, size);
      if (hit !== null) {
        at = Math.ceil((hit.start + hit.length) / PAGE_SIZE) * PAGE_SIZE;
        continue;
      }
      while (at % (size * 2) === 0 && at + size * 2 <= end && order < ORDERS - 1) {
        if (this.#overlap(at, size * 2) !== null) break;
        size *= 2;
        order++;
      }
      this.#free[order]?.push(at);
      at += size;
    }
  }

  #split(order: number): number | undefined {
    for (let larger = order + 1; larger < ORDERS; larger++) {
      const iova = this.#free[larger]?.pop();
      if (iova === undefined) continue;
      for (let half = larger - 1; half >= order; half--) this.#free[half]?.push(iova + PAGE_SIZE * 2 ** half);
      return iova;
    }
    return undefined;
  }

  /** Merge adjacent free blocks and the address space that was never used, then try once more. */
  #reclaim(order: number): number | undefined {
    const blocks: { start: number; end: number }[] = [];
    for (const region of this.#regions) {
      if (region.next > region.low) blocks.push({ start: region.low, end: region.next });
      region.next = region.low;
    }
    for (const [n, stack] of this.#free.entries()) {
      for (const start of stack) blocks.push({ start, end: start + PAGE_SIZE * 2 ** n });
      stack.length = 0;
    }
    blocks.sort((a, b) => a.start - b.start);
    let run = blocks[0];
    for (const block of blocks.slice(1)) {
      if (run === undefined || block.start !== run.end) {
        if (run !== undefined) this.#keep(run.start, run.end);
        run = block;
      } else {
        run = { start: run.start, end: block.end };
      }
    }
    if (run !== undefined) this.#keep(run.start, run.end);
    return this.#free[order]?.pop() ?? this.#split(order);
  }
}

function orderFor(length: number): number {
  const pages = Math.ceil(length / PAGE_SIZE);
  if (pages > 2 ** (ORDERS - 1)) return ORDERS;
  return pages <= 1 ? 0 : 32 - Math.clz32(pages - 1);
}
