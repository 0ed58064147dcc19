/**
 * Reading ahead of whoever takes the chunks: up to `depth` transfers in flight, chunks handed out in the order of their
 * offsets, and only what the transfers brought.
 *
 *     position            next                      end
 *        │ done │ in flight │ in flight │  not begun  │
 *        └ take()
 *
 * A device ends where its size says. A file ends where a read brings nothing more, whatever its size was at opening: one
 * that was cut short ends early, one that grew is read on unless an end was asked for.
 */

import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { addPath } from '../backend/path-bytes.js';
import { EFAULT } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import type { AsyncScope } from './async-scope.js';
import type { Extents } from './extents.js';
import { holeChunk } from './lending.js';
import type { ReadSettings } from './options.js';
import type { Pace } from './pace.js';
import { ReadJob } from './read-job.js';
import type { StreamContext } from './session.js';
import type { Slot } from './slot-pool.js';

/** What a reader is made of, for those who read for it. */
export interface ReaderParts {
  readonly context: StreamContext;
  readonly target: BlockTarget;
  readonly settings: ReadSettings;
  readonly scope: AsyncScope;
  readonly extents: Extents | null;
  readonly pace: Pace | null;
  /** Where the bytes of its reads are booked. */
  readonly path: PathBytes;
}

/** Memory for one read. */
export interface Piece {
  readonly view: Uint8Array;
  /** Null: ordinary memory, which whoever gets it may keep. */
  readonly slot: Slot | null;
}

/** Whose reading it is. */
export interface Reading {
  readonly target: BlockTarget;
  readonly depth: number;
  readonly canary: boolean;
  readonly extents: Extents | null;
  readonly pace: Pace | null;
  readonly scope: AsyncScope;
  /** Where the bytes of its reads are booked. */
  readonly path: PathBytes;
  /** Largest chunk, in bytes: whole blocks. */
  chunk(): number;
  /** Memory for so many bytes; null: none now, and `go()` comes when there is some. */
  memory(bytes: number): Piece | null;
  /** Something may have come to the head, or there is room for more. */
  go(): void;
  /** A read failed. True: it was begun again, with `again()`. */
  retries(job: ReadJob, error: Error): boolean;
}

/** Asked for where a file is said to end, to see whether it does. */
const PROBE = 4096;
/** Asked for of a file that says it is empty. */
const FIRST_LOOK = 64 * 1024;

export class ReadAhead {
  readonly #reading: Reading;
  readonly #isFile: boolean;
  readonly #block: number;
  #jobs: ReadJob[] = [];
  #spare: ReadJob[] = [];
  #position: number;
  #next: number;
  #end: number;
  /** Where the file was seen to end. */
  #known: number;
  /** It gave bytes beyond its own size: only reading tells where it ends, so one read at a time. */
  #sizeless = false;
  readonly #under = new InFlight();
  #reads = 0;
  #timer: NodeJS.Timeout | null = null;

  /** From byte `from` up to (not including) `end`; of a file up to where it ends. */
  constructor(reading: Reading, from: number, end: number) {
    const { target } = reading;
    this.#reading = reading;
    this.#isFile = target.kind === 'file';
    this.#block = target.limits.logicalBlockSize;
    this.#position = from;
    this.#next = from;
    this.#known = target.size;
    this.#end = this.#isFile ? end : Math.min(end, this.#known);
  }

  /** Bytes up to here were taken. */
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
  /** Everything was taken, and there is no more. */
  get ended(): boolean {
    return this.#jobs.length === 0 && this.#next >= this.#end;
  }

