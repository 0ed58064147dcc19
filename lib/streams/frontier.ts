/**
 * Up to where everything is written. Pieces end in any order; only what has no gap before it counts.
 *
 *     start ████████████│▒▒▒▒ in flight ▒▒▒▒│██ ended, and waits for the gap to close
 *                       at
 */
export class Frontier {
  at: number;
  /** Ends of the pieces beyond, by where they begin. */
  readonly #beyond = new Map<number, number>();

  constructor(start: number) {
    this.at = start;
  }

  /** `[offset, offset + bytes)` is written. */
  add(offset: number, bytes: number): void {
    if (bytes <= 0) return;
    const end = offset + bytes;
    if (offset > this.at) {
      this.#beyond.set(offset, Math.max(end, this.#beyond.get(offset) ?? 0));
      return;
    }
    this.at = Math.max(this.at, end);
    for (;;) {
      const next = this.#beyond.get(this.at);
      if (next === undefined) return;
      this.#beyond.delete(this.at);
      this.at = next;
    }
  }
}
