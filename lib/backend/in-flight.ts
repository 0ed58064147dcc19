/** How many transfers somebody has under way, and when there are none. */
export class InFlight {
  count = 0;
  #waiting: (() => void)[] = [];

  enter(): void {
    this.count++;
  }

  /** True: that was the last. */
  leave(): boolean {
    if (--this.count > 0) return false;
    for (const idle of this.#waiting.splice(0)) idle();
    return true;
  }

  /** Resolves when none is in flight: at once, or when the last one leaves. */
  idle(): Promise<void> {
    if (this.count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
