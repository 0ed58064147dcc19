/**
 * A file system in memory, for everything below `/sim`. While it is installed, the functions of node:fs that this package
 * calls go there for those paths, and complete in the order that the seed draws. Reads and writes may be short. When the
 * power is cut, what no fsync covered may be lost: contents piece by piece, names from the first one on that was not
 * committed. As on Linux' file systems, the fsync of a file commits the names that were there before it.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Cached } from './cached.js';
import type { World } from './world.js';

export const ROOT = '/sim';
/** No descriptor of the real file system is so large. */
const FIRST_FD = 1_000_000;
const DEVICE = 0x51_3d;

interface Inode {
  readonly ino: number;
  readonly data: Cached;
}

interface Opened {
  readonly inode: Inode | null;
  readonly appends: boolean;
}

type Callback = (error: NodeJS.ErrnoException | null, ...values: unknown[]) => void;
type NameChange = { readonly name: string; readonly inode: Inode | null };

function failure(code: string, syscall: string, path = ''): NodeJS.ErrnoException {
  const errno = { ENOENT: -2, EIO: -5, EBADF: -9, EEXIST: -17, EINVAL: -22, ENOSPC: -28 }[code] ?? -5;
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, errno, syscall, path });
}

export class Files {
  /** The chance of a read or write that moves only a part of what it was asked to. */
  short = 0;
  readonly #world: () => World;
  readonly #names = new Map<string, Inode>();
  readonly #durable = new Map<string, Inode>();
  #changes: NameChange[] = [];
  readonly #open = new Map<number, Opened>();
  #nextFd = FIRST_FD;
  #nextIno = 100;

  constructor(world: () => World) {
    this.#world = world;
  }

  /** Descriptors that nobody has closed. */
  get open(): number {
    return this.#open.size;
  }

  get paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** The content of a file as others see it; null: there is none. */
  peek(path: string): Buffer | null {
    return this.#names.get(path)?.data.bytes ?? null;
  }

  /** Puts a file there, durably. */
  put(path: string, bytes: Buffer): void {
    const inode = this.#names.get(path) ?? this.#create(path);
    inode.data.fill(bytes);
    this.#commit();
  }

  remove(path: string): void {
    this.#rename(path, null);
    this.#commit();
  }

  /** Somebody else changes a file while it is in use. */
  poke(path: string, change: (data: Cached) => void): void {
    const inode = this.#names.get(path);
    if (inode !== undefined) change(inode.data);
  }

