import type { BlockTarget, IoRequest, PathBytes } from '../backend/backend.js';
import { addPath, clearPath, zeroPath } from '../backend/path-bytes.js';
import { EFAULT, EIO, ENOSPC } from '../base/errno.js';
import { P2pdmaError } from '../base/errors.js';
import { ByteQueue, lengthOf } from './byte-queue.js';
import { providerOf, transferError } from './refusal.js';

/** What a transfer moves. */
export interface Move {
  readonly op: 'read' | 'write';
  /** The memory. Its address and length are aligned. */
  readonly view: Uint8Array;
  readonly offset: number;
  /** The minimum number of bytes to move. Smaller than the view only if a target may end inside it. Default: all. */
  readonly expect?: number;
  /** For reading a file: its size a moment ago, so that nobody has to ask for it. */
  readonly size?: number | undefined;
  /** See IoRequest. Default: false. */
  readonly cacheable?: boolean;
}

const NOTHING: readonly Uint8Array[] = [];

/**
 * One transfer that moves all of its bytes or ends with an error, never with only a part of them. After a short count it
 * continues. A count of zero inside a device is an error, because a removed drive answers like this. Only a read of a file
 * may end early, and `moved` says where: the length of a file is the one that the kernel finds at that moment, not the one
 * that it had when it was opened.
 * Reusable: one object serves many transfers, one after the other.
 */
export class Transfer implements IoRequest {
  op: 'read' | 'write' = 'read';
  offset = 0;
  segments: readonly Uint8Array[] = NOTHING;
  /** The I/O is not direct: see IoRequest. Set this before `start`. */
  buffered = false;
  cacheable = false;
  /** For a buffered write: the memory that follows the view in the same transfer. Set this before `start`. */
  more: readonly Uint8Array[] = NOTHING;
  result = 0;
  readonly path: PathBytes = zeroPath();
  /** The number of bytes moved; never more than the memory has. */
  moved = 0;
  error: P2pdmaError | null = null;
  #target: BlockTarget | null = null;
  #single: Uint8Array[] = [];
  #view: Uint8Array | null = null;
  /** The offset in the target of the view's first byte. */
  #start = 0;
  #expect = 0;
  #size: number | undefined;
  /**
   * The path bytes of the earlier requests of this transfer, because a backend reports only one request. Null: there were none.
   */
  #before: PathBytes | null = null;
  #finished: ((transfer: this) => void) | null = null;

  /** Start the transfer. `finished` is called once, and never inside this call. */
  start(target: BlockTarget, move: Move, finished: (transfer: this) => void): void {
    const { op, view, offset, expect = view.length, size, cacheable = false } = move;
    this.op = op;
    this.cacheable = cacheable;
    this.offset = offset;
    this.#start = offset;
    this.#view = view;
    this.#single[0] = view;
    this.segments = this.more.length === 0 ? this.#single : [view, ...this.more];
    this.moved = 0;
    this.error = null;
    this.#expect = expect;
    this.#size = size;
    this.#target = target;
    this.#finished = finished;
    clearPath(this.path);
    this.#before = null;
    target.submit(this);
  }

  done(): void {
    const { kind, limits } = this.#target!;
    if (this.result < 0) return this.#finish(this.result);
    if (this.op === 'read' && kind === 'file') return this.#readOn();
    this.moved += this.result;
    if (this.moved >= this.#expect) return this.#finish(0);
    const unit = this.buffered ? 1 : limits.logicalBlockSize;
    if (this.result === 0 || this.moved % unit !== 0) return this.#finish(-EIO);
    this.#goOn(this.moved);
  }

  /**
   * A file ends where a read returns nothing more. After a count that ends inside a block, direct I/O has to begin with that
   * block again. This is not necessary if the position equals the file size that the kernel reports. If the file was
   * truncated in the meantime, it ends where this second read says: that read overwrote the earlier data with what follows
   * the file's end in its last block.
   */
  #readOn(): void {
    const target = this.#target!;
    const reached = this.offset - this.#start + this.result;
    const more = reached > this.moved;
    this.moved = reached;
    const at = this.#start + this.moved;
    if (!more || this.moved >= this.#view!.length || at === this.#size || at === target.size) {
      return this.#finish(this.moved >= this.#expect ? 0 : -EIO);
    }
    this.#goOn(this.moved - (this.buffered ? 0 : this.moved % target.limits.logicalBlockSize));
  }

