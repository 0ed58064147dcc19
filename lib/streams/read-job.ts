import { Canary } from './canary.js';
import type { Slot } from './slot-pool.js';
import { Transfer } from './transfer.js';

/** One read in flight, or done and waiting for its turn. Reused. */
export class ReadJob {
  readonly transfer = new Transfer();
  readonly canary = new Canary();
  slot: Slot | null = null;
  /** The memory it fills: whole blocks. */
  view: Uint8Array = Buffer.alloc(0);
  offset = 0;
  /** The part of the view that was asked for. */
  from = 0;
  to = 0;
  finished = false;

  /** Nobody will see what it read: its slot is free, unless somebody holds it. */
  drop(): void {
    if (this.slot === null) return;
    this.slot.filling = false;
    this.slot.settle();
    this.slot = null;
  }
}
