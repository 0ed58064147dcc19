import type { Slot, SlotPool } from './slot-pool.js';

/** A pool that exists only while at least one of its slots is in use. */
export class PoolAtNeed {
  #pool: SlotPool | null = null;
  #users = 0;
  readonly #waiting: ((slot: Slot) => void)[] = [];

  /**
   * Call `ready` with a slot, possibly at once. `make` is called if there is no pool now; the pool that it makes may be smaller
   * than requested.
   * @throws P2pdmaError the error that `make` throws
   */
  take(make: () => SlotPool, ready: (slot: Slot) => void): void {
    this.#pool ??= make();
    const slot = this.#pool.take();
    if (slot === null) {
      this.#waiting.push(ready);
      return;
    }
    this.#users++;
    ready(slot);
  }

  giveBack(slot: Slot): void {
    const next = this.#waiting.shift();
    if (next !== undefined) return next(slot);
    slot.filling = false;
    slot.settle();
    if (--this.#users > 0) return;
    const pool = this.#pool!;
    this.#pool = null;
    void pool.close();
  }
}
