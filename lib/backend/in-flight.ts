/** How many transfers somebody has under way, and when there are none. */
export class InFlight {
  count = 0;
  #idle: (() => void) | null = null;

  enter(): void {
    this.count++;
  }

  /** True: that was the last. */
  leave(): boolean {
    if (--this.count > 0) return false;
    const idle = this.#idle;
    this.#idle = null;
    idle?.();
    return true;
  }

  /** Resolves when the last one leaves; for one who waits, and only where some are in flight. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle = resolve;
    });
  }
}
