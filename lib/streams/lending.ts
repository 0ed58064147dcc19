/**
 * How a reader learns that its consumer hands slots back: the writer answers to a symbol. (Node's pipe() and
 * pipeline() both call `readable.pipe(writable)`, which is where the reader asks.)
 */
import type { BlockTarget } from '../backend/backend.js';
import type { Route } from './route.js';

export const lendingEnd: unique symbol = Symbol('p2pdma.lendingEnd');

export interface LendingEnd {
  /** Resolves when its target is open. */
  opened(): Promise<BlockTarget>;
  blockSize(): number;
  /** Memory addresses it can do DMA from are multiples of it. */
  alignment(): number;
  /** The first byte it will write. */
  readonly start: number;
  /** What its own options ask of the route. */
  readonly wishes: {
    readonly provider: string;
    readonly memory: 'auto' | 'cmb' | 'host';
    readonly requireP2p: boolean;
  };
  /** The reader chose. */
  routed(route: Route): void;
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