  #goOn(at: number): void {
    // The memory was in a CMB, and is gone.
    const { length } = this.#view!;
    if (this.more.length === 0 ? at > length : length + lengthOf(this.more) < this.#expect) {
      this.result = -EFAULT;
      return this.#finish(-EFAULT);
    }
    this.#before ??= zeroPath();
    addPath(this.#before, this.path);
    clearPath(this.path);
    this.offset = this.#start + at;
    if (this.more.length === 0) this.#single[0] = this.#view!.subarray(at);
    else {
      const left = new ByteQueue([this.#view!, ...this.more]);
      left.cut(at);
      this.segments = left.cut(left.length);
    }
    this.#target!.submit(this);
  }

  #finish(errno: number): void {
    if (this.#before !== null) addPath(this.path, this.#before);
    const { path, kind } = this.#target!;
    if (errno < 0 && this.result < 0) {
      this.error = failedTransfer(
        errno,
        { op: this.op, view: this.#view!, offset: this.offset },
        this.#target!,
      );
    } else if (errno < 0) {
      const hint = kind === 'file' ? undefined : GONE;
      this.error = new P2pdmaError(
        'ERR_SHORT_TRANSFER',
        `${this.op} '${path}': ${this.moved} of ${this.#expect} bytes at offset ${this.#start}, then nothing`,
        { errno, syscall: this.op, path, offset: this.#start + this.moved, hint },
      );
    }
    const finished = this.#finished!;
    this.#finished = null;
    this.#view = null;
    finished(this);
  }
}

/** The error for a transfer that the kernel answered with a (negative) errno. */
export function failedTransfer(
  errno: number,
  { op, view, offset }: Move,
  target: Pick<BlockTarget, 'path' | 'kind' | 'zones'>,
): P2pdmaError {
  const hint = hintFor(errno, op, target);
  return transferError(errno, op, target.path, providerOf(view), { offset, hint });
}

/** EFAULT, as the kernel answers to a write from memory that is not there any more: the drive whose CMB it was in was removed. */
export function memoryGone(target: BlockTarget, view: Uint8Array, offset: number): P2pdmaError {
  return failedTransfer(-EFAULT, { op: 'write', view, offset }, target);
}

/** When parallel writes fill a target, their error must name the first byte that none of them wrote: correct its offset. */
export function atFirstMissing(error: Error, target: BlockTarget, offset: number): Error {
  if (!(error instanceof P2pdmaError) || error.errno === undefined || error.offset === offset) return error;
  const { errno, cause } = error;
  return transferError(errno, 'write', target.path, null, {
    offset,
    cause,
    hint: hintFor(errno, 'write', target),
  });
}

/** On Linux, a removed drive looks like one whose end was reached. */
const GONE = 'A removed device answers like this: check that it is still there.';

function hintFor(
  errno: number,
  op: 'read' | 'write',
  { kind, zones = null }: Pick<BlockTarget, 'kind' | 'zones'>,
): string | undefined {
  if (errno === -EIO && op === 'write' && zones !== null) return `${zones}: see its zones’ write pointers.`;
  if (errno === -EIO) return `The drive could not ${op} these blocks: check its health and the kernel log.`;
  // All requests stay within the known size, so the size must have changed.
  if (errno === -ENOSPC && kind !== 'file') return GONE;
  if (errno === -EFAULT)
    return 'The memory is no longer mapped: the drive whose CMB it is was removed, or the chunk belongs to another system.';
  return undefined;
}

/** `Transfer` as a promise, for code outside the hot path. Resolves to the number of bytes moved. */
export function transfer(target: BlockTarget, move: Move, path?: PathBytes): Promise<number> {
  return new Promise((resolve, reject) => {
    new Transfer().start(target, move, (done) => {
      if (path !== undefined) addPath(path, done.path);
      if (done.error !== null) reject(done.error);
      else resolve(done.moved);
    });
  });
}

export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

/** A promise with its resolve and reject functions (like Promise.withResolvers, which Node 20 does not have). */
export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
