/**
 * The medium behind a namespace. A store moves bytes straight between itself and the windows that a command's data
 * pointer resolved to (host memory, a CMB); there is no buffer in between.
 *
 *     MemoryStore   sparse: 1 MiB extents, allocated at the first write; unwritten ranges read as zeros
 *     ImageStore    a raw image that is not created or changed before the first write (image-store.ts)
 *     FileStore     a raw image (fixed size), or an ordinary file as "a file on the drive" (exact length, grows)
 *
 * Every operation returns an NVMe status at once, or STORE_PENDING and calls `io.stored(status)` later, never before
 * the operation returned. While an operation is pending, its windows must not change: the thread pool reads and writes
 * that memory.
 */
import * as fs from 'node:fs';
import {
  NVME_SC_CAP_EXCEEDED,
  NVME_SC_COMPARE_FAILED,
  NVME_SC_INTERNAL,
  NVME_SC_NS_WRITE_PROTECTED,
  NVME_SC_READ_ERROR,
  NVME_SC_SUCCESS,
  NVME_SC_WRITE_FAULT,
} from '../../backend/nvme-spec.js';
import { errnoOf } from '../../base/errno.js';
import { hostError, P2pdmaError } from '../../base/errors.js';
import { Zones } from './zones.js';

/** Not a status: the store calls `io.stored()` when it is done. */
export const STORE_PENDING = -1;

/** The memory of one command, in order, and the completion callback. */
export interface StoreIo {
  readonly windows: readonly { readonly bytes: Uint8Array }[];
  stored(status: number): void;
}

/** Offsets and lengths are in bytes. They are multiples of the block size and inside `size`; the controller checks that. */
export interface NamespaceStore {
  /** The size that the namespace reports, in bytes: a multiple of `blockSize`. */
  readonly size: number;
  readonly blockSize: number;
  /** The bytes of protection information per block. The drive generates and checks it, and stores none. */
  readonly metadataBytes: number;
  /** The metadata lies within the blocks (extended LBA). Absent: it lies beside them. */
  readonly extendedLba?: boolean;
  /** Null or absent: it is not zoned. */
  readonly zones?: Zones | null;
  readonly readOnly: boolean;
  /** Bytes in use (NUSE), as far as the store knows. */
  readonly used: number;
  /** Do deallocated blocks read as zeros? */
  readonly deallocatedReadsZero: boolean;
  /** Is data only durable after a flush? */
  readonly volatileCache: boolean;
  read(offset: number, length: number, io: StoreIo): number;
  write(offset: number, length: number, io: StoreIo): number;
  compare(offset: number, length: number, io: StoreIo): number;
  writeZeroes(offset: number, length: number, io: StoreIo): number;
  deallocate(offset: number, length: number): void;
  flush(io: StoreIo): number;
  close(): Promise<void>;
}

const EXTENT = 1 << 20;

const zeros = new Uint8Array(EXTENT);

export interface MemoryStoreOptions {
  readonly blockSize?: number;
  readonly metadataBytes?: number;
  readonly extendedLba?: boolean;
  /** In bytes; default: it is not zoned. */
  readonly zoneSize?: number | null;
  readonly readOnly?: boolean;
}

export class MemoryStore implements NamespaceStore {
  readonly size: number;
  readonly blockSize: number;
  readonly metadataBytes: number;
  readonly extendedLba: boolean;
  readonly zones: Zones | null;
  readonly readOnly: boolean;
  readonly deallocatedReadsZero = true;
  readonly volatileCache = false;
  readonly #extents = new Map<number, Uint8Array>();

  constructor(size: number, options: MemoryStoreOptions = {}) {
    this.blockSize = options.blockSize ?? 512;
    this.metadataBytes = options.metadataBytes ?? 0;
    this.extendedLba = options.extendedLba ?? false;
    this.zones = options.zoneSize == null ? null : new Zones(options.zoneSize);
    this.readOnly = options.readOnly ?? false;
    checkSize('MemoryStore', size, this.blockSize);
    this.size = size;
  }

