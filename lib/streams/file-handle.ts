import { EventEmitter } from 'node:events';
import { type BigIntStats, fchmod, fchown, fstat, futimes, type Stats } from 'node:fs';
import type { Interface } from 'node:readline';
import type { ReadableStream } from 'node:stream/web';
import { assertEach, assertWhole, wrongArgument } from '../base/arguments.js';
import { builtin } from '../base/builtin.js';
import { EBADF, EOPNOTSUPP } from '../base/errno.js';
import { abortError, errnoError, hostError, P2pdmaError } from '../base/errors.js';
import type { HandleFile } from './handle-file.js';
import type { Metrics } from './metrics.js';
import {
  givenOptions,
  noEncoding,
  objectOptions,
  parseOptions,
  type ReadStreamOptions,
  type StreamArgument,
  type WholeFileOptions,
  type WriteStreamOptions,
  webStreamOptions,
  wholeFileOptions,
} from './options.js';
import { P2pReadStream } from './read-stream.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';
import { deferred } from './transfer.js';
import { HandleWebStream } from './web-stream.js';
import { P2pWriteStream } from './write-stream.js';

/** Bytes from the beginning; null, undefined or -1: where the handle stands. @inline */
type Position = number | bigint | null | undefined;
/** @inline */
type Piece = string | NodeJS.ArrayBufferView;
/** @inline */
type Data = Piece | AsyncIterable<Piece> | Iterable<Piece>;
/** @inline */
type WholeFileArgument = WholeFileOptions | BufferEncoding | null;
/** Where a read or a write has its bytes, and where in the target they are. @inline */
interface Place {
  /** First byte of the buffer. */
  readonly offset?: number | null | undefined;
  /** Number of bytes. */
  readonly length?: number | null | undefined;
  /** First byte in the target. */
  readonly position?: Position;
}

const DEFAULT_BYTES = 16 * 1024;

type Ours = P2pReadStream | P2pWriteStream;
type Access = 'read' | 'write';

/** Few programs need it: it is loaded with the first call. */
const util = () => builtin('node:util');

/**
 * A namespace, block device or file with the methods of the FileHandle of node:fs, in its order of arguments. Any offset,
 * length and memory will do: whole blocks move directly; a part of a file's block goes through the page cache; a part of a
 * device's block is read, changed and written back, during which no other write of this process to that block is let in. (A
 * write of another process to the same block at that moment can be lost: O_DIRECT has no smaller unit. Let one process write.)
 * Where no position is given, bytes are read and written where the handle stands, one call after the other.
 *
 * What only node:fs can open (flags that append, pipes, character devices) it also reads and writes. As there, the handle is
 * an EventEmitter: when it closes it emits `close`, and the streams over it are destroyed.
 */
export class P2pFileHandle extends EventEmitter {
  /** For this package's own functions. @internal */
  readonly metered = 'handle';
  readonly #context: StreamContext;
  readonly #file: HandleFile;
  readonly #path: string;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #under = new Set<Promise<unknown>>();
  /** The streams over it, and when each has nothing in flight any more. */
  readonly #streams = new Map<Ours, Promise<void>>();
  #web: HandleWebStream | null = null;
  #closing: Promise<void> | null = null;

  private constructor(context: StreamContext, file: HandleFile) {
    super();
    this.#context = context;
    this.#file = file;
    this.#path = file.target.path;
    context.add(this);
  }

  /** @internal */
  static over(context: StreamContext, file: HandleFile): P2pFileHandle {
    return new P2pFileHandle(context, file);
  }

  /** For this package's own functions. @internal */
  get meteredPath(): string {
    return this.#path;
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    this.#file.meter(into);
  }

  /** The number of the open descriptor; -1: it is closed, or it has none, as on a drive of an emulated machine. */
  get fd(): number {
    return this.#closing === null ? (this.#file.target.fd ?? -1) : -1;
  }

