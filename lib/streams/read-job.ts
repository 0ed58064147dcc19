import { Canary } from './canary.js';
import type { Slot } from './slot-pool.js';
import { Transfer } from './transfer.js';

/** One read in flight, or done and waiting for its turn. Reused. */
export class ReadJob {
  readonly transfer = new Transfer();
  readonly canary = new Canary();
  slot: Slot | null = null;
  /** The memory it fills. */
  view: Uint8Array = Buffer.alloc(0);
  offset = 0;
  /** What the read asks for: whole blocks. A view whose memory is gone has no length any more. */
  length = 0;
  /** The part of the view that was asked for. */
  from = 0;
  to = 0;
  /** Bytes that the read brought; what lies behind them in the view was never read. */
  moved = 0;
  /** Nothing was read: the target has a hole here. */
  hole = false;
  finished = false;
  error: Error | null = null;
  /** Nobody wants it any more: what it brings is let go. */
  dropped = false;

  /** What it brought of what was asked for. */
  get bytes(): Uint8Array {
    const to = Math.max(this.from, Math.min(this.to, this.moved));
    return this.from === 0 && to === this.view.length ? this.view : this.view.subarray(this.from, to);
  }

  /** Nobody will see what it read: its slot is free, unless somebody holds it. */
  drop(): void {
    const { slot } = this;
    if (slot === null) return;
    this.slot = null;
    slot.filling = false;
    slot.settle();
  }
}
