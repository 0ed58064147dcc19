/**
 * How a reader finds out that its consumer gives slots back: the writer has a property with a special symbol. (Node's pipe()
 * and pipeline() both call `readable.pipe(writable)`, and there the reader looks for the symbol.)
 */
import type { BlockTarget } from '../backend/backend.js';
import type { LentRange } from './lent-range.js';
import type { Route } from './route.js';

export const lendingEnd: unique symbol = Symbol('p2pdma.lendingEnd');

export type Given = (error: Error | null) => void;

export interface LendingEnd {
  /** Its target, when that is open and can be written; null: it is not open yet. */
  target(): BlockTarget | null;
  /** Resolves when its target is open. */
  opened(): Promise<BlockTarget>;
  blockSize(): number;
  /** Memory addresses for its DMA must be multiples of this. */
  alignment(): number;
  /** Offset of the first byte that it will write. */
  readonly start: number;
  /** The position at which it will write the next bytes that it is given. */
  position(): number;
  /** What its own options require of the route. */
  readonly wishes: {
    readonly provider: string;
    readonly memory: 'auto' | 'cmb' | 'host';
    readonly requireP2p: boolean;
    readonly allowUnproven: boolean;
    readonly highWaterMark?: number | undefined;
  };
  /**
   * Called when the route was chosen. `requireP2p`: the chooser accepts only peer-to-peer, whatever this end's own options say.
   */
  routed(route: Route, how?: { readonly requireP2p: boolean }): void;
  /** Set by the giver. Called when this end's device refused the memory that it was given, and the CPU had to copy the data. */
  onRefused: ((reason: string) => void) | null;
  /**
   * Write `view` after what was given (or written) before. `done` is called once, never inside this call: when the kernel has
   * all its bytes, or with the error. Until then nothing may change `view`. Several calls may be in flight.
   * The giver must handle a failure: it does not destroy the stream. `position`: where the bytes were written, for `giveAgain`.
   */
  give(view: Uint8Array, done: (error: Error | null, position: number) => void): void;
  /** Retry a failed write at its position: the same bytes, from other memory. */
  giveAgain(view: Uint8Array, position: number, done: Given): void;
  /**
   * Called when this end failed and gets nothing more. Writes that have not begun are dropped. When no write is in flight any
   * more, resolves to the first byte that is missing.
   */
  settled(): Promise<number>;
  /** Same as `give`, for a hole of `bytes` zeros. If possible, the zeros are left out, or a hole is punched. */
  giveHole(bytes: number, done: Given): void;
  /**
   * Let the caller write the next `bytes` bytes, or as many of them as fit. The caller gets the range and must end it.
   * Null: this end has to see each chunk.
   */
  lendRange(bytes: number): Promise<LentRange | null>;
}

export function lendingEndOf(destination: unknown): LendingEnd | null {
  if (typeof destination !== 'object' || destination === null) return null;
  return (destination as { [lendingEnd]?: LendingEnd })[lendingEnd] ?? null;
}

/**
 * A sparse reader gives this package's writers views of this buffer in place of a hole's zeros. The writers recognise such a
 * view and skip it or punch a hole, instead of writing zeros.
 */
const HOLE = Buffer.alloc(1024 * 1024);
const HOLE_MEMORY = HOLE.buffer;

/** A chunk that stands for `length` bytes of a hole, or for fewer. */
export function holeChunk(length: number): Buffer {
  return length >= HOLE.length ? HOLE : HOLE.subarray(0, length);
}

export function isHole(chunk: Uint8Array): boolean {
  return chunk.buffer === HOLE_MEMORY;
}
