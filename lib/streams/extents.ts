import type { BlockTarget } from '../backend/backend.js';

/** Finds out where a target has data and where it has holes, when a reader reaches them. */
export class Extents {
  readonly #target: BlockTarget;
  /** The end of the data extent that is being read. */
  dataEnd = 0;

  constructor(target: BlockTarget) {
    this.#target = target;
  }

  /** The length of the hole that begins at `next`, at most up to `end`; 0: there is data at `next`. */
  holeAt(next: number, end: number): number {
    if (next < this.dataEnd) return 0;
    const data = Math.min(this.#target.seekData(next), end);
    if (data > next) return data - next;
    this.dataEnd = this.#target.seekHole(next);
    return 0;
  }
}
