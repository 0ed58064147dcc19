import { fstat, type Stats } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { promisify } from 'node:util';
import { assertEach, assertWhole, optionError, shown, wrongArgument } from '../base/arguments.js';
import { EBADF, EOPNOTSUPP } from '../base/errno.js';
import { abortError, errnoError, type P2pdmaError } from '../base/errors.js';
import type { BlockFile } from './handle-file.js';
import {
  givenOptions,
  type ReadStreamOptions,
  type StreamArgument,
  type WriteStreamOptions,
} from './options.js';
import { P2pReadStream } from './read-stream.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';
import { deferred } from './transfer.js';
import { P2pWriteStream } from './write-stream.js';

/** Bytes from the beginning; null, undefined or -1: where the handle stands. @inline */
type Position = number | bigint | null | undefined;
/** @inline */
type Piece = string | NodeJS.ArrayBufferView;
/** @inline */
type Data = Piece | AsyncIterable<Piece> | Iterable<Piece>;
/** The options of readFile, writeFile and appendFile. @inline */
interface FileOptions<T> {
  readonly encoding?: T;
  /** Between two steps, an abort ends the call. */
  readonly signal?: AbortSignal | undefined;
}
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

/**
 * A namespace, block device or file with the methods of the FileHandle of node:fs, in its order of arguments. Any offset,
 * length and memory will do: whole blocks move directly; a part of a file's block goes through the page cache; a part of a
 * device's block is read, changed and written back, during which no other write of this process to that block is let in. (A
 * write of another process to the same block at that moment can be lost: O_DIRECT has no smaller unit. Let one process write.)
 * Where no position is given, bytes are read and written where the handle stands, one call after the other.
 */
export class P2pFileHandle {
  readonly #context: StreamContext;
  readonly #file: BlockFile;
  readonly #path: string;
  #position = 0;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #under = new Set<Promise<unknown>>();
  /** The streams over it, and when each has nothing in flight any more. */
  readonly #streams = new Map<P2pReadStream | P2pWriteStream, Promise<void>>();
  #closing: Promise<void> | null = null;

  private constructor(context: StreamContext, file: BlockFile) {
    this.#context = context;
    this.#file = file;
    this.#path = file.target.path;
    context.add(this);
  }

