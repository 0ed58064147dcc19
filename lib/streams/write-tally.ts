import type { PathBytes } from '../backend/backend.js';
import { zeroPath } from '../backend/path-bytes.js';
import { Frontier } from './frontier.js';

/** What a writer's transfers add up to, for its receipt and metrics. */
export class WriteTally {
  readonly path: PathBytes = zeroPath();
  /** Up to where everything is the kernel's. */
  readonly written: Frontier;
  /** Transfers that ended. */
  writes = 0;
  /** Transfers on their way. */
  inFlight = 0;
  /** Bytes that were written from a CMB. */
  peerBytes = 0;
  /** Bytes that were written from host memory, other than `ragged`. */
  hostBytes = 0;
  /** Why the CPU had to copy what was in a CMB. */
  refusal: string | null = null;
  /** Parts of a file's blocks, which no direct transfer can write. */
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
    // Two are enough for words.
    if (this.#ragged.length < 2) this.#ragged.push({ offset, bytes });
  }

  /** What went through the page cache, in words, of a range that ended at `end`; null: nothing did. */
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