  /** The power is cut. */
  cut(): void {
    const { random } = this.#world();
    const kept = random.below(this.#changes.length + 1);
    for (const { name, inode } of this.#changes.splice(0, kept)) setName(this.#durable, name, inode);
    this.#changes = [];
    this.#open.clear();
    this.#names.clear();
    for (const [name, inode] of this.#durable) {
      inode.data.cut(random);
      this.#names.set(name, inode);
    }
  }

  // ---- Names

  #create(path: string): Inode {
    const inode = { ino: this.#nextIno++, data: new Cached(0) };
    this.#rename(path, inode);
    return inode;
  }

  #rename(name: string, inode: Inode | null): void {
    setName(this.#names, name, inode);
    this.#changes.push({ name, inode });
  }

  #commit(): void {
    for (const { name, inode } of this.#changes.splice(0)) setName(this.#durable, name, inode);
  }

  #find(path: string, syscall: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw failure('ENOENT', syscall, path);
    return inode;
  }

  // ---- What node:fs calls

  openFile(path: string, flags: string | number): number {
    const { O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = fs.constants;
    const bits = typeof flags === 'number' ? flags : bitsOf(flags);
    let inode: Inode | null = null;
    if (path !== ROOT) {
      const there = this.#names.get(path);
      if (there === undefined && (bits & O_CREAT) === 0) throw failure('ENOENT', 'open', path);
      if (there !== undefined && (bits & O_CREAT) !== 0 && (bits & O_EXCL) !== 0)
        throw failure('EEXIST', 'open', path);
      inode = there ?? this.#create(path);
      if ((bits & O_TRUNC) !== 0 && inode.data.length > 0) inode.data.resize(0);
    }
    const fd = this.#nextFd++;
    this.#open.set(fd, { inode, appends: (bits & O_APPEND) !== 0 });
    return fd;
  }

  close(fd: number): void {
    this.#opened(fd, 'close');
    this.#open.delete(fd);
  }

  stat(path: string, bigint: boolean): object {
    return path === ROOT ? statsOf(1, 0, false, bigint) : this.#stat(this.#find(path, 'stat'), bigint);
  }

  fstat(fd: number): object {
    const { inode } = this.#opened(fd, 'fstat');
    return inode === null ? statsOf(1, 0, false, false) : this.#stat(inode, false);
  }

  #stat({ ino, data }: Inode, bigint: boolean): object {
    return statsOf(ino, data.length, true, bigint);
  }

  has(path: string): boolean {
    return path === ROOT || this.#names.has(path);
  }

  truncate(fd: number, length: number): void {
    this.#data(fd, 'ftruncate').resize(length);
  }

  /** Reads into `parts` from `position` on, and says how much. */
  read(fd: number, parts: readonly Uint8Array[], position: number): number {
    const data = this.#data(fd, 'read');
    const most = this.#part(Math.max(0, Math.min(sizeOf(parts), data.length - position)));
    eachPart(parts, most, (part, at) => data.read(position + at, part));
    return most;
  }

  write(fd: number, parts: readonly Uint8Array[], position: number): number {
    const { inode, appends } = this.#opened(fd, 'write');
    const data = inode!.data;
    const from = appends ? data.length : position;
    const most = this.#part(sizeOf(parts));
    eachPart(parts, most, (part, at) => data.write(from + at, part));
    return most;
  }

  /** A flush that begins now. @returns what to do when it is complete */
  sync(fd: number): () => void {
    const { inode } = this.#opened(fd, 'fsync');
    const mark = inode?.data.mark() ?? 0;
    const names = this.#changes.length;
    return () => {
      inode?.data.settle(mark);
      for (const { name, inode: to } of this.#changes.splice(0, names)) setName(this.#durable, name, to);
    };
  }

  link(from: string, to: string): void {
    const inode = this.#find(from, 'link');
    if (this.#names.has(to)) throw failure('EEXIST', 'link', to);
    this.#rename(to, inode);
  }

  unlink(path: string): void {
    this.#find(path, 'unlink');
    this.#rename(path, null);
  }

  rename(from: string, to: string): void {
    const inode = this.#find(from, 'rename');
    this.#rename(to, inode);
    this.#rename(from, null);
  }

  #opened(fd: number, syscall: string): Opened {
    const opened = this.#open.get(fd);
    if (opened === undefined) throw failure('EBADF', syscall);
    return opened;
  }

  #data(fd: number, syscall: string): Cached {
    const { inode } = this.#opened(fd, syscall);
    if (inode === null) throw failure('EINVAL', syscall, ROOT);
    return inode.data;
  }

  #part(length: number): number {
    const { random } = this.#world();
    return length > 1 && this.short > 0 && random.chance(this.short) ? 1 + random.below(length - 1) : length;
  }

  /** `act` runs when the operation takes effect, and `done` gets what it returned at its completion. */
  later(act: () => unknown, done: Callback): void {
    const world = this.#world();
    world.complete(() => {
      let value: unknown;
      try {
        value = act();
      } catch (error) {
        done(error as NodeJS.ErrnoException);
        return;
      }
      done(null, value);
    });
  }
}

