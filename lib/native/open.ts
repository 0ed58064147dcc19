/**
 * Opens a block device or file for the native backend: exclusively if a device will be written, and with O_DIRECT if the
 * filesystem supports it. It also finds out the limits of transfers.
 */

import { constants, type Stats } from 'node:fs';
import { type Controller, type OpenOptions, PAGE_SIZE, type QueueLimits } from '../backend/backend.js';
import { emptyNamespaceHint } from '../backend/namespace-kinds.js';
import { EACCES, EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENXIO, EROFS } from '../base/errno.js';
import type { Sentence } from '../base/sentence.js';
import { assertNoDeviceName } from '../host/device-names.js';
import { notCopyable, notEmpty, statOrNull } from '../host/path-advice.js';
import type { Addon } from './addon.js';
import { isInMemory, refusesDirect, SMALL, whyNotDirect } from './direct-io.js';
import type { NativeEngine } from './engine.js';
import { accessHint, nativeError } from './errors.js';
import { type FileStat, STAT_WORDS, statFd, statIn } from './file-stat.js';
import { assertPermitted, isPermitted } from './permission.js';
import type { BlockInfo, MountedInfo } from './sysfs/machine.js';

export interface Opened {
  readonly fd: number;
  readonly kind: 'block' | 'file';
  readonly writable: boolean;
  readonly readable: boolean;
  /** It is a file, which was created by this opening. */
  readonly made: boolean;
  /** The st_dev and st_ino of what is open, as in `'65025:12'`. */
  readonly identity: string;
  /** The size of a device, or the size of a file at the time of opening. */
  readonly size: number;
  readonly limits: QueueLimits;
  /** The reason why transfers go through the page cache, or null: they are direct. */
  readonly buffered: string | null;
  /** `fd` has O_DIRECT. */
  readonly direct: boolean;
  /** Transfers with `fd` wait; false: setBlocking() of the addon must be called before one that may have to. */
  readonly blocking: boolean;
  /** The kernel reports how direct I/O on this file must be aligned, so it supports direct I/O. */
  readonly dioKnown: boolean;
  /** It is to be truncated, which has not been done, and has this size. Everything else here is as if it had been. */
  readonly toEmpty: number | null;
}

/** What opens it. */
interface Opener {
  readonly addon: Addon;
  readonly engine: NativeEngine;
  readonly controllers: readonly Controller[];
}

/** What is to be opened, and what is known of its place. */
interface Placed {
  readonly path: string;
  readonly write: boolean;
  readonly info: MountedInfo | null;
}

/** The same, with what was found at the path just now. */
interface Wanted extends Placed {
  readonly info: BlockInfo | null;
}

/** A file or device that is open, before its capabilities are known. */
interface Door {
  readonly fd: number;
  readonly readable: boolean;
  readonly made: boolean;
  readonly blocking: boolean;
  readonly stat: FileStat;
}

/** Retries while another process has a device open for a moment (udev, an fd that is being closed). */
const BUSY_TRIES = 5;
const BUSY_PAUSE_MS = 20;

/**
 * @param info what was found at the path just now, in this same turn
 * @param nothing nothing was there, and with `exclusive` only a file that is made now is opened
 */
export async function openPath(
  opener: Opener,
  path: string,
  options: OpenOptions,
  info: BlockInfo | null,
  nothing = false,
): Promise<Opened> {
  const { addon } = opener;
  const write = options.write === true;
  const wanted: Wanted = { path, write, info };
  assertPermitted(path, 'open', { write });
  const there = nothing || isFile(info) ? null : statOrNull(path);
  if (there !== null) assertCopyable(path, there);
  else if (!isFile(info)) {
    assertNoDeviceName(path, opener.controllers, { create: options.create === true });
  }
  const isDevice = there?.isBlockDevice() === true;
  const made = !isDevice && makesElsewhere(wanted, options) ? await makeFile(opener, wanted, options) : null;
  const door =
    made ??
    (isDevice ? await openDevice(addon, wanted, options.force === true) : openFile(addon, wanted, options));
  const { fd, stat } = door;
  try {
    if (stat.kind === 'block' && isDevice) return device(addon, wanted, door);
    if (stat.kind === 'file') return file(addon, wanted, door, emptied(options, door));
    if (stat.kind === 'directory') throw nativeError(-EISDIR, 'open', path);
    throw nativeError(-EINVAL, 'open', path, 'Name a block device, a namespace or a regular file.');
  } catch (error) {
    addon.closeFd(fd);
    throw error;
  }
}

