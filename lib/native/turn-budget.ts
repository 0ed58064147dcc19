/**
 * Spreads work over turns of the event loop: work that keeps the thread busy and cannot be done elsewhere, such as reading sysfs
 * about a device that is opened. Once a turn has spent its time, the rest waits for the next ones, so that timers and sockets
 * come in between.
 */

/** Of one turn. What was begun in time is finished, so a turn can take longer. */
const BUDGET_MS = 0.5;

export class TurnBudget {
  #spentMs = 0;
  #turnAwaited = false;
  /** In the order in which they came. */
  readonly #waiting: (() => void)[] = [];

  /** Null: there is time left in this turn. Otherwise wait for it, and then begin at once: one begins per turn, unless there is time left. */
  wait(): Promise<void> | null {
    if (this.#spentMs < BUDGET_MS && this.#waiting.length === 0) return null;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#awaitTurn();
    });
  }

  /** Do this now, and count its time. */
  spend<T>(work: () => T): T {
    const began = performance.now();
    try {
      return work();
    } finally {
      this.#spentMs += performance.now() - began;
      this.#awaitTurn();
      if (this.#spentMs < BUDGET_MS) this.#waiting.shift()?.();
    }
  }

  #awaitTurn(): void {
    if (this.#turnAwaited) return;
    this.#turnAwaited = true;
    setImmediate(this.#begin);
  }

  readonly #begin = (): void => {
    this.#turnAwaited = false;
    this.#spentMs = 0;
    this.#waiting.shift()?.();
    if (this.#waiting.length > 0) this.#awaitTurn();
  };
}
