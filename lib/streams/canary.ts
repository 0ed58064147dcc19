import { P2pdmaError } from '../base/errors.js';

const BYTES = 16;

/**
 * A random pattern at both ends of the memory that a read will fill. If it is still there after a read that reported success,
 * the peer write was dropped: the known symptom of a broken route. The CPU accesses only a few bytes of the CMB for this, not
 * all of the memory.
 */
export class Canary {
  #pattern: Buffer | null = null;
  #placed = false;

  poison(view: Uint8Array): void {
    this.#placed = view.length >= 2 * BYTES;
    if (!this.#placed) return;
    this.#pattern ??= Buffer.alloc(BYTES);
    crypto.getRandomValues(this.#pattern);
    view.set(this.#pattern, 0);
    view.set(this.#pattern, view.length - BYTES);
  }

  forget(): void {
    this.#placed = false;
  }

  /** The error if the pattern is still there at either end. `offset`: the offset in the target of the view's first byte. */
  check(view: Uint8Array, path: string, offset: number): P2pdmaError | null {
    // A view without length was in a CMB that is gone.
    if (!this.#placed || this.#pattern === null || view.length === 0) return null;
    const tail = view.length - BYTES;
    const at = this.#pattern.equals(view.subarray(0, BYTES))
      ? 0
      : this.#pattern.equals(view.subarray(tail))
        ? tail
        : -1;
    if (at < 0) return null;
    return new P2pdmaError(
      'ERR_VERIFY_MISMATCH',
      `read '${path}': reported success, but the CMB slot did not change at offset ${offset + at}: the peer write was dropped`,
      { path, syscall: 'read', offset: offset + at },
    );
  }
}