/**
 * Open a regular file that is there, without a look at its path before.
 * @param infoOf what is known of the place of the open file
 * @returns null: it is something else, or cannot be opened like this; `openPath` finds out more
 */
export function openFileThere(
  addon: Addon,
  path: string,
  options: OpenOptions,
  infoOf: (stat: FileStat) => MountedInfo | null,
): { readonly opened: Opened; readonly info: MountedInfo } | null {
  const write = options.write === true;
  if (options.exclusive === true || path.includes('\0') || !isPermitted(path, { write })) return null;
  // Also where a file is there, O_CREAT is what fs.protected_regular of the kernel goes by.
  const create = write && options.create === true ? constants.O_CREAT : 0;
  const flags = (write ? constants.O_RDWR : constants.O_RDONLY) | create;
  const fd = addon.openRegular(path, flags, options.mode ?? 0o666, STAT_WORDS);
  if (fd < 0) return null;
  try {
    const door = { fd, readable: true, made: false, blocking: false, stat: statIn() };
    const info = infoOf(door.stat);
    if (info?.kind === 'file') {
      return { opened: file(addon, { path, write, info }, door, emptied(options, door)), info };
    }
  } catch (error) {
    addon.closeFd(fd);
    throw error;
  }
  // Its path leads to something else by now.
  addon.closeFd(fd);
  return null;
}

/** A regular file was there, whose size is known for this reason; what cannot be copied from has none. */
export function isFile(info: BlockInfo | null): boolean {
  return info?.kind === 'file' && info.size !== null;
}

/** @throws P2pdmaError EINVAL: it is a pipe, a socket or a character device, which must not even be opened */
function assertCopyable(path: string, there: Stats): void {
  const refused = notCopyable(path, there);
  if (refused !== null) throw refused;
}

async function openDevice(addon: Addon, { path, write, info }: Wanted, force: boolean): Promise<Door> {
  const exclusive = write && !force ? constants.O_EXCL : 0;
  const flags = (write ? constants.O_RDWR : constants.O_RDONLY) | constants.O_DIRECT | exclusive;
  let fd = addon.openFile(path, flags, 0, STAT_WORDS);
  for (let i = 1; fd === -EBUSY && i < BUSY_TRIES && info?.inUse.words == null; i++) {
    await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
    fd = addon.openFile(path, flags, 0, STAT_WORDS);
  }
  if (fd >= 0) return { fd, readable: true, made: false, blocking: true, stat: statIn() };
  if (write && fd === -EACCES && info?.readOnly === true) {
    throw nativeError(-EROFS, 'open', path, accessHint(-EROFS, path));
  }
  throw nativeError(fd, 'open', path, deviceHint(fd, path, info));
}

function deviceHint(errno: number, path: string, info: BlockInfo | null): Sentence | null {
  if (errno === -EBUSY) {
    const who = info?.inUse.words ?? 'it is mounted or held by something else';
    return (option) =>
      `'${path}' is opened exclusively because it is to be written, and ${who}. Free it, or pass ${option('force')} if you are sure.`;
  }
  return accessHint(errno, path);
}

