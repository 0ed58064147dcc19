import { Canary } from './canary.js';
import type { Slot } from './slot-pool.js';
import { Transfer } from './transfer.js';

const NO_VIEW = Buffer.alloc(0);

/** One read, in flight or finished and waiting for its turn. The objects are reused. */
export class ReadJob {
  readonly transfer = new Transfer();
  readonly canary = new Canary();
  slot: Slot | null = null;
  /** The memory it fills. */
  view: Uint8Array = NO_VIEW;
  offset = 0;
  /** The length of the read: whole blocks. It is kept here because a view whose memory is gone has length 0. */
  length = 0;
  /** The part of the view that was requested: from `from` up to `to`. */
  from = 0;
  to = 0;
  /** The number of bytes that were read. The view's bytes after them were never read. */
  moved = 0;
  /** Nothing was read: the target has a hole here. */
  hole = false;
  finished = false;
  error: Error | null = null;
  /** The read is not wanted any more: its data is dropped. */
  dropped = false;

  /** The requested bytes that were actually read. */
  get bytes(): Uint8Array {
    const to = Math.max(this.from, Math.min(this.to, this.moved));
    return this.from === 0 && to === this.view.length ? this.view : this.view.subarray(this.from, to);
  }

  /** Drop the data that it read. Its slot becomes free, unless a writer holds it. */
  drop(): void {
    const { slot } = this;
    if (slot === null) return;
    this.slot = null;
    slot.filling = false;
    slot.settle();
  }
}
