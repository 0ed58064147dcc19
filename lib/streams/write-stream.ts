import { addAbortSignal, Writable } from 'node:stream';
import { type BlockTarget, PAGE_SIZE, type PathBytes } from '../backend/backend.js';
import type { PciDev } from '../backend/topology.js';
import { errnoName } from '../errno.js';
import type { P2pdmaError } from '../errors.js';
import { pgmapOf, vmaOf } from '../kernel/memremap.js';
import type { StreamContext } from './context.js';
import { type Given, holeChunk, isHole, type LendingEnd, lendingEnd } from './lending.js';
import type { Metered, Metrics } from './metrics.js';
import {
  chunkSize,
  parseOptions,
  type WriteSettings,
  type WriteStreamOptions,
  writeOptions,
} from './options.js';
import type { Receipt, Transport } from './receipt.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import { assertChunkFits, type Slot, SlotPool, slotOf } from './slot-pool.js';
import { closedError, construct, endDestroy, outOfRange, type Source } from './source.js';
import { addPath, deferred, Transfer, transfer, zeroPath } from './transfer.js';

type Done = (error?: Error | null) => void;

/** One write in flight. */
interface WriteJob {
  readonly transfer: Transfer;
  view: Uint8Array;
  offset: number;
  /** Handed back when the write is done; null for a user's own mapping. */
  slot: Slot | null;
}

/**
 * A Writable over a namespace, block device or file. Slots that a P2pReadStream lent go to the drive as they are;
 * other chunks are gathered into aligned memory first.
 *
 *     position ──▶ │ partial block │  whole blocks, straight from the chunk  │ partial block │
 *                        staged                    direct                        staged
 *
 * Writes are acknowledged early, `queueDepth` of them stay in flight, and `finish` comes after the last one and a flush.
 * Parts of a block at either end are read, merged and written (block targets), or cut to the exact length (files).
 */
export class P2pWriteStream extends Writable implements Metered {
  /** For this package's own functions. @internal */
  readonly metered = 'writer';
  /** As it was asked for. */
  readonly path: string;
  /** First byte it writes. */
  readonly start: number;
  /** Bytes accepted so far. */
  bytesWritten = 0;
  readonly [lendingEnd]: LendingEnd;
  #source: Source;
  #options: WriteSettings;
  #context: StreamContext | null = null;
  #target: BlockTarget | null = null;
  #opened = deferred<BlockTarget>();
  #route: Route | null = null;
  #position: number;
  /** The target cannot punch holes: zeros are written. */
  #noHoles = false;
  /** Aligned memory for what cannot go straight: its pool, the slot being filled, where it will go. */
  #stages: SlotPool | null = null;
  /** Pages for parts of blocks between lent chunks. */
  #edges: SlotPool | null = null;
  #stage: Slot | null = null;
  #stageAt = 0;
  #stageFill = 0;
  /** The slots of chunks that were written and not yet accepted, in their order. */
  #held: Slot[] = [];
  #spare: WriteJob[] = [];
  #inFlight = 0;
  #writes = 0;
  /** The chunk whose acknowledgement waits until fewer than `limit` writes are in flight. */
  #waiting: { limit: number; callback: Done } | null = null;
  #drained: (() => void) | null = null;
  #bytesPath: PathBytes = zeroPath();
  #hostBytes = 0;
  #refusal: string | null = null;
  #began = 0;
  #ended = 0;
  #settled = deferred();
  /** Something may be written: the source's `begin` is over, or it has none. */
  #begun: boolean;

