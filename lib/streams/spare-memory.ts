/**
 * The host memory of small pools, kept for the next ones: mapping and unmapping it takes as long as copying a small file.
 * Only for pools whose chunks nobody outside sees: memory that a consumer may still look at is unmapped, and looking at it
 * then throws.
 */
import { type Mapping, type MemoryBackend, PAGE_SIZE } from '../backend/backend.js';

/** The size of each, in bytes: a small file, and what is read beyond it to see whether it has grown. */
const BYTES = 128 * 1024 + PAGE_SIZE;

/** The most that are kept. */
const MOST = 16;

export class SpareMemory {
  readonly #kept: Mapping[] = [];
  #closed = false;

  /**
   * At least `bytes` bytes.
   * @throws P2pdmaError ENOMEM
   */
  take(memory: MemoryBackend, bytes: number): Mapping {
    if (bytes > BYTES) return memory.allocHost(bytes);
    return this.#kept.pop() ?? memory.allocHost(BYTES);
  }

  giveBack(mapping: Mapping): void {
    if (this.#closed || mapping.bytes !== BYTES || this.#kept.length >= MOST) mapping.munmap();
    else this.#kept.push(mapping);
  }

  /** Keep nothing from now on. */
  close(): void {
    this.#closed = true;
    for (const mapping of this.#kept.splice(0)) mapping.munmap();
  }
}
