/** The most bytes that the readers of one system have read ahead together, beside one chunk each. */
export const MOST_AHEAD_OF_ALL = 8 * 1024 * 1024;

/**
 * What the readers of one system have read ahead for consumers that get Buffers of their own. A server may have thousands of
 * them: the more is read ahead for each, the longer its memory lives and the more its collection costs, while together they
 * keep the devices busy with one read each.
 */
export class AheadBudget {
  #bytes = 0;

  /** True if a reader that has something already may read on. */
  get hasRoom(): boolean {
    return this.#bytes < MOST_AHEAD_OF_ALL;
  }

  /** A read of so many bytes begins. */
  take(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Its bytes were handed over, or dropped. */
  giveBack(bytes: number): void {
    this.#bytes -= bytes;
  }
}