  /**
   * Read into `buffer`. Resolves to the buffer and the number of bytes, which is smaller than `length` only at the end.
   * @throws P2pdmaError ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, EBADF (closed)
   */
  read<T extends NodeJS.ArrayBufferView>(
    buffer: T,
    offset?: number | null | Place,
    length?: number | null,
    position?: Position,
  ): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends NodeJS.ArrayBufferView = Buffer>(
    options?: (Place & { buffer?: T }) | null,
  ): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends NodeJS.ArrayBufferView>(
    buffer?: T | (Place & { buffer?: T }) | null,
    offset?: number | null | Place,
    length?: number | null,
    position?: Position,
  ): Promise<{ bytesRead: number; buffer: T }> {
    return this.#call('read', async () => {
      const given: Place & { buffer?: T } = isView(buffer)
        ? { buffer: buffer as T, ...placeOf(offset, length, position) }
        : objectOptions(buffer as (Place & { buffer?: T }) | null | undefined);
      const into = (given.buffer ?? Buffer.alloc(DEFAULT_BYTES)) as T;
      const view = partOf('read', into, given);
      return { bytesRead: await this.#move('read', [view], given.position), buffer: into };
    });
  }

  /** Read into several buffers, one after the other. */
  readv<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: Position,
  ): Promise<{ bytesRead: number; buffers: T }> {
    return this.#call('readv', async () => ({
      bytesRead: await this.#move('read', viewsOf('readv', buffers), position),
      buffers,
    }));
  }

  /**
   * Write a part of `buffer`, or text: `write(text, position, encoding)`. All of it is written, or the call rejects.
   * @throws P2pdmaError ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, EBADF (closed, or not open for writing), ENOSPC
   */
  write<T extends NodeJS.ArrayBufferView | string>(
    buffer: T,
    offset?: Position | Place,
    length?: number | BufferEncoding | null,
    position?: Position,
  ): Promise<{ bytesWritten: number; buffer: T }> {
    return this.#call('write', async () => {
      const text = typeof buffer === 'string';
      const at = text ? (offset as Position) : placeOf(offset as number, length as number, position).position;
      const view = text
        ? bytesOfText(buffer, encodingOf(length as BufferEncoding))
        : partOf('write', buffer, placeOf(offset as number, length as number, position));
      // As in node:fs, where only text of no bytes reaches the kernel.
      if (text && view.length === 0) this.#assertAllowed('write');
      return { bytesWritten: await this.#move('write', [view], at), buffer };
    });
  }

  /** Write several buffers, one after the other. */
  writev<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: Position,
  ): Promise<{ bytesWritten: number; buffers: T }> {
    return this.#call('writev', async () => ({
      bytesWritten: await this.#move('write', viewsOf('writev', buffers), position),
      buffers,
    }));
  }

  /**
   * Everything from where the handle stands to the end, as bytes or, with an encoding, as text.
   * @throws P2pdmaError ABORT_ERR (`signal`), ERR_INVALID_ARG_VALUE (encoding), EBADF
   */
  readFile(options?: (WholeFileOptions & { encoding?: null }) | null): Promise<Buffer>;
  readFile(options: (WholeFileOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(options?: WholeFileArgument): Promise<Buffer | string> {
    return this.#call('read', async () => {
      const { encoding, signal } = parseOptions(wholeFileOptions, options);
      const chunks: Buffer[] = [];
      for (;;) {
        assertNotAborted(signal);
        const chunk = Buffer.allocUnsafe(512 * 1024);
        const bytes = await this.#move('read', [chunk], null);
        if (bytes === 0) break;
        chunks.push(chunk.subarray(0, bytes));
      }
      const all = Buffer.concat(chunks);
      return encoding ? all.toString(encoding) : all;
    });
  }

  /**
   * Write all of `data` where the handle stands: text, bytes, or an iterable of them.
   * @throws P2pdmaError ABORT_ERR (`signal`), ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, EBADF, ENOSPC
   */
  writeFile(data: Data, options?: WholeFileArgument): Promise<void> {
    return this.#call('write', async () => {
      const { encoding, signal, flush } = parseOptions(wholeFileOptions, options);
      for await (const piece of piecesOf(data)) {
        assertNotAborted(signal);
        const view = typeof piece === 'string' ? Buffer.from(piece, encoding || 'utf8') : piece;
        if (!isView(view)) throw wrongArgument('writeFile', 'each piece of data', DATA, piece);
        await this.#move('write', [bytesOf(view)], null);
      }
      if (flush) await this.#file.target.flush();
    });
  }

  /** Same as `writeFile`, as in node:fs: it writes where the handle stands. */
  appendFile(data: Data, options?: WholeFileArgument): Promise<void> {
    return this.writeFile(data, options);
  }

  /** What stat(2) says of it. @throws P2pdmaError EOPNOTSUPP: it is a drive of an emulated machine */
  stat(options?: { bigint?: false }): Promise<Stats>;
  stat(options: { bigint: true }): Promise<BigIntStats>;
  stat(options: { bigint?: boolean } = {}): Promise<Stats | BigIntStats> {
    return this.#ask('fstat', (fd) => util().promisify(fstat)(fd, objectOptions(options)));
  }

  /** Change its permissions. @throws P2pdmaError EPERM; EOPNOTSUPP: it is a drive of an emulated machine */
  chmod(mode: number | string): Promise<void> {
    return this.#ask('fchmod', (fd) => util().promisify(fchmod)(fd, mode));
  }

  /** Change its owner and group. @throws P2pdmaError EPERM; EOPNOTSUPP: it is a drive of an emulated machine */
  chown(uid: number, gid: number): Promise<void> {
    return this.#ask('fchown', (fd) => util().promisify(fchown)(fd, uid, gid));
  }

  /** Change its times. @throws P2pdmaError EPERM; EOPNOTSUPP: it is a drive of an emulated machine */
  utimes(atime: number | string | Date, mtime: number | string | Date): Promise<void> {
    return this.#ask('futimes', (fd) => util().promisify(futimes)(fd, atime, mtime));
  }

  /** Set a file's length; a negative one is 0, as in node:fs. @throws P2pdmaError EINVAL: it is a device */
  truncate(length = 0): Promise<void> {
    return this.#call('ftruncate', async () => {
      assertWhole('truncate', 'length', length, Number.MIN_SAFE_INTEGER);
      await this.#file.target.truncate(Math.max(0, length));
    });
  }

  /** Make everything that was written durable. */
  sync(): Promise<void> {
    return this.#call('fsync', () => this.#file.target.flush());
  }

  /** Same as `sync`. */
  datasync(): Promise<void> {
    return this.#call('fdatasync', () => this.#file.target.flush());
  }

  /**
   * Create a Readable over it. It begins where the handle stands if `start` is not given. The handle is closed with the stream;
   * with `autoClose: false`, only if the stream is destroyed.
   */
  createReadStream(options?: ReadStreamOptions | BufferEncoding | null): P2pReadStream {
    return this.readerOver(options, true);
  }

  /** With `closes: false`, for a copy, it stays open however the stream ends. @internal */
  readerOver(options: StreamArgument<ReadStreamOptions>, closes: boolean): P2pReadStream {
    const { given, positioned, here } = this.#placed(options);
    // As in node:fs, `end` then counts from where it stands.
    const range =
      here === null ? {} : { start: here, ...(given.end === undefined ? {} : { end: given.end + here }) };
    const make = (source: Source) => P2pReadStream.over(source, { ...given, ...range });
    const stream = this.#stream('read', positioned, closes, make);
    if (here !== null) this.#file.follow(() => stream.bytesRead);
    return stream;
  }

  /** Create a Writable over it; it begins, and closes the handle, as with `createReadStream`. */
  createWriteStream(options?: WriteStreamOptions | BufferEncoding | null): P2pWriteStream {
    return this.writerOver(options, true);
  }

  /** See readerOver(). @internal */
  writerOver(options: StreamArgument<WriteStreamOptions>, closes: boolean): P2pWriteStream {
    const { given, positioned, here } = this.#placed(options);
    const range = here === null ? {} : { start: here };
    const make = (source: Source) => P2pWriteStream.over(source, { flags: 'r+', ...given, ...range });
    const stream = this.#stream('write', positioned, closes, make);
    if (here !== null) this.#file.follow(() => stream.bytesWritten);
    return stream;
  }

  /**
   * Its bytes from where the handle stands, as a web stream that also fills the reader's own buffers (`mode: 'byob'`). With
   * `autoClose` the handle is closed when the stream ends, fails or is cancelled. If the handle is closed before, a pending
   * read and each later one rejects with EBADF.
   * @throws P2pdmaError ERR_INVALID_STATE: it was called before, or the handle is closed
   */
  readableWebStream(
    options: { autoClose?: boolean; type?: 'bytes' | undefined } = {},
  ): ReadableStream<Uint8Array> {
    const { autoClose } = parseOptions(webStreamOptions, options);
    if (this.#closing !== null || this.#web !== null) {
      const why = this.#closing === null ? 'has a web stream already' : 'is closed';
      throw new P2pdmaError('ERR_INVALID_STATE', `readableWebStream: the handle of '${this.#path}' ${why}`);
    }
    this.#web = new HandleWebStream({
      read: (view) => this.#call('read', () => this.#move('read', [view], null)),
      over: () => {
        if (autoClose) void this.close();
      },
    });
    return this.#web.stream;
  }

  /** Its lines, as text. */
  readLines(options?: ReadStreamOptions | BufferEncoding | null): Interface {
    const input = this.createReadStream(options);
    return builtin('node:readline').createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  }

  /**
   * Resolves when nothing is in flight and it is closed. Idempotent. As in node:fs, a Readable over it is destroyed, and a
   * Writable over it is ended and written to its end first.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#web?.fail(this.#closedError('read'));
      // Not here: what a listener throws must not keep it open.
      process.nextTick(() => this.emit('close'));
      for (const stream of this.#streams.keys()) if (!stream.destroyed) stream.close();
      await Promise.allSettled([...this.#under, ...this.#streams.values()]);
      // Not open any more, also if its last data could not be stored.
      await this.#file.close().finally(() => this.#context.remove(this));
    })();
    return this.#closing;
  }

  /** @internal */
  shutdown(): Promise<void> {
    return this.close();
  }

  /** Same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Where a new stream begins. `here`: where the handle stands; null: it has its own start, or only the kernel knows. */
  #placed<T extends { start?: number | undefined }>(options: StreamArgument<T>) {
    const given = givenOptions(options);
    const positioned = given.start !== undefined;
    return { given, positioned, here: positioned ? null : this.#file.position };
  }

  #stream<T extends Ours>(op: Access, positioned: boolean, closes: boolean, make: (source: Source) => T): T {
    const { promise, resolve } = deferred();
    const closed = this.#closing !== null;
    const stream = make({
      // As in node:fs: it has no path, and what was open already is not announced.
      ...{ path: this.#path, given: { path: undefined }, owned: false },
      ...(this.fd < 0 ? {} : { fd: this.fd }),
      open: async () => {
        if (closed) throw this.#closedError('open');
        this.#assertAllowed(op);
        return { context: this.#context, target: this.#file.forStream(positioned) };
      },
      // As in node:fs: whatever destroys the stream closes the handle; with `autoClose: false` only its user does.
      released: async () => {
        resolve();
        if (closes) await this.close();
      },
    });
    if (closed) return stream;
    this.#streams.set(stream, promise);
    void stream.attachment.settled().then(() => {
      resolve();
      this.#streams.delete(stream);
    });
    return stream;
  }

  /** A call of node:fs on its descriptor. */
  #ask<T>(syscall: string, call: (fd: number) => Promise<T>): Promise<T> {
    return this.#call(syscall, async () => {
      if (this.fd < 0) {
        throw errnoError(-EOPNOTSUPP, syscall, this.#path, {
          hint: 'system.target() has the size and the block size of an emulated drive.',
        });
      }
      try {
        return await call(this.fd);
      } catch (error) {
        const { errno } = error as NodeJS.ErrnoException;
        throw errno === undefined ? error : hostError(error as Error, syscall, this.#path);
      }
    });
  }

  async #call<T>(syscall: string, run: () => Promise<T>): Promise<T> {
    this.#assertOpen(syscall);
    const call = run();
    this.#under.add(call);
    try {
      return await call;
    } finally {
      this.#under.delete(call);
    }
  }

  #assertOpen(syscall: string): void {
    if (this.#closing !== null) throw this.#closedError(syscall);
  }

  /** @throws P2pdmaError EBADF: it was opened with flags that do not allow it */
  #assertAllowed(op: Access): void {
    if (!this.#file.allows[op]) throw errnoError(-EBADF, op, this.#path);
  }

  #closedError(syscall: string): P2pdmaError {
    return errnoError(-EBADF, syscall, this.#path, { what: 'file closed' });
  }

  /** At a position, or else where the handle stands: then calls take turns. */
  #move(op: Access, views: readonly Uint8Array[], position: Position): Promise<number> {
    if (position !== null && position !== undefined && Number(position) !== -1) {
      assertWhole(op, 'position', typeof position === 'bigint' ? Number(position) : position, 0);
      return this.#moveAt(op, views, Number(position));
    }
    const moved = this.#turn.then(() => this.#moveAt(op, views, null));
    this.#turn = moved.catch(() => {});
    return moved;
  }

  async #moveAt(op: Access, views: readonly Uint8Array[], position: number | null) {
    let done = 0;
    for (const view of views) {
      const bytes = await this.#moveOne(op, view, position === null ? null : position + done);
      done += bytes;
      if (bytes < view.length) break;
    }
    return done;
  }

  async #moveOne(op: Access, view: Uint8Array, position: number | null): Promise<number> {
    try {
      if (view.length > 0) this.#assertAllowed(op);
      return await this.#file[op](view, position);
    } catch (error) {
      this.#context.failed(error);
      throw error;
    }
  }
}

