/**
 * The host memory of pools, kept for the next ones: mapping and unmapping that of a small file takes as long as copying it, and
 * the kernel clears what it maps, which takes as long as copying a file of a few MiB.
 * Only for pools whose chunks nobody outside sees: memory that a consumer may still look at is unmapped, and looking at it
 * then throws.
 */
import { type Mapping, type MemoryBackend, PAGE_SIZE } from '../backend/backend.js';

/** The size of a small one, in bytes: a small file, and what is read beyond it to see whether it has grown. */
const SMALL = 128 * 1024 + PAGE_SIZE;

/** The most small ones that are kept. */
const MOST_SMALL = 16;

/** The most bytes of all others that are kept: those of three pools of the default size. */
const MOST_BYTES = 32 * 1024 * 1024;

export class SpareMemory {
  readonly #small: Mapping[] = [];
  /** The one that was given back last comes last. */
  readonly #large: Mapping[] = [];
  #largeBytes = 0;
  #closed = false;

  /**
   * At least `bytes` bytes.
   * @throws P2pdmaError ENOMEM
   */
  take(memory: MemoryBackend, bytes: number): Mapping {
    if (bytes <= SMALL) return this.#small.pop() ?? memory.allocHost(SMALL);
    return this.#takeLarge(bytes) ?? memory.allocHost(bytes);
  }

  /** The smallest that is large enough; null: there is none. */
  #takeLarge(bytes: number): Mapping | null {
    let best = -1;
    for (const [i, kept] of this.#large.entries()) {
      if (kept.bytes >= bytes && (best < 0 || kept.bytes < this.#large[best]!.bytes)) best = i;
    }
    if (best < 0) return null;
    const [taken] = this.#large.splice(best, 1);
    this.#largeBytes -= taken!.bytes;
    return taken!;
  }

  giveBack(mapping: Mapping): void {
    if (this.#closed || mapping.bytes > MOST_BYTES) mapping.munmap();
    else if (mapping.bytes > SMALL) this.#keepLarge(mapping);
    else if (mapping.bytes < SMALL || this.#small.length >= MOST_SMALL) mapping.munmap();
    else this.#small.push(mapping);
  }

  /** What was not needed for the longest time makes room for it. */
  #keepLarge(mapping: Mapping): void {
    this.#large.push(mapping);
    this.#largeBytes += mapping.bytes;
    while (this.#largeBytes > MOST_BYTES) {
      const oldest = this.#large.shift()!;
      this.#largeBytes -= oldest.bytes;
      oldest.munmap();
    }
  }

  /** Keep nothing from now on. */
  close(): void {
    this.#closed = true;
    for (const mapping of [...this.#small.splice(0), ...this.#large.splice(0)]) mapping.munmap();
    this.#largeBytes = 0;
  }
}
