/**
 * Tolerant reading below a root: `/`, or a directory into which somebody's sys/ and proc/ were copied.
 * Nothing here throws: what cannot be read is `null`, and its name and the reason go to `unknowns`.
 *
 * A captured tree is untrusted. Paths are walked one component at a time, so that
 *
 *   - a symlink can't lead out of the root: an absolute one starts at the root, as in a chroot,
 *     and one that goes above it leads nowhere;
 *   - loops end (MAX_LINKS, as the kernel's ELOOP);
 *   - only regular files are opened (a FIFO would block forever), and only a limited number of bytes is read.
 */
import {
  closeSync,
  constants,
  type Dirent,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
} from 'node:fs';
import { join, parse, posix } from 'node:path';
import { PAGE_SIZE } from '../../backend/backend.js';

const MAX_LINKS = 40;
/** Attributes are at most one page long; longer files such as mountinfo are read with limits of their own. */
const MAX_ATTRIBUTE = 64 * 1024;
/** Unknowns beyond this many are counted, not listed. */
const MAX_UNKNOWNS = 10_000;

export interface Unknown {
  readonly file: string;
  readonly why: string;
}

/** The kind of a directory entry. */
export type EntryKind = 'file' | 'directory' | 'link' | 'other';

export interface Entry {
  readonly name: string;
  readonly kind: EntryKind;
}

/** What was read of a regular file. */
export interface Content {
  readonly bytes: Buffer;
  /**
   * The file's size according to stat; sysfs reports a binary attribute's full size, even if the reader may not read all of it. Of
   * what a kernel shows and was read whole, what was read.
   */
  readonly size: number;
}

/**
 * The source of the files: this machine's disk, or memory with something that was sent. Paths are components from the root,
 * without symlinks. Failures throw an error whose `code` is the name of an errno.
 */
export interface Files {
  /** The name in messages. */
  readonly root: string;
  /** It is this very machine. */
  readonly live: boolean;
  /** A kernel shows it, so a relative link in its sysfs leads through directories to a directory that is there. */
  readonly genuine: boolean;
  /** True if the tree contains everything that the kernel shows about peer memory, so that what is missing does not exist. */
  readonly peerMemory: boolean;
  /** Undefined: there is no such entry. A link is not followed. */
  kindOf(path: readonly string[]): EntryKind | undefined;
  entries(path: readonly string[]): Entry[];
  linkTarget(path: readonly string[]): string;
  /**
   * At most `maxBytes` of a regular file. With `enough`, less may be read: it is asked after each piece, with all that was read
   * so far, and true ends the reading.
   */
  read(path: readonly string[], maxBytes: number, enough?: (read: Buffer) => boolean): Content;
}

/** How an attribute is read. */
export interface ReadOptions {
  /** Its absence is normal and is not recorded in `unknowns`. */
  readonly optional?: boolean;
  /** True if what was read so far is all that is needed: see {@link Files.read}. */
  readonly enough?: (read: Buffer) => boolean;
}

export interface NumberOptions extends ReadOptions {
  readonly min?: number;
  readonly max?: number;
}

export class SysfsTree {
  readonly files: Files;
  readonly unknowns: Unknown[];
  readonly #noted: Set<string>;

  /**
   * @param where A directory of this machine, or files that are already at hand.
   * @param of The tree whose files these are: what cannot be read is noted there.
   */
  constructor(where: string | Files, of: SysfsTree | null = null) {
    this.unknowns = of?.unknowns ?? [];
    this.#noted = of === null ? new Set() : of.#noted;
    if (typeof where !== 'string') {
      this.files = where;
      return;
    }
    let real = where;
    try {
      real = realpathSync(where);
    } catch (error) {
      this.note(where, reasonOf(error));
    }
    const live = process.platform === 'linux' && real === parse(real).root;
    this.files = live ? new KernelFiles(real) : new DiskFiles(real);
  }

  /** The absolute path without symlinks; for files in memory, their name. */
  get root(): string {
    return this.files.root;
  }

  /** It is this very machine, not a captured tree. */
  get live(): boolean {
    return this.files.live;
  }