function setName(names: Map<string, Inode>, name: string, inode: Inode | null): void {
  if (inode === null) names.delete(name);
  else names.set(name, inode);
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function eachPart(
  parts: readonly Uint8Array[],
  most: number,
  use: (part: Uint8Array, at: number) => void,
): void {
  let at = 0;
  for (const part of parts) {
    const length = Math.min(part.length, most - at);
    if (length <= 0) return;
    use(length === part.length ? part : part.subarray(0, length), at);
    at += length;
  }
}

function bitsOf(flags: string): number {
  const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = fs.constants;
  const known: Record<string, number> = {
    r: O_RDONLY,
    'r+': O_RDWR,
    w: O_WRONLY | O_CREAT | O_TRUNC,
    wx: O_WRONLY | O_CREAT | O_EXCL,
    a: O_WRONLY | O_CREAT | O_APPEND,
    ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  };
  const bits = known[flags];
  if (bits === undefined) throw failure('EINVAL', 'open', flags);
  return bits;
}

const never = () => false;

/** Of a file: it is asked for its size before each transfer. */
class FileStats {
  readonly dev = DEVICE;
  readonly rdev = 0;
  readonly mode = 0o600;
  readonly mtimeMs = 0;
  readonly ino: number;
  readonly size: number;

  constructor(ino: number, size: number) {
    this.ino = ino;
    this.size = size;
  }

  isFile(): boolean {
    return true;
  }
}
Object.assign(FileStats.prototype, {
  ...{ uid: 0, gid: 0, nlink: 1, blksize: 4096 },
  ...{ isBlockDevice: never, isCharacterDevice: never, isFIFO: never, isSocket: never },
  ...{ isSymbolicLink: never, isDirectory: never },
});

function statsOf(ino: number, size: number, isFile: boolean, bigint: boolean): object {
  if (!bigint && isFile) return new FileStats(ino, size);
  const number = (n: number) => (bigint ? BigInt(n) : n);
  return {
    ...{ dev: number(DEVICE), ino: number(ino), size: number(size), rdev: number(0), mode: number(0o600) },
    ...{ uid: number(0), gid: number(0), nlink: number(1), mtimeMs: number(0), mtimeNs: 0n },
    ...{
      mtime: new Date(0),
      ctimeMs: number(0),
      blksize: number(4096),
      blocks: number(Math.ceil(size / 512)),
    },
    ...{
      isBlockDevice: never,
      isCharacterDevice: never,
      isFIFO: never,
      isSocket: never,
      isSymbolicLink: never,
    },
    ...{ isFile: () => isFile, isDirectory: () => !isFile },
  };
}

/** Sends the calls of node:fs that concern the simulated files there. @returns what puts node:fs back */
export function installFiles(files: Files): () => void {
  const replaced = [...syncCalls(files), ...callbackCalls(files), ...promiseCalls(files)];
  const kept = replaced.map(([on, name]) => [on, name, on[name]] as const);
  for (const [on, name, fn] of replaced) on[name] = fn;
  syncBuiltinESMExports();
  return () => {
    for (const [on, name, was] of kept) on[name] = was;
    syncBuiltinESMExports();
  };
}

// biome-ignore lint/suspicious/noExplicitAny: the functions of node:fs, with arguments of all kinds
type Any = any;
type Replaced = [on: Record<string, Any>, name: string, fn: Any];

const ours = (path: unknown): path is string =>
  typeof path === 'string' && (path === ROOT || path.startsWith(`${ROOT}/`));
const isOurs = (fd: unknown): fd is number => typeof fd === 'number' && fd >= FIRST_FD;

/** `own` for a path or descriptor of ours, the real function for any other. */
function either(on: Record<string, Any>, name: string, own: (...args: Any[]) => unknown): Replaced {
  const real = on[name];
  const fn = (...args: Any[]) => (ours(args[0]) || isOurs(args[0]) ? own(...args) : real.apply(on, args));
  return [on, name, Object.assign(fn, real)];
}

function syncCalls(files: Files): Replaced[] {
  const on = fs as unknown as Record<string, Any>;
  const stat = (path: string, options?: { bigint?: boolean; throwIfNoEntry?: boolean }) =>
    options?.throwIfNoEntry === false && !files.has(path)
      ? undefined
      : files.stat(path, options?.bigint === true);
  const realpath = either(on, 'realpathSync', (path: string) => path);
  realpath[2].native = either(on.realpathSync, 'native', (path: string) => path)[2];
  return [
    either(on, 'statSync', stat),
    either(on, 'lstatSync', stat),
    either(on, 'fstatSync', (fd) => files.fstat(fd)),
    either(on, 'existsSync', (path) => files.has(path)),
    either(on, 'openSync', (path, flags = 'r') => files.openFile(path, flags)),
    either(on, 'closeSync', (fd) => files.close(fd)),
    either(on, 'readSync', (fd, bytes, offset, length, position) =>
      files.read(fd, [bytes.subarray(offset, offset + length)], position),
    ),
    either(on, 'readlinkSync', (path) => {
      throw failure(files.has(path) ? 'EINVAL' : 'ENOENT', 'readlink', path);
    }),
    either(on, 'accessSync', (path) => void files.stat(path, false)),
    realpath,
  ];
}

function callbackCalls(files: Files): Replaced[] {
  const on = fs as unknown as Record<string, Any>;
  const last = (args: Any[]): Callback => args.at(-1);
  const moves = (op: 'read' | 'write') =>
    either(on, op, (fd, bytes, offset, ...[length, position, done]) =>
      files.later(() => files[op](fd, [bytes.subarray(offset, offset + length)], position), done),
    );
  const vectored = (name: string, op: 'read' | 'write') =>
    either(on, name, (fd, parts, position, done) => files.later(() => files[op](fd, parts, position), done));
  const flush = (fd: number, done: Callback) => {
    let settle: () => void;
    try {
      settle = files.sync(fd);
    } catch (error) {
      files.later(() => {
        throw error;
      }, done);
      return;
    }
    files.later(settle, done);
  };
  return [
    either(on, 'open', (path, flags, ...rest) => files.later(() => files.openFile(path, flags), last(rest))),
    either(on, 'close', (fd, done) => files.later(() => files.close(fd), done)),
    either(on, 'fstat', (fd, ...rest) => files.later(() => files.fstat(fd), last(rest))),
    either(on, 'ftruncate', (fd, length, done) => files.later(() => files.truncate(fd, length), done)),
    either(on, 'fdatasync', flush),
    either(on, 'fsync', flush),
    moves('read'),
    moves('write'),
    vectored('readv', 'read'),
    vectored('writev', 'write'),
  ];
}

function promiseCalls(files: Files): Replaced[] {
  const on = fs.promises as unknown as Record<string, Any>;
  const later = <T>(act: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      files.later(act, (error, value) => (error === null ? resolve(value as T) : reject(error)));
    });
  const all = async (path: string): Promise<Buffer> =>
    later(() => {
      files.stat(path, false);
      return Buffer.from(files.peek(path)!);
    });
  const handle = (fd: number) => ({
    fd,
    stat: () => later(() => files.fstat(fd)),
    read: async (buffer: Uint8Array, offset: number, length: number, position: number) => ({
      bytesRead: await later(() => files.read(fd, [buffer.subarray(offset, offset + length)], position)),
      buffer,
    }),
    appendFile: async (text: string) => {
      for (let rest = Buffer.from(text); rest.length > 0; ) {
        const from = rest;
        rest = rest.subarray(await later(() => files.write(fd, [from], 0)));
      }
    },
    sync: () => flushed(files, fd, later),
    datasync: () => flushed(files, fd, later),
    truncate: (length: number) => later(() => files.truncate(fd, length)),
    close: () => later(() => files.close(fd)),
    readAll: () =>
      later(() => {
        const size = (files.fstat(fd) as { size: number }).size;
        const bytes = Buffer.alloc(size);
        for (let at = 0; at < size; ) at += files.read(fd, [bytes.subarray(at)], at);
        return bytes;
      }),
  });
  const readFile = on.readFile;
  return [
    either(on, 'open', async (path, flags = 'r') => handle(await later(() => files.openFile(path, flags)))),
    either(on, 'stat', (path, options) => later(() => files.stat(path, options?.bigint === true))),
    either(on, 'access', (path) => later(() => void files.stat(path, false))),
    either(on, 'link', (from, to) => later(() => files.link(from, to))),
    either(on, 'unlink', (path) => later(() => files.unlink(path))),
    either(on, 'rename', (from, to) => later(() => files.rename(from, to))),
    either(on, 'writeFile', async (path, text, { flag = 'w' } = {}) => {
      const opened = handle(await later(() => files.openFile(path, flag)));
      await opened.appendFile(text);
      await opened.close();
    }),
    [
      on,
      'readFile',
      async (from: Any, ...rest: Any[]) => {
        if (ours(from)) return rest[0] === 'utf8' ? String(await all(from)) : all(from);
        return from?.readAll === undefined ? readFile.call(on, from, ...rest) : from.readAll();
      },
    ],
  ];
}

async function flushed(files: Files, fd: number, later: <T>(act: () => T) => Promise<T>): Promise<void> {
  const settle = files.sync(fd);
  await later(settle);
}
