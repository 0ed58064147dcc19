/** A range that was lent: it can be asked to come to an end. */
interface Lent {
  stop(): void;
}

/**
 * Where a writer's bytes go: each behind those that came before. A range that is lent has its place until it is over, which
 * may be earlier than was thought; whoever comes meanwhile has it stopped, waits, and is placed behind what was written of it.
 */
export class Places {
  /** Where the next byte goes. */
  next: number;
  #lent: Lent | null = null;
  #waiting: (() => void)[] = [];

  constructor(start: number) {
    this.next = start;
  }

  /** Call `placed` with where the next `bytes` bytes go, perhaps at once. */
  take(bytes: number, placed: (position: number) => void): void {
    if (this.#lent === null) {
      const position = this.next;
      this.next += bytes;
      return placed(position);
    }
    this.#waiting.push(() => this.take(bytes, placed));
    this.stop();
  }

  /** From here on up to `giveBack` nobody else is placed. False: somebody else has a range already. */
  lend(range: Lent): boolean {
    if (this.#lent !== null) return false;
    this.#lent = range;
    return true;
  }

  /** Of the range that was lent `bytes` bytes were written. */
  giveBack(bytes: number): void {
    this.#lent = null;
    this.next += bytes;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Somebody waits: what is lent comes to an end. */
  stop(): void {
    this.#lent?.stop();
  }
}