  /** Record once that `file` could not be read or understood. */
  note(file: string, why: string): void {
    if (this.#noted.has(file) || this.unknowns.length >= MAX_UNKNOWNS) return;
    this.#noted.add(file);
    this.unknowns.push({ file, why });
  }

  /** The directory at `path` (from the root, `'sys/class/nvme'`), or null. */
  dir(path: string, options: ReadOptions = {}): SysfsDir | null {
    return new SysfsDir(this, '', []).dir(path, options);
  }

  /** The file at `path`: see {@link SysfsDir.bytes}. */
  bytes(path: string, maxBytes = MAX_ATTRIBUTE, options: ReadOptions = {}): Buffer | null {
    return new SysfsDir(this, '', []).bytes(path, maxBytes, options);
  }

  text(path: string, maxBytes = MAX_ATTRIBUTE, options: ReadOptions = {}): string | null {
    return textOf(this.bytes(path, maxBytes, options));
  }

  /** The path on this machine's disk of components below the root; only for an entry that exists. */
  onDisk(components: readonly string[]): string {
    return join(this.root, ...components);
  }
}

/** A directory whose path from the root contains no symlinks. */
export class SysfsDir {
  readonly tree: SysfsTree;
  /** The path as it was requested, `/sys/bus/pci/devices/0000:03:00.0`: the short name to show to people. */
  readonly shown: string;
  /** The resolved path from the root: `['sys', 'devices', 'pci0000:00', …]`. */
  readonly real: readonly string[];

  constructor(tree: SysfsTree, shown: string, real: readonly string[]) {
    this.tree = tree;
    this.shown = shown;
    this.real = real;
  }

  get name(): string {
    return this.real.at(-1) ?? '';
  }

  /** Entry names, sorted; empty if the directory cannot be listed. */
  names(): string[] {
    return this.#entries(() => true);
  }

  /** Names of the entries that are directories themselves, not links to directories. */
  directoryNames(): string[] {
    return this.#entries(({ kind }) => kind === 'directory');
  }

  /** Names of the entries that are directories or links (in sysfs, links to directories). */
  subdirectoryNames(): string[] {
    return this.#entries(({ kind }) => kind === 'directory' || kind === 'link');
  }

  #entries(which: (entry: Entry) => boolean): string[] {
    try {
      return this.tree.files
        .entries(this.real)
        .filter(which)
        .map((entry) => entry.name)
        .sort();
    } catch (error) {
      this.tree.note(this.shown, reasonOf(error));
      return [];
    }
  }

  has(name: string): boolean {
    return typeof resolve(this.tree, this.real, name) !== 'string';
  }

  dir(path: string, options: ReadOptions = {}): SysfsDir | null {
    const found = resolve(this.tree, this.real, path);
    if (typeof found === 'string') {
      if (!options.optional || found !== MISSING) this.tree.note(`${this.shown}/${path}`, found);
      return null;
    }
    if (found.kind !== 'directory') {
      this.tree.note(`${this.shown}/${path}`, 'not a directory');
      return null;
    }
    return new SysfsDir(this.tree, `${this.shown}/${path}`, found.real);
  }

  /** The last component of the target of the symlink `name` (the target need not exist), or null if it is not a symlink. */
  linkName(name: string): string | null {
    try {
      return (
        this.tree.files
          .linkTarget([...this.real, name])
          .split('/')
          .at(-1) || null
      );
    } catch {
      return null;
    }
  }

  /** At most `maxBytes` of a regular file. */
  bytes(name: string, maxBytes = MAX_ATTRIBUTE, options: ReadOptions = {}): Buffer | null {
    return this.content(name, maxBytes, options)?.bytes ?? null;
  }

  /** The same, with the file's size. */
  content(name: string, maxBytes = MAX_ATTRIBUTE, options: ReadOptions = {}): Content | null {
    const shown = `${this.shown}/${name}`;
    const found = this.#placeOf(name);
    if (typeof found === 'string') {
      if (!options.optional || found !== MISSING) this.tree.note(shown, found);
      return null;
    }
    if (found.kind !== 'file') {
      this.tree.note(shown, NO_FILE);
      return null;
    }
    try {
      return this.tree.files.read(found.real, maxBytes, options.enough);
    } catch (error) {
      const why = reasonOf(error);
      if (!options.optional || why !== MISSING) this.tree.note(shown, why);
    }
    return null;
  }

