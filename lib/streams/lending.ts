/**
 * How a reader learns that its consumer hands slots back: the writer answers to a symbol. (Node's pipe() and
 * pipeline() both call `readable.pipe(writable)`, which is where the reader asks.)
 */
import type { BlockTarget } from '../backend/backend.js';
import type { LentRange } from './lent-range.js';
import type { Route } from './route.js';

export const lendingEnd: unique symbol = Symbol('p2pdma.lendingEnd');

export type Given = (error: Error | null) => void;

export interface LendingEnd {
  /** Resolves when its target is open. */
  opened(): Promise<BlockTarget>;
  blockSize(): number;
  /** Memory addresses it can do DMA from are multiples of it. */
  alignment(): number;
  /** The first byte it will write. */
  readonly start: number;
  /** Where it will write what it is given next. */
  position(): number;
  /** What its own options ask of the route. */
  readonly wishes: {
    readonly provider: string;
    readonly memory: 'auto' | 'cmb' | 'host';
    readonly requireP2p: boolean;
    readonly allowUnproven: boolean;
  };
  /** The route was chosen. `requireP2p`: whoever chose it takes no other, whatever this end's own options say. */
  routed(route: Route, how?: { readonly requireP2p: boolean }): void;
  /** Set by whoever gives: this end's device refused the memory that it was given, and the CPU had to copy it. */
  onRefused: ((reason: string) => void) | null;
  /**
   * Write `view` behind what was given (or written) before. `done` is called once, never inside this call: when the
   * kernel has all its bytes, or with what failed. Until then nobody touches `view`. Several may be in flight.
   * A failure is the giver's to act upon: the stream is not destroyed by it. `position`: where it went, for `giveAgain`.
   */
  give(view: Uint8Array, done: (error: Error | null, position: number) => void): void;
  /** Write what failed once more, in its place: the same bytes, from other memory. */
  giveAgain(view: Uint8Array, position: number, done: Given): void;
  /**
   * It failed, and gets nothing more: what is not begun is not written. Resolves when nothing of it is in flight any more, to
   * the first byte that is missing.
   */
  settled(): Promise<number>;
  /** As `give`, for `bytes` zeros of a hole, which are left out or punched where that can be. */
  giveHole(bytes: number, done: Given): void;
  /**
   * Have the next `bytes` bytes, or as many of them as there is room for, written by whoever gets the range; it must end it.
   * Null: this end has to see each chunk.
   */
  lendRange(bytes: number): Promise<LentRange | null>;
}

export function lendingEndOf(destination: unknown): LendingEnd | null {
  if (typeof destination !== 'object' || destination === null) return null;
  return (destination as { [lendingEnd]?: LendingEnd })[lendingEnd] ?? null;
}

/**
 * What a sparse reader pushes to this package's writers in place of a hole's zeros: a view of this buffer is recognised
 * for what it is, and skipped or punched instead of written.
 */
const HOLE = Buffer.alloc(1024 * 1024);
const HOLE_MEMORY = HOLE.buffer;

/** `length` bytes of hole, or fewer. */
export function holeChunk(length: number): Buffer {
  return length >= HOLE.length ? HOLE : HOLE.subarray(0, length);
}

export function isHole(chunk: Uint8Array): boolean {
  return chunk.buffer === HOLE_MEMORY;
}
