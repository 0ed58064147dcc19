/**
 * Reads ahead of the consumer of the chunks. Up to `depth` transfers are in flight. Chunks are handed out in the order of
 * their offsets, and contain only bytes that the transfers have read.
 *
 *     position            next                      end
 *        │ done │ in flight │ in flight │  not begun  │
 *        └ take()
 *
 * A device ends where its size says. A file ends where a read returns nothing more, whatever its size was when it was
 * opened: a file that was truncated ends early, and a file that has grown is read further unless an end was requested.
 */

import { type BlockTarget, type PathBytes, sizeThisTurn } from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { addPath } from '../backend/path-bytes.js';
import { EFAULT } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import type { AheadBudget } from './ahead-budget.js';
import type { AsyncScope } from './async-scope.js';
import type { Extents } from './extents.js';
import { holeChunk } from './lending.js';
import type { ReadSettings } from './options.js';
import type { Pace } from './pace.js';
import { ReadJob } from './read-job.js';
import type { StreamContext } from './session.js';
import type { Slot } from './slot-pool.js';

/** The parts of a reader, for the classes that read on its behalf. */
export interface ReaderParts {
  readonly context: StreamContext;
  readonly target: BlockTarget;
  readonly settings: ReadSettings;
  readonly scope: AsyncScope;
  readonly extents: Extents | null;
  readonly pace: Pace | null;
  /** The account to which the bytes of its reads are added. */
  readonly path: PathBytes;
}

/** Those of them that reading ahead needs. */
type ReadParts = Omit<ReaderParts, 'context' | 'settings'> & {
  readonly settings: Pick<ReadSettings, 'canary'>;
};

/** Memory for one read. */
export interface Piece {
  readonly view: Uint8Array;
  /** Null: ordinary memory, which the consumer may keep. */
  readonly slot: Slot | null;
}

/** What the reading needs from its owner. */
export interface Reading {
  /** The most reads that are in flight, or wait to be taken. */
  readonly depth: number;
  /** Where readers share what they may read ahead, beside one read each; absent: this one shares with nobody. */
  readonly budget?: AheadBudget | undefined;
  /** Size of the largest chunk in bytes; a multiple of the block size. */
  chunk(): number;
  /**
   * How many bytes each chunk has to have (the last one may have less), whatever the blocks: a block in which a chunk ends is
   * read again for the next one. Absent: chunks end where blocks do.
   */
  readonly exact?: number | undefined;
  /** Memory for this number of bytes; null: none is free now, and `go()` is called when there is some. */
  memory(bytes: number): Piece | null;
  /** Called when the next chunk may be ready, or when there is room for more reads. */
  go(): void;
  /** Called when a read failed. Returns true if the read was begun again with `again()`. */
  retries(job: ReadJob, error: Error): boolean;
}

/** Bytes to request at the known end of a file, to check whether it really ends there. */
const PROBE = 4096;
/** Bytes to request from a file whose size is 0. */
const FIRST_LOOK = 64 * 1024;

export class ReadAhead {
  readonly #parts: ReadParts;
  readonly #reading: Reading;
  readonly #isFile: boolean;
  readonly #block: number;
  #jobs: ReadJob[] = [];
  #spare: ReadJob[] = [];
  #position: number;
  #next: number;
  #end: number;
  /** The known end of the file. */
  #known: number;
  /** The file returned bytes beyond its size. Only reading shows where it ends, so only one read is in flight at a time. */
  #sizeless = false;
  readonly #under = new InFlight();
  #reads = 0;
  #timer: NodeJS.Timeout | null = null;

  /**
   * Reads from byte `from` up to (not including) `end`; of a file, at most up to its end.
   * @param size of the target, as it is now
   */
  constructor(
    parts: ReadParts,
    reading: Reading,
    from: number,
    end: number,
    size = sizeThisTurn(parts.target),
  ) {
    const { target } = parts;
    this.#parts = parts;
    this.#reading = reading;
    this.#isFile = target.kind === 'file';
    this.#sizeless = target.inOrder !== undefined;
    this.#block = target.limits.logicalBlockSize;
    this.#position = from;
    this.#next = from;
    this.#known = size;
    this.#end = this.#isFile ? end : Math.min(end, this.#known);
  }

