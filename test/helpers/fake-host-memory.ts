import { type HostMemory, PAGE_SIZE } from '../../lib/backend/hardware.js';

interface Pin {
  readonly base: number;
  readonly buffer: ArrayBufferLike;
  pins: number;
}

const roundUp = (bytes: number) => Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;

/**
 * DRAM for tests of kernel modules: addresses above 4 GiB, with a hole between any two ranges. Every misuse (unpin
 * without pin, access to memory that is not pinned) throws.
 */
export class FakeHostMemory implements HostMemory {
  #next: number;
  readonly #pinned = new Map<ArrayBufferLike, Pin>();
  readonly #allocated = new Map<number, Uint8Array>();
  /** The number of calls of pin() and unpin(). */
  calls = { pin: 0, unpin: 0 };

  constructor(base = 0x1_0000_0000) {
    this.#next = base;
  }

  #range(bytes: number): number {
    const base = this.#next;
    this.#next += roundUp(bytes) + PAGE_SIZE;
    return base;
  }

  allocPages(bytes: number): { phys: number; bytes: Uint8Array } {
    const memory = new Uint8Array(roundUp(bytes));
    const phys = this.#range(memory.byteLength);
    this.#allocated.set(phys, memory);
    return { phys, bytes: memory };
  }

  freePages(phys: number): void {
    if (!this.#allocated.delete(phys)) throw new Error(`no pages at 0x${phys.toString(16)}`);
  }

  pin(view: Uint8Array): number {
    this.calls.pin++;
    let pin = this.#pinned.get(view.buffer);
    if (pin === undefined) {
      pin = { base: this.#range(view.buffer.byteLength), buffer: view.buffer, pins: 0 };
      this.#pinned.set(view.buffer, pin);
    }
    pin.pins++;
    return pin.base + view.byteOffset;
  }

  unpin(phys: number): void {
    this.calls.unpin++;
    const pin = this.#find(phys, 1);
    if (pin === null) throw new Error(`nothing is pinned at 0x${phys.toString(16)}`);
    if (--pin.pins === 0) this.#pinned.delete(pin.buffer);
  }

  #find(phys: number, length: number): Pin | null {
    for (const pin of this.#pinned.values()) {
      if (phys >= pin.base && phys + length <= pin.base + pin.buffer.byteLength) return pin;
    }
    return null;
  }

  get pages(): { pinned: number; allocated: number } {
    let pinned = 0;
    for (const pin of this.#pinned.values()) pinned += roundUp(pin.buffer.byteLength) / PAGE_SIZE;
    let allocated = 0;
    for (const bytes of this.#allocated.values()) allocated += bytes.byteLength / PAGE_SIZE;
    return { pinned, allocated };
  }

  /** The bytes that a device reads at `phys`. */
  at(phys: number, length: number): Uint8Array {
    const pin = this.#find(phys, length);
    if (pin !== null) return new Uint8Array(pin.buffer, phys - pin.base, length);
    for (const [base, bytes] of this.#allocated) {
      if (phys >= base && phys + length <= base + bytes.byteLength) {
        return bytes.subarray(phys - base, phys - base + length);
      }
    }
    throw new Error(`no memory at 0x${phys.toString(16)}`);
  }
}
