/**
 * What a P2pFileHandle over this package's own I/O reads and writes: any byte range of a target, from and into any memory. A
 * read covers whole blocks in memory of its own and copies what was asked for; a write goes as RangeWriter says, which changes
 * parts of blocks under a lock.
 */
import type { BlockTarget } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { type Metrics, Sums } from './metrics.js';
import { RangeWriter } from './range-writer.js';
import type { StreamContext } from './session.js';
import { transfer } from './transfer.js';
import { WriteTally } from './write-tally.js';

const STEP = 1024 * 1024;

/** What a handle is over. A position of null means: where the file stands, which is moved on. */
export interface HandleFile {
  readonly target: BlockTarget;
  /** What its flags allow. (A target is also read to write parts of its blocks.) */
  readonly allows: Allows;
  /** Fewer bytes than the view has: it ends there, or has no more now. */
  read(view: Uint8Array, position: number | null): Promise<number>;
  /** Writes all of it. */
  write(view: Uint8Array, position: number | null): Promise<number>;
  close(): Promise<void>;
  /** Add what was read and written, and what is in flight. */
  meter(into: Metrics): void;
  /** Where it stands; null: only the kernel knows. */
  readonly position: number | null;
  /** A stream began where it stands. From then on it stands behind the bytes that the stream has moved. */
  follow(moved: () => number): void;
  /** What a stream over it uses: from an offset of its own, or from where the file stands. */
  forStream(positioned: boolean): BlockTarget;
}

interface Allows {
  readonly read: boolean;
  readonly write: boolean;
}

export class BlockFile implements HandleFile {
  readonly target: BlockTarget;
  readonly allows: Allows;
  readonly #context: StreamContext;
  readonly #writer: RangeWriter;
  // Nobody asks how far it was written without a gap.
  readonly #tally = new WriteTally(Number.MAX_SAFE_INTEGER);
  readonly #reads = new Sums();
  #written = 0;
  #stands: () => number = () => 0;

  constructor(context: StreamContext, target: BlockTarget, allows: Allows) {
    this.#context = context;
    this.target = target;
    this.allows = allows;
    this.#writer = new RangeWriter(context, target, this.#tally, { queueDepth: 8 });
  }

  get position(): number {
    return this.#stands();
  }

  follow(moved: () => number): void {
    const from = this.position;
    const stands = () => from + moved();
    this.#stands = stands;
  }

  read(view: Uint8Array, position: number | null): Promise<number> {
    return position === null ? this.#here((here) => this.#readAt(view, here)) : this.#readAt(view, position);
  }

  write(view: Uint8Array, position: number | null): Promise<number> {
    return position === null
      ? this.#here((here) => this.#writeAt(view, here))
      : this.#writeAt(view, position);
  }

  async #here(move: (position: number) => Promise<number>): Promise<number> {
    const from = this.position;
    const bytes = await move(from);
    const stands = () => from + bytes;
    this.#stands = stands;
    return bytes;
  }

  async #readAt(view: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < view.length) {
      const wanted = view.subarray(done, done + STEP);
      const got = await this.#readStep(wanted, position + done);
      done += got;
      if (got < wanted.length) break;
    }
    return done;
  }

  async #readStep(view: Uint8Array, position: number): Promise<number> {
    const { kind, limits, size } = this.target;
    const block = limits.logicalBlockSize;
    const from = position % block;
    const end = kind === 'file' ? position + view.length : Math.min(size, position + view.length);
    if (end <= position) return 0;
    const length = Math.ceil((end - (position - from)) / block) * block;
    const whole = this.#context.backend.memory.allocBuffer(length);
    const expect = kind === 'file' ? 0 : length;
    const path = zeroPath();
    let bytes = 0;
    this.#reads.inFlight++;
    try {
      const move = { op: 'read', view: whole, offset: position - from, expect } as const;
      const moved = await transfer(this.target, move, path);
      const wanted = whole.subarray(from, Math.max(from, Math.min(moved, from + (end - position))));
      view.set(wanted);
      bytes = wanted.length;
    } finally {
      this.#reads.inFlight--;
      this.#reads.count('read', bytes, path);
    }
    return bytes;
  }

  #writeAt(view: Uint8Array, position: number): Promise<number> {
    if (view.length === 0) return Promise.resolve(0);
    return new Promise((resolve, reject) => {
      this.#writer.gather([view], position, null, (error, moved) => {
        this.#written += moved;
        if (error === null) resolve(moved);
        else reject(error);
      });
    });
  }

  meter(into: Metrics): void {
    this.#reads.addTo(into);
    into.bytes.write += this.#written;
    into.transfers.write += this.#tally.writes;
    into.inFlight += this.#tally.inFlight;
    addPath(into.path, this.#tally.path);
  }

  forStream(): BlockTarget {
    return this.target;
  }

  close(): Promise<void> {
    return this.#context.closeTarget(this.target);
  }
}
