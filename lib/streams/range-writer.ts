/**
 * Writes any range of a target with byte precision:
 *
 *     offset ──▶ │ part of a block │  whole blocks, without a copy       │ part of a block │
 *     file            page cache             direct                          page cache
 *     device       read, changed and         direct                       read, changed and
 *                written, under a lock                                   written, under a lock
 *
 * Several ranges may be in flight. The tally records what was done. When a range has ended, the kernel has its bytes.
 */

import { type BlockTarget, PAGE_SIZE } from '../backend/backend.js';
import { addPath } from '../backend/path-bytes.js';
import type { PciDev } from '../backend/topology.js';
import { ENOSPC } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { pgmapOf, vmaOf } from '../kernel/memremap.js';
import { ByteQueue, joined, lengthOf } from './byte-queue.js';
import { type Ended, Joint } from './joint.js';
import { holeChunk } from './lending.js';
import { LentRange } from './lent-range.js';
import { chunkSize } from './options.js';
import { mergeIntoBlock } from './partial-block.js';
import type { Places } from './places.js';
import { PoolAtNeed } from './pool-at-need.js';
import { lockPlace, locksOf, type RangeLocks } from './range-lock.js';
import { isAligned, isPeerRefusal, refusalWords } from './refusal.js';
import { p2pRequired } from './route.js';
import type { StreamContext } from './session.js';
import { assertChunkFits, type Slot, SlotPool } from './slot-pool.js';
import { closedError } from './source.js';
import { memoryGone, Transfer } from './transfer.js';
import { Turns } from './turns.js';
import type { WriteTally } from './write-tally.js';

/**
 * Chunks in ordinary memory that together have fewer bytes than this are written to a file through the page cache, without
 * a copy here. This was compared with O_DIRECT from a copy, on an ext4 file with a flush at the end: below 1 MiB the page
 * cache took less time and CPU.
 */
const SMALL = 1024 * 1024;
/** If there are more chunks than this, they are copied into one buffer instead of being passed one by one. */
const MOST_VIEWS = 64;

const NO_MORE: readonly Uint8Array[] = [];

export interface RangeWriterOptions {
  readonly highWaterMark?: number | undefined;
  readonly queueDepth: number;
}

export class RangeWriter {
  readonly target: BlockTarget;
  /** If true, no transfer falls back to host memory. */
  requireP2p = false;
  /** Called when the device refused the memory that it was given, and the CPU copied the data. */
  onRefused: ((reason: string) => void) | null = null;
  readonly #context: StreamContext;
  readonly #tally: WriteTally;
  readonly #options: RangeWriterOptions;
  readonly #locks: RangeLocks;
  readonly #place: { readonly on: string; readonly base: number };
  readonly #turns = new Turns<'direct' | 'cached'>();
  /** By provider; most writers need neither of them. */
  #stages: Map<PciDev | null, PoolAtNeed> | null = null;
  #edges: Map<PciDev | null, PoolAtNeed> | null = null;
  readonly #spare: Transfer[] = [];
  /** The target cannot punch holes, so zeros are written. */
  #noHoles = false;
  #stopped = false;

  constructor(context: StreamContext, target: BlockTarget, tally: WriteTally, options: RangeWriterOptions) {
    this.#context = context;
    this.target = target;
    this.#tally = tally;
    this.#options = options;
    this.#locks = locksOf(context.backend);
    this.#place = target.kind === 'file' ? { on: '', base: 0 } : lockPlace(target.ranges, target.path);
  }