function openFile(addon: Addon, { path, write, info }: Wanted, options: OpenOptions): Door {
  const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } = constants;
  const mode = options.mode ?? 0o666;
  const exclusive = options.exclusive === true;
  const create = write && options.create === true ? O_CREAT : 0;
  // Where nothing was, the file is made exclusively: this tells whether it was made.
  let only = create !== 0 && (exclusive || !isFile(info)) ? O_EXCL : 0;
  const open = (access: number): number => {
    return addon.openFile(path, access | create | only, mode, STAT_WORDS);
  };
  let fd = open(write ? O_RDWR : O_RDONLY);
  if (fd === -EEXIST && !exclusive) {
    // Somebody else was faster, or it is a link that leads nowhere.
    only = 0;
    fd = open(O_RDWR);
  }
  // A file that may be written but not read: everything except reading it back is possible.
  const readable = fd !== -EACCES || !write;
  if (!readable) fd = open(O_WRONLY);
  if (fd >= 0) return { fd, readable, made: only !== 0, blocking: false, stat: statIn() };
  throw nativeError(fd, 'open', path, fileHint(fd, path, options));
}

/**
 * Open another file description of the file behind `fd`, with or without O_DIRECT. It is opened through the descriptor, so that the
 * file is found even if its name was removed or now belongs to another file. If there is no /proc, it is opened by its path, if
 * that is still the same file.
 * @returns a descriptor, or a negative errno
 */
export function openAgain(
  addon: Addon,
  { fd, path, write, direct = false }: { fd: number; path: string; write: boolean; direct?: boolean },
): number {
  const modes = write ? [constants.O_RDWR, constants.O_WRONLY] : [constants.O_RDONLY];
  let answer = -ENOENT;
  for (const door of [`/proc/self/fd/${fd}`, path]) {
    for (const mode of modes) {
      answer = addon.openFile(door, mode | (direct ? constants.O_DIRECT : 0), 0);
      if (answer >= 0 && isSameFile(addon, fd, answer)) return answer;
      if (answer >= 0) addon.closeFd(answer);
      if (answer >= 0) answer = -ENOENT;
    }
    if (answer !== -ENOENT) break;
  }
  return answer;
}

function isSameFile(addon: Addon, fd: number, other: number): boolean {
  const [a, b] = [statFd(addon, fd), statFd(addon, other)];
  return typeof a !== 'number' && typeof b !== 'number' && a.identity === b.identity;
}

/**
 * To make a file takes the kernel as long as to write one of 64 KiB, and to open one that is there almost nothing. So it is made
 * elsewhere, unless its filesystem has nothing to wait for.
 */
function makesElsewhere({ write, info }: Wanted, { create }: OpenOptions): boolean {
  return write && create === true && info !== null && !isFile(info) && !isInMemory(info.fileSystem);
}

/** Make a file where nothing was. Null: something is there now. */
async function makeFile(
  { addon, engine }: Opener,
  { path }: Wanted,
  options: OpenOptions,
): Promise<Door | null> {
  const { O_CREAT, O_EXCL, O_RDWR } = constants;
  const fd = await engine.open(path, O_RDWR | O_CREAT | O_EXCL, options.mode ?? 0o666);
  if (fd === -EEXIST && options.exclusive !== true) return null;
  if (fd < 0) throw nativeError(fd, 'open', path, fileHint(fd, path, options));
  const stat = statFd(addon, fd);
  if (typeof stat !== 'number') return { fd, readable: true, made: true, blocking: true, stat };
  addon.closeFd(fd);
  throw nativeError(stat, 'fstat', path);
}

function fileHint(errno: number, path: string, options: OpenOptions): string | null {
  if (errno === -ENOENT && options.write && !options.create) return 'Pass create to create the file.';
  if (errno === -ENXIO) return 'Name a block device, a namespace or a regular file.';
  return accessHint(errno, path);
}

