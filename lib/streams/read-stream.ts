import { addAbortSignal, Readable } from 'node:stream';
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import type { PciDev } from '../backend/topology.js';
import { wrongArgument } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { AsyncScope } from './async-scope.js';
import { takeChunkPool } from './chunk-pool.js';
import { Extents } from './extents.js';
import { type LendingEnd, lendingEndOf } from './lending.js';
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
import { poisoned } from './poison.js';
import { Pump } from './pump.js';
import { type Piece, ReadAhead } from './read-ahead.js';
import type { ReadJob } from './read-job.js';
import type { Receipt, Transport } from './receipt.js';
import { isPeerRefusal } from './refusal.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { retirePool, type SlotPool } from './slot-pool.js';
import { closedError, construct, endDestroy, outOfRange, type Source } from './source.js';
import { addPath, deferred, zeroPath } from './transfer.js';

/** A writer of ours that the pump serves. */
interface Joined {
  readonly end: LendingEnd;
  readonly options: { end?: boolean | undefined } | undefined;
  /** What listens to it for us. */
  leave(): void;
}

/**
 * A Readable over a namespace, block device or file. It keeps `queueDepth` reads in flight and hands on, in order, what
 * they brought. To whom, decides how:
 *
 *     only this package's writers   a pump moves slots (of CMB memory where that can be had); nothing passes through here
 *     anybody else                  ordinary Buffers that may be kept
 *     memory: 'cmb'                 slots of CMB memory on loan, one by one, until `release(chunk)`
 */
export class P2pReadStream extends Readable implements Metered {
  /** For this package's own functions. @internal */
  readonly metered = 'reader';
  /** As it was asked for. */
  readonly path: string;
  /** First byte it reads. */
  readonly start: number;
  /** Bytes pushed so far, or given to this package's writers. */
  bytesRead = 0;
  #source: Source;
  #options: ReadSettings;
  #scope = new AsyncScope();
  #context: StreamContext | null = null;
  #target: BlockTarget | null = null;
  #route: Route | null = null;
  #extents: Extents | null = null;
  #pace: Pace | null;
  /** Next byte to be handed on, and the first that is not wanted. */
  #position = 0;
  #end = 0;
  #stopped = false;
  /** This package's writers that were piped to, while nobody else looks on. */
  #joined = new Map<NodeJS.WritableStream, Joined>();
  /** Somebody wants to see the data: from now on it passes through this stream's buffer. */
  #seen = false;
  #demand = false;
  #pump: Pump | null = null;
  /** The pump is coming to a stop. */
  #halting = false;
  #ahead: ReadAhead | null = null;
  #pool: SlotPool | null = null;
  #chunk = 0;
  #reads = 0;
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
    const lends = settings.memory === 'cmb';
    super({
      // A chunk on loan must never be joined with its neighbour: it could not be given back.
      objectMode: lends,
      highWaterMark: lends ? 1 : (settings.highWaterMark ?? chunkSize(undefined, 1)),
      autoDestroy: settings.autoClose,
      emitClose: settings.emitClose,
      ...(settings.encoding ? { encoding: settings.encoding } : {}),
    });
    this.#options = settings;
    this.#seen = Boolean(settings.encoding);
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

