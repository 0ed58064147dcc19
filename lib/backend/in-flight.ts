/** Counts the transfers in flight and tells when there are none. */
export class InFlight {
  count = 0;
  #waiting: (() => void)[] = [];

  enter(): void {
    this.count++;
  }

  /** Returns true if that was the last one. */
  leave(): boolean {
    if (--this.count > 0) return false;
    for (const idle of this.#waiting.splice(0)) idle();
    return true;
  }

  /** Resolves when none is in flight: immediately, or when the last one leaves. */
  idle(): Promise<void> {
    if (this.count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