function device(addon: Addon, { path, write, info }: Wanted, { fd, readable, made, stat }: Door): Opened {
  const facts = addon.blockFacts(fd);
  if (typeof facts === 'number') throw nativeError(facts, 'ioctl BLKGETSIZE64', path);
  if (facts.size === 0) {
    const hint =
      info?.kind === 'namespace'
        ? emptyNamespaceHint(info.metadataBytes)
        : 'It reports size 0: it has no medium.';
    throw nativeError(-ENXIO, 'open', path, hint);
  }
  const limits: QueueLimits = {
    logicalBlockSize: facts.logicalBlockSize,
    dmaAlignment:
      stat.dioMemAlign > 0 ? stat.dioMemAlign : (info?.limits.dmaAlignment ?? facts.logicalBlockSize),
    maxTransfer: facts.maxTransfer > 0 ? facts.maxTransfer : (info?.limits.maxTransfer ?? 128 * 1024),
    maxSegments: info?.limits.maxSegments ?? 128,
    pciP2pdma: info?.limits.pciP2pdma ?? false,
  };
  return {
    fd,
    kind: 'block',
    identity: stat.identity,
    writable: write,
    readable,
    made,
    size: facts.size,
    limits,
    buffered: null,
    direct: true,
    blocking: true,
    dioKnown: stat.dioMemAlign > 0,
    toEmpty: null,
  };
}

/** To free the blocks of a file can take long, so O_TRUNC would hold up this thread: whoever opens it empties it. */
function emptied({ write, truncate }: OpenOptions, { made }: Door): boolean {
  return write === true && truncate === true && !made;
}

function file(addon: Addon, { path, write, info }: Placed, door: Door, toEmpty: boolean): Opened {
  const { fd, readable, made } = door;
  // A field after a spread takes Node 20 as long as some system calls.
  const stat = toEmpty ? Object.assign({}, door.stat, { size: 0 }) : door.stat;
  const fileSystem = info?.fileSystem ?? null;
  if (!write && stat.size === 0) {
    const refused = notEmpty(path, fileSystem, () => holdsByte(addon, fd));
    if (refused !== null) throw refused;
  }
  let buffered = whyNotDirect(addon, fd, path, stat, fileSystem);
  // A small file gets O_DIRECT when it is needed, if the kernel has said that it may.
  const wanted = buffered === null && (stat.size > SMALL || stat.dioMemAlign <= 0);
  const direct = wanted && addon.setDirect(fd) >= 0;
  if (wanted && !direct) buffered = refusesDirect(fileSystem, path);
  const limits = new FileLimits(stat, info?.limits ?? null, buffered !== null);
  return {
    fd,
    kind: 'file',
    identity: stat.identity,
    writable: write,
    readable,
    made,
    size: stat.size,
    limits,
    buffered,
    direct,
    blocking: door.blocking || direct,
    dioKnown: stat.dioMemAlign > 0,
    toEmpty: toEmpty ? door.stat.size : null,
  };
}

/** The page cache accepts anything; direct I/O needs what the kernel reports, or what has always been enough. */
class FileLimits implements QueueLimits {
  readonly maxSegments: number;
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly pciP2pdma: boolean;
  readonly #under: QueueLimits | null;
  #maxTransfer: number | null = null;

  constructor(stat: FileStat, under: QueueLimits | null, buffered: boolean) {
    const { dioOffsetAlign, dioMemAlign } = stat;
    const block = dioOffsetAlign > 0 ? dioOffsetAlign : (under?.logicalBlockSize ?? PAGE_SIZE);
    const memory = dioMemAlign > 0 ? dioMemAlign : Math.max(under?.dmaAlignment ?? 512, 512);
    this.maxSegments = under?.maxSegments ?? 128;
    this.logicalBlockSize = buffered ? 1 : block;
    this.dmaAlignment = buffered ? 1 : memory;
    this.pciP2pdma = !buffered && (under?.pciP2pdma ?? false);
    this.#under = under;
  }

  /** To find it out takes longer than to copy a small file. */
  get maxTransfer(): number {
    this.#maxTransfer ??= this.#under?.maxTransfer ?? 1024 * 1024;
    return this.#maxTransfer;
  }
}

/** For a file of size 0: true if it contains a byte anyway and has not just grown. */
function holdsByte(addon: Addon, fd: number): boolean {
  return addon.readAt(fd, new Uint8Array(1), 0) === 1 && addon.fileSize(fd) === 0;
}
