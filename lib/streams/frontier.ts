/**
 * The position up to which everything is written. Pieces end in any order; only bytes without a gap before them count.
 *
 *     start ████████████│▒▒▒▒ in flight ▒▒▒▒│██ ended, and waits for the gap to close
 *                       at
 */
export class Frontier {
  at: number;
  /** The pieces after a gap: their start positions, with their end positions. Null: there was no gap yet. */
  #beyond: Map<number, number> | null = null;

  constructor(start: number) {
    this.at = start;
  }

  /** `[offset, offset + bytes)` is written. */
  add(offset: number, bytes: number): void {
    if (bytes <= 0) return;
    const end = offset + bytes;
    if (offset > this.at) {
      this.#beyond ??= new Map();
      this.#beyond.set(offset, Math.max(end, this.#beyond.get(offset) ?? 0));
      return;
    }
    this.at = Math.max(this.at, end);
    while (this.#beyond !== null) {
      const next = this.#beyond.get(this.at);
      if (next === undefined) return;
      this.#beyond.delete(this.at);
      this.at = next;
    }
  }
}
