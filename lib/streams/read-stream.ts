import { addAbortSignal, Readable } from 'node:stream';
import { wrongArgument } from '../arguments.js';
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { errnoName } from '../errno.js';
import { P2pdmaError } from '../errors.js';
import { trace, tracing } from '../trace.js';
import { takeChunkPool } from './chunk-pool.js';
import type { StreamContext } from './context.js';
import { Extents } from './extents.js';
import { holeChunk, isHole, type LendingEnd, lendingEndOf } from './lending.js';
import type { Metered, Metrics } from './metrics.js';
import {
  chunkSize,
  parseOptions,
  type ReadSettings,
  type ReadStreamOptions,
  readOptions,
  type StreamArgument,
} from './options.js';
import { Pace } from './pace.js';
import { ReadJob } from './read-job.js';
import type { Receipt, Transport } from './receipt.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import type { Slot, SlotPool } from './slot-pool.js';
import { closedError, construct, endDestroy, outOfRange, type Source } from './source.js';
import { addPath, deferred, zeroPath } from './transfer.js';

/**
 * A Readable over a namespace, block device or file. Chunks are plain Buffers: slots of CMB memory when all its
 * consumers are this package's writers (they hand them back), ordinary Buffers that may be kept otherwise.
 *
 * It keeps `queueDepth` reads in flight and pushes them in order.
 */
export class P2pReadStream extends Readable implements Metered {
  /** For this package's own functions. @internal */
  readonly metered = 'reader';
  /** As it was asked for. */
  readonly path: string;
  /** First byte it reads. */
  readonly start: number;
  /** Bytes pushed so far. */
  bytesRead = 0;
  #source: Source;
  #options: ReadSettings;
  #context: StreamContext | null = null;
  #target: BlockTarget | null = null;
  #route: Route | null = null;
  #starting = false;
  #pool: SlotPool | null = null;
  #chunk = 0;
  /** Jobs in the order of their offsets; #head is the next to be pushed. */
  #jobs: ReadJob[] = [];
  #spare: ReadJob[] = [];
  #inFlight = 0;
  #reads = 0;
  #next = 0;
  #end = 0;
  /** Sparse reading. */
  #extents: Extents | null = null;
  #pace: Pace | null;
  #paceTimer: NodeJS.Timeout | null = null;
  #stopped = false;
  #demand = false;
  /** Pushed slots that may still sit in this stream's own buffer. */
  #buffered: Slot[] = [];
  #ends = new Set<LendingEnd>();
  #idle: (() => void) | null = null;
  #bytesPath: PathBytes = zeroPath();
  #hostChunks = false;
  #began = 0;
  #ended = 0;
  #opened = deferred<BlockTarget>();
  #settled = deferred();

  /** @internal */
  constructor(source: Source, options?: StreamArgument<ReadStreamOptions>) {
    const settings = parseOptions(readOptions, options);
    if (settings.start > settings.end) {
      throw new P2pdmaError(
        'ERR_OUT_OF_RANGE',
        `option start: must be <= end (received start ${settings.start}, end ${settings.end})`,
      );
    }
    super({
      highWaterMark: settings.highWaterMark ?? chunkSize(undefined, 1),
      autoDestroy: settings.autoClose,
      emitClose: settings.emitClose,
      ...(settings.encoding ? { encoding: settings.encoding } : {}),
    });
    this.#options = settings;
    const { bandwidth } = settings;
    this.#pace = typeof bandwidth === 'number' ? new Pace(bandwidth) : (bandwidth ?? null);
    this.#source = source;
    this.#opened.promise.catch(() => {});
    this.path = source.path;
    this.start = settings.start;
    if (settings.signal !== undefined) addAbortSignal(settings.signal, this);
  }

  /** True until the target is open. */
  get pending(): boolean {
    return this.#target === null;
  }

  /** Resolves when its target is open. @internal */
  opened(): Promise<BlockTarget> {
    return this.#opened.promise;
  }

  /** The system it belongs to, once open. @internal */
  get context(): StreamContext | null {
    return this.#context;
  }

