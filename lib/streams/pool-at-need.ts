import type { Slot, SlotPool } from './slot-pool.js';

/** A pool that is there only while somebody has a slot of it. */
export class PoolAtNeed {
  #pool: SlotPool | null = null;
  #users = 0;
  readonly #waiting: ((slot: Slot) => void)[] = [];

  /**
   * Call `ready` with a slot, perhaps at once. `make` is called if there is no pool now; what it makes may be smaller than is
   * wanted.
   * @throws P2pdmaError what `make` throws
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
