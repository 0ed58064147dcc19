/** A range that was lent. It can be requested to stop. */
interface Lent {
  stop(): void;
}

/**
 * Positions for a writer's bytes: each write is placed after the previous ones. A lent range keeps its place until it ends,
 * possibly before all of it is written. If another write comes in the meantime, it requests the range to stop, waits, and is
 * placed after the bytes of the range that were written.
 */
export class Places {
  /** The position of the next byte. */
  next: number;
  #lent: Lent | null = null;
  #waiting: (() => void)[] = [];

  constructor(start: number) {
    this.next = start;
  }

  /** Call `placed` with the position for the next `bytes` bytes, possibly at once. */
  take(bytes: number, placed: (position: number) => void): void {
    if (this.#lent === null) {
      const position = this.next;
      this.next += bytes;
      return placed(position);
    }
    this.#waiting.push(() => this.take(bytes, placed));
    this.stop();
  }

  /** Lend a range. No other write is placed until `giveBack`. False: another range is lent already. */
  lend(range: Lent): boolean {
    if (this.#lent !== null) return false;
    this.#lent = range;
    return true;
  }

  /** End the lent range, of which `bytes` bytes were written. */
  giveBack(bytes: number): void {
    this.#lent = null;
    this.next += bytes;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Request the lent range, if there is one, to stop, because another caller waits. */
  stop(): void {
    this.#lent?.stop();
  }
}