  /** @internal */
  constructor(source: Source, options: WriteStreamOptions = {}) {
    const settings = parseOptions(writeOptions, options);
    super({
      highWaterMark: settings.highWaterMark ?? chunkSize(undefined, 1),
      autoDestroy: settings.autoClose,
      emitClose: settings.emitClose,
      decodeStrings: true,
    });
    this.#options = settings;
    this.#source = source;
    this.#begun = source.begin === undefined;
    this.#position = settings.start;
    this.start = settings.start;
    this.path = source.path;
    this.#opened.promise.catch(() => {});
    this[lendingEnd] = {
      opened: () => this.#opened.promise,
      blockSize: () => this.#target?.limits.logicalBlockSize ?? 512,
      alignment: () => this.#target?.limits.dmaAlignment ?? 4,
      start: settings.start,
      wishes: settings,
      routed: (route) => {
        this.#route = route;
      },
      onRefused: null,
      give: (view, done) => this.#give(view, done),
      giveHole: (bytes, done) => {
        let left = bytes;
        const next = (error: Error | null) => {
          if (error !== null || left === 0) return done(error);
          const hole = holeChunk(left);
          left -= hole.length;
          this.#give(hole, next);
        };
        next(null);
      },
    };
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

  /** How the data travels; null before the first chunk. */
  get transport(): Transport | null {
    if (this.#route === null) return null;
    return this.#hostBytes > 0 ? 'host-memory' : this.#route.transport;
  }

  /** What this stream did so far. Its path counts only its own side: the memory → drive half. */
  get receipt(): Receipt {
    const route = this.#route ?? hostRoute('nothing was written yet');
    const transport = this.transport ?? 'host-memory';
    const fell = transport === 'host-memory' && route.provider !== null;
    return {
      bytes: this.bytesWritten,
      seconds: this.#began === 0 ? 0 : ((this.#ended || performance.now()) - this.#began) / 1000,
      ...(this.#context?.origin ?? { backend: null, machine: null }),
      provider: transport === 'host-memory' ? null : (route.provider?.bdf ?? null),
      transport,
      reason: fell
        ? (this.#refusal ?? `${this.#hostBytes} bytes had to go through host memory`)
        : route.reason,
      unproven: route.unproven,
      path: { ...this.#bytesPath },
      verified: false,
      digest: null,
    };
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    into.bytes.write += this.bytesWritten;
    into.transfers.write += this.#writes;
    into.inFlight += this.#inFlight;
    addPath(into.path, this.#bytesPath);
    if (this.transport !== null) into.transports[this.transport]++;
  }

  override _construct(callback: Done): void {
    const adopt = (context: StreamContext, target: BlockTarget) => {
      this.#context = context;
      this.#target = target;
      context.add(this);
      const { start } = this.#options;
      if (target.kind !== 'file' && start > target.size) throw outOfRange(this.path, start, target);
    };
    construct(this, this.#source, this.#opened, adopt, callback);
  }

  // A lent slot is held from the moment it is written, not from its DMA on: it may wait in this stream's buffer.
  override write(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    if (chunk instanceof Uint8Array && !this.destroyed && !this.writableEnded) {
      const slot = slotOf(chunk);
      if (slot !== null) {
        slot.hold();
        this.#held.push(slot);
      }
    }
    return super.write(chunk, encoding as BufferEncoding, callback as Done);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Done): void {
    if (this.#began === 0) this.#began = performance.now();
    if (this.#route === null) {
      const chosen = this.#chooseOwnRoute();
      if (chosen !== null) return callback(chosen);
    }
    if (this.#begun) this.#accept(chunk, 0, callback);
    else {
      this.#begin().then(
        () => this.#accept(chunk, 0, callback),
        (error: Error) => callback(error),
      );
    }
  }

  #gifts: { view: Uint8Array; done: Given }[] = [];

  #give(view: Uint8Array, done: Given): void {
    this.#gifts.push({ view, done });
    if (this.#gifts.length === 1) this.#takeGift();
  }

  #takeGift(): void {
    const { view, done } = this.#gifts[0]!;
    const chunk = Buffer.from(view.buffer, view.byteOffset, view.length);
    this._write(isHole(view) ? (view as Buffer) : chunk, 'utf8', (error) => {
      const ended = () => {
        this.#gifts.shift();
        if (this.#gifts.length > 0) this.#takeGift();
        done(error ?? null);
      };
      if (this.#inFlight === 0) ended();
      else this.#idle().then(ended);
    });
  }

  /** The first byte (or the end) has come: what a failure before it must not have done is done now. */
  async #begin(): Promise<void> {
    this.#begun = true;
    this.#inFlight++;
    try {
      await this.#source.begin?.(this.#target!);
    } finally {
      this.#inFlight--;
      this.#settleOne();
    }
  }

  /** Not fed by a P2pReadStream that chose already. Returns what forbids it. */
  #chooseOwnRoute(): Error | null {
    const { memory, requireP2p } = this.#options;
    try {
      this.#route =
        memory === 'cmb'
          ? chooseRoute(this.#context!.backend, [this.#target!], this.#options)
          : hostRoute('the source is not a p2pdma stream, so its chunks are in host memory');
      if (this.#route.provider === null && (requireP2p || memory === 'cmb')) {
        throw p2pRequired(this.path, this.#route.reason, memory === 'cmb' ? 'memory: cmb' : 'requireP2p');
      }
      return null;
    } catch (error) {
      return error as Error;
    }
  }

  /** Send `chunk` from byte `from` on; `callback` once all of it is on its way and there is room for more. */
  #accept(chunk: Buffer, from: number, callback: Done): void {
    if (this.destroyed) return callback(closedError(this.path));
    const { logicalBlockSize: block, dmaAlignment } = this.#target!.limits;
    const first = this.#held[0];
    const slot = first?.buffer === chunk ? first : slotOf(chunk);
    const mapped = slot !== null || vmaOf(chunk) !== null;
    const toBlock = (block - (this.#position % block)) % block;
    // From the next block boundary on, may the drive take the bytes where they are?
    const direct = mapped && (chunk.byteOffset + from + toBlock) % dmaAlignment === 0;
    let at = from;
    while (at < chunk.length) {
      const whole = chunk.length - at - ((chunk.length - at) % block);
      const hole = slot === null && !this.#noHoles && isHole(chunk);
      if (hole && this.#stage === null && this.#position % block === 0 && whole > 0) {
        const resume = at + whole;
        this.#leaveHole(whole, (left) => this.#accept(chunk, left ? resume : resume - whole, callback));
        return;
      }
      if (direct && this.#stage === null && this.#position % block === 0 && whole > 0) {
        slot?.hold();
        const view = whole === chunk.length ? chunk : chunk.subarray(at, at + whole);
        this.#submit(view, this.#position, slot);
        at += whole;
        this.#advance(whole);
        continue;
      }
      if (this.#stage === null) {
        const provider = direct ? (pgmapOf(chunk)?.provider ?? null) : this.#stageProvider();
        const resume = at;
        this.#takeStage(provider, direct, (error) => {
          if (error !== null) callback(error);
          else this.#accept(chunk, resume, callback);
        });
        return;
      }
      const stage = this.#stage.buffer;
      const room = direct || hole ? block - (this.#stageFill % block) : stage.length - this.#stageFill;
      const take = Math.min(room, chunk.length - at);
      stage.set(chunk.subarray(at, at + take), this.#stageFill);
      at += take;
      this.#stageFill += take;
      this.#advance(take);
      if (this.#stageFill === stage.length || ((direct || hole) && this.#stageFill % block === 0))
        this.#sendStage();
    }
    if (slot !== null) this.#letGo(slot);
    // A mapping that is not a slot is the caller's to overwrite once the write is acknowledged: not before its DMA is done.
    const limit = slot === null && mapped ? 1 : this.#options.queueDepth;
    if (this.#inFlight < limit) callback();
    else this.#waiting = { limit, callback };
  }

  /** Leave (a new file) or punch a hole at the position; `done(false)`: the target has none, write zeros. */
  #leaveHole(bytes: number, done: (left: boolean) => void): void {
    const target = this.#target!;
    const offset = this.#position;
    const fresh = target.kind === 'file' && this.#source.owned && this.#options.flags !== 'r+';
    const left = () => {
      this.#advance(bytes);
      done(true);
    };
    // On the stack of a long hole's many chunks a synchronous answer would go deep.
    if (fresh || (target.kind === 'file' && offset >= target.size)) return process.nextTick(left);
    this.#inFlight++;
    const settle = () => {
      this.#inFlight--;
      if (this.destroyed) this.#settleOne();
    };
    target.punchHole(offset, bytes).then(
      () => {
        settle();
        left();
      },
      () => {
        settle();
        this.#noHoles = true;
        done(false);
      },
    );
  }

  #advance(bytes: number): void {
    this.#position += bytes;
    this.bytesWritten += bytes;
  }

  #stageProvider(): PciDev | null {
    return this.#options.memory === 'cmb' ? (this.#route?.provider ?? null) : null;
  }

  /**
   * Get aligned memory to gather bytes in, holding already what stands before `position` in its block. Parts of
   * blocks between lent chunks need a page of the same CMB; foreign chunks are gathered into whole chunks.
   */
  #takeStage(provider: PciDev | null, small: boolean, ready: (error: Error | null) => void): void {
    let slot: Slot | null;
    try {
      const pool = this.#stagePool(provider, small);
      slot = pool.take();
      if (slot === null) {
        pool.onFree = () => {
          pool.onFree = null;
          this.#takeStage(provider, small, ready);
        };
        return;
      }
    } catch (error) {
      return ready(error as Error);
    }
    const { logicalBlockSize: block } = this.#target!.limits;
    const stage = slot;
    this.#stage = stage;
    this.#stageFill = this.#position % block;
    this.#stageAt = this.#position - this.#stageFill;
    if (this.#stageFill === 0) return ready(null);
    this.#readBlock(stage.buffer.subarray(0, block), this.#stageAt).then(
      () => ready(null),
      (error: Error) => ready(error),
    );
  }

  #stagePool(provider: PciDev | null, small: boolean): SlotPool {
    const context = this.#context!;
    const old = small ? this.#edges : this.#stages;
    if (old !== null) return old;
    const { logicalBlockSize: block } = this.#target!.limits;
    const [bytes, count] = small
      ? [Math.max(block, PAGE_SIZE), 2]
      : [chunkSize(this.#options.highWaterMark, block, provider?.p2pmem?.size), this.#options.queueDepth + 1];
    if (provider !== null && !small) assertChunkFits(bytes, provider);
    const fitting =
      provider === null
        ? count
        : Math.min(count, Math.floor(context.backend.memory.available(provider) / bytes));
    let pool: SlotPool;
    try {
      pool = new SlotPool(context, provider, bytes, Math.max(1, fitting));
    } catch (error) {
      if (provider === null || this.#options.requireP2p || this.#options.memory === 'cmb') throw error;
      pool = new SlotPool(context, null, bytes, count);
    }
    if (small) this.#edges = pool;
    else this.#stages = pool;
    return pool;
  }

  /** Read one block that is about to be written in part; what a file does not have reads as zeros. */
  async #readBlock(into: Uint8Array, offset: number): Promise<void> {
    into.fill(0);
    const expect = Math.min(into.length, this.#target!.size - offset);
    if (expect <= 0) return;
    this.#inFlight++;
    try {
      await transfer(this.#target!, 'read', into, offset, expect, this.#bytesPath);
      if (expect < into.length) into.fill(0, expect);
    } finally {
      this.#inFlight--;
      if (this.destroyed) this.#settleOne();
    }
  }

  #sendStage(): void {
    const slot = this.#stage!;
    this.#stage = null;
    slot.hold();
    slot.filling = false;
    this.#submit(slot.buffer.subarray(0, this.#stageFill), this.#stageAt, slot);
    this.#stageFill = 0;
  }

  /** `slot` is held for this write. */
  #submit(view: Uint8Array, offset: number, slot: Slot | null): void {
    const job = this.#spare.pop() ?? { transfer: new Transfer(), view, offset, slot };
    job.view = view;
    job.offset = offset;
    job.slot = slot;
    if (this.#route?.provider != null && pgmapOf(view)?.provider == null) this.#hostBytes += view.length;
    this.#inFlight++;
    this.#start(job);
  }

  #start(job: WriteJob): void {
    job.transfer.start(this.#target!, 'write', job.view, job.offset, job.view.length, (done) => {
      addPath(this.#bytesPath, done.path);
      this.#writes++;
      const { error } = done;
      if (error !== null && error.code === 'EREMOTEIO' && !this.#options.requireP2p && !this.destroyed) {
        return this.#bounce(job, error);
      }
      job.slot?.unhold();
      job.slot = null;
      this.#spare.push(job);
      this.#inFlight--;
      if (error !== null) this.destroy(this.#explain(error));
      this.#settleOne();
    });
  }

  /** The device refused this memory: the CPU copies it to host memory, and the reader is told to lend host memory. */
  #bounce(job: WriteJob, error: P2pdmaError): void {
    const { pool } = job.slot ?? {};
    const copy = this.#context!.backend.memory.allocBuffer(job.view.length);
    copy.set(job.view);
    this.#bytesPath.hostDram += copy.length;
    this.#hostBytes += copy.length;
    this.#refusal = `${this.path}: the kernel refused CMB memory (${errnoName(error.errno ?? 0)})`;
    job.view = copy;
    job.slot?.unhold();
    job.slot = null;
    pool?.onRefused?.(this.#refusal);
    this[lendingEnd].onRefused?.(this.#refusal);
    this.#start(job);
  }

  #explain(error: P2pdmaError): P2pdmaError {
    return error.code === 'EREMOTEIO' ? p2pRequired(this.path, error.message) : error;
  }

  /** A write ended: let the next chunk in, or let what waits for the last one go on. */
  #settleOne(): void {
    const waiting = this.#waiting;
    if (waiting !== null && this.#inFlight < waiting.limit && !this.destroyed) {
      this.#waiting = null;
      waiting.callback();
    }
    if (this.#inFlight === 0 && this.#drained !== null) {
      const drained = this.#drained;
      this.#drained = null;
      drained();
    }
  }

  #letGo(slot: Slot): void {
    const at = this.#held.indexOf(slot);
    if (at < 0) return;
    this.#held.splice(at, 1);
    slot.unhold();
  }

  override _final(callback: Done): void {
    this.#finish().then(
      () => callback(),
      (error: Error) => callback(error),
    );
  }

  async #finish(): Promise<void> {
    if (!this.#begun) await this.#begin();
    const target = this.#target!;
    const end = this.#position;
    let padded = false;
    if (this.#stage !== null) {
      const { logicalBlockSize: block } = target.limits;
      const stage = this.#stage;
      const part = this.#stageFill % block;
      if (part > 0) {
        const last = this.#stageFill - part;
        if (end < target.size) {
          // Read around the new bytes in the same slot: a second one might not be free.
          const fresh = Buffer.from(stage.buffer.subarray(last, this.#stageFill));
          await this.#readBlock(stage.buffer.subarray(last, last + block), this.#stageAt + last);
          stage.buffer.set(fresh, last);
        } else {
          stage.buffer.fill(0, this.#stageFill, last + block);
        }
        this.#stageFill = last + block;
        padded = true;
      }
      const size = target.size;
      this.#sendStage();
      await this.#idle();
      if (padded && target.kind === 'file' && !this.destroyed) await target.truncate(Math.max(end, size));
    } else {
      await this.#idle();
    }
    // A hole at the end is only a length.
    if (target.kind === 'file' && end > target.size && !this.destroyed) await target.truncate(end);
    if (this.#options.flush && !this.destroyed) await target.flush();
    this.#ended = performance.now();
  }

  #idle(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.#drained;
      this.#drained = () => {
        before?.();
        resolve();
      };
    });
  }

  override _destroy(error: Error | null, callback: Done): void {
    this.#ended ||= performance.now();
    if (error !== null) this.#context?.failed(error);
    this.#opened.reject(error ?? closedError(this.path));
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.callback(error ?? closedError(this.path));
    endDestroy(this.#cleanUp(), error, callback, () => {
      this.#context?.remove(this);
      this.#settled.resolve();
    });
  }

  async #cleanUp(): Promise<void> {
    await this.#idle();
    for (const slot of this.#held.splice(0)) slot.unhold();
    if (this.#stage !== null) {
      this.#stage.filling = false;
      this.#stage.settle();
      this.#stage = null;
    }
    await this.#edges?.close();
    await this.#stages?.close();
    if (this.#source.owned && this.#target !== null) await this.#context!.closeTarget(this.#target);
    if (!this.#begun && this.#target !== null) await this.#source.abandon?.();
  }

  /** End it now; resolves when nothing is in flight and the target is closed. Used when the system closes. @internal */
  shutdown(): Promise<void> {
    if (!this.destroyed) this.destroy();
    return this.#settled.promise;
  }

  /** Destroys it unless it is finished, and waits until nothing is in flight. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}