  /** All bytes before this offset were taken. */
  get position(): number {
    return this.#position;
  }
  /** Reads in flight. */
  get inFlight(): number {
    return this.#under.count;
  }
  /** Reads that ended. */
  get reads(): number {
    return this.#reads;
  }
  /** True if everything was taken and nothing more will be read. */
  get ended(): boolean {
    return this.#jobs.length === 0 && this.#next >= this.#end;
  }

  /** True if, in addition, no read is in flight that was dropped. */
  get isIdle(): boolean {
    return this.ended && this.#under.count === 0;
  }

  /** Begin as many reads as `depth`, the budget, the memory and the pace allow. */
  fill(): void {
    const { pace, extents } = this.#parts;
    const { depth } = this.#reading;
    while (this.#next < this.#end && this.#jobs.length < depth && this.#mayReadOn()) {
      const hole = extents === null ? 0 : extents.holeAt(this.#next, Math.min(this.#end, this.#known));
      if (hole > 0) {
        this.#skip(hole);
        continue;
      }
      if (pace !== null && this.#mustWait(pace)) return;
      if (!this.#begin()) return;
    }
  }

  /**
   * One read there may always be; more, if the budget has room. Beyond the known size of a file there is at most one, and it is
   * the first in the queue.
   */
  #mayReadOn(): boolean {
    if (this.#jobs.length === 0) return true;
    if (this.#reading.budget?.hasRoom === false) return false;
    return !this.#isFile || (!this.#sizeless && this.#next <= this.#known);
  }

  #begin(): boolean {
    const { extents, pace } = this.#parts;
    const block = this.#block;
    const offset = this.#next - (this.#next % block);
    const { exact = Number.POSITIVE_INFINITY } = this.#reading;
    const most = this.#next + exact;
    let behind = Math.min(this.#isFile ? Math.min(this.#end, this.#reach()) : this.#end, most);
    if (extents !== null && extents.dataEnd > this.#next) behind = Math.min(behind, extents.dataEnd);
    const whole = Math.ceil((behind - offset) / block) * block;
    const length = most === Number.POSITIVE_INFINITY ? Math.min(whole, this.#reading.chunk()) : whole;
    const piece = this.#reading.memory(length);
    if (piece === null) return false;
    const job = this.#spare.pop() ?? new ReadJob();
    job.offset = offset;
    job.length = length;
    job.from = this.#next - offset;
    // A file that has grown in the meantime fills more of its last block than the known size says.
    job.to = Math.min(length, (this.#isFile ? Math.min(this.#end, most) : behind) - offset);
    job.hole = false;
    job.finished = false;
    job.error = null;
    job.dropped = false;
    this.#next = offset + job.to;
    pace?.spend(job.to - job.from, performance.now());
    this.#jobs.push(job);
    this.#reading.budget?.take(length);
    this.again(job, piece);
    return true;
  }

  /** How far a read at `next` reaches: one byte beyond the known end, so that it detects whether there is more. */
  #reach(): number {
    if (this.#sizeless) return this.#next + this.#reading.chunk();
    if (this.#next < this.#known) return this.#known + 1;
    return this.#next + (this.#known === 0 ? FIRST_LOOK : PROBE);
  }

  /** True: the next read is not due yet; `go()` is called when it is. */
  #mustWait(pace: Pace): boolean {
    const delay = pace.delay(performance.now());
    if (delay === 0) return false;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#parts.scope.run(this.#reading.go);
    }, Math.ceil(delay));
    return true;
  }

  /** Add a job that is finished at once, because in a hole there is nothing to read. */
  #skip(hole: number): void {
    const job = this.#spare.pop() ?? new ReadJob();
    job.view = holeChunk(hole);
    job.offset = this.#next;
    job.from = 0;
    job.to = job.moved = job.view.length;
    job.hole = true;
    job.finished = true;
    job.error = null;
    job.dropped = false;
    this.#next += job.to;
    this.#jobs.push(job);
  }

  /** Read the job into this memory. Also used to retry a read for which the kernel refused other memory. */
  again(job: ReadJob, { view, slot }: Piece): void {
    const { target, settings, scope } = this.#parts;
    job.view = view;
    job.slot = slot;
    if (settings.canary && slot?.pool.provider != null) job.canary.poison(view);
    else job.canary.forget();
    this.#under.enter();
    const expect = this.#isFile ? 0 : Math.min(job.length, target.size - job.offset);
    const cacheable = slot === null || slot.pool.provider === null;
    const size = this.#isFile ? this.#known : undefined;
    const move = { op: 'read', view, offset: job.offset, expect, size, cacheable } as const;
    job.transfer.start(target, move, () => scope.run(this.#over, job));
  }

  readonly #over = (job: ReadJob): void => {
    const { transfer } = job;
    this.#reads++;
    addPath(this.#parts.path, transfer.path);
    // If the read was begun again, it was also counted again in `#under`.
    const retried = !job.dropped && transfer.error !== null && this.#reading.retries(job, transfer.error);
    this.#under.leave();
    if (retried) return;
    if (job.dropped) {
      job.drop();
    } else {
      job.moved = transfer.moved;
      job.error ??= transfer.error;
      if (transfer.moved === job.length) {
        job.error ??= job.canary.check(job.view, this.#parts.target.path, job.offset);
      }
      job.finished = true;
      this.#reading.go();
    }
  };

  /** The next chunk, if it is ready. Its data is in `bytes`; give the job back with `put()`. */
  take(): ReadJob | null {
    const job = this.#jobs[0];
    if (job === undefined || !job.finished || this.#isLost(job)) return null;
    this.#jobs.shift();
    this.#left(job);
    if (job.error !== null || job.hole) {
      this.#position += job.hole ? job.to : 0;
      return job;
    }
    const got = job.bytes.length;
    this.#position += got;
    if (this.#isFile) this.#look(job);
    if (got > 0) return job;
    job.drop();
    this.put(job);
    return null;
  }

  /** True: the data was in memory that is gone now, and is read again. If that is impossible, the job gets an error. */
  #isLost(job: ReadJob): boolean {
    if (job.error !== null || job.slot === null || !job.slot.isGone) return false;
    const error = errnoError(-EFAULT, 'read', this.#parts.target.path, { offset: job.offset });
    job.finished = false;
    if (this.#reading.retries(job, error)) return true;
    job.finished = true;
    job.error ??= error;
    return false;
  }

  /** Learn from this chunk how long the file is. */
  #look(job: ReadJob): void {
    if (this.#parts.target.inOrder !== undefined && job.moved > 0) {
      this.#next = this.#position;
      return;
    }
    if (job.moved < job.to) {
      // The transfer has checked that nothing follows.
      this.#forget();
      this.#end = this.#next = this.#position;
      return;
    }
    if (this.#position <= this.#known) return;
    const size = this.#parts.target.size;
    this.#sizeless = this.#position > size;
    this.#known = Math.max(size, this.#position);
  }

  /** The caller has finished with the job that it got from `take()`. */
  put(job: ReadJob): void {
    job.slot = null;
    this.#spare.push(job);
  }

  /** Begin no further read. Reads that have begun are still handed out. */
  stop(): void {
    this.#end = Math.min(this.#end, this.#next);
  }

  /** A job is ahead no more. */
  #left({ hole, length }: ReadJob): void {
    if (!hole) this.#reading.budget?.giveBack(length);
  }

  #forget(): void {
    for (const job of this.#jobs.splice(0)) {
      this.#left(job);
      job.dropped = true;
      if (job.finished) job.drop();
    }
  }

  /** Drop everything that was not taken. When no read is in flight any more, resolves to where reading has to continue. */
  async halt(): Promise<number> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#forget();
    this.#end = this.#next = this.#position;
    await this.#under.idle();
    return this.#position;
  }
}
