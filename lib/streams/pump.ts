/**
 * Moves data directly from a reader's target to this package's writers, while there is no other consumer.
 *
 *     source ──read──▶ slot ──give──▶ writer 1        each writer holds the slot once (hold); the slot is free again
 *                        └────give──▶ writer 2        when the kernel has every writer's bytes (unhold)
 *
 * The pump owns its slots from the start of a read to the completion of the last write. No slot passes through a stream's
 * buffer, so the state of Node's streams does not affect when memory is reused. As soon as another consumer wants to see the
 * data, the pump stops at a chunk boundary and reports where it stopped.
 */

import { type BlockTarget, sizeThisTurn } from '../backend/backend.js';
import type { PciDev } from '../backend/topology.js';
import { P2pdmaError } from '../base/errors.js';
import type { Sentence } from '../base/sentence.js';
import { trace, tracing } from '../base/trace.js';
import { Bulk, type BulkFailure } from './bulk.js';
import { asBuffer } from './byte-queue.js';
import { takeChunkPool } from './chunk-pool.js';
import type { LendingEnd } from './lending.js';
import { depthOf } from './options.js';
import { poisoned } from './poison.js';
import { type Piece, ReadAhead, type ReaderParts, type Reading } from './read-ahead.js';
import type { ReadJob } from './read-job.js';
import { isPeerRefusal, refusalWords } from './refusal.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import { retirePool, type Slot, type SlotPool } from './slot-pool.js';
import { transfer } from './transfer.js';

/** What the pump tells the reader for which it works. */
export interface PumpedReader {
  /** Called when this number of bytes was given to the writers. */
  given(bytes: number): void;
  /** Called when the route was chosen or had to change. */
  routed(route: Route): void;
  /** Called when the kernel has accepted all the data. */
  ended(): void;
  /** Called when the reader cannot continue. */
  failed(error: Error): void;
  /** Called when the target of this writer failed. */
  endFailed(end: LendingEnd, error: Error): void;
}

/** The memory for a file of any size is at least for so many bytes: with the one that is read beyond its end, 64 KiB. */
const LEAST = 64 * 1024 - 1;

export class Pump {
  readonly #parts: ReaderParts;
  readonly #reader: PumpedReader;
  /** A writer that leaves is left out of the next array; each of these is never changed. */
  #ends: readonly LendingEnd[];
  /** The first byte that the bulk transfer did not move. */
  #at: number;
  #to: number;
  #route: Route | null = null;
  #pool: SlotPool | null = null;
  #chunk = 0;
  /** The size of the target when the memory for its chunks was taken. */
  #size = 0;
  /** The bulk transfer that the backend runs by itself, and a promise for its end. */
  #bulk: Bulk | null = null;
  #inBulk: Promise<void> | null = null;
  #bulkReads = 0;
  /** Reads what is left after the bulk transfer. */
  #ahead: ReadAhead | null = null;
  /** Writes that were given to writers and have not ended. */
  #writing = 0;
  #turning = false;
  #halted = false;
  #stopped = false;
  #over = false;

  /** Moves the bytes from `from` up to `to` of the reader's target to these writers. Nothing begins before `start()`. */
  constructor(
    parts: ReaderParts,
    reader: PumpedReader,
    ends: readonly LendingEnd[],
    from: number,
    to: number,
  ) {
    this.#parts = parts;
    this.#reader = reader;
    this.#ends = ends;
    this.#at = from;
    this.#to = to;
  }

  /** Reads in flight. */
  get inFlight(): number {
    this.#bulk?.look();
    return this.#bulk?.inFlight ?? this.#ahead?.inFlight ?? 0;
  }
  /** Reads that ended. */
  get reads(): number {
    return this.#bulkReads + (this.#bulk?.reads ?? 0) + (this.#ahead?.reads ?? 0);
  }

  /** The first byte that was not given to the writers. */
  get position(): number {
    return this.#ahead?.position ?? this.#at;
  }

  /** True if everything was written, so that nothing has to be stopped. */
  get isDone(): boolean {
    return this.#over && this.#ahead?.isIdle === true;
  }

