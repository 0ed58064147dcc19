import type { PumpFailure, PumpRun } from '../backend/backend.js';
import { addPath } from '../backend/path-bytes.js';
import type { P2pdmaError } from '../base/errors.js';
import { tracing } from '../base/trace.js';
import type { LendingEnd } from './lending.js';
import type { LentRange } from './lent-range.js';
import { depthOf } from './options.js';
import type { ReaderParts } from './read-ahead.js';
import type { Slot, SlotPool } from './slot-pool.js';
import { failedTransfer } from './transfer.js';

/** Interval at which the progress is read, in milliseconds. */
const LOOK_MS = 50;

/** What a pump wants to have moved, and the accounts that record it. */
export interface BulkParts extends ReaderParts {
  readonly ends: readonly LendingEnd[];
  readonly pool: SlotPool;
  /** Chunk size in bytes; a multiple of the block size of every end. */
  readonly chunk: number;
  readonly from: number;
  readonly to: number;
  /** Called when this number of further source bytes was written by every writer. */
  given(bytes: number): void;
}

/** The failure that ended a bulk transfer early. */
export interface BulkFailure {
  /** The writer whose write failed; null: the read failed. */
  readonly end: LendingEnd | null;
  readonly error: P2pdmaError;
}

/**
 * Lets the backend move the whole chunks of a pump's range by itself: no JavaScript runs per chunk. The pump handles all
 * special cases (parts of blocks, the end of a file, short transfers, failures), and continues where the bulk ended.
 */
export class Bulk {
  /** Resolves when none of its transfers is in flight any more: to the failure, or null. */
  readonly over: Promise<BulkFailure | null>;
  /** Bytes that every writer has written. */
  moved = 0;
  /** Reads that ended, and reads in flight. */
  reads = 0;
  inFlight = 0;
  readonly #parts: BulkParts;
  readonly #ranges: readonly LentRange[];
  readonly #slots: readonly Slot[];
  readonly #run: PumpRun;
  readonly #timer: NodeJS.Timeout;

  /** Begin a bulk transfer. Null: it is not possible, and the caller has to move everything. */
  static async begin(parts: BulkParts): Promise<Bulk | null> {
    const bytes = wholeBytes(parts);
    if (bytes < 2 * parts.chunk) return null;
    const lent = await Promise.all(parts.ends.map((end) => end.lendRange(bytes)));
    const ranges = lent.filter((range) => range !== null);
    const slots = takeAll(parts.pool);
    // A slot that is still in use would be a gap in the memory.
    const whole = ranges.length === lent.length && slots.length === parts.pool.slots.length;
    const run = whole ? startRun(parts, ranges, slots) : null;
    if (run !== null) return new Bulk(parts, ranges, slots, run);
    giveBack(slots);
    for (const range of ranges) range.end();
    return null;
  }

  private constructor(parts: BulkParts, ranges: readonly LentRange[], slots: readonly Slot[], run: PumpRun) {
    this.#parts = parts;
    this.#ranges = ranges;
    this.#slots = slots;
    this.#run = run;
    for (const range of ranges) {
      const stop = () => run.stop();
      range.onStop = stop;
      if (range.stopped) run.stop();
    }
    this.#timer = setInterval(() => {
      this.look();
      // A trace must show each transfer, so the bulk stops.
      if (tracing()) run.stop();
    }, LOOK_MS).unref();
    this.over = run.over.then((failure) => this.#end(failure));
  }

  stop(): void {
    this.#run.stop();
  }

  /** Add what was done since the last call to the accounts of the reader and the writers. */
  look(): void {
    const { moved, source, destinations } = this.#run.progress();
    this.moved += moved;
    this.reads += source.transfers;
    this.inFlight = source.inFlight;
    addPath(this.#parts.path, source.path);
    const peer = this.#parts.pool.provider !== null;
    for (const [i, range] of this.#ranges.entries()) range.did(moved, destinations[i]!, peer);
    if (moved > 0) this.#parts.given(moved);
  }

  #end(failure: PumpFailure | null): BulkFailure | null {
    clearInterval(this.#timer);
    this.look();
    const error = failure === null || failure.result >= 0 ? null : this.#error(failure);
    giveBack(this.#slots);
    for (const range of this.#ranges) range.end();
    return error;
  }

  #error({ destination, at, result }: PumpFailure): BulkFailure {
    const { target, ends, from } = this.#parts;
    const [{ buffer: view }] = this.#slots as [Slot];
    if (destination === null) {
      return { end: null, error: failedTransfer(result, { op: 'read', view, offset: from + at }, target) };
    }
    const range = this.#ranges[destination]!;
    const move = { op: 'write', view, offset: range.position + at } as const;
    return { end: ends[destination]!, error: failedTransfer(result, move, range.target) };
  }
}

/** How many bytes can be moved without looking at each transfer; 0: each transfer has to be seen, or bulk is impossible. */
function wholeBytes(parts: BulkParts): number {
  const { context, settings, extents, pace, target, from, to, ends, chunk } = parts;
  if (context.backend.pump === undefined) return 0;
  if (settings.canary || extents !== null || pace !== null || tracing()) return 0;
  if (process.env.P2PDMA_PUMP === '0') return 0;
  const block = Math.max(target.limits.logicalBlockSize, ...ends.map((end) => end.blockSize()));
  if (chunk % block !== 0 || [from, ...ends.map((end) => end.position())].some((at) => at % block !== 0))
    return 0;
  const bytes = Math.min(to, target.size) - from;
  return bytes - (bytes % block);
}

function startRun(parts: BulkParts, ranges: readonly LentRange[], slots: readonly Slot[]): PumpRun | null {
  const { target, from, chunk, settings, context } = parts;
  return context.backend.pump!({
    source: { target, offset: from },
    destinations: ranges.map(({ target, position }) => ({ target, offset: position })),
    length: Math.min(...ranges.map(({ bytes }) => bytes)),
    chunk,
    depth: depthOf(settings),
    slots: slots.map(({ buffer }) => buffer),
  });
}

/** Take all free slots, in the order of their addresses, as a backend requires. */
function takeAll(pool: SlotPool): Slot[] {
  const slots: Slot[] = [];
  for (let slot = pool.take(); slot !== null; slot = pool.take()) slots.push(slot);
  return slots.sort((a, b) => a.buffer.byteOffset - b.buffer.byteOffset);
}

function giveBack(slots: readonly Slot[]): void {
  for (const slot of slots) {
    slot.filling = false;
    slot.settle();
  }
}