  /** Where a file is. To open an attribute shows by itself whether it is there, and that it is a file. */
  #placeOf(name: string): Resolved | string {
    const isAttribute = this.tree.files.genuine && this.real[0] === 'sys' && IN_DIRECTORY.test(name);
    return isAttribute
      ? { real: [...this.real, ...name.split('/')], kind: 'file' }
      : resolve(this.tree, this.real, name);
  }

  /** A text attribute, trimmed. */
  text(name: string, options: ReadOptions = {}): string | null {
    return textOf(this.bytes(name, MAX_ATTRIBUTE, options));
  }

  /** Same as `text`, but only the newline is removed: the names of files may begin and end with blanks. */
  line(name: string, options: ReadOptions = {}): string | null {
    const bytes = this.bytes(name, MAX_ATTRIBUTE, options);
    return bytes === null ? null : stringOf(bytes).replace(/\n$/, '');
  }

  /** A decimal or 0x… attribute inside [min, max] (default: any exact non-negative integer). */
  number(name: string, options: NumberOptions = {}): number | null {
    const text = this.text(name, options);
    if (text === null) return null;
    const value = parseNumber(text);
    const { min = 0, max = Number.MAX_SAFE_INTEGER } = options;
    if (value !== null && value >= min && value <= max) return value;
    this.malformed(name, value === null ? 'not a number' : 'out of range', text);
    return null;
  }

  /** A `0` or `1` attribute. */
  flag(name: string, options: ReadOptions = {}): boolean | null {
    const value = this.number(name, { ...options, max: 1 });
    return value === null ? null : value === 1;
  }

  malformed(name: string, what: string, text: string): void {
    this.tree.note(`${this.shown}/${name}`, `${what}: ${quote(text)}`);
  }
}

const MISSING = 'missing';

/** An attribute of a directory itself, or of one of the groups of a block device's attributes, which no kernel makes links. */
const IN_DIRECTORY = /^((queue|loop|dm|md)\/)?[^/]+$/;

interface Resolved {
  readonly real: string[];
  readonly kind: 'file' | 'directory' | 'other';
}

/** Follow `path` from `from` as the kernel would in a chroot; a returned string is the reason why there is nothing. */
function resolve(tree: SysfsTree, from: readonly string[], path: string): Resolved | string {
  const walk = new PathWalk(tree, from, path);
  try {
    return walk.toEnd() ?? { real: walk.real, kind: walk.kind };
  } catch (error) {
    return reasonOf(error);
  }
}

/** The resolution of a path, symlink by symlink. */
class PathWalk {
  real: string[];
  kind: Resolved['kind'] = 'directory';
  readonly #tree: SysfsTree;
  /** Components that are not resolved yet, the next one last. */
  readonly #ahead: string[];
  #links = 0;

  constructor(tree: SysfsTree, from: readonly string[], path: string) {
    this.#tree = tree;
    this.real = [...from];
    this.#ahead = path.split('/').reverse();
  }

  /** The reason why the path leads nowhere; null: the entry exists. */
  toEnd(): string | null {
    for (let next = this.#ahead.pop(); next !== undefined; next = this.#ahead.pop()) {
      if (next === '' || next === '.') continue;
      const problem = next === '..' ? this.#up() : this.#into(next);
      if (problem !== null) return problem;
    }
    return null;
  }

  #up(): string | null {
    this.kind = 'directory';
    return this.real.pop() === undefined && !this.#tree.live ? 'leads out of the tree' : null;
  }

  #into(name: string): string | null {
    this.real.push(name);
    const kind = this.#tree.files.kindOf(this.real);
    if (kind === undefined) return MISSING;
    if (kind === 'link') return this.#follow();
    this.kind = kind;
    return null;
  }

  #follow(): string | null {
    if (++this.#links > MAX_LINKS) return 'too many symlinks';
    const { files } = this.#tree;
    const target = files.linkTarget(this.real);
    const sure = files.genuine && this.real[0] === 'sys' && target.startsWith('../');
    if (target.startsWith('/')) this.real.length = 0;
    else this.real.pop();
    this.kind = 'directory';
    if (sure) this.real = posix.join(...this.real, target).split('/');
    else this.#ahead.push(...target.split('/').reverse());
    return null;
  }
}

const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

class DiskFiles implements Files {
  readonly root: string;
  readonly live: boolean = false;
  readonly genuine: boolean = false;
  readonly peerMemory = true;

  readonly #prefix: string;

