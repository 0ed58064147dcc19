/** Memory that a caller owns. */
import type { Mapping } from '../backend/backend.js';
import type { StreamContext } from './session.js';

/** A piece of CMB (or host) memory that the caller owns, for use with the reads and writes of a Target. */
export interface Allocation {
  /** A plain Buffer over the memory. */
  readonly buffer: Buffer;
  /** PCI address of the provider; null: host memory. */
  readonly provider: string | null;
  /** Free the memory. First wait for all I/O on it to complete. Using the buffer afterwards throws. */
  free(): void;
  /** Same as `free()`. */
  [Symbol.dispose](): void;
}

export class MappedAllocation implements Allocation {
  readonly buffer: Buffer;
  readonly provider: string | null;
  #context: StreamContext;
  #mapping: Mapping | null;

  constructor(context: StreamContext, mapping: Mapping, bytes: number) {
    this.#context = context;
    this.#mapping = mapping;
    this.buffer = Buffer.from(mapping.buffer, 0, bytes);
    this.provider = mapping.provider?.bdf ?? null;
    context.mappings++;
    context.add(this);
  }

  free(): void {
    if (this.#mapping === null) return;
    this.#mapping.munmap();
    this.#mapping = null;
    this.#context.mappings--;
    this.#context.remove(this);
  }

  async shutdown(): Promise<void> {
    this.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
