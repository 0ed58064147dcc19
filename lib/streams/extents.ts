import type { BlockTarget } from '../backend/backend.js';

/** Where a target has data and where holes, asked as a reader comes to them. */
export class Extents {
  readonly #target: BlockTarget;
  /** Where the data that is being read ends. */
  dataEnd = 0;

  constructor(target: BlockTarget) {
    this.#target = target;
  }

  /** Length of the hole that begins at `next`, up to `end`; 0: data does. */
  holeAt(next: number, end: number): number {
    if (next < this.dataEnd) return 0;
    const data = Math.min(this.#target.seekData(next), end);
    if (data > next) return data - next;
    this.dataEnd = this.#target.seekHole(next);
    return 0;
  }
}
