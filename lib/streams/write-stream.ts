import { constants } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import type { BlockTarget } from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { addPath } from '../backend/path-bytes.js';
import { AsyncScope } from './async-scope.js';
import { Attachment } from './attachment.js';
import { lengthOf } from './byte-queue.js';
import { FileWritable } from './file-writable.js';
import type { Ended } from './joint.js';
import { type Given, type LendingEnd, lendingEnd } from './lending.js';
import type { Metrics } from './metrics.js';
import { openFlags } from './open-flags.js';
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
import { chooseRoute, FOREIGN_SOURCE, hostRoute, p2pRequired, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { slotsOf } from './slot-pool.js';
import { closedError, type Source } from './source.js';
import { memoryGone } from './transfer.js';
import { writeChunks } from './write-chunks.js';
import { WriteTally } from './write-tally.js';
import { whyNotZones } from './zones.js';

type Done = (error?: Error | null) => void;

/**
 * A Writable over a namespace, block device or file. The callback of a write is called when the kernel has its bytes: other
 * processes see them, and they stay written even if this process ends.
 *
 *     write(chunk) ─▶ _write, _writev ─┐
 *                                      ├─▶ one position, in the order of the calls ─▶ RangeWriter ─▶ target
 *     a pump       ─▶ LendingEnd.give ─┘
 */
export class P2pWriteStream extends FileWritable {
  /** For this package's own functions. @internal */
  readonly metered = 'writer';
  /** @internal */
  readonly [lendingEnd]: LendingEnd;
  readonly #scope = new AsyncScope();
  /** @internal */
  readonly attachment: Attachment;
  /** @internal */
  protected readonly settings: WriteSettings;
  readonly #tally: WriteTally;
  #ranges: RangeWriter | null = null;
  #route: Route | null = null;
  readonly #places: Places;
  /** Ranges that have not ended. */
  readonly #under = new InFlight();
  #began = 0;
  #ended = 0;
  /** The promise of the source's `begin`; null until the first byte (or the end) arrives. */
  #begun: Promise<void> | null = null;
  #ready = false;

  private constructor(source: Source, options?: StreamArgument<WriteStreamOptions>) {
    const settings = parseOptions(writeOptions, options);
    super({
      highWaterMark: settings.highWaterMark ?? chunkSize(undefined, 1),
      autoDestroy: settings.autoClose,
      emitClose: settings.emitClose,
      defaultEncoding: settings.encoding || 'utf8',
      decodeStrings: true,
    });
    this.settings = settings;
    this.attachment = new Attachment(this, source);
    this.#places = new Places(settings.start);
    this.#tally = new WriteTally(settings.start);
    this[lendingEnd] = {
      target: () => this.#ranges?.target ?? null,
      opened: () => this.attachment.opened(),
      blockSize: () => this.attachment.target?.limits.logicalBlockSize ?? 512,
      alignment: () => this.attachment.target?.limits.dmaAlignment ?? 4,
      start: settings.start,
      position: () => this.#places.next,
      wishes: settings,
      onRefused: null,
      routed: (route, how) => {
        this.#route = route;
        if (how?.requireP2p === true) this.#ranges!.requireP2p = true;
      },
      give: (view, done) => {
        const bytes = view.length;
        this.#place(bytes, (position) => {
          const over: Given = (error) => done(error, position);
          this.#give((ended) => this.#ranges!.write(view, position, ended, bytes), over);
        });
      },
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

  /** The number of bytes that the kernel has accepted, counted from `start` without a gap. */
  get bytesWritten(): number {
    return this.#tally.written.at - this.start;
  }

  /** How the data travels; null before the first chunk. */
  get transport(): Transport | null {
    if (this.#route === null) return null;
    const { hostBytes, peerBytes, raggedBytes } = this.#tally;
    // A part of a block can only go through host memory. It decides the transport only if nothing else was written.
    const onlyParts = raggedBytes > 0 && peerBytes === 0;
    return hostBytes > 0 || onlyParts ? 'host-memory' : this.#route.transport;
  }

  /** What this stream has done so far. Its `path` counts only the writer's half of the route: memory → drive. */
  get receipt(): Receipt {
    const route = this.#route ?? hostRoute('nothing was written yet');
    const transport = this.transport ?? 'host-memory';
    return endReceipt({
      bytes: this.bytesWritten,
      began: this.#began,
      ended: this.#ended,
      path: this.#tally.path,
      route,
      transport,
      reason: this.#reason(route, transport),
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

  /** Which bytes could not take the same route as the rest, as expected, in words; null: there are none. @internal */
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
      const zoned = whyNotZones(context.origin, this.meteredPath, target.zones);
      if (zoned !== null) throw zoned;
      this.#ranges = new RangeWriter(context, target, this.#tally, this.settings);
      this.#ranges.requireP2p = this.settings.requireP2p;
      const refused = (reason: string) => this[lendingEnd].onRefused?.(reason);
      this.#ranges.onRefused = refused;
    };
    this.attachment.construct(adopt, callback);
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

  /** Writes that come from Node. `callback` is called when the kernel has all the bytes, or with the error. */
  #accept(chunks: readonly Buffer[], callback: Done): void {
    const slots = slotsOf(chunks);
    const refused = this.#route === null ? this.#chooseOwnRoute() : null;
    if (refused !== null) return callback(refused);
    // Hold the slots, so that lent memory is not refilled during a write, even if its consumer releases it too early.
    for (const slot of slots) slot.hold();
    const over: Given = (error) => {
      for (const slot of slots) slot.unhold();
      callback(error);
    };
    const bytes = lengthOf(chunks);
    this.#place(bytes, (position) =>
      this.#give((ended) => {
        if (lengthOf(chunks) === bytes) this.#writeChunks(chunks, position, ended);
        else ended(memoryGone(this.attachment.target!, chunks[0]!, position), 0);
      }, over),
    );
  }

  #writeChunks(chunks: readonly Buffer[], position: number, ended: Ended): void {
    const provider = this.settings.memory === 'cmb' ? (this.#route?.provider ?? null) : null;
    writeChunks(this.#ranges!, chunks, { position, provider, fresh: this.#isFresh() }, ended);
  }

  /** Reserve the next `bytes` bytes of the target, and call `placed` with their position. */
  #place(bytes: number, placed: (position: number) => void): void {
    this.#began ||= performance.now();
    this.#places.take(bytes, placed);
  }

  /**
   * Begin a range as soon as writing is allowed. `done` is called in the stream's own async context, and never inside this
   * call.
   */
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
      if (this.destroyed) ended(closedError(this.meteredPath), 0);
      else start(ended);
    };
    if (this.#isReady()) go();
    else this.#begin().then(go, (error: Error) => ended(error, 0));
    inside = false;
  }

  /** True: nothing has to be done first, or it is done. */
  #isReady(): boolean {
    this.#ready ||= this.attachment.source.begin === undefined;
    return this.#ready;
  }

  /** The first byte (or the end) has arrived: now do what must not be done if the source fails before it. */
  #begin(): Promise<void> {
    this.#begun ??= (async () => {
      await this.attachment.source.begin?.(this.attachment.target!);
      this.#ready = true;
    })();
    return this.#begun;
  }

  /** Choose the route when no pump has chosen one. Returns the error if the options do not allow the route. */
  #chooseOwnRoute(): Error | null {
    const { memory, requireP2p } = this.settings;
    try {
      this.#route =
        memory === 'cmb'
          ? chooseRoute(this.attachment.context!.backend, [this.attachment.target!], this.settings)
          : hostRoute(this.attachment.target!.inOrder ?? FOREIGN_SOURCE);
      if (this.#route.provider === null && (requireP2p || memory === 'cmb')) {
        throw p2pRequired(
          this.meteredPath,
          this.#route.reason,
          memory === 'cmb' ? 'memory: cmb' : 'requireP2p',
        );
      }
      return null;
    } catch (error) {
      return error as Error;
    }
  }

  /** True if the target is a file that was empty at the start: ranges that were not written are holes. */
  #isFresh(): boolean {
    return this.attachment.source.owned && (openFlags(this.flags) & constants.O_TRUNC) !== 0;
  }

  override _final(callback: Done): void {
    this.#finish().then(
      () => this.#scope.run(callback),
      (error: Error) => this.#scope.run(callback, error),
    );
  }

  async #finish(): Promise<void> {
    if (!this.#isReady()) await this.#begin();
    if (this.#under.count > 0) await this.#whenIdle();
    if (this.destroyed) return;
    if (this.#endsInHole()) await this.#setLength();
    if (this.settings.flush && !this.destroyed) await this.attachment.target!.flush();
    this.#ended = performance.now();
  }

  #endsInHole(): boolean {
    return this.#ready && this.#tally.written.at <= this.#tally.holesEnd;
  }

  /** If the data ends in a hole, only the length of the file has to be set. */
  async #setLength(): Promise<void> {
    const target = this.attachment.target!;
    const end = this.#tally.written.at;
    if (target.kind === 'file' && end > this.start && end > target.size) await target.truncate(end);
  }

  #whenIdle(): Promise<void> {
    this.#places.stop();
    return this.#under.idle();
  }

  override _destroy(error: Error | null, callback: Done): void {
    this.#ended ||= performance.now();
    this.attachment.end(error, () => this.#cleanUp(), this.#scope.wrap(callback));
  }

  async #cleanUp(): Promise<void> {
    this.#ranges?.stop();
    if (this.#under.count > 0) await this.#whenIdle();
    if (this.attachment.target === null) return;
    if (this.#endsInHole() && !this.writableFinished) await this.#setLength().catch(() => {});
    await this.attachment.close();
  }
}
