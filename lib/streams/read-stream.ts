import { addAbortSignal } from 'node:stream';
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { wrongArgument } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { AsyncScope } from './async-scope.js';
import { Attachment } from './attachment.js';
import { Extents } from './extents.js';
import { Feed } from './feed.js';
import { JoinedWriters } from './joined.js';
import { type LendingEnd, lendingEndOf } from './lending.js';
import type { Metrics } from './metrics.js';
import {
  assertInOrder,
  chunkSize,
  parseOptions,
  type ReadSettings,
  type ReadStreamOptions,
  readOptions,
  type StreamArgument,
} from './options.js';
import { Pace } from './pace.js';
import { Pump } from './pump.js';
import type { ReaderParts } from './read-ahead.js';
import { endReceipt, type Receipt, type Transport } from './receipt.js';
import { hostRoute, type Route } from './route.js';
import type { Source } from './source.js';
import { WatchedReadable } from './watched-readable.js';

/**
 * A Readable over a namespace, block device or file. It keeps `queueDepth` reads in flight and delivers their data in order.
 * How the data is delivered depends on the consumer:
 *
 *     only this package's writers   a pump moves slots (of CMB memory if possible); nothing passes through this stream
 *     any other consumer            ordinary Buffers, which the consumer may keep
 *     memory: 'cmb'                 slots of CMB memory on loan, one by one, until `release(chunk)`
 */
