/**
 * What node:fs has to read and write itself, in the shape of a target: pipes, character devices, files that are appended to,
 * descriptors that somebody else opened. One call is in flight at a time, in the order of the requests.
 *
 *     positioned      pread(2), pwrite(2) at the request's offset
 *     otherwise       read(2), write(2) where the file stands; a request that is not the next one in order is refused
 */
import { fstatSync, type Stats } from 'node:fs';
import type { BlockTarget, IoRequest, PathBytes, QueueLimits, UnderlyingRange } from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { clearPath } from '../backend/path-bytes.js';
import { EBADF, ENOTTY, EOPNOTSUPP, ESPIPE, errnoOf } from '../base/errno.js';
import { errnoError, hostError } from '../base/errors.js';
import { fileRange } from './file-range.js';
import type { PlainFile } from './plain-file.js';

const LIMITS: QueueLimits = {
  ...{ logicalBlockSize: 1, dmaAlignment: 1, maxTransfer: 1024 * 1024, maxSegments: 1, pciP2pdma: false },
};

export interface PlainFacts {
  /** As the caller named it, in words for errors. */
  readonly path: string;
  /** Why node:fs does its I/O, in words. */
  readonly reason: string;
  /** True: the caller chose the offset of the first byte. */
  readonly positioned: boolean;
}

export class PlainTarget implements BlockTarget {
  readonly name: string;
  readonly path: string;
  readonly kind = 'file';
  readonly client = null;
  readonly limits = LIMITS;
  readonly noP2pReason: string;
  readonly inOrder: string;
  readonly unproven = null;
  readonly ranges: readonly UnderlyingRange[];
  readonly readable = true;
  readonly #file: PlainFile;
  readonly #positioned: boolean;
  readonly #waiting: IoRequest[] = [];
  readonly #inFlight = new InFlight();
  #busy = false;
  /** The offset behind the last byte that went through; null: none did. */
  #reached: number | null = null;
  #closing: Promise<void> | null = null;

  constructor(file: PlainFile, { path, reason, positioned }: PlainFacts) {
    this.#file = file;
    this.name = path;
    this.path = path;
    this.noP2pReason = reason;
    this.inOrder = reason;
    this.#positioned = positioned;
    this.ranges = rangesOf(file, path, positioned);
  }

  get fd(): number {
    return this.#file.fd;
  }

  /** For a handle, which chooses the position of each call. */
  get file(): PlainFile {
    return this.#file;
  }

  /** The same file for a stream that begins at an offset of its own, or where the file stands. */
  positioned(positioned: boolean): PlainTarget {
    const { path, inOrder: reason } = this;
    return new PlainTarget(this.#file, { path, reason, positioned });
  }

  /** How far it was read or written: what has no offsets has no other size. */
  get size(): number {
    return this.#reached ?? 0;
  }

  submit(io: IoRequest): void {
    this.#inFlight.enter();
    this.#waiting.push(io);
    if (this.#busy) return;
    this.#busy = true;
    queueMicrotask(() => this.#next());
  }

  #next(): void {
    const io = this.#waiting.splice(this.#nextInOrder(), 1)[0];
    if (io === undefined) this.#busy = false;
    else if (this.#closing !== null) this.#end(io, -EBADF);
    else if (!this.#positioned && io.offset !== (this.#reached ?? io.offset)) this.#end(io, -ESPIPE);
    else if (io.op === 'read') this.#read(io);
    else this.#write(io, io.segments, 0);
  }

  /** The rest of a request of which a part went through was submitted again behind those that follow it. */
  #nextInOrder(): number {
    if (this.#positioned) return 0;
    return Math.max(
      0,
      this.#waiting.findIndex(({ offset }) => offset === this.#reached),
    );
  }

  #read(io: IoRequest): void {
    this.#file.read(io.segments[0]!, this.#positioned ? io.offset : null, (error, bytes) =>
      this.#end(io, error ? -errnoOf(error) : bytes),
    );
  }

  /** Writes all of it, however little the kernel accepts in one call. */
  #write(io: IoRequest, segments: readonly Uint8Array[], moved: number): void {
    const [view, ...more] = segments;
    if (view === undefined) return this.#end(io, moved);
    if (view.length === 0) return this.#write(io, more, moved);
    this.#file.write(view, this.#positioned ? io.offset + moved : null, (error, bytes) => {
      if (error === null && bytes > 0) this.#write(io, [view.subarray(bytes), ...more], moved + bytes);
      else this.#end(io, error === null || moved > 0 ? moved : -errnoOf(error));
    });
  }

  #end(io: IoRequest, result: number): void {
    io.result = result;
    countHost(io.path, Math.max(0, result));
    if (result >= 0) this.#reached = io.offset + result;
    this.#inFlight.leave();
    try {
      io.done(io);
    } finally {
      this.#next();
    }
  }

  /** Only a file has something that can be made durable. */
  async flush(): Promise<void> {
    const stats = await this.#call<Stats>('fstat', (done) => this.#file.stat(done));
    if (stats.isFile() || stats.isBlockDevice()) await this.#call('fsync', (done) => this.#file.sync(done));
  }

  async truncate(size: number): Promise<void> {
    await this.#call('ftruncate', (done) => this.#file.truncate(size, done));
  }

  seekData(offset: number): number {
    return offset;
  }

  seekHole(): number {
    return Number.POSITIVE_INFINITY;
  }

  async punchHole(): Promise<void> {
    throw errnoError(-EOPNOTSUPP, 'fallocate', this.path);
  }

  async passthrough(): Promise<never> {
    throw errnoError(-ENOTTY, 'ioctl', this.path);
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#inFlight.idle();
      await this.#call('close', (done) => this.#file.close(done));
    })();
    return this.#closing;
  }

  #call<T>(
    syscall: string,
    run: (done: (error: NodeJS.ErrnoException | null, value: T) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      run((error, value) => {
        if (error === null) resolve(value);
        else reject(hostError(error, syscall, this.path));
      });
    });
  }
}

/** Which bytes of it are used is known if the caller chose them; a pipe or a character device has none that last. */
function rangesOf({ fd }: PlainFile, path: string, exact: boolean): UnderlyingRange[] {
  try {
    const there = fstatSync(fd, { bigint: true });
    return there.isFile() || there.isBlockDevice() ? [{ ...fileRange(path, there), exact }] : [];
  } catch {
    // It is closed by now. Whoever uses it is told so.
    return [];
  }
}

function countHost(path: PathBytes, bytes: number): void {
  clearPath(path);
  path.hostDram = bytes;
}