  /** Bytes it will deliver in all; 0 until it is open. */
  get length(): number {
    return Math.max(0, this.#end - this.start);
  }

  /** How the data travels; null before the first read decides. */
  get transport(): Transport | null {
    if (this.#route === null) return null;
    return this.#hostChunks ? 'host-memory' : this.#route.transport;
  }

  /** What this stream did so far. Its path counts only its own side: the drive → memory half. */
  get receipt(): Receipt {
    const route = this.#route ?? hostRoute('nothing was read yet');
    return {
      bytes: this.bytesRead,
      seconds: this.#began === 0 ? 0 : ((this.#ended || performance.now()) - this.#began) / 1000,
      ...(this.#context?.origin ?? { backend: null, machine: null }),
      provider: this.#hostChunks ? null : (route.provider?.bdf ?? null),
      transport: this.transport ?? 'host-memory',
      reason: route.reason,
      unproven: route.unproven,
      path: { ...this.#bytesPath },
      verified: false,
      digest: null,
    };
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    into.bytes.read += this.bytesRead;
    into.transfers.read += this.#reads;
    into.inFlight += this.#inFlight;
    addPath(into.path, this.#bytesPath);
    if (this.transport !== null) into.transports[this.transport]++;
  }

  /**
   * Hand back a chunk that was lent (`memory: 'cmb'`). Its memory will be overwritten by a later read.
   * @throws P2pdmaError ERR_NOT_LENT for anything else, or a second time
   */
  release(chunk: Uint8Array): void {
    if (!(chunk instanceof Uint8Array)) throw wrongArgument('release', 'chunk', 'a lent Buffer', chunk);
    if (this.#pool === null) throw new P2pdmaError('ERR_NOT_LENT', 'release(): this stream lent nothing');
    this.#pool.release(chunk);
  }

  /** End early: no further read begins; what was read, or is being read, is delivered, and then the stream ends. */
  stop(): void {
    this.#stopped = true;
    if (this.#target === null) return;
    this.#end = Math.min(this.#end, this.#next);
    this.#pump();
  }

  /** As in Node. To this package's writers slots are lent; `await pipeline()` is the safer spelling. */
  override pipe<T extends NodeJS.WritableStream>(destination: T, options?: { end?: boolean | undefined }): T {
    const end = lendingEndOf(destination);
    if (end !== null) {
      this.#ends.add(end);
      const forget = (source: Readable) => {
        if (source !== this) return;
        this.#ends.delete(end);
        destination.removeListener('unpipe', forget);
      };
      destination.on('unpipe', forget);
    }
    return super.pipe(destination, options);
  }

  /** As in Node. Whoever listens for data gets ordinary Buffers that it may keep. */
  override on(event: 'data', listener: (chunk: Buffer) => void): this;
  override on(event: 'error', listener: (error: Error) => void): this;
  override on(event: 'open', listener: (name: string) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    // A consumer that joins while a lent chunk waits in the buffer will see that chunk and may keep it.
    if (event === 'data' || event === 'readable') this.#retireBuffered();
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  override addListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override addListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override addListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this {
    return this.on(event, listener as () => void);
  }

  override _construct(callback: (error?: Error | null) => void): void {
    const adopt = (context: StreamContext, target: BlockTarget) => {
      this.#context = context;
      this.#target = target;
      context.add(this);
      const { start, end, sparse } = this.#options;
      if (start > target.size) throw outOfRange(this.path, start, target);
      this.#next = start;
      this.#end = this.#stopped ? start : Math.min(end + 1, target.size);
      if (sparse) this.#extents = new Extents(target);
    };
    construct(this, this.#source, this.#opened, adopt, callback);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as Node declares it; NodeJS.ReadableStream accepts no narrower type
  override read(size?: number): any {
    const chunk: unknown = super.read(size);
    if (this.#options.memory === 'cmb' && chunk !== null) process.nextTick(() => this.#pump());
    return chunk;
  }

  override _read(): void {
    this.#demand = true;
    if (this.#route !== null) {
      // Pushing now would put a second chunk beside the one that is just being read, and read() would join the two.
      if (this.readableLength > 0) process.nextTick(() => this.#pump());
      else this.#pump();
    } else if (!this.#starting) {
      this.#starting = true;
      this.#begin().then(
        () => {
          if (this.destroyed) this.#idle?.();
          else this.#pump();
        },
        (error: Error) => this.destroy(error),
      );
    }
  }

  /** All consumers are this package's writers: nobody can keep a chunk. */
  #oursOnly(): boolean {
    return (
      this.#ends.size > 0 &&
      this.readableEncoding === null &&
      this.listenerCount('data') === this.#ends.size &&
      this.listenerCount('readable') === 0
    );
  }

  /** Choose the route, with the destinations' drives known, and get the memory for it. */
  async #begin(): Promise<void> {
    const target = this.#target!;
    const { backend } = this.#context!;
    const forced = this.#options.memory === 'cmb';
    const ends = this.#oursOnly() ? [...this.#ends] : [];
    const destinations = await Promise.all(ends.map((end) => end.opened()));
    if (this.destroyed) return;

    let route: Route;
    if (ends.length > 0) {
      const wishes = [this.#options, ...ends.map((end) => end.wishes)];
      route = chooseRoute(backend, [target, ...destinations], {
        provider: wishes.map((w) => w.provider).find((p) => p !== 'auto') ?? 'auto',
        memory: wishes.some((w) => w.memory === 'host') ? 'host' : this.#options.memory,
      });
      const shift = misfit(this.#next, ends, target);
      if (route.provider !== null && shift !== null) route = hostRoute(shift);
    } else if (forced) {
      route = chooseRoute(backend, [target], this.#options);
    } else {
      route = hostRoute('the consumer is not a p2pdma stream, so it gets ordinary Buffers that it may keep');
    }
    const required = this.#options.requireP2p || ends.some((end) => end.wishes.requireP2p);
    if (ends.length > 0 || forced) route = this.#takePool(route, required);
    else this.#chunk = chunkSize(this.#options.highWaterMark, target.limits.logicalBlockSize);
    if (required && route.provider === null) throw p2pRequired(this.path, route.reason);
    if (forced && route.provider === null) throw p2pRequired(this.path, route.reason, 'memory: cmb');
    this.#settle(route);
    if (tracing()) {
      const { transport, provider, reason } = route;
      trace('streams', 'route', {
        path: this.path,
        transport,
        provider: provider?.bdf,
        reason,
        chunk: this.#chunk,
      });
    }
    this.#began = performance.now();
  }

  #settle(route: Route): void {
    this.#route = route;
    for (const end of this.#ends) end.routed(route);
  }

  /** Get memory for the chunks; the route that it is good for. */
  #takePool(wanted: Route, required: boolean): Route {
    const { highWaterMark, queueDepth } = this.#options;
    const ends = [...this.#ends];
    const block = Math.max(this.#target!.limits.logicalBlockSize, ...ends.map((end) => end.blockSize()));
    const how = { highWaterMark, queueDepth, block, writers: ends.length, required };
    const { route, chunk, pool } = takeChunkPool(this.#context!, wanted, how);
    if (pool !== null) this.#adopt(pool, chunk);
    return route;
  }

  #adopt(pool: SlotPool, chunk: number): void {
    this.#pool = pool;
    this.#chunk = chunk;
    pool.onFree = () => this.#pump();
    pool.onRefused = (reason) => {
      if (this.#pool === pool) this.#fallBack(reason);
    };
  }

  /** The device refused CMB memory after all: go on in host memory from here. */
  #fallBack(reason: string): void {
    const old = this.#pool!;
    this.#retire(old);
    this.#hostChunks = true;
    this.#settle(this.#takePool(hostRoute(reason), false));
  }

  #retire(pool: SlotPool): void {
    const context = this.#context!;
    const closing = { shutdown: () => pool.revoke() };
    if (!context.closed) context.add(closing);
    pool.close().then(() => context.remove(closing));
  }

  #pump(): void {
    if (this.destroyed || this.#route === null) return;
    this.#recycle();
    const target = this.#target!;
    const block = target.limits.logicalBlockSize;
    const jobs = this.#jobs;
    while (this.#next < this.#end && jobs.length < this.#options.queueDepth) {
      const hole = this.#extents === null ? 0 : this.#extents.holeAt(this.#next, this.#end);
      if (hole > 0) {
        jobs.push(this.#skip(hole));
        continue;
      }
      if (this.#pace !== null && this.#mustWait(this.#pace)) break;
      const job = this.#job();
      if (job === null) break;
      job.offset = this.#next - (this.#next % block);
      job.from = this.#next - job.offset;
      const end = this.#extents === null ? this.#end : Math.min(this.#end, this.#extents.dataEnd);
      job.to = Math.min(end - job.offset, this.#chunk);
      job.finished = false;
      const length = Math.ceil(job.to / block) * block;
      if (job.slot === null) job.view = this.#context!.backend.memory.allocBuffer(length);
      else job.view = length === this.#chunk ? job.slot.buffer : job.slot.buffer.subarray(0, length);
      this.#next = job.offset + job.to;
      this.#pace?.spend(job.to - job.from, performance.now());
      jobs.push(job);
      this.#start(job);
    }
    while (this.#mayPush()) this.#push(jobs.shift()!);
    if (this.#demand && jobs.length === 0 && this.#next >= this.#end) {
      this.#demand = false;
      this.#ended = performance.now();
      this.push(null);
    }
  }

  /** True: the next read is not due yet; the pump goes on when it is. */
  #mustWait(pace: Pace): boolean {
    const delay = pace.delay(performance.now());
    if (delay === 0) return false;
    this.#paceTimer ??= setTimeout(() => {
      this.#paceTimer = null;
      this.#pump();
    }, Math.ceil(delay));
    return true;
  }

  /** A job that is done: a hole has nothing to read. */
  #skip(hole: number): ReadJob {
    const job = this.#spare.pop() ?? new ReadJob();
    job.view = holeChunk(hole);
    job.offset = this.#next;
    job.from = 0;
    job.to = job.view.length;
    job.finished = true;
    this.#next += job.to;
    return job;
  }

  /** Chunks on loan to others are handed out one by one: joined with its neighbour one could not be given back. */
  #mayPush(): boolean {
    const ready = this.#demand && this.#jobs[0]?.finished === true;
    return ready && !(this.#options.memory === 'cmb' && this.readableLength > 0);
  }

  #job(): ReadJob | null {
    const slot = this.#pool === null ? null : this.#pool.take();
    if (this.#pool !== null && slot === null) return null;
    const job = this.#spare.pop() ?? new ReadJob();
    job.slot = slot;
    return job;
  }

  #start(job: ReadJob): void {
    if (this.#options.canary && job.slot?.pool.provider != null) job.canary.poison(job.view);
    else job.canary.forget();
    this.#inFlight++;
    // A file may end inside its last block: then only so much comes.
    const expect = Math.min(job.view.length, this.#target!.size - job.offset);
    job.transfer.start(this.#target!, 'read', job.view, job.offset, expect, (transfer) => {
      this.#inFlight--;
      this.#reads++;
      addPath(this.#bytesPath, transfer.path);
      if (this.destroyed) {
        job.drop();
        if (this.#inFlight === 0) this.#idle?.();
      } else if (transfer.error === null) {
        const dead = job.canary.check(job.view, this.path, job.offset);
        if (dead !== null) this.destroy(dead);
        job.finished = true;
        this.#pump();
      } else if (transfer.error.code === 'EREMOTEIO' && job.slot?.pool.provider != null) {
        this.#refused(job, transfer.error);
      } else {
        this.destroy(transfer.error);
      }
    });
  }

  /** A read into CMB memory was refused: again, into host memory, unless peer-to-peer is required. */
  #refused(job: ReadJob, error: P2pdmaError): void {
    const slot = job.slot!;
    if (this.#options.requireP2p || this.#options.memory === 'cmb') {
      this.destroy(p2pRequired(this.path, error.message));
      return;
    }
    if (this.#pool === slot.pool) {
      this.#fallBack(`${this.path}: the kernel refused CMB memory (${errnoName(error.errno ?? 0)})`);
    }
    job.slot = null;
    job.view = this.#context!.backend.memory.allocBuffer(job.view.length);
    slot.filling = false;
    slot.settle();
    this.#start(job);
  }

  #push(job: ReadJob): void {
    const { slot } = job;
    const whole = job.from === 0 && job.to === job.view.length;
    let chunk = asBuffer(whole ? job.view : job.view.subarray(job.from, job.to));
    if (slot !== null) {
      const ours = this.#oursOnly();
      const lent = this.#options.memory === 'cmb' && !ours;
      if (!lent && !ours) {
        // The consumers changed since the read began: these may keep what they get.
        chunk = Buffer.from(chunk);
        this.#bytesPath.hostDram += chunk.length;
        this.#hostChunks = true;
      } else {
        slot.lent = lent;
        slot.buffered = !lent;
        if (!lent) this.#buffered.push(slot);
      }
      slot.filling = false;
    }
    if (slot === null && isHole(chunk) && !this.#oursOnly()) chunk = Buffer.alloc(chunk.length);
    job.slot = null;
    this.#spare.push(job);
    this.bytesRead += chunk.length;
    // A consumer may call read(), and so _read(), while it is handed this chunk: that demand stands.
    this.#demand = false;
    if (this.push(chunk)) this.#demand = true;
    if (slot !== null && !slot.buffered) slot.settle();
    this.#recycle();
  }

  /**
   * When this stream's own buffer is empty, every chunk pushed so far has been emitted to every consumer: writers
   * that want one hold it by now.
   */
  #recycle(): void {
    while (this.#buffered.length > 0 && this.readableLength === 0) {
      const slot = this.#buffered.shift()!;
      slot.buffered = false;
      slot.settle();
    }
  }

  /** What waits in the buffer will be seen by a foreign consumer: never reuse those slots. */
  #retireBuffered(): void {
    if (this.#ends.size === 0 || !this.#oursOnly() || this.readableLength === 0) return;
    for (const slot of this.#buffered.splice(0)) {
      slot.buffered = false;
      slot.lent = true;
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#ended ||= performance.now();
    if (error !== null) this.#context?.failed(error);
    if (this.#paceTimer !== null) clearTimeout(this.#paceTimer);
    this.#opened.reject(error ?? closedError(this.path));
    const finish = () => {
      this.#idle = null;
      for (const job of this.#jobs.splice(0)) job.drop();
      this.#recycle();
      if (this.#pool !== null) {
        this.#retire(this.#pool);
        // A consumer that got everything may keep its last chunks for as long as it likes; one that was cut off may not.
        if (!this.readableEnded || this.#context!.closed) this.#pool.revoke();
      }
      const closed =
        this.#source.owned && this.#target !== null
          ? this.#context!.closeTarget(this.#target)
          : Promise.resolve();
      endDestroy(closed, error, callback, () => {
        this.#context?.remove(this);
        this.#settled.resolve();
      });
    };
    if (this.#inFlight === 0) finish();
    else this.#idle = finish;
  }

  /** End it now; resolves when nothing is in flight and the target is closed. Used when the system closes. @internal */
  shutdown(): Promise<void> {
    if (!this.destroyed) this.destroy();
    return this.#settled.promise;
  }

  /** Destroys it, and waits until nothing is in flight. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}

function asBuffer(view: Uint8Array): Buffer {
  return Buffer.isBuffer(view) ? view : Buffer.from(view.buffer, view.byteOffset, view.length);
}

/**
 * Why source and destination offsets cannot share chunks, or null: a chunk's bytes land at the same distance
 * from a block start on both sides only up to the memory alignment that the drives need.
 */
function misfit(start: number, ends: readonly LendingEnd[], target: BlockTarget): string | null {
  for (const end of ends) {
    const shift = Math.abs(start - end.start) % end.alignment();
    if (shift !== 0) {
      return `'${target.path}' from byte ${start} to byte ${end.start}: the difference is not a multiple of the DMA alignment (${end.alignment()} bytes), so the CPU has to shift the data`;
    }
  }
  return null;
}