  get used(): number {
    return Math.min(this.#extents.size * EXTENT, this.size);
  }

  read(offset: number, _length: number, io: StoreIo): number {
    const windows = io.windows;
    let at = offset;
    for (let i = 0; i < windows.length; i++) {
      const bytes = windows[i]!.bytes;
      const length = bytes.length;
      for (let done = 0; done < length; ) {
        const index = Math.floor(at / EXTENT);
        const inside = at - index * EXTENT;
        const n = Math.min(length - done, EXTENT - inside);
        const extent = this.#extents.get(index);
        if (extent === undefined) bytes.fill(0, done, done + n);
        else bytes.set(n === EXTENT ? extent : extent.subarray(inside, inside + n), done);
        done += n;
        at += n;
      }
    }
    return NVME_SC_SUCCESS;
  }

  write(offset: number, length: number, io: StoreIo): number {
    const windows = io.windows;
    const end = offset + length;
    let at = offset;
    for (let i = 0; i < windows.length; i++) {
      const bytes = windows[i]!.bytes;
      const size = bytes.length;
      for (let done = 0; done < size; ) {
        const index = Math.floor(at / EXTENT);
        const base = index * EXTENT;
        const inside = at - base;
        const n = Math.min(size - done, EXTENT - inside);
        let extent = this.#extents.get(index);
        if (extent === undefined) {
          extent = newExtent(offset <= base && end >= base + EXTENT);
          this.#extents.set(index, extent);
        }
        extent.set(n === size ? bytes : bytes.subarray(done, done + n), inside);
        done += n;
        at += n;
      }
    }
    return NVME_SC_SUCCESS;
  }

  compare(offset: number, _length: number, io: StoreIo): number {
    let at = offset;
    for (const { bytes } of io.windows) {
      for (let done = 0; done < bytes.length; ) {
        const index = Math.floor(at / EXTENT);
        const inside = at - index * EXTENT;
        const n = Math.min(bytes.length - done, EXTENT - inside);
        const stored = this.#extents.get(index) ?? zeros;
        if (Buffer.compare(bytes.subarray(done, done + n), stored.subarray(inside, inside + n)) !== 0) {
          return NVME_SC_COMPARE_FAILED;
        }
        done += n;
        at += n;
      }
    }
    return NVME_SC_SUCCESS;
  }

  writeZeroes(offset: number, length: number, _io: StoreIo): number {
    this.deallocate(offset, length);
    return NVME_SC_SUCCESS;
  }

  deallocate(offset: number, length: number): void {
    const end = offset + length;
    const last = Math.ceil(end / EXTENT);
    const drop = (index: number, extent: Uint8Array): void => {
      const base = index * EXTENT;
      if (offset <= base && (end >= base + EXTENT || end >= this.size)) this.#extents.delete(index);
      else extent.fill(0, Math.max(0, offset - base), Math.min(EXTENT, end - base));
    };
    const first = Math.floor(offset / EXTENT);
    if (last - first > this.#extents.size) {
      for (const [index, extent] of this.#extents) if (index >= first && index < last) drop(index, extent);
      return;
    }
    for (let index = first; index < last; index++) {
      const extent = this.#extents.get(index);
      if (extent !== undefined) drop(index, extent);
    }
  }

  flush(_io: StoreIo): number {
    return NVME_SC_SUCCESS;
  }

  async close(): Promise<void> {
    this.#extents.clear();
  }
}

function newExtent(whollyWritten: boolean): Uint8Array {
  if (!whollyWritten) return new Uint8Array(EXTENT);
  const unfilled = Buffer.allocUnsafeSlow(EXTENT);
  return new Uint8Array(unfilled.buffer, unfilled.byteOffset, EXTENT);
}

export interface FileStoreOptions {
  /**
   * `'image'`: the namespace has a fixed size, that of the file (in whole blocks) unless `size` is smaller. `'file'`: a
   * file on the drive. Writes past its end extend it, its length is exact, and bytes past the end read as zeros.
   */
  readonly kind?: 'image' | 'file';
  readonly blockSize?: number;
  readonly metadataBytes?: number;
  readonly readOnly?: boolean;
  readonly create?: boolean;
  readonly exclusive?: boolean;
  /** Truncate the file to length 0 when it is opened. */
  readonly truncate?: boolean;
  /** The permissions of a new file, before the umask. */
  readonly mode?: number | undefined;
  /**
   * Image: the size of the namespace; a shorter file is extended to it (sparse); default: the size of the file. File:
   * the size that the namespace reports; default: 8 TiB.
   */
  readonly size?: number;
}

const FILE_CAPACITY = 8 * 1024 ** 4;
/** The maximum number of views in one readv/writev: IOV_MAX is 1024 on known systems. */
const IOV_MAX = 1024;

export class FileStore implements NamespaceStore {
  readonly path: string;
  readonly kind: 'image' | 'file';
  readonly size: number;
  readonly blockSize: number;
  readonly metadataBytes: number;
  readonly readOnly: boolean;
  readonly deallocatedReadsZero = false;
  readonly volatileCache = true;
  readonly fd: number;
  #length: number;
  /** Ranges past the end of the file that reads requested. */
  #ends: { from: number; to: number }[] = [];
  #pending = 0;
  #closing: Promise<void> | null = null;
  #idle: (() => void) | null = null;

  private constructor(path: string, fd: number, length: number, options: FileStoreOptions) {
    this.path = path;
    this.kind = options.kind ?? 'image';
    this.blockSize = options.blockSize ?? 512;
    this.metadataBytes = options.metadataBytes ?? 0;
    this.readOnly = options.readOnly ?? false;
    this.fd = fd;
    this.#length = length;
    const size =
      this.kind === 'file' ? (options.size ?? FILE_CAPACITY) : Math.min(options.size ?? length, length);
    this.size = size - (size % this.blockSize);
  }

  /** @throws P2pdmaError as open(2) would, EINVAL for an image without one whole block */
  static async open(path: string, options: FileStoreOptions = {}): Promise<FileStore> {
    const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC } = fs.constants;
    let flags = options.readOnly ? O_RDONLY : O_RDWR;
    if (options.create) flags |= O_CREAT;
    if (options.exclusive) flags |= O_EXCL;
    if (options.truncate) flags |= O_TRUNC;
    const fd = await call<number>('open', path, (done) => fs.open(path, flags, options.mode ?? 0o666, done));
    try {
      const stat = await call<fs.Stats>('fstat', path, (done) => fs.fstat(fd, done));
      if (stat.isDirectory()) throw hostError({ code: 'EISDIR' }, 'open', path);
      let length = stat.size;
      if ((options.kind ?? 'image') === 'image') {
        const wanted = options.size ?? length;
        if (wanted > length && !options.readOnly) {
          await call<void>('ftruncate', path, (done) => fs.ftruncate(fd, wanted, done));
          length = wanted;
        }
        const block = options.blockSize ?? 512;
        const size = Math.min(wanted, length);
        checkSize(path, size - (size % block), block);
      }
      return new FileStore(path, fd, length, options);
    } catch (error) {
      await call<void>('close', path, (done) => fs.close(fd, done));
      throw error;
    }
  }

  /** The current exact length of the file, whoever changed it. */
  get length(): number {
    if (this.kind === 'file' && this.#closing === null) this.#length = fs.fstatSync(this.fd).size;
    return this.#length;
  }

  /**
   * The number of the `length` bytes at `offset` that reads since `forgetEnds()` really returned; the file may have
   * been truncated meanwhile.
   */
  brought(offset: number, length: number): number {
    let end = offset + length;
    for (const { from, to } of this.#ends) if (from < end && to > offset) end = Math.max(offset, from);
    return end - offset;
  }

  /** Forgets the recorded ranges past the end. Call it when no read is in flight. */
  forgetEnds(): void {
    if (this.#ends.length > 0) this.#ends = [];
  }

  get used(): number {
    return Math.ceil(this.#length / this.blockSize) * this.blockSize;
  }

  /** Sets the exact length: removes the padding of the last block, or extends the file with a hole. */
  async truncate(length: number): Promise<void> {
    await call<void>('ftruncate', this.path, (done) => fs.ftruncate(this.fd, length, done));
    this.#length = length;
  }

  /**
   * Moves any range of a file as the page cache does: exactly these bytes, without regard to blocks. `done` receives
   * the number of bytes moved (fewer at the end of the file or when space runs out) or the host's negative errno. It is
   * never called inside this call.
   */
  moveBytes(op: 'read' | 'write', offset: number, bytes: Uint8Array, done: (result: number) => void): void {
    this.#pending++;
    const ended = (error: NodeJS.ErrnoException | null, moved: number): void => {
      this.#pending--;
      if (error === null && op === 'write') this.#length = Math.max(this.#length, offset + moved);
      done(error === null ? moved : -errnoOf(error));
      if (this.#pending === 0 && this.#idle !== null) this.#idle();
    };
    if (op === 'read') fs.read(this.fd, bytes, 0, bytes.length, offset, ended);
    else fs.write(this.fd, bytes, 0, bytes.length, offset, ended);
  }

  read(offset: number, length: number, io: StoreIo): number {
    return this.#move(io, views(io), offset, length, 'read');
  }

  write(offset: number, length: number, io: StoreIo): number {
    return this.#move(io, views(io), offset, length, 'write');
  }

  /** A compare needs a copy of the stored bytes. It is the only operation with its own buffer. */
  compare(offset: number, length: number, io: StoreIo): number {
    const stored = new Uint8Array(length);
    const scratch: StoreIo = {
      windows: [{ bytes: stored }],
      stored: (status) => {
        let at = 0;
        for (const { bytes } of io.windows) {
          if (status !== NVME_SC_SUCCESS) break;
          if (Buffer.compare(bytes, stored.subarray(at, at + bytes.length)) !== 0)
            status = NVME_SC_COMPARE_FAILED;
          at += bytes.length;
        }
        io.stored(status);
      },
    };
    return this.#move(scratch, [stored], offset, length, 'read');
  }

  writeZeroes(offset: number, length: number, io: StoreIo): number {
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0; left -= EXTENT)
      parts.push(left >= EXTENT ? zeros : zeros.subarray(0, left));
    return this.#move(io, parts, offset, length, 'write');
  }

  /** Only a hint: a file keeps its blocks. */
  deallocate(_offset: number, _length: number): void {}

  flush(io: StoreIo): number {
    this.#pending++;
    fs.fdatasync(this.fd, (error) =>
      this.#end(io, error === null ? NVME_SC_SUCCESS : statusOf(error, 'write')),
    );
    return STORE_PENDING;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      if (this.#pending > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
      await call<void>('close', this.path, (done) => fs.close(this.fd, done));
    })();
    return this.#closing;
  }

  #end(io: StoreIo, status: number): void {
    this.#pending--;
    io.stored(status);
    if (this.#pending === 0 && this.#idle !== null) this.#idle();
  }

  /** Moves all of `parts` and continues after short transfers. */
  #move(io: StoreIo, parts: Uint8Array[], offset: number, length: number, op: 'read' | 'write'): number {
    this.#pending++;
    let moved = 0;
    const step = (error: NodeJS.ErrnoException | null, n: number): void => {
      if (error !== null) {
        this.#end(io, statusOf(error, op));
        return;
      }
      moved += n;
      if (op === 'write') this.#length = Math.max(this.#length, offset + moved);
      if (moved === length) this.#end(io, NVME_SC_SUCCESS);
      else if (n === 0)
        this.#end(io, op === 'write' ? NVME_SC_WRITE_FAULT : this.#pastEnd(parts, offset + moved));
      else {
        parts = advance(parts, n);
        go();
      }
    };
    const go = (): void => {
      const position = offset + moved;
      if (parts.length === 1) {
        const bytes = parts[0]!;
        if (op === 'read') fs.read(this.fd, bytes, 0, bytes.length, position, step);
        else fs.write(this.fd, bytes, 0, bytes.length, position, step);
      } else {
        const vector = parts.length > IOV_MAX ? parts.slice(0, IOV_MAX) : parts;
        if (op === 'read') fs.readv(this.fd, vector, position, step);
        else fs.writev(this.fd, vector, position, step);
      }
    };
    go();
    return STORE_PENDING;
  }

  /**
   * Past the end of a file, the blocks of the drive read as zeros. An image that became shorter has lost blocks, which
   * is a read error.
   */
  #pastEnd(rest: Uint8Array[], from: number): number {
    if (this.kind === 'image') return NVME_SC_READ_ERROR;
    let to = from;
    for (const bytes of rest) {
      bytes.fill(0);
      to += bytes.length;
    }
    this.#ends.push({ from, to });
    return NVME_SC_SUCCESS;
  }
}

function views(io: StoreIo): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (const window of io.windows) parts.push(window.bytes);
  return parts;
}

/** The rest of `parts` after the first `n` bytes. */
function advance(parts: Uint8Array[], n: number): Uint8Array[] {
  let i = 0;
  while (i < parts.length && n >= parts[i]!.length) n -= parts[i++]!.length;
  const rest = parts.slice(i);
  if (n > 0) rest[0] = rest[0]!.subarray(n);
  return rest;
}

/** The status that the drive returns when the host's filesystem reports an error. */
export function statusOf(error: NodeJS.ErrnoException, op: 'read' | 'write'): number {
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return NVME_SC_CAP_EXCEEDED;
    case 'EIO':
      return op === 'read' ? NVME_SC_READ_ERROR : NVME_SC_WRITE_FAULT;
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return NVME_SC_NS_WRITE_PROTECTED;
    default:
      return NVME_SC_INTERNAL;
  }
}

function call<T>(
  syscall: string,
  path: string,
  start: (done: (error: NodeJS.ErrnoException | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) =>
    start((error, value) => (error === null ? resolve(value as T) : reject(hostError(error, syscall, path)))),
  );
}

function checkSize(what: string, size: number, blockSize: number): void {
  if (blockSize !== 512 && blockSize !== 4096) {
    throw new P2pdmaError('EINVAL', `${what}: block size ${blockSize} is neither 512 nor 4096`);
  }
  if (!Number.isSafeInteger(size) || size < blockSize || size % blockSize !== 0) {
    throw new P2pdmaError(
      'EINVAL',
      `${what}: ${size} bytes are not a whole number of ${blockSize}-byte blocks`,
      {
        hint: 'Give a namespace at least one block, and a multiple of the block size.',
      },
    );
  }
}
