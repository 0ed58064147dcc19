import { addAbortSignal, Writable } from 'node:stream';
import type { BlockTarget } from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { addPath } from '../backend/path-bytes.js';
import { AsyncScope } from './async-scope.js';
import { Attachment } from './attachment.js';
import { lengthOf } from './byte-queue.js';
import type { Ended } from './joint.js';
import { type Given, type LendingEnd, lendingEnd } from './lending.js';
import type { Metrics } from './metrics.js';
import {
  chunkSize,
  parseOptions,
  type StreamArgument,
  type WriteSettings,
  type WriteStreamOptions,
  writeOptions,
} from './options.js';
import { Places } from './places.js';
import { RangeWriter } from './range-writer.js';
import { endReceipt, type Receipt, type Transport } from './receipt.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { slotOf } from './slot-pool.js';
import { closedError, type Source } from './source.js';
import { writeChunks } from './write-chunks.js';
import { WriteTally } from './write-tally.js';
import { whyNotZones } from './zones.js';

type Done = (error?: Error | null) => void;

/**
 * A Writable over a namespace, block device or file. A write's callback comes when its bytes are the kernel's: others see
 * them, and no end of this process takes them back.
 *
 *     write(chunk) ─▶ _write, _writev ─┐
 *                                      ├─▶ one position, in the order of the calls ─▶ RangeWriter ─▶ target
 *     a pump       ─▶ LendingEnd.give ─┘
 */
export class P2pWriteStream extends Writable {
  /** For this package's own functions. @internal */
  readonly metered = 'writer';
  /** As the caller gave it. */
  readonly path: string;
  /** First byte it writes. */
  readonly start: number;
  /** @internal */
  readonly [lendingEnd]: LendingEnd;
  readonly #scope = new AsyncScope();
  /** @internal */
  readonly attachment: Attachment;
  readonly #options: WriteSettings;
  readonly #tally: WriteTally;
  #ranges: RangeWriter | null = null;
  #route: Route | null = null;
  readonly #places: Places;
  /** Ranges that have not ended. */
  readonly #under = new InFlight();
  #began = 0;
  #ended = 0;
  /** The source's `begin`: null until the first byte (or the end) comes. */
  #begun: Promise<void> | null = null;
  #ready = false;