export class P2pReadStream extends WatchedReadable {
  /** For this package's own functions. @internal */
  readonly metered = 'reader';
  /** Bytes pushed so far, or given to this package's writers. */
  bytesRead = 0;
  /** @internal */
  readonly attachment: Attachment;
  /** @internal */
  protected readonly settings: ReadSettings;
  readonly #scope = new AsyncScope();
  #route: Route | null = null;
  #extents: Extents | null = null;
  #pace: Pace | null;
  /** Offset of the next byte to deliver, and (`#end`) of the first byte that is not requested. */
  #position = 0;
  #end = 0;
  #stopped = false;
  /** This package's writers that the stream is piped to, while there is no other consumer. */
  readonly #joined = new JoinedWriters(this, (end) => {
    this.#pump?.remove(end);
    if (this.#joined.size === 0) this.pause();
  });
  /** Another consumer wants to see the data: from then on it passes through this stream's buffer. */
  #seen = false;
  #demand = false;
  #pump: Pump | null = null;
  /** Resolves when the pump has stopped; null: no pump is stopping. */
  #halting: Promise<void> | null = null;
  #feed: Feed | null = null;
  #reads = 0;
  #bytesPath: PathBytes = zeroPath();
  #hostChunks = false;
  #began = 0;
  #ended = 0;

  private constructor(source: Source, options?: StreamArgument<ReadStreamOptions>) {
    const settings = parseOptions(readOptions, options);
    assertInOrder(settings);
    const lends = settings.memory === 'cmb';
    super({
      // A lent chunk must never be merged with another one, because then it could not be given back.
      objectMode: lends,
      highWaterMark: lends ? 1 : (settings.highWaterMark ?? chunkSize(undefined, 1)),
      autoDestroy: settings.autoClose,
      emitClose: settings.emitClose,
      encoding: settings.encoding || (undefined as never),
    });
    this.settings = settings;
    this.#seen = Boolean(settings.encoding);
    this.#pace = Pace.of(settings.bandwidth);
    this.attachment = new Attachment(this, source);
    if (settings.signal !== undefined) addAbortSignal(settings.signal, this);
  }

  /** @internal */
  static over(source: Source, options?: StreamArgument<ReadStreamOptions>): P2pReadStream {
    return new P2pReadStream(source, options);
  }

  /** The total number of bytes it will deliver, according to the target's present size; 0 until the target is open. */
  get length(): number {
    const { target } = this.attachment;
    return target === null ? 0 : Math.max(0, Math.min(this.#end, target.size) - this.start);
  }

  /** How the data travels; null before the first read decides. */
  get transport(): Transport | null {
    if (this.#route === null) return null;
    return this.#hostChunks ? 'host-memory' : this.#route.transport;
  }

  /** What this stream has done so far. Its `path` counts only the reader's half of the route: drive → memory. */
  get receipt(): Receipt {
    const route = this.#route ?? hostRoute('nothing was read yet');
    return endReceipt({
      bytes: this.bytesRead,
      began: this.#began,
      ended: this.#ended,
      path: this.#bytesPath,
      route,
      transport: this.transport ?? 'host-memory',
      reason: route.reason,
      origin: this.attachment.context?.origin,
    });
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    into.bytes.read += this.bytesRead;
    into.transfers.read += this.#reads + this.#at((way) => way.reads);
    into.inFlight += this.#at((way) => way.inFlight);
    addPath(into.path, this.#bytesPath);
    if (this.transport !== null) into.transports[this.transport]++;
  }

  #at(what: (way: Pump | Feed) => number): number {
    return (this.#pump === null ? 0 : what(this.#pump)) + (this.#feed === null ? 0 : what(this.#feed));
  }

  /**
   * Hand back a chunk that was lent (`memory: 'cmb'`). Its memory will be overwritten by a later read.
   * @throws P2pdmaError ERR_NOT_LENT if the chunk was not lent, or was already released
   */
  release(chunk: Uint8Array): void {
    if (!(chunk instanceof Uint8Array)) throw wrongArgument('release', 'chunk', 'a lent Buffer', chunk);
    if (this.#feed?.release(chunk) === true) return;
    throw new P2pdmaError('ERR_NOT_LENT', 'release(): this stream lent nothing');
  }

  /** End early: no further read begins. Data that was read, or is being read, is delivered, and then the stream ends. */
  stop(): void {
    this.#stopped = true;
    if (this.#pump !== null) this.#pump.stop();
    else if (this.#feed !== null) this.#feed.stop();
    else this.#end = Math.min(this.#end, this.#position);
    this.#go();
  }

  // --- consumers of the data ---

  /** As in Node. Data for this package's writers does not pass through the buffers of the streams. */
  override pipe<T extends NodeJS.WritableStream>(destination: T, options?: { end?: boolean | undefined }): T {
    const end = lendingEndOf(destination);
    if (end === null || this.#feed !== null) this.seen();
    if (end === null || this.#seen) return super.pipe(destination, options);
    this.#joined.join(destination, end, options);
    // A running pump is restarted, so that it also serves the writer that has just joined.
    this.#halt();
    this.resume();
    return destination;
  }

  /** As in Node. */
  override unpipe(destination?: NodeJS.WritableStream): this {
    const leaving = destination === undefined ? this.#joined.destinations : [destination];
    for (const one of leaving) this.#joined.part(one);
    return destination === undefined || leaving.length === 0 ? super.unpipe() : super.unpipe(destination);
  }

  /** A foreign consumer wants to see the data: from here on all consumers get it through Node's buffer. @internal */
  protected override seen(): void {
    if (this.#seen) return;
    this.#seen = true;
    this.#halt();
    for (const [destination, options] of this.#joined.clear()) super.pipe(destination, options);
    this.#go();
  }

  /** @internal */
  protected override wanted(): void {
    if (this.#joined.size === 0 && !this.#joined.abandoned) return;
    this.#joined.abandoned = false;
    this.#go();
  }

  /** As in Node. */
  override pause(): this {
    super.pause();
    this.#halt();
    return this;
  }

  // --- Node's hooks ---

  override _construct(callback: (error?: Error | null) => void): void {
    const adopt = (target: BlockTarget) => {
      const { start, end, sparse } = this.settings;
      this.#position = start;
      this.#end = this.#stopped ? start : end + 1;
      if (sparse) this.#extents = new Extents(target);
      // What has no offsets is read once and in order, so all consumers get it through Node's buffer.
      if (target.inOrder !== undefined) this.seen();
    };
    this.attachment.construct(adopt, (error) => {
      callback(error);
      this.#go();
    });
  }

  override _read(): void {
    this.#demand = true;
    this.#go();
  }

  /** Start what is due: the pump if the only consumers are this package's writers, otherwise what `_read` requested. */
  #go(): void {
    this.#scope.run(this.#dueNow);
  }

  readonly #dueNow = (): void => {
    if (this.destroyed || this.attachment.target === null || this.#halting !== null || this.#pump !== null)
      return;
    if (this.#feed !== null) return this.#feed.run();
    if (this.#joined.size > 0 && !this.#seen) {
      if (!this.isPaused()) this.#startPump();
    } else if (this.#demand && !this.#joined.abandoned) this.#startFeeding();
  };

  /** The parts that a pump or a feed of this stream needs. */
  #parts(): ReaderParts {
    return {
      context: this.attachment.context!,
      target: this.attachment.target!,
      settings: this.settings,
      scope: this.#scope,
      extents: this.#extents,
      pace: this.#pace,
      path: this.#bytesPath,
    };
  }

  #startPump(): void {
    this.#began ||= performance.now();
    const pumped = {
      given: (bytes: number) => {
        this.bytesRead += bytes;
      },
      routed: (route: Route) => this.#routed(route),
      ended: () => this.#finish(),
      failed: (error: Error) => this.destroy(error),
      endFailed: (end: LendingEnd, error: Error) => this.#joined.failed(end, error),
    };
    this.#pump = new Pump(this.#parts(), pumped, this.#joined.ends, this.#position, this.#end);
    this.#pump.start().catch(pumped.failed);
  }

  #routed(route: Route): void {
    // Some data already went through a CMB, but not all of it will, so the transport is reported as host memory.
    if (this.#route?.provider != null && route.provider === null) this.#hostChunks ||= this.bytesRead > 0;
    this.#route = route;
  }

  /** Stop the pump at a chunk boundary. What is due then continues from there. */
  #halt(): void {
    const pump = this.#pump;
    if (pump === null) return;
    this.#pump = null;
    const halted = (position: number) => {
      this.#reads += pump.reads;
      this.#position = position;
      if (this.#stopped) this.#end = Math.min(this.#end, position);
    };
    if (pump.isDone) return halted(pump.position);
    this.#halting = pump.halt().then((position) => {
      halted(position);
      this.#halting = null;
      this.#go();
    });
  }

  #startFeeding(): void {
    this.#began ||= performance.now();
    try {
      const fed = {
        name: this.meteredPath,
        wants: () => this.#demand && !this.destroyed,
        give: (chunk: Buffer, position: number) => this.#give(chunk, position),
        go: this.#dueNow,
        ended: () => this.#finish(),
        failed: (error: Error) => this.destroy(error),
      };
      this.#feed = new Feed(this.#parts(), fed, this.#position, this.#end);
    } catch (error) {
      this.destroy(error as Error);
      return;
    }
    this.#routed(this.#feed.route);
    this.#feed.run();
  }

  #give(chunk: Buffer, position: number): void {
    this.#position = position;
    this.bytesRead += chunk.length;
    // A consumer may call read(), and thereby _read(), while it gets this chunk. That demand must not be lost.
    this.#demand = false;
    if (this.push(chunk)) this.#demand = true;
  }

  #finish(): void {
    this.#demand = false;
    this.#ended = performance.now();
    this.push(null);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#ended ||= performance.now();
    this.#joined.clear();
    this.#halt();
    this.attachment.end(error, () => this.#cleanUp(), this.#scope.wrap(callback));
  }

  /** Resolves when no read is in flight and the target is closed. */
  #cleanUp(): Promise<void> {
    // A stream that has a feed has no pump any more.
    const stopped = this.#halting ?? (this.#feed?.isIdle === false ? this.#feed.halt() : null);
    return stopped === null ? this.#close() : stopped.then(() => this.#close());
  }

  #close(): Promise<void> {
    // A consumer that got everything may keep its last chunks as long as it needs. If the stream ended early, it may not.
    this.#feed?.retire(this.readableEnded && !this.attachment.context!.closed);
    return this.attachment.close();
  }
}