  /** Bytes it will deliver in all, as far as its target's size tells now; 0 until it is open. */
  get length(): number {
    if (this.#target === null) return 0;
    return Math.max(0, Math.min(this.#end, this.#target.size) - this.start);
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
    into.transfers.read += this.#reads + this.#at((way) => way.reads);
    into.inFlight += this.#inFlight();
    addPath(into.path, this.#bytesPath);
    if (this.transport !== null) into.transports[this.transport]++;
  }

  #at(what: (way: Pump | ReadAhead) => number): number {
    return (this.#pump === null ? 0 : what(this.#pump)) + (this.#ahead === null ? 0 : what(this.#ahead));
  }

  #inFlight(): number {
    return this.#at((way) => way.inFlight);
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
    if (this.#pump !== null) this.#pump.stop();
    else if (this.#ahead !== null) {
      this.#ahead.stop();
    } else this.#end = Math.min(this.#end, this.#position);
    this.#go();
  }

  // --- who wants the data ---

  /** As in Node. Between this and this package's writers nothing passes through the streams' buffers. */
  override pipe<T extends NodeJS.WritableStream>(destination: T, options?: { end?: boolean | undefined }): T {
    const end = lendingEndOf(destination);
    if (end === null || this.#ahead !== null) this.#show();
    if (end === null || this.#seen) return super.pipe(destination, options);
    this.#join(destination, end, options);
    return destination;
  }

  /** As in Node. */
  override unpipe(destination?: NodeJS.WritableStream): this {
    const leaving = destination === undefined ? [...this.#joined.keys()] : [destination];
    for (const one of leaving) this.#part(one);
    return destination === undefined || leaving.length === 0 ? super.unpipe() : super.unpipe(destination);
  }

  #join(
    destination: NodeJS.WritableStream,
    end: LendingEnd,
    options: { end?: boolean | undefined } | undefined,
  ): void {
    this.#part(destination);
    const part = () => this.#part(destination);
    const atEnd = options?.end === false ? part : () => destination.end();
    destination.on('close', part);
    destination.on('finish', part);
    this.once('end', atEnd);
    this.#joined.set(destination, {
      end,
      options,
      leave: () => {
        destination.removeListener('close', part);
        destination.removeListener('finish', part);
        this.removeListener('end', atEnd);
      },
    });
    destination.emit('pipe', this);
    // Whoever else joins before the first read is taken along.
    this.#halt();
    this.resume();
  }

  /** This writer gets nothing more from the pump. */
  #part(destination: NodeJS.WritableStream): void {
    const joined = this.#joined.get(destination);
    if (joined === undefined) return;
    joined.leave();
    this.#joined.delete(destination);
    this.#pump?.remove(joined.end);
    if (this.#joined.size === 0) {
      this.#halt();
      this.pause();
    }
    destination.emit('unpipe', this, { hasUnpiped: false });
  }

  /** Somebody who is none of ours wants to see the data: from here on it takes Node's way, to all. */
  #show(): void {
    if (this.#seen) return;
    this.#seen = true;
    const joined = [...this.#joined];
    this.#joined.clear();
    this.#halt();
    for (const [destination, { options, leave }] of joined) {
      leave();
      super.pipe(destination, options);
    }
  }

  /** As in Node. Whoever listens for data gets ordinary Buffers that it may keep. */
  override on(event: 'data', listener: (chunk: Buffer) => void): this;
  override on(event: 'error', listener: (error: Error) => void): this;
  override on(event: 'open', listener: (name: string) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    if (event === 'data' || event === 'readable') this.#show();
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  override addListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override addListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override addListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this {
    return this.on(event, listener as () => void);
  }

  /** As `on`, before the listeners that are there. */
  override prependListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override prependListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override prependListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override prependListener(event: string | symbol, listener: (...args: never[]) => void): this {
    if (event === 'data' || event === 'readable') this.#show();
    return super.prependListener(event, listener as (...args: unknown[]) => void);
  }

  /** As in Node: what is piped on is then the text. */
  override setEncoding(encoding: BufferEncoding): this {
    this.#show();
    return super.setEncoding(encoding);
  }

  /** As in Node. */
  override pause(): this {
    super.pause();
    this.#halt();
    return this;
  }

  /** As in Node. */
  override resume(): this {
    super.resume();
    this.#go();
    return this;
  }

  // --- Node's hooks ---

  override _construct(callback: (error?: Error | null) => void): void {
    const adopt = (context: StreamContext, target: BlockTarget) => {
      this.#context = context;
      this.#target = target;
      context.add(this);
      const { start, end, sparse } = this.#options;
      if (target.kind !== 'file' && start > target.size) throw outOfRange(this.path, start, target);
      this.#position = start;
      this.#end = this.#stopped ? start : end + 1;
      if (sparse) this.#extents = new Extents(target);
    };
    construct(this, this.#source, this.#opened, adopt, (error) => {
      callback(error);
      this.#go();
    });
  }

  override _read(): void {
    this.#demand = true;
    this.#go();
  }

  /** Let whatever is due begin: the pump, if only writers of ours wait; else what `_read` asked for. */
  #go(): void {
    this.#scope.run(this.#dueNow);
  }

  readonly #dueNow = (): void => {
    if (this.destroyed || this.#target === null || this.#halting || this.#pump !== null) return;
    if (this.#ahead !== null) return this.#feed();
    if (this.#joined.size > 0 && !this.#seen) {
      if (!this.isPaused()) this.#startPump();
    } else if (this.#demand) this.#startFeeding();
  };

  // --- to this package's writers ---

  #startPump(): void {
    this.#began ||= performance.now();
    const ends = [...this.#joined.values()].map(({ end }) => end);
    const pump = new Pump(
      {
        context: this.#context!,
        target: this.#target!,
        settings: this.#options,
        scope: this.#scope,
        extents: this.#extents,
        pace: this.#pace,
        path: this.#bytesPath,
        given: (bytes) => {
          this.bytesRead += bytes;
        },
        routed: (route) => this.#routed(route),
        ended: () => this.#finish(),
        failed: (error) => this.destroy(error),
        endFailed: (end, error) => this.#endFailed(end, error),
      },
      ends,
      this.#position,
      this.#end,
    );
    this.#pump = pump;
    pump.start().catch((error: Error) => this.destroy(error));
  }

  #routed(route: Route): void {
    // What was pumped through a CMB before is not undone; that not all of it was is said.
    if (this.#route?.provider != null && route.provider === null) this.#hostChunks ||= this.bytesRead > 0;
    this.#route = route;
  }

  #endFailed(end: LendingEnd, error: Error): void {
    for (const [destination, joined] of this.#joined) {
      if (joined.end !== end) continue;
      this.#part(destination);
      (destination as unknown as { destroy(error: Error): void }).destroy(error);
    }
  }

  /** The pump stops at a chunk's boundary; then whoever is due goes on there. */
  #halt(): void {
    const pump = this.#pump;
    if (pump === null) return;
    this.#pump = null;
    this.#halting = true;
    pump.halt().then((position) => {
      this.#reads += pump.reads;
      this.#position = position;
      if (this.#stopped) this.#end = Math.min(this.#end, position);
      this.#halting = false;
      this.#idle?.();
      this.#go();
    });
  }

  #idle: (() => void) | null = null;

  // --- to anybody else ---

  #startFeeding(): void {
    this.#began ||= performance.now();
    try {
      this.#routed(this.#feedingRoute());
    } catch (error) {
      this.destroy(error as Error);
      return;
    }
    const { queueDepth, canary } = this.#options;
    this.#ahead = new ReadAhead(
      {
        target: this.#target!,
        depth: queueDepth,
        canary,
        extents: this.#extents,
        pace: this.#pace,
        scope: this.#scope,
        path: this.#bytesPath,
        chunk: () => this.#chunk,
        memory: (bytes) => this.#piece(bytes),
        go: this.#dueNow,
        retries: () => false,
      },
      this.#position,
      this.#end,
    );
    this.#feed();
  }

  /** Ordinary memory, or, with `memory: 'cmb'`, a pool to lend from. */
  #feedingRoute(): Route {
    const { highWaterMark, queueDepth, requireP2p, memory } = this.#options;
    const { limits, size } = this.#target!;
    if (memory !== 'cmb') {
      const route = hostRoute(
        'the consumer is not a p2pdma stream, so it gets ordinary Buffers that it may keep',
      );
      if (requireP2p) throw p2pRequired(this.path, route.reason);
      this.#chunk = chunkSize(highWaterMark, limits.logicalBlockSize);
      return route;
    }
    const wanted = chooseRoute(this.#context!.backend, [this.#target!], this.#options);
    const block = limits.logicalBlockSize;
    const { route, chunk, pool } = takeChunkPool(this.#context!, wanted, {
      ...{ highWaterMark, queueDepth, block, writers: 0, required: true },
      bytes: Math.min(this.#end, size) - (this.#position - (this.#position % block)),
    });
    if (pool === null) throw p2pRequired(this.path, route.reason, requireP2p ? 'requireP2p' : 'memory: cmb');
    this.#chunk = chunk;
    this.#pool = pool;
    pool.onFree = () => this.#go();
    return route;
  }

  #piece(bytes: number): Piece | null {
    if (this.#pool === null)
      return { view: poisoned(this.#context!.backend.memory.allocBuffer(bytes)), slot: null };
    const slot = this.#pool.take();
    if (slot === null) return null;
    return { view: bytes === slot.buffer.length ? slot.buffer : slot.buffer.subarray(0, bytes), slot };
  }

  /** Push what has come to the head, as long as it is wanted, and begin more reads. */
  #feed(): void {
    const ahead = this.#ahead;
    if (this.destroyed || ahead === null) return;
    ahead.fill();
    for (let job = this.#next(ahead); job !== null; job = this.#next(ahead)) this.#push(job, ahead);
    if (this.#demand && ahead.ended && !this.destroyed) this.#finish();
  }

  #next(ahead: ReadAhead): ReadJob | null {
    return this.#demand && !this.destroyed ? ahead.take() : null;
  }

  #push(job: ReadJob, ahead: ReadAhead): void {
    const { error, slot } = job;
    if (error !== null) {
      job.drop();
      const { memory } = this.#options;
      const provider = memory === 'cmb' ? (this.#route?.provider ?? null) : null;
      this.destroy(this.#explain(error, provider));
      return;
    }
    const chunk = job.hole ? Buffer.alloc(job.to) : asBuffer(job.bytes);
    if (slot !== null) {
      slot.lent = true;
      slot.filling = false;
    }
    ahead.put(job);
    this.#position = ahead.position;
    this.bytesRead += chunk.length;
    ahead.fill();
    // A consumer may call read(), and so _read(), while it is handed this chunk: that demand stands.
    this.#demand = false;
    if (this.push(chunk)) this.#demand = true;
  }

  /** What was lent from a peer's memory cannot be had in another. */
  #explain(error: Error, provider: PciDev | null): Error {
    const { errno } = error as P2pdmaError;
    const { release } = this.#context!.backend;
    const refused = errno !== undefined && isPeerRefusal(errno, { provider, aligned: true, release });
    return refused ? p2pRequired(this.path, error.message, 'memory: cmb') : error;
  }

  #finish(): void {
    this.#demand = false;
    this.#ended = performance.now();
    this.push(null);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#ended ||= performance.now();
    if (error !== null) this.#context?.failed(error);
    this.#opened.reject(error ?? closedError(this.path));
    for (const destination of [...this.#joined.keys()]) this.#joined.get(destination)!.leave();
    this.#joined.clear();
    this.#halt();
    endDestroy(this.#cleanUp(), error, this.#scope.wrap(callback), () => {
      this.#context?.remove(this);
      this.#settled.resolve();
    });
  }

  /** Resolves when no read is in flight and the target is closed. */
  async #cleanUp(): Promise<void> {
    if (this.#halting) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#ahead?.halt();
    if (this.#pool !== null) {
      retirePool(this.#context!, this.#pool);
      // A consumer that got everything may keep its last chunks for as long as it likes; one that was cut off may not.
      if (!this.readableEnded || this.#context!.closed) this.#pool.revoke();
    }
    if (this.#source.owned && this.#target !== null) await this.#context!.closeTarget(this.#target);
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
