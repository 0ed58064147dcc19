/**
 * Moves what comes out of a pipe to this package's writers, through slots of host memory that are kept:
 *
 *     pipe ── fill, one at a time ──▶ slot ──give──▶ writer 1      free again when the kernel has every writer's bytes
 *                                       └────give──▶ writer 2
 *
 * No chunk passes through a stream, nothing is allocated per chunk, and the copy from the pipe is done in a thread.
 */
import type { Readable, Writable } from 'node:stream';
import { type Backend, PAGE_SIZE } from '../backend/backend.js';
import { errnoError } from '../base/errors.js';
import { errorOf } from '../streams/joined.js';
import { type LendingEnd, lendingEnd } from '../streams/lending.js';
import { chunkSize } from '../streams/options.js';
import type { Pace } from '../streams/pace.js';
import { FOREIGN_SOURCE, hostRoute } from '../streams/route.js';
import { retirePool, type Slot, SlotPool } from '../streams/slot-pool.js';
import { deferred } from '../streams/transfer.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { PipeReader } from './pipe-reader.js';
import { Portion } from './portion.js';

/** A smaller one would need more calls, and a larger one would leave the processor's cache before it is written. */
const CHUNK = 1024 * 1024;
/** One is filled while others are written. */
const SLOTS = 4;

interface Poured {
  readonly pipe: PipeReader;
  readonly movePipe: NonNullable<Backend['movePipe']>;
  readonly writers: readonly P2pWriteStream[];
  /** The number of bytes to take at most. */
  readonly most: number;
  readonly pace: Pace | null;
  /** Called with the bytes in their order. */
  readonly seen: ((bytes: Uint8Array) => void) | null;
}

export class Pour {
  readonly #of: Poured;
  readonly #ends: readonly LendingEnd[];
  readonly #pool: SlotPool;
  readonly #chunk: number;
  #left: number;
  #filling = false;
  #writing = 0;
  /** Nothing more is filled. */
  #ended = false;
  #wait: NodeJS.Timeout | undefined;
  readonly #over = deferred();

  /**
   * Null: these ends cannot be poured into, or not from this source.
   * @throws the error of opening a writer
   */
  static async begin(
    source: Readable,
    destinations: readonly Writable[],
    seen: Poured['seen'],
  ): Promise<Pour | null> {
    const {
      most,
      pace,
      source: from,
    } = source instanceof Portion ? source : { most: Number.POSITIVE_INFINITY, pace: null, source };
    if (!(from instanceof PipeReader) || from.destroyed) return null;
    const writers = destinations.filter((end) => end instanceof P2pWriteStream);
    if (writers.length < destinations.length) return null;
    const targets = await Promise.all(writers.map((writer) => writer.attachment.opened()));
    const movePipe = writers[0]!.attachment.context!.backend.movePipe;
    // The writer itself refuses what cannot be done, when it is written to.
    const demanding = writers.some(
      ({ [lendingEnd]: { wishes } }) => wishes.requireP2p || wishes.memory === 'cmb',
    );
    if (movePipe === undefined || demanding || targets.some(({ inOrder }) => inOrder !== undefined))
      return null;
    const backend = writers[0]!.attachment.context!.backend;
    return new Pour({ pipe: from, movePipe: movePipe.bind(backend), writers, most, pace, seen });
  }

  private constructor(of: Poured) {
    const [first] = of.writers as [P2pWriteStream];
    this.#of = of;
    this.#left = of.most;
    this.#ends = of.writers.map((writer) => writer[lendingEnd]);
    const block = Math.max(...this.#ends.map((end) => end.blockSize()));
    this.#chunk = chunkSize(this.#ends[0]!.wishes.highWaterMark ?? CHUNK, block);
    const context = first.attachment.context!;
    this.#pool = new SlotPool(context, null, this.#chunk, SLOTS);
    const next = () => this.#next();
    this.#pool.onFree = next;
    of.pipe.once('close', () => this.stop());
    for (const end of this.#ends) end.routed(hostRoute(FOREIGN_SOURCE));
    const retire = () => retirePool(context, this.#pool);
    this.#over.promise.then(retire, retire);
    this.#next();
  }

  /**
   * Resolves when nothing more comes and every writer has what came; a writer that failed says so itself.
   * @throws the error of reading the pipe
   */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Take nothing more. What was taken is still written. */
  stop(): void {
    clearTimeout(this.#wait);
    this.#ended = true;
    this.#settle();
  }

  /** Nothing more comes, and every writer has what came. */
  get isOver(): boolean {
    return this.#ended && !this.#filling && this.#writing === 0;
  }

  #settle(): void {
    if (this.isOver) this.#over.resolve();
  }

  #next(): void {
    const { pace, pipe, movePipe } = this.#of;
    if (this.#ended || this.#filling || pipe.destroyed) return;
    const delay = pace?.delay(performance.now()) ?? 0;
    clearTimeout(this.#wait);
    if (delay > 0) {
      this.#wait = setTimeout(() => this.#next(), delay);
      return;
    }
    const slot = this.#pool.take();
    if (slot === null) return;
    // After a part of a slot, the next bytes lie in their slot so that the blocks of the target begin where DMA may begin.
    const from = this.#ends[0]!.position() % Math.min(PAGE_SIZE, this.#chunk);
    const view = slot.buffer.subarray(from, Math.min(this.#chunk, from + this.#left));
    this.#filling = true;
    pipe.fill(movePipe, view, (moved, ended) => {
      this.#filling = false;
      this.#filled(slot, view, moved, ended);
    });
  }

  #filled(slot: Slot, view: Buffer, moved: number, ended: boolean): void {
    const { pace, seen, pipe } = this.#of;
    if (moved > 0 && !pipe.destroyed) {
      const bytes = moved === view.length ? view : view.subarray(0, moved);
      pace?.spend(moved, performance.now());
      this.#left -= moved;
      seen?.(bytes);
      for (const [i] of this.#ends.entries()) this.#give(i, bytes, slot);
    }
    if (moved < 0) this.#over.reject(errnoError(moved, 'read', 'the pipe'));
    if (ended || moved < 0 || this.#left === 0) this.#ended = true;
    slot.filling = false;
    slot.settle();
    this.#settle();
    this.#next();
  }

  #give(i: number, bytes: Buffer, slot: Slot): void {
    const end = this.#ends[i]!;
    this.#writing++;
    slot.hold();
    end.give(bytes, (error) => {
      slot.unhold();
      this.#writing--;
      if (error !== null) this.#failed(i, error);
      this.#settle();
    });
  }

  #failed(i: number, error: Error): void {
    this.#ended = true;
    const writer = this.#of.writers[i]!;
    errorOf(this.#ends[i]!, error).then((why) => writer.destroy(why));
  }
}