  /** Begin as many reads as fit. */
  fill(): void {
    const { depth, pace, extents } = this.#reading;
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

  /** Behind the size that is known there is at most one read, at the head. */
  #mayReadOn(): boolean {
    if (!this.#isFile || this.#jobs.length === 0) return true;
    return !this.#sizeless && this.#next <= this.#known;
  }

  #begin(): boolean {
    const { extents, pace } = this.#reading;
    const block = this.#block;
    const offset = this.#next - (this.#next % block);
    let behind = this.#isFile ? Math.min(this.#end, this.#reach()) : this.#end;
    if (extents !== null && extents.dataEnd > this.#next) behind = Math.min(behind, extents.dataEnd);
    const length = Math.min(Math.ceil((behind - offset) / block) * block, this.#reading.chunk());
    const piece = this.#reading.memory(length);
    if (piece === null) return false;
    const job = this.#spare.pop() ?? new ReadJob();
    job.offset = offset;
    job.length = length;
    job.from = this.#next - offset;
    // A file that has grown meanwhile fills its last block further than was known.
    job.to = Math.min(length, (this.#isFile ? this.#end : behind) - offset);
    job.hole = false;
    job.finished = false;
    job.error = null;
    job.dropped = false;
    this.#next = offset + job.to;
    pace?.spend(job.to - job.from, performance.now());
    this.#jobs.push(job);
    this.again(job, piece);
    return true;
  }

  /** How far a read at `next` asks: one byte beyond the known end, so that it sees whether there is more. */
  #reach(): number {
    if (this.#sizeless) return this.#next + this.#reading.chunk();
    if (this.#next < this.#known) return this.#known + 1;
    return this.#next + (this.#known === 0 ? FIRST_LOOK : PROBE);
  }

  /** True: the next read is not due yet; `go()` comes when it is. */
  #mustWait(pace: Pace): boolean {
    const delay = pace.delay(performance.now());
    if (delay === 0) return false;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#reading.scope.run(this.#reading.go);
    }, Math.ceil(delay));
    return true;
  }

  /** A job that is done: a hole has nothing to read. */
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

  /** Read it into this memory; also what was refused in other memory. */
  again(job: ReadJob, { view, slot }: Piece): void {
    const { target, canary, scope } = this.#reading;
    job.view = view;
    job.slot = slot;
    if (canary && slot?.pool.provider != null) job.canary.poison(view);
    else job.canary.forget();
    this.#under.enter();
    const expect = this.#isFile ? 0 : Math.min(job.length, target.size - job.offset);
    const move = { op: 'read', view, offset: job.offset, expect } as const;
    job.transfer.start(target, move, () => scope.run(this.#over, job));
  }

  readonly #over = (job: ReadJob): void => {
    const { transfer } = job;
    this.#reads++;
    addPath(this.#reading.path, transfer.path);
    // What is begun again was entered again.
    const retried = !job.dropped && transfer.error !== null && this.#reading.retries(job, transfer.error);
    this.#under.leave();
    if (retried) return;
    if (job.dropped) {
      job.drop();
    } else {
      job.moved = transfer.moved;
      job.error ??= transfer.error;
      if (transfer.moved === job.length) {
        job.error ??= job.canary.check(job.view, this.#reading.target.path, job.offset);
      }
      job.finished = true;
      this.#reading.go();
    }
  };

  /** The next chunk, if it is there. What it brings is in `bytes`; give the job back with `put()`. */
  take(): ReadJob | null {
    const job = this.#jobs[0];
    if (job === undefined || !job.finished || this.#isLost(job)) return null;
    this.#jobs.shift();
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

  /** What was read into memory that is gone by now is read again, or was not read. */
  #isLost(job: ReadJob): boolean {
    if (job.error !== null || job.slot === null || !job.slot.isGone) return false;
    const error = errnoError(-EFAULT, 'read', this.#reading.target.path, { offset: job.offset });
    job.finished = false;
    if (this.#reading.retries(job, error)) return true;
    job.finished = true;
    job.error ??= error;
    return false;
  }

  /** What this chunk says of the file's length. */
  #look(job: ReadJob): void {
    if (job.moved < job.to) {
      // The transfer has made sure that nothing follows.
      this.#forget();
      this.#end = this.#next = this.#position;
      return;
    }
    if (this.#position <= this.#known) return;
    const size = this.#reading.target.size;
    this.#sizeless = this.#position > size;
    this.#known = Math.max(size, this.#position);
  }

  /** The caller is through with the job that `take()` gave. */
  put(job: ReadJob): void {
    job.slot = null;
    this.#spare.push(job);
  }

  /** No further read begins; what was begun is still handed out. */
  stop(): void {
    this.#end = Math.min(this.#end, this.#next);
  }

  #forget(): void {
    for (const job of this.#jobs.splice(0)) {
      job.dropped = true;
      if (job.finished) job.drop();
    }
  }

  /** Let go of all that was not taken. Resolves, when no read is in flight any more, to where reading is to go on. */
  async halt(): Promise<number> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#forget();
    this.#end = this.#next = this.#position;
    await this.#under.idle();
    return this.#position;
  }
}