  /** @internal */
  static over(context: StreamContext, file: BlockFile): P2pFileHandle {
    return new P2pFileHandle(context, file);
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
    const given: Place & { buffer?: T } = isView(buffer)
      ? { buffer: buffer as T, ...placeOf(offset, length, position) }
      : ((buffer as (Place & { buffer?: T }) | null | undefined) ?? {});
    return this.#call('read', async () => {
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
        ? Buffer.from(buffer, encodingOf(length as BufferEncoding) ?? 'utf8')
        : partOf('write', buffer, placeOf(offset as number, length as number, position));
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

  /** Everything from where the handle stands to the end, as bytes or, with an encoding, as text. */
  readFile(options?: FileOptions<null | undefined> | null): Promise<Buffer>;
  readFile(options: FileOptions<BufferEncoding> | BufferEncoding): Promise<string>;
  readFile(
    options?: FileOptions<BufferEncoding | null | undefined> | BufferEncoding | null,
  ): Promise<Buffer | string> {
    return this.#call('read', async () => {
      const { encoding, signal } = fileOptions(options);
      const chunks: Buffer[] = [];
      for (;;) {
        if (signal?.aborted) throw abortError(signal);
        const chunk = Buffer.allocUnsafe(512 * 1024);
        const bytes = await this.#move('read', [chunk], null);
        chunks.push(chunk.subarray(0, bytes));
        if (bytes < chunk.length) break;
      }
      const all = Buffer.concat(chunks);
      return encoding ? all.toString(encoding) : all;
    });
  }

  /** Write all of `data` where the handle stands: text, bytes, or an iterable of them. */
  writeFile(
    data: Data,
    options?: FileOptions<BufferEncoding | null | undefined> | BufferEncoding | null,
  ): Promise<void> {
    return this.#call('write', async () => {
      const { encoding, signal } = fileOptions(options);
      for await (const piece of piecesOf(data)) {
        if (signal?.aborted) throw abortError(signal);
        const view = typeof piece === 'string' ? Buffer.from(piece, encoding ?? 'utf8') : piece;
        if (!isView(view)) throw wrongData(piece);
        await this.#move('write', [bytesOf(view)], null);
      }
    });
  }

  /** Same as `writeFile`, as in node:fs: it writes where the handle stands. */
  appendFile(
    data: Data,
    options?: FileOptions<BufferEncoding | null | undefined> | BufferEncoding | null,
  ): Promise<void> {
    return this.writeFile(data, options);
  }

  /** What stat(2) says of it. @throws P2pdmaError EOPNOTSUPP: it is a drive of an emulated machine */
  stat(): Promise<Stats> {
    return this.#call('fstat', async () => {
      if (this.fd >= 0) return promisify(fstat)(this.fd) as Promise<Stats>;
      throw errnoError(-EOPNOTSUPP, 'fstat', this.#path, {
        hint: 'system.target() has the size and the block size of an emulated drive.',
      });
    });
  }

  /** Set a file's length; a negative one is 0, as in node:fs. @throws P2pdmaError EINVAL: it is a device */
  truncate(length = 0): Promise<void> {
    return this.#call('ftruncate', async () => {
      assertWhole('truncate', 'length', length, Number.MIN_SAFE_INTEGER);
      await this.#file.truncate(Math.max(0, length));
    });
  }

  /** Make everything that was written durable. */
  sync(): Promise<void> {
    return this.#call('fsync', () => this.#file.flush());
  }

  /** Same as `sync`. */
  datasync(): Promise<void> {
    return this.#call('fdatasync', () => this.#file.flush());
  }

  /** Create a Readable over it. The handle is closed with the stream unless `autoClose` is false. */
  createReadStream(options?: ReadStreamOptions | BufferEncoding | null): P2pReadStream {
    return this.#stream((source) => P2pReadStream.over(source, this.#fromHere(options)));
  }

  /** Create a Writable over it. The handle is closed with the stream unless `autoClose` is false. */
  createWriteStream(options?: WriteStreamOptions | BufferEncoding | null): P2pWriteStream {
    const make = (source: Source) => P2pWriteStream.over(source, { flags: 'r+', ...this.#fromHere(options) });
    return this.#stream(make);
  }

  /** Its lines, as text. */
  readLines(options?: ReadStreamOptions | BufferEncoding | null): Interface {
    const input = this.createReadStream(options);
    return createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  }

  /**
   * Resolves when nothing is in flight and it is closed. Idempotent. As in node:fs, a Readable over it is destroyed, and a
   * Writable over it is ended and written to its end first.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      for (const stream of this.#streams.keys()) if (!stream.destroyed) stream.close();
      await Promise.allSettled([...this.#under, ...this.#streams.values()]);
      await this.#file.close();
      this.#context.remove(this);
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

  #fromHere<T extends { start?: number | undefined }>(options: StreamArgument<T>): T {
    const given = (typeof options === 'string' ? { encoding: options } : (options ?? {})) as T;
    return given.start === undefined ? { ...given, start: this.#position } : given;
  }

  #stream<T extends P2pReadStream | P2pWriteStream>(make: (source: Source) => T): T {
    const { promise, resolve } = deferred();
    const closed = this.#closing !== null;
    const stream = make({
      path: this.#path,
      owned: false,
      open: async () => {
        if (closed) throw this.#closedError('open');
        return { context: this.#context, target: this.#file.target };
      },
      released: async () => {
        resolve();
        if (stream.autoClose) await this.close();
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

  #closedError(syscall: string): P2pdmaError {
    return errnoError(-EBADF, syscall, this.#path, { what: 'file closed' });
  }

  /** At a position, or else where the handle stands: then calls take turns. */
  #move(op: 'read' | 'write', views: readonly Uint8Array[], position: Position): Promise<number> {
    if (position !== null && position !== undefined && Number(position) !== -1) {
      assertWhole(op, 'position', typeof position === 'bigint' ? Number(position) : position, 0);
      return this.#moveAt(op, views, Number(position));
    }
    const moved = this.#turn.then(async () => {
      const bytes = await this.#moveAt(op, views, this.#position);
      this.#position += bytes;
      return bytes;
    });
    this.#turn = moved.catch(() => {});
    return moved;
  }

  async #moveAt(op: 'read' | 'write', views: readonly Uint8Array[], position: number): Promise<number> {
    let done = 0;
    for (const view of views) {
      const bytes = await this.#file[op](view, position + done);
      done += bytes;
      if (bytes < view.length) break;
    }
    return done;
  }
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

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
function fileOptions<T extends BufferEncoding | null | undefined>(
  options: FileOptions<T> | BufferEncoding | null | undefined,
): FileOptions<BufferEncoding | null | undefined> {
  const { encoding, signal } = givenOptions<FileOptions<T | undefined>>(options);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw wrongArgument('options', 'signal', 'an AbortSignal', signal);
  }
  return { encoding: encodingOf(encoding), signal };
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: there is no such encoding */
function encodingOf(given: BufferEncoding | null | undefined): BufferEncoding | null | undefined {
  if (given == null || Buffer.isEncoding(given)) return given;
  throw optionError('ERR_INVALID_ARG_VALUE', 'encoding', `there is no encoding ${shown(given)}`, {
    received: given,
    hint: "Name one that Buffer.isEncoding() knows, such as 'utf8'.",
  });
}

function piecesOf(data: Data): Iterable<Piece> | AsyncIterable<Piece> {
  if (typeof data === 'string' || isView(data)) return [data];
  const { [Symbol.iterator]: all, [Symbol.asyncIterator]: later } = Object(data);
  if (all === undefined && later === undefined) throw wrongData(data);
  return data as Iterable<Piece> | AsyncIterable<Piece>;
}

function wrongData(received: unknown): P2pdmaError {
  return wrongArgument('writeFile', 'data', 'text, bytes, or an iterable of them', received);
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