const DATA = 'text, a Buffer, TypedArray or DataView';

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: there is no such encoding */
function encodingOf(given: BufferEncoding | null | undefined): BufferEncoding {
  if (given == null) return 'utf8';
  if (Buffer.isEncoding(given)) return given;
  throw noEncoding(given);
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: half a byte would be left out */
function bytesOfText(text: string, encoding: BufferEncoding): Buffer {
  if (encoding.toLowerCase() === 'hex' && text.length % 2 !== 0) {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_VALUE',
      `write: ${text.length} hexadecimal digits are not a whole number of bytes`,
      { received: text, hint: 'Give two digits for each byte.' },
    );
  }
  return Buffer.from(text, encoding);
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE */
function piecesOf(data: Data): Iterable<Piece> | AsyncIterable<Piece> {
  if (typeof data === 'string' || isView(data)) return [data];
  const pieces = data as Partial<Iterable<Piece> & AsyncIterable<Piece>> | null | undefined;
  if (typeof (pieces?.[Symbol.asyncIterator] ?? pieces?.[Symbol.iterator]) === 'function') return data;
  throw wrongArgument('writeFile', 'data', `${DATA}, or an iterable of them`, data);
}

/** @throws P2pdmaError ABORT_ERR */
function assertNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

function isView(value: unknown): value is NodeJS.ArrayBufferView {
  return ArrayBuffer.isView(value);
}

function placeOf(
  offset: number | null | undefined | Place,
  length?: number | null,
  position?: Position,
): Place {
  return typeof offset === 'object' && offset !== null ? offset : { offset, length, position };
}

function bytesOf(view: NodeJS.ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function viewsOf(call: string, buffers: readonly NodeJS.ArrayBufferView[]): Uint8Array[] {
  assertEach(call, 'buffers', buffers, { mustBe: 'Buffers, TypedArrays or DataViews', fits: isView });
  return buffers.map(bytesOf);
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE: the part is not inside the buffer */
function partOf(call: string, buffer: unknown, { offset, length }: Place): Uint8Array {
  if (!isView(buffer)) throw wrongArgument(call, 'buffer', 'a Buffer, TypedArray or DataView', buffer);
  const from = offset ?? 0;
  assertWhole(call, 'offset', from, 0, buffer.byteLength);
  const bytes = length ?? buffer.byteLength - from;
  assertWhole(call, 'length', bytes, 0, buffer.byteLength - from);
  return bytesOf(buffer).subarray(from, from + bytes);
}