  private constructor(source: Source, options?: StreamArgument<WriteStreamOptions>) {
    const settings = parseOptions(writeOptions, options);
    super({
      highWaterMark: settings.highWaterMark ?? chunkSize(undefined, 1),
      ...{ autoDestroy: settings.autoClose, emitClose: settings.emitClose },
      ...(settings.encoding ? { defaultEncoding: settings.encoding } : {}),
      decodeStrings: true,
    });
    this.#options = settings;
    this.attachment = new Attachment(this, source);
    this.#places = new Places(settings.start);
    this.#tally = new WriteTally(settings.start);
    this.start = settings.start;
    this.path = source.path;
    this[lendingEnd] = {
      opened: () => this.attachment.opened(),
      blockSize: () => this.attachment.target?.limits.logicalBlockSize ?? 512,
      alignment: () => this.attachment.target?.limits.dmaAlignment ?? 4,
      ...{ start: settings.start, position: () => this.#places.next },
      ...{ wishes: settings, onRefused: null },
      routed: (route, how) => {
        this.#route = route;
        if (how?.requireP2p === true) this.#ranges!.requireP2p = true;
      },
      give: (view, done) =>
        this.#place(view.length, (position) => {
          const over: Given = (error) => done(error, position);
          this.#give((ended) => this.#ranges!.write(view, position, ended), over);
        }),
      giveAgain: (view, position, done) =>
        this.#give((ended) => this.#ranges!.write(view, position, ended), done),
      settled: async () => {
        this.#ranges?.stop();
        await this.#whenIdle();
        return this.#tally.written.at;
      },
      giveHole: (bytes, done) =>
        this.#place(bytes, (position) =>
          this.#give((ended) => this.#ranges!.hole(bytes, position, this.#isFresh(), ended), done),
        ),
      lendRange: (bytes) =>
        new Promise((lent) => {
          this.#began ||= performance.now();
          const over = () => lent(null);
          this.#give((ended) => this.#ranges!.lend(bytes, this.#places, lent, ended), over);
        }),
    };
    if (settings.signal !== undefined) addAbortSignal(settings.signal, this);
  }

  /** @internal */
  static over(source: Source, options?: StreamArgument<WriteStreamOptions>): P2pWriteStream {
    return new P2pWriteStream(source, options);
  }

  /** Bytes that the kernel has accepted, from `start` on without a gap. */
  get bytesWritten(): number {
    return this.#tally.written.at - this.start;
  }

  /** True until the target is open. */
  get pending(): boolean {
    return this.attachment.target === null;
  }

  /** How the data travels; null before the first chunk. */
  get transport(): Transport | null {
    if (this.#route === null) return null;
    const { hostBytes, peerBytes, raggedBytes } = this.#tally;
    // A part of a block has no other way; that is a matter of its own only where there is nothing else.
    const onlyParts = raggedBytes > 0 && peerBytes === 0;
    return hostBytes > 0 || onlyParts ? 'host-memory' : this.#route.transport;
  }

  /** What this stream has done so far. Its `path` counts only its own side: the memory → drive half. */
  get receipt(): Receipt {
    const route = this.#route ?? hostRoute('nothing was written yet');
    const transport = this.transport ?? 'host-memory';
    return endReceipt({
      ...{ bytes: this.bytesWritten, began: this.#began, ended: this.#ended, path: this.#tally.path },
      ...{ route, transport, reason: this.#reason(route, transport) },
      origin: this.attachment.context?.origin,
    });
  }

  #reason(route: Route, transport: Transport): string {
    if (route.provider === null) return route.reason;
    const { hostBytes, refusal } = this.#tally;
    const fell = hostBytes > 0 ? `${hostBytes} bytes had to go through host memory` : null;
    const why = transport === 'host-memory' ? (refusal ?? fell) : route.reason;
    return [why, this.aside].filter((words) => words !== null).join('; ');
  }

  /** What could not go the way of the rest, and was not meant to, in words; null: all did. @internal */
  get aside(): string | null {
    if (this.#route === null || this.#route.provider === null) return null;
    return this.#tally.raggedWords(this.start, this.#places.next);
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    into.bytes.write += this.bytesWritten;
    into.transfers.write += this.#tally.writes;
    into.inFlight += this.#tally.inFlight;
    addPath(into.path, this.#tally.path);
    if (this.transport !== null) into.transports[this.transport]++;
  }

  override _construct(callback: Done): void {
    const adopt = (target: BlockTarget, context: StreamContext) => {
      const zoned = whyNotZones(this.path, target.zones);
      if (zoned !== null) throw zoned;
      this.#ranges = new RangeWriter(context, target, this.#tally, this.#options);
      this.#ranges.requireP2p = this.#options.requireP2p;
      this.#ranges.onRefused = (reason) => this[lendingEnd].onRefused?.(reason);
    };
    this.attachment.construct(this.start, adopt, callback);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Done): void {
    this.#accept([chunk], callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: Done): void {
    this.#accept(
      chunks.map(({ chunk }) => chunk),
      callback,
    );
  }

  /** Node's writes: `callback` once all of them are the kernel's, or with what failed. */
  #accept(chunks: readonly Buffer[], callback: Done): void {
    const slots = chunks.map(slotOf).filter((slot) => slot !== null);
    const refused = this.#route === null ? this.#chooseOwnRoute() : null;
    if (refused !== null) return callback(refused);
    // Memory on loan that its consumer releases too early is not filled anew under a write.
    for (const slot of slots) slot.hold();
    const over: Given = (error) => {
      for (const slot of slots) slot.unhold();
      callback(error);
    };
    this.#place(lengthOf(chunks), (position) =>
      this.#give((ended) => this.#writeChunks(chunks, position, ended), over),
    );
  }

  #writeChunks(chunks: readonly Buffer[], position: number, ended: Ended): void {
    const provider = this.#options.memory === 'cmb' ? (this.#route?.provider ?? null) : null;
    writeChunks(this.#ranges!, chunks, { position, provider, fresh: this.#isFresh() }, ended);
  }

  /** The next `bytes` bytes are spoken for: call `placed` with where they go. */
  #place(bytes: number, placed: (position: number) => void): void {
    this.#began ||= performance.now();
    this.#places.take(bytes, placed);
  }

  /** Begin a range, once something may be written; `done` in the stream's own context, and never inside this call. */
  #give(start: (ended: Ended) => void, done: Given): void {
    this.#under.enter();
    let inside = true;
    const finish = (error: Error | null) => {
      this.#scope.run(done, error);
      this.#under.leave();
    };
    const ended: Ended = (error) => {
      if (inside) process.nextTick(finish, error);
      else finish(error);
    };
    const go = () => {
      if (this.destroyed) ended(closedError(this.path), 0);
      else start(ended);
    };
    if (this.#ready) go();
    else this.#begin().then(go, (error: Error) => ended(error, 0));
    inside = false;
  }

  /** The first byte (or the end) has come: what a failure before it must not have done is done now. */
  #begin(): Promise<void> {
    this.#begun ??= (async () => {
      await this.attachment.source.begin?.(this.attachment.target!);
      this.#ready = true;
    })();
    return this.#begun;
  }

  /** Not given by a pump that chose already. Returns what forbids it. */
  #chooseOwnRoute(): Error | null {
    const { memory, requireP2p } = this.#options;
    try {
      this.#route =
        memory === 'cmb'
          ? chooseRoute(this.attachment.context!.backend, [this.attachment.target!], this.#options)
          : hostRoute('the source is not a p2pdma stream, so its chunks are in host memory');
      if (this.#route.provider === null && (requireP2p || memory === 'cmb')) {
        throw p2pRequired(this.path, this.#route.reason, memory === 'cmb' ? 'memory: cmb' : 'requireP2p');
      }
      return null;
    } catch (error) {
      return error as Error;
    }
  }

  /** It is a file that began empty: what was not written is a hole. */
  #isFresh(): boolean {
    return this.attachment.source.owned && this.#options.flags !== 'r+';
  }

  override _final(callback: Done): void {
    this.#finish().then(
      () => this.#scope.run(callback),
      (error: Error) => this.#scope.run(callback, error),
    );
  }

  async #finish(): Promise<void> {
    await this.#begin();
    await this.#whenIdle();
    if (this.destroyed) return;
    await this.#setLength();
    if (this.#options.flush && !this.destroyed) await this.attachment.target!.flush();
    this.#ended = performance.now();
  }

  /** A hole at the end is only a length. */
  async #setLength(): Promise<void> {
    const target = this.attachment.target!;
    const end = this.#tally.written.at;
    if (target.kind === 'file' && end > this.start && end > target.size) await target.truncate(end);
  }

  #whenIdle(): Promise<void> {
    this.#places.stop();
    return this.#under.idle();
  }

  /** End it, and close what it writes to; `callback` when that is done. As in Node. */
  close(callback?: (error?: Error | null) => void): void {
    if (callback !== undefined) {
      if (this.closed) process.nextTick(callback);
      else this.once('close', callback);
    }
    if (!this.#options.autoClose) this.once('finish', () => this.destroy());
    this.end();
  }

  override _destroy(error: Error | null, callback: Done): void {
    this.#ended ||= performance.now();
    this.attachment.end(error, () => this.#cleanUp(), this.#scope.wrap(callback));
  }

  async #cleanUp(): Promise<void> {
    this.#ranges?.stop();
    await this.#whenIdle();
    if (this.attachment.target === null) return;
    if (this.#ready && !this.writableFinished) await this.#setLength().catch(() => {});
    await this.attachment.close();
  }

  /** End it now; resolves when nothing is in flight and the target is closed. Used when the system closes. @internal */
  shutdown(): Promise<void> {
    if (!this.destroyed) this.destroy();
    return this.attachment.settled();
  }

  /** Destroys it unless it is finished, and waits until nothing is in flight. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}