  /** Begin no further transfer. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Write `view`, which must not change before `ended`. It is written without a copy if a drive can reach its memory. `given`: its
   * length when the caller got it; it has none any more if its memory is gone.
   */
  write(view: Uint8Array, offset: number, ended: Ended, given = view.length): void {
    if (view.length < given) return ended(memoryGone(this.target, view, offset), 0);
    const { cachedUpTo = 0 } = this.target;
    const cached = offset + view.length <= cachedUpTo && providerOf(view) === null;
    if (cached) return this.gather([view], offset, null, ended);
    const { logicalBlockSize: block, dmaAlignment } = this.target.limits;
    const bytes = this.#room(view.length, offset);
    const head = Math.min(bytes, toNext(offset, block));
    const reachable = vmaOf(view) !== null && (view.byteOffset + head) % dmaAlignment === 0;
    if (!reachable) return this.gather([view], offset, null, ended);
    const tail = (bytes - head) % block;
    if (head + tail === 0 && bytes === view.length && bytes > 0) return this.#whole(view, offset, ended);
    const joint = new Joint(this.#full(view.length, offset, ended));
    this.#part(view.subarray(0, head), offset, joint);
    const body = view.subarray(head, bytes - tail);
    if (body.length > 0) this.#whole(body, offset + head, joint.piece(body.length));
    this.#part(view.subarray(bytes - tail, bytes), offset + bytes - tail, joint);
    joint.close();
  }

  /**
   * Let a pump write the next `bytes` bytes on behalf of this writer, if they are whole blocks. It gets the range once no
   * other write is in the way.
   */
  lend(bytes: number, places: Places, lent: (range: LentRange) => void, ended: Ended): void {
    const { target } = this;
    const { logicalBlockSize: block } = target.limits;
    const position = places.next;
    const room = this.#room(bytes, position);
    const whole = room - (room % block);
    if (position % block !== 0 || whole === 0 || target.inOrder !== undefined) return ended(null, 0);
    let release = () => {};
    const range = new LentRange({ target, position, bytes: whole }, this.#tally, (moved) => {
      release();
      places.giveBack(moved);
      ended(null, moved);
    });
    if (!places.lend(range)) return ended(null, 0);
    this.#admit('direct', whole, position, (over) => {
      release = over;
      lent(range);
    });
  }

  /**
   * Write chunks that may be in any memory. Small amounts go through the page cache. The rest is copied into memory that a
   * drive can reach (of `provider`, or of the host) and written from there.
   */
  gather(chunks: readonly Uint8Array[], offset: number, provider: PciDev | null, ended: Ended): void {
    const total = lengthOf(chunks);
    const bytes = this.#room(total, offset);
    const { kind, limits } = this.target;
    const loose = limits.logicalBlockSize === 1 || (bytes < SMALL && kind === 'file' && provider === null);
    if (loose && bytes > 0 && bytes === total && chunks.length === 1) {
      this.#tally.hostBytes += bytes;
      return this.#cached(chunks, offset, ended);
    }
    const joint = new Joint(this.#full(total, offset, ended));
    const queue = new ByteQueue(chunks);
    if (loose && bytes > 0) {
      this.#tally.hostBytes += bytes;
      this.#cached(queue.cut(bytes), offset, joint.piece(bytes));
    } else if (bytes > 0) {
      // Bytes in the same page of the page cache should not be written both directly and through the cache.
      const unit = Math.max(limits.logicalBlockSize, kind === 'file' && provider === null ? PAGE_SIZE : 1);
      const head = Math.min(bytes, toNext(offset, unit));
      const body = bytes - head - ((bytes - head) % unit);
      this.#part(joined(queue.cut(head)), offset, joint);
      this.#stage(new ByteQueue(queue.cut(body)), offset + head, provider, joint.piece(body));
      this.#part(joined(queue.cut(bytes - head - body)), offset + head + body, joint);
    }
    joint.close();
  }

  /** Write zeros. Where a hole can take their place, they are not written. `fresh`: the file has no data there yet. */
  hole(bytes: number, offset: number, fresh: boolean, ended: Ended): void {
    const { kind, limits, size, inOrder } = this.target;
    this.#tally.holesEnd = Math.max(this.#tally.holesEnd, offset + bytes);
    if (kind === 'file' && inOrder === undefined && (fresh || offset >= size)) {
      this.#tally.written.add(offset, bytes);
      return ended(null, bytes);
    }
    const block = kind === 'file' ? 1 : limits.logicalBlockSize;
    const head = Math.min(bytes, toNext(offset, block));
    const body = bytes - head - ((bytes - head) % block);
    const joint = new Joint(ended);
    const write = (from: number, length: number) => {
      if (length > 0) this.gather(zeros(length), from, null, joint.piece(length));
    };
    write(offset, head);
    if (body > 0) this.#punch(body, offset + head, joint.piece(body));
    write(offset + head + body, bytes - head - body);
    joint.close();
  }

  #punch(bytes: number, offset: number, ended: Ended): void {
    const write = () => this.gather(zeros(bytes), offset, null, ended);
    if (this.#noHoles) return write();
    this.#admit('direct', bytes, offset, (over) => {
      this.target.punchHole(offset, bytes).then(
        () => {
          over();
          this.#tally.written.add(offset, bytes);
          ended(null, bytes);
        },
        () => {
          over();
          this.#noHoles = true;
          write();
        },
      );
    });
  }

  /** How many of these bytes fit into the target. */
  #room(bytes: number, offset: number): number {
    return this.target.kind === 'file' ? bytes : Math.max(0, Math.min(bytes, this.target.size - offset));
  }

  /** `ended`, extended by an ENOSPC error if only a part of the bytes fits. */
  #full(bytes: number, offset: number, ended: Ended): Ended {
    if (this.#room(bytes, offset) === bytes) return ended;
    const { path, size } = this.target;
    const hint = `The write ends at ${offset + bytes}, the target at ${size}.`;
    return (error, moved) => ended(error ?? errnoError(-ENOSPC, 'write', path, { hint }), moved);
  }

  /** Copy into memory that a drive can reach, and write from there. Several pieces are written in parallel. */
  #stage(queue: ByteQueue, offset: number, provider: PciDev | null, ended: Ended): void {
    const joint = new Joint(ended);
    this.#stages ??= new Map();
    const pool = atNeed(this.#stages, provider);
    const ready = (slot: Slot) => {
      if (slot.isGone || queue.isGone) {
        pool.giveBack(slot);
        joint.piece(0)(memoryGone(this.target, slot.buffer, offset), 0);
        return joint.close();
      }
      const view = slot.view(Math.min(slot.buffer.length, queue.length));
      const at = offset;
      offset += view.length;
      queue.fill(view);
      const piece = joint.piece(view.length);
      this.#whole(view, at, (error, moved) => {
        pool.giveBack(slot);
        piece(error, moved);
      });
      next();
    };
    const next = () => {
      if (queue.length === 0 || joint.failed) return joint.close();
      try {
        pool.take(() => this.#stagePool(provider, queue.length), ready);
      } catch (error) {
        joint.piece(0)(error as Error, 0);
        joint.close();
      }
    };
    next();
  }

  #stagePool(provider: PciDev | null, bytes: number): SlotPool {
    const { highWaterMark, queueDepth } = this.#options;
    const { logicalBlockSize: block } = this.target.limits;
    const largest = chunkSize(highWaterMark, block, provider?.p2pmem?.size);
    if (provider !== null) assertChunkFits(largest, provider);
    const chunk = Math.min(bytes, largest);
    const count = Math.min(queueDepth, Math.ceil(bytes / chunk));
    const { memory } = this.#context.backend;
    const fitting = provider === null ? count : Math.floor(memory.available(provider) / chunk);
    return new SlotPool(this.#context, provider, chunk, Math.max(1, Math.min(count, fitting)));
  }

  /** Write whole blocks from memory that a drive can reach. */
  #whole(view: Uint8Array, offset: number, ended: Ended): void {
    const bytes = view.length;
    this.#admit('direct', bytes, offset, (over) => {
      const last: Ended = (error, moved) => {
        over();
        ended(error, moved);
      };
      this.#submit([view], offset, false, (error, moved) => {
        if (!this.#isRefusal(error, view, offset)) return last(error, moved);
        if (this.requireP2p) return last(p2pRequired(this.target.path, error.message), moved);
        if (view.length < bytes) return last(memoryGone(this.target, view, offset), moved);
        // Only one retry: if host memory is refused too, there is another reason.
        this.#submit([this.#bounce(view, error)], offset, false, last);
      });
    });
  }

  /** The device refused this memory: the CPU copies it to host memory, and the giver is notified. */
  #bounce(view: Uint8Array, error: P2pdmaError): Uint8Array {
    const copy = this.#context.backend.memory.allocBuffer(view.length);
    copy.set(view);
    this.#tally.path.hostDram += copy.length;
    this.#note(error, view);
    return copy;
  }

  #isRefusal(error: Error | null, view: Uint8Array, offset: number): error is P2pdmaError {
    if (!(error instanceof P2pdmaError) || error.errno === undefined) return false;
    const aligned = isAligned(this.target.limits, offset, view);
    const { release } = this.#context.backend;
    return isPeerRefusal(error.errno, { provider: providerOf(view), aligned, release });
  }

  #note(error: P2pdmaError, view: Uint8Array): void {
    const reason = refusalWords(this.target.path, error.errno ?? 0, providerOf(view));
    this.#tally.refusal = reason;
    this.onRefused?.(reason);
  }

  /** Write a part of a block, or of a page of a file. */
  #part(view: Uint8Array, offset: number, joint: Joint): void {
    if (view.length === 0) return;
    const ended = joint.piece(view.length);
    if (this.target.kind !== 'file') return this.#merge(view, offset, ended);
    this.#tally.ragged(offset, view.length);
    this.#cached([view], offset, ended);
  }

  /** Write through the page cache. It accepts any byte range, so no copy is needed here. */
  #cached(views: readonly Uint8Array[], offset: number, ended: Ended): void {
    const bytes = lengthOf(views);
    this.#admit('cached', bytes, offset, (over) => {
      const last: Ended = (error, moved) => {
        over();
        ended(error, moved);
      };
      if (lengthOf(views) < bytes) return last(memoryGone(this.target, views[0]!, offset), 0);
      this.#submit(together(views), offset, true, last);
    });
  }

  /** Call `start` when no conflicting write is in flight. */
  #admit(kind: 'direct' | 'cached', bytes: number, offset: number, start: (over: () => void) => void): void {
    if (this.target.kind === 'file') this.#turns.run(kind, () => start(() => this.#turns.over()));
    else this.#locks.lock(this.#range(offset, bytes, false), start);
  }

  #range(offset: number, bytes: number, exclusive: boolean) {
    const { on, base } = this.#place;
    return { on, start: base + offset, end: base + offset + bytes, exclusive };
  }

  #submit(views: readonly Uint8Array[], offset: number, buffered: boolean, ended: Ended): void {
    if (this.#stopped) return ended(closedError(this.target.path), 0);
    const tally = this.#tally;
    const view = views[0]!;
    const peer = providerOf(view) !== null;
    const transfer = this.#spare.pop() ?? new Transfer();
    transfer.buffered = buffered;
    transfer.more = views.length === 1 ? NO_MORE : views.slice(1);
    tally.inFlight++;
    const move = { op: 'write', view, offset, expect: lengthOf(views) } as const;
    transfer.start(this.target, move, ({ error, moved, path }) => {
      tally.inFlight--;
      tally.writes++;
      addPath(tally.path, path);
      tally.written.add(offset, moved);
      if (peer && !buffered) tally.peerBytes += moved;
      else if (!buffered) tally.hostBytes += moved;
      transfer.more = NO_MORE;
      this.#spare.push(transfer);
      ended(error, moved);
    });
  }

  #merge(part: Uint8Array, offset: number, ended: Ended): void {
    const { logicalBlockSize: block } = this.target.limits;
    // The part has no length any more if its memory goes away before it is this write's turn.
    const bytes = part.length;
    this.#locks.lock(this.#range(offset - (offset % block), block, true), (release) => {
      const last: Ended = (error, moved) => {
        release();
        ended(error, moved);
      };
      this.#mergeThrough(providerOf(part), part, bytes, offset).then(
        () => last(null, bytes),
        (error: Error) => last(error, 0),
      );
    });
  }

  /** Merge through one block of the same kind of memory that the part is in, so that peer-to-peer data stays peer-to-peer. */
  async #mergeThrough(
    provider: PciDev | null,
    part: Uint8Array,
    bytes: number,
    offset: number,
  ): Promise<void> {
    if (this.#stopped) throw closedError(this.target.path);
    const { logicalBlockSize } = this.target.limits;
    const tally = this.#tally;
    this.#edges ??= new Map();
    const pool = atNeed(this.#edges, provider);
    const slot = await new Promise<Slot>((ready) => pool.take(() => this.#edgePool(provider), ready));
    tally.inFlight++;
    try {
      if (slot.isGone || part.length < bytes) throw memoryGone(this.target, part, offset);
      const block = slot.view(logicalBlockSize);
      await mergeIntoBlock(this.target, part, offset, block, tally.path);
      tally.writes++;
      tally.written.add(offset, bytes);
      if (slot.pool.provider === null) tally.hostBytes += bytes;
      else tally.peerBytes += bytes;
    } catch (thrown) {
      const error = thrown as Error;
      if (!this.#isRefusal(error, slot.buffer, offset - (offset % logicalBlockSize))) throw error;
      if (this.requireP2p) throw p2pRequired(this.target.path, error.message);
      this.#note(error, slot.buffer);
      await this.#mergeThrough(null, part, bytes, offset);
    } finally {
      tally.inFlight--;
      pool.giveBack(slot);
    }
  }

  #edgePool(provider: PciDev | null): SlotPool {
    const bytes = Math.max(this.target.limits.logicalBlockSize, PAGE_SIZE);
    const { memory } = this.#context.backend;
    const count = provider !== null && memory.available(provider) < 2 * bytes ? 1 : 2;
    try {
      return new SlotPool(this.#context, provider, bytes, count);
    } catch (error) {
      if (provider === null || this.requireP2p) throw error;
      return new SlotPool(this.#context, null, bytes, count);
    }
  }
}

function toNext(offset: number, unit: number): number {
  return (unit - (offset % unit)) % unit;
}

function atNeed(pools: Map<PciDev | null, PoolAtNeed>, provider: PciDev | null): PoolAtNeed {
  const pool = pools.get(provider) ?? new PoolAtNeed();
  pools.set(provider, pool);
  return pool;
}

function providerOf(view: Uint8Array): PciDev | null {
  return pgmapOf(view)?.provider ?? null;
}

/** Few enough views for one call. If there are too many, they are copied into one buffer. */
function together(views: readonly Uint8Array[]): readonly Uint8Array[] {
  return views.length <= MOST_VIEWS ? views : [Buffer.concat(views)];
}

function zeros(bytes: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let left = bytes; left > 0; left -= chunks.at(-1)!.length) chunks.push(holeChunk(left));
  return chunks;
}