  constructor(root: string) {
    this.root = root;
    this.#prefix = root.endsWith('/') ? root : `${root}/`;
  }

  kindOf(path: readonly string[]): EntryKind | undefined {
    const stat = lstatSync(this.at(path), { throwIfNoEntry: false });
    return stat === undefined ? undefined : kindOfEntry(stat);
  }

  entries(path: readonly string[]): Entry[] {
    const entries = readdirSync(this.at(path), { withFileTypes: true });
    return entries.map((entry) => ({ name: entry.name, kind: kindOfEntry(entry) }));
  }

  linkTarget(path: readonly string[]): string {
    return readlinkSync(this.at(path));
  }

  read(path: readonly string[], maxBytes: number, enough?: (read: Buffer) => boolean): Content {
    const fd = openSync(this.at(path), OPEN_FLAGS);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw Object.assign(new Error(NO_FILE), { code: NO_FILE });
      const bytes =
        enough === undefined
          ? readUpTo(fd, maxBytes, scratch.length, () => false)
          : readUpTo(fd, maxBytes, PIECE, enough);
      return { bytes, size: stat.size };
    } finally {
      closeSync(fd);
    }
  }

  protected at(path: readonly string[]): string {
    return this.#prefix + path.join('/');
  }
}

/** Directories that a kernel makes when it starts, and never removes. */
const STANDING = ['sys', 'sys/block', 'sys/class', 'sys/class/block', 'sys/dev', 'sys/dev/block', 'proc'];

/** What this machine's kernel shows. */
export class KernelFiles extends DiskFiles {
  override readonly live = true;
  override readonly genuine = true;
  /** Those of STANDING that are there. */
  readonly #standing = new Set<string>();

  override kindOf(path: readonly string[]): EntryKind | undefined {
    const at = path.join('/');
    if (this.#standing.has(at)) return 'directory';
    const kind = super.kindOf(path);
    if (kind === 'directory' && STANDING.includes(at)) this.#standing.add(at);
    return kind;
  }

  /** One call reads a whole attribute, which is at most a page long; that it is a file need not be asked. */
  override read(path: readonly string[], maxBytes: number, enough?: (read: Buffer) => boolean): Content {
    if (path[0] !== 'sys' || enough !== undefined) return super.read(path, maxBytes, enough);
    const fd = openSync(this.at(path), OPEN_FLAGS);
    try {
      const bytes = readUpTo(fd, maxBytes, scratch.length, ({ length }) => length < PAGE_SIZE);
      return { bytes, size: bytes.length };
    } finally {
      closeSync(fd);
    }
  }
}

/** The error if a file was replaced by something else after it was inspected. */
const NO_FILE = 'not a regular file';

function kindOfEntry(of: Pick<Dirent, 'isDirectory' | 'isFile' | 'isSymbolicLink'>): EntryKind {
  if (of.isSymbolicLink()) return 'link';
  return of.isDirectory() ? 'directory' : of.isFile() ? 'file' : 'other';
}

/** Reading is synchronous, so one scratch buffer is enough. */
const scratch = Buffer.allocUnsafeSlow(64 * 1024);
/** Bytes per piece for a reader who may need only the beginning. */
const PIECE = 64;

function readUpTo(fd: number, maxBytes: number, piece: number, enough: (read: Buffer) => boolean): Buffer {
  let read: Buffer = Buffer.alloc(0);
  while (read.length < maxBytes) {
    const got = readSync(fd, scratch, 0, Math.min(piece, maxBytes - read.length), null);
    if (got === 0) break;
    read = Buffer.concat([read, scratch.subarray(0, got)]);
    if (enough(read)) break;
  }
  return read;
}

function textOf(bytes: Buffer | null): string | null {
  return bytes === null ? null : stringOf(bytes).trim();
}

/**
 * An attribute is a C string. Its reported size is one page, so `tar` and other tools that copy a live /sys pad it with NUL:
 * everything after the first NUL is padding.
 */
function stringOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

/** A decimal or 0x… integer that a JS number represents exactly; otherwise null. */
export function parseNumber(text: string): number | null {
  if (!/^(-?\d+|0x[0-9a-f]+)$/i.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

/** Prepares text for messages: short and without control characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

export function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return MISSING;
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return NO_FILE;
    default:
      return code ?? String(error);
  }
}