  /** Choose the route when all drives are known, allocate the memory for it, and begin. */
  async start(): Promise<void> {
    await this.#allOpen();
    if (this.#halted || this.#ends.length === 0) return;
    const route = this.#takePool(this.#wanted());
    if (route.provider === null) this.#assertHostAllowed(route.reason);
    this.#settle(route);
    if (!this.#isShort()) {
      this.#inBulk = this.#moveInBulk();
      await this.#inBulk;
    }
    if (this.#over || this.#ends.length === 0) return;
    this.#ahead = new ReadAhead(
      this.#parts,
      this.#reading(),
      this.#at,
      this.#to,
      this.#inBulk === null ? this.#size : undefined,
    );
    this.#turn();
  }

  /** The route that the drives and the wishes of all ends allow. */
  #wanted(): Route {
    const { target, settings, context } = this.#parts;
    const ends = this.#ends;
    const wishes = [settings, ...ends.map((end) => end.wishes)];
    const destinations = ends.map((end) => end.target()!);
    const route = chooseRoute(context.backend, [target, ...destinations], {
      provider: wishes.find((w) => w.provider !== 'auto')?.provider ?? 'auto',
      memory: wishes.some((w) => w.memory === 'host') ? 'host' : settings.memory,
      requireP2p: this.#required(),
      allowUnproven: wishes.some((w) => w.allowUnproven),
    });
    const shift = route.provider === null ? null : misfit(this.#at, ends, target);
    return shift === null ? route : hostRoute(shift);
  }

  /** All that is left is in one chunk or two. */
  #isShort(): boolean {
    return Math.min(this.#to, this.#size) - this.#at < 2 * this.#chunk;
  }

  /** Let the backend move the simple part. After a failure that allows it, begin again with what is left. */
  async #moveInBulk(): Promise<void> {
    for (let again = true; again && !this.#over && this.#ends.length > 0 && !this.#isShort(); ) {
      const ends = this.#ends;
      const bulk = await Bulk.begin({
        ...this.#parts,
        ...{ ends, pool: this.#pool!, chunk: this.#chunk, from: this.#at, to: this.#to },
        given: (bytes) => this.#reader.given(bytes),
      });
      if (bulk === null) return;
      this.#bulk = bulk;
      if (this.#stopped || this.#over || ends.length > this.#ends.length) bulk.stop();
      const failure = await bulk.over;
      this.#bulk = null;
      this.#bulkReads += bulk.reads;
      this.#at += bulk.moved;
      if (this.#stopped) this.#to = this.#at;
      again = failure === null ? ends.length > this.#ends.length : this.#isCured(failure);
    }
  }

  /** Handle a failed transfer of the bulk. Returns true if the rest can continue in bulk. */
  #isCured({ end, error }: BulkFailure): boolean {
    const provider = this.#route!.provider;
    const reason = provider === null ? null : this.#refusal(error, provider);
    if (reason === null || (end !== null && this.#required())) {
      if (end === null) this.#fail(error);
      else if (provider === null || !this.#isRefused(error, provider)) this.#endFailed(end, error);
      else this.#endFailed(end, p2pRequired(error.path!, error.message));
      return end !== null;
    }
    try {
      this.#assertHostAllowed(reason);
      this.#fallBack(reason);
      return true;
    } catch (required) {
      this.#fail(required as Error);
      return false;
    }
  }

  /** Wait for the writers' targets. A writer whose target cannot be opened is dropped here; it reports its error itself. */
  async #allOpen(): Promise<void> {
    for (const end of this.#ends) {
      if (end.target() === null) await end.opened().catch(() => this.#drop(end));
    }
  }

  #drop(end: LendingEnd): void {
    this.#ends = this.#ends.filter((one) => one !== end);
  }

  #reading(): Reading {
    return {
      depth: depthOf(this.#parts.settings),
      chunk: () => this.#chunk,
      memory: (bytes) => this.#piece(bytes),
      go: this.#turnNow,
      retries: (job, error) => this.#retries(job, error),
    };
  }

  #piece(bytes: number): Piece | null {
    const slot = this.#pool!.take();
    // If its memory is gone, `ReadAhead.take()` detects the loss when it reaches the chunk.
    return slot === null ? null : { slot, view: slot.view(bytes) };
  }

  #required(): boolean {
    return this.#parts.settings.requireP2p || this.#ends.some((end) => end.wishes.requireP2p);
  }

  #assertHostAllowed(reason: Sentence): void {
    const { target, settings } = this.#parts;
    if (this.#required()) throw p2pRequired(target.path, reason);
    if (settings.memory === 'cmb') throw p2pRequired(target.path, reason, 'memory: cmb');
  }

  #settle(route: Route): void {
    this.#route = route;
    this.#reader.routed(route);
    const requireP2p = this.#required();
    for (const end of this.#ends) {
      end.routed(route, { requireP2p });
      const refused = (reason: string) => {
        if (this.#route === route && route.provider !== null && !this.#over) this.#fallBack(reason);
      };
      end.onRefused = refused;
    }
    if (!tracing()) return;
    const { transport, provider, reason } = route;
    const { path } = this.#parts.target;
    trace('streams', 'route', {
      ...this.#parts.context.origin,
      ...{ path, transport, provider: provider?.bdf, reason, chunk: this.#chunk },
    });
  }

  /** Allocate memory for the chunks. Returns the route that this memory allows. */
  #takePool(wanted: Route): Route {
    const { context, target, settings } = this.#parts;
    const { position: at } = this;
    this.#size = wanted.provider === null ? sizeThisTurn(target) : target.size;
    const first = at - (at % target.limits.logicalBlockSize);
    // A file may have grown since, or grow now.
    const least = wanted.provider === null && target.kind === 'file' ? Math.min(this.#to - first, LEAST) : 0;
    const { route, chunk, pool } = takeChunkPool(context, wanted, {
      highWaterMark: settings.highWaterMark,
      queueDepth: depthOf(settings),
      block: Math.max(target.limits.logicalBlockSize, ...this.#ends.map((end) => end.blockSize())),
      bytes: Math.max(Math.min(this.#to, this.#size) - first, least),
      writers: this.#ends.length,
      required: this.#required(),
    });
    if (pool !== null) {
      this.#pool = pool;
      this.#chunk = chunk;
      pool.onFree = this.#turnNow;
    }
    return route;
  }

  /** A device refused CMB memory in spite of the verdict, or the CMB is gone: continue in host memory from here. */
  #fallBack(reason: string): void {
    // What failed was still in flight when this pump was stopped: nothing more is read into its memory.
    if (this.#over) return;
    retirePool(this.#parts.context, this.#pool!);
    this.#settle(this.#takePool(hostRoute(reason)));
  }

  readonly #turnNow = (): void => this.#turn();

  /** Give the writers the chunks that are ready in order, and begin more reads. */
  #turn(): void {
    // If a slot is given back during this turn, this turn also handles it.
    if (this.#turning || this.#over || this.#ahead === null) return;
    this.#turning = true;
    const ahead = this.#ahead;
    ahead.fill();
    while (!this.#over) {
      const job = this.#next(ahead);
      if (job === null) break;
      this.#give(job);
      ahead.put(job);
      if (!this.#over) ahead.fill();
    }
    this.#turning = false;
    if (ahead.ended && this.#writing === 0 && !this.#over) {
      this.#close();
      this.#reader.ended();
    }
  }

  /** Holes arrive faster than anything is written, so the number of chunks being written is limited for them too. */
  #next(ahead: ReadAhead): ReadJob | null {
    const most = 2 * depthOf(this.#parts.settings) * this.#ends.length;
    return this.#writing < most ? ahead.take() : null;
  }

  #give(job: ReadJob): void {
    if (job.error !== null) {
      job.drop();
      this.#fail(job.error);
      return;
    }
    const { bytes, slot } = job;
    this.#reader.given(bytes.length);
    for (const end of this.#ends) this.#giveTo(end, job, bytes, slot);
    if (slot !== null) {
      slot.filling = false;
      slot.settle();
    }
  }

  #giveTo(end: LendingEnd, job: ReadJob, bytes: Uint8Array, slot: Slot | null): void {
    this.#writing++;
    slot?.hold();
    const over = (error: Error | null) => {
      this.#writing--;
      if (error !== null) this.#endFailed(end, error);
      this.#parts.scope.run(this.#turnNow);
    };
    const chunk = { offset: job.offset + job.from, length: bytes.length };
    const done = (error: Error | null, position: number) => {
      slot?.unhold();
      const gone = error === null || slot === null ? null : this.#gone(error, slot);
      if (gone === null) over(error);
      else this.#giveAgain(end, chunk, position, gone, over);
    };
    if (job.hole) end.giveHole(bytes.length, over);
    else end.give(asBuffer(bytes), done);
  }

  /** Why the memory of a write was gone, if host memory may replace it; null: the write failed for another reason. */
  #gone(error: Error, { pool }: Slot): string | null {
    const { provider } = pool;
    if (provider === null || this.#required()) return null;
    return this.#refusal(error, provider);
  }

  /** The CMB was removed with a chunk in it: read the chunk again into host memory, and write it at the same position. */
  async #giveAgain(
    end: LendingEnd,
    { offset, length }: { readonly offset: number; readonly length: number },
    position: number,
    reason: string,
    over: (error: Error | null) => void,
  ): Promise<void> {
    const { target, context, path } = this.#parts;
    if (this.#route?.provider != null && !this.#over) this.#fallBack(reason);
    try {
      const block = target.limits.logicalBlockSize;
      const from = offset - (offset % block);
      const bytes = Math.ceil((offset + length - from) / block) * block;
      const view = poisoned(context.backend.memory.allocBuffer(bytes));
      const least = offset + length - from;
      const expect = Math.min(least, view.length);
      await transfer(target, { op: 'read', view, offset: from, expect }, path);
      end.giveAgain(asBuffer(view.subarray(offset - from, least)), position, over);
    } catch (error) {
      this.#fail(error as Error);
      over(null);
    }
  }

  /** Retry a read in host memory, if that is allowed, because the kernel refused the peer's memory. At most once per read. */
  #retries(job: ReadJob, error: Error): boolean {
    const { slot } = job;
    const { provider } = slot?.pool ?? {};
    if (provider == null || this.#halted) return false;
    const reason = this.#refusal(error, provider);
    if (reason === null) return false;
    try {
      this.#assertHostAllowed(reason);
    } catch (required) {
      job.error = required as Error;
      return false;
    }
    if (this.#pool === slot!.pool) this.#fallBack(reason);
    const view = poisoned(this.#parts.context.backend.memory.allocBuffer(job.length));
    job.drop();
    this.#ahead!.again(job, { view, slot: null });
    return true;
  }

  /**
   * Did the kernel refuse this memory because it is a peer's? All reads and writes here are of whole blocks, in slots that
   * begin at page boundaries, so they are aligned.
   */
  #isRefused({ errno }: P2pdmaError, provider: PciDev): boolean {
    const { release } = this.#parts.context.backend;
    return errno !== undefined && isPeerRefusal(errno, { provider, aligned: true, release });
  }

  /** Why this peer memory cannot be used, in words; null: the transfer failed for another reason. */
  #refusal(error: Error, provider: PciDev): string | null {
    if (!(error instanceof P2pdmaError) || error.errno === undefined) return null;
    const path = error.path ?? this.#parts.target.path;
    if (this.#isRefused(error, provider)) return refusalWords(path, error.errno, provider);
    // Transfers in flight end like this if the memory's drive was removed. An error of the target itself will occur again.
    const lost = error.code === 'EFAULT' || error.code === 'EIO';
    return lost ? `${path}: a transfer with CMB memory of ${provider.bdf} failed (${error.code})` : null;
  }

  #endFailed(end: LendingEnd, error: Error): void {
    this.remove(end);
    this.#reader.endFailed(end, error);
  }

  #fail(error: Error): void {
    this.#close();
    this.#reader.failed(error);
  }

  /** Give nothing more to this writer. */
  remove(end: LendingEnd): void {
    this.#drop(end);
    end.onRefused = null;
    // The bulk transfer stops for all writers, and begins again without this one.
    this.#bulk?.stop();
  }

  /** Begin nothing more. The slots that are being written are returned when their writes end. */
  #close(): void {
    if (this.#over) return;
    this.#over = true;
    for (const end of this.#ends) end.onRefused = null;
    if (this.#pool !== null) retirePool(this.#parts.context, this.#pool);
  }

  /** Begin no further read. Data that was read, or is being read, is still written. */
  stop(): void {
    this.#stopped = true;
    if (this.#ahead !== null) this.#ahead.stop();
    else if (this.#bulk !== null) this.#bulk.stop();
    // No read has begun yet, so nothing is left to read.
    else this.#to = this.#at;
    this.#turn();
  }

  /**
   * Stop at a chunk boundary. When no read is in flight any more, resolves to the first byte that was not given to the
   * writers. The writes of the bytes before it may still be in flight.
   */
  async halt(): Promise<number> {
    this.#halted = true;
    this.#close();
    // Call this without waiting first: chunks that were already read must be dropped before anything takes them.
    if (this.#ahead !== null) return await this.#ahead.halt();
    this.#bulk?.stop();
    if (this.#inBulk !== null) await this.#inBulk;
    return this.#at;
  }
}

/**
 * Why the source and the destinations cannot share chunks, or null if they can. The difference between the source offset and
 * each destination offset must be a multiple of the memory alignment that the drives need.
 */
function misfit(start: number, ends: readonly LendingEnd[], target: BlockTarget): string | null {
  for (const end of ends) {
    const shift = Math.abs(start - end.position()) % end.alignment();
    if (shift !== 0) {
      return `'${target.path}' from byte ${start} to byte ${end.position()}: the difference is not a multiple of the DMA alignment (${end.alignment()} bytes), so the CPU has to shift the data`;
    }
  }
  return null;
}
