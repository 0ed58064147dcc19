/**
 * A namespace that is stored in a file named in a machine's JSON.
 *
 *     until the first write   the existing file, opened read-only; missing data (no file yet, or a short one) reads as zeros
 *     from then on            the file, created if needed and extended to the size of the namespace
 *
 * So inspecting a machine, and even reading its drives, does not create, extend or change any file.
 */
import { access, constants, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EINVAL } from '../../base/errno.js';
import { errnoError, hostError } from '../../base/errors.js';
import { notCopyable, statOrNull } from '../../host/path-advice.js';
import {
  FileStore,
  MemoryStore,
  type NamespaceStore,
  STORE_PENDING,
  type StoreIo,
  statusOf,
} from './store.js';

export interface ImageStoreOptions {
  /** The size of the namespace in bytes. A read-only namespace is at most as large as its file. */
  readonly size: number;
  readonly blockSize: number;
  readonly metadataBytes: number;
  readonly readOnly: boolean;
}

export class ImageStore implements NamespaceStore {
  readonly path: string;
  readonly size: number;
  readonly blockSize: number;
  readonly metadataBytes: number;
  readonly readOnly: boolean;
  readonly deallocatedReadsZero = false;
  readonly volatileCache = true;
  /** The store that is used before the first write. */
  readonly #before: NamespaceStore;
  #written: FileStore | null = null;
  #opening: Promise<FileStore> | null = null;

  private constructor(path: string, before: NamespaceStore, options: ImageStoreOptions) {
    this.path = path;
    this.size = options.readOnly ? before.size : options.size;
    this.blockSize = options.blockSize;
    this.metadataBytes = options.metadataBytes;
    this.readOnly = options.readOnly;
    this.#before = before;
  }

  /**
   * @throws P2pdmaError as open(2) would: ENOENT for a read-only file that does not exist; EINVAL for a path that is
   * not a file
   */
  static async open(path: string, options: ImageStoreOptions): Promise<ImageStore> {
    const { size, readOnly } = options;
    const there = statOrNull(path);
    if (there === null && !readOnly) {
      // If the file could not be created, fail now instead of at the first write.
      await host('open', path, stat(dirname(path)));
      return new ImageStore(path, new MemoryStore(size, options), options);
    }
    if (there !== null && !there.isFile() && !there.isDirectory()) {
      throw (
        notCopyable(path, there) ??
        errnoError(-EINVAL, 'open', path, { hint: 'A namespace is kept in a regular file.' })
      );
    }
    const whole = readOnly || there!.size >= size;
    const kind = whole ? 'image' : 'file';
    return new ImageStore(path, await FileStore.open(path, { ...options, kind, readOnly: true }), options);
  }

  /** Checks that the file can be written, without changing anything. @throws P2pdmaError as open(2) would */
  async assertWritable(): Promise<void> {
    const which = statOrNull(this.path) === null ? dirname(this.path) : this.path;
    await host('open', this.path, access(which, constants.W_OK));
  }

  get used(): number {
    return Math.min(this.size, this.#now.used);
  }

  get #now(): NamespaceStore {
    return this.#written ?? this.#before;
  }

  read(offset: number, length: number, io: StoreIo): number {
    return this.#now.read(offset, length, io);
  }

  compare(offset: number, length: number, io: StoreIo): number {
    return this.#now.compare(offset, length, io);
  }

  write(offset: number, length: number, io: StoreIo): number {
    return this.#change(io, (file) => file.write(offset, length, io));
  }

  writeZeroes(offset: number, length: number, io: StoreIo): number {
    return this.#change(io, (file) => file.writeZeroes(offset, length, io));
  }

  /** Advice only. */
  deallocate(_offset: number, _length: number): void {}

  flush(io: StoreIo): number {
    return this.#now.flush(io);
  }

  async close(): Promise<void> {
    await this.#opening?.catch(() => {});
    await Promise.all([this.#before.close(), this.#written?.close()]);
  }

  #change(io: StoreIo, change: (file: FileStore) => number): number {
    if (this.#written !== null) return change(this.#written);
    this.#open().then(
      (file) => {
        const status = change(file);
        if (status !== STORE_PENDING) io.stored(status);
      },
      (error: NodeJS.ErrnoException) => io.stored(statusOf(error, 'write')),
    );
    return STORE_PENDING;
  }

  #open(): Promise<FileStore> {
    const { path, size, blockSize, metadataBytes } = this;
    const image = { kind: 'image', size, blockSize, metadataBytes, create: true } as const;
    this.#opening ??= FileStore.open(path, image).then(
      (file) => {
        this.#written = file;
        return file;
      },
      (error: unknown) => {
        this.#opening = null;
        throw error;
      },
    );
    return this.#opening;
  }
}

async function host<T>(syscall: string, path: string, asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    throw hostError(error as NodeJS.ErrnoException, syscall, path);
  }
}
