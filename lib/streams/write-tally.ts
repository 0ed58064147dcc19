import type { PathBytes } from '../backend/backend.js';
import { zeroPath } from '../backend/path-bytes.js';
import { Frontier } from './frontier.js';

/** The sums of a writer's transfers, for its receipt and metrics. */
export class WriteTally {
  readonly path: PathBytes = zeroPath();
  /** The position up to which the kernel has accepted everything. */
  readonly written: Frontier;
  /** The number of transfers that ended. */
  writes = 0;
  /** The number of transfers in flight. */
  inFlight = 0;
  /** Bytes that were written from a CMB. */
  peerBytes = 0;
  /** Bytes that were written from host memory, other than `ragged`. */
  hostBytes = 0;
  /** The end of the last hole. What was written behind it has made the file that long; a hole does not. */
  holesEnd = -1;
  /** Why the CPU had to copy data out of a CMB. */
  refusal: string | null = null;
  /** Parts of a file's blocks, which cannot be written by direct transfers. */
  readonly #ragged: { offset: number; bytes: number }[] = [];
  #raggedPieces = 0;
  #raggedBytes = 0;

  constructor(start: number) {
    this.written = new Frontier(start);
  }

  get raggedBytes(): number {
    return this.#raggedBytes;
  }

  ragged(offset: number, bytes: number): void {
    this.#raggedBytes += bytes;
    this.#raggedPieces++;
    // `raggedWords` needs only two.
    if (this.#ragged.length < 2) this.#ragged.push({ offset, bytes });
  }

  /** Which bytes of the range from `start` to `end` went through the page cache, in words; null: none. */
  raggedWords(start: number, end: number): string | null {
    if (this.#raggedPieces === 0) return null;
    if (this.#raggedPieces === 1 && this.#raggedBytes === end - start) {
      return `the ${this.#raggedBytes} bytes, less than a block, went through the page cache`;
    }
    const first = this.#ragged.find(({ offset }) => offset === start);
    const last = this.#ragged.find(({ offset, bytes }) => offset + bytes === end && offset !== start);
    const named = [
      ...(first === undefined ? [] : [`first ${first.bytes}`]),
      ...(last === undefined ? [] : [`last ${last.bytes}`]),
    ];
    if (named.length === this.#raggedPieces) {
      const each = named.length === 1 ? 'less than a block' : 'each less than a block';
      return `the ${named.join(' and the ')} bytes, ${each}, went through the page cache`;
    }
    return `${this.#raggedBytes} bytes in ${this.#raggedPieces} parts of blocks went through the page cache`;
  }
}
