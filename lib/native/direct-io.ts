/**
 * Finds out whether transfers of an open file go directly to its device. A file system may refuse direct I/O at open (statx,
 * O_DIRECT refused), or accept O_DIRECT and refuse each transfer: overlayfs does this over a lower file system without direct
 * I/O, as does any file system that only accepts the flag. So if statx does not settle it, one block is read.
 */
import { constants } from 'node:fs';
import { PAGE_SIZE } from '../backend/backend.js';
import { EINVAL, EOPNOTSUPP } from '../base/errno.js';
import type { Addon } from './addon.js';
import type { FileStat } from './file-stat.js';

/** Filesystems whose files exist only in the page cache: they accept O_DIRECT (since 6.6) but copy anyway. */
const MEMORY_FILE_SYSTEMS = new Set(['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs']);

/** On these, the statx result for a file comes from another file system. */
const STACKED_FILE_SYSTEMS = new Set(['overlay', 'ecryptfs', 'aufs']);

/** Local file systems that are known to do direct I/O if they accept the flag. */
const DIRECT_FILE_SYSTEMS = new Set(['ext2', 'ext3', 'ext4', 'xfs', 'f2fs', 'btrfs', 'zonefs']);

/** Its files are in memory, and nowhere else. */
export function isInMemory(fileSystem: string | null): boolean {
  return fileSystem !== null && MEMORY_FILE_SYSTEMS.has(fileSystem);
}

/** A filesystem on this computer, whose calls wait for nothing but its own disk. */
export function isLocal(fileSystem: string | null): boolean {
  return isInMemory(fileSystem) || (fileSystem !== null && DIRECT_FILE_SYSTEMS.has(fileSystem));
}

/**
 * The part of a file's beginning that is rather moved by the page cache, in bytes: small files that programs read are mostly there
 * already, and what was written to them a moment ago is only there.
 */
export const SMALL = 128 * 1024;

/** Null: transfers of `fd` can be direct, once it has O_DIRECT. Otherwise the reason, in words. `fileSystem`: null if not known. */
export function whyNotDirect(
  addon: Addon,
  fd: number,
  path: string,
  stat: FileStat,
  fileSystem: string | null,
): string | null {
  const name = fileSystem ?? 'its filesystem';
  if (isInMemory(fileSystem)) {
    return `'${path}' is on ${name}, which keeps files in memory: there is no device to transfer to`;
  }
  if (stat.dioMemAlign === 0 || stat.dioOffsetAlign === 0) {
    return `${name} does no direct I/O on '${path}' (compressed, encrypted, inline or journalled data)`;
  }
  if (stat.dioMemAlign < 0 || (fileSystem !== null && STACKED_FILE_SYSTEMS.has(fileSystem))) {
    const tried = tryDirect(addon, fd);
    if (tried === 'refused') return `${name} takes O_DIRECT and refuses each transfer (tried on '${path}')`;
    if (tried === 'none') return refusesDirect(fileSystem, path);
    if (tried === 'unknown' && !DIRECT_FILE_SYSTEMS.has(name)) {
      return `whether ${name} does direct I/O on '${path}' could not be tried: it may not be read`;
    }
  }
  return null;
}

/** The reason if O_DIRECT itself is refused. */
export function refusesDirect(fileSystem: string | null, path: string): string {
  return `${fileSystem ?? 'its filesystem'} does not support O_DIRECT for '${path}'`;
}

/** Read the first block of the same file with direct I/O. An empty file returns no bytes, which is also an answer. */
function tryDirect(addon: Addon, fd: number): 'works' | 'none' | 'refused' | 'unknown' {
  const again = addon.openFile(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_DIRECT, 0);
  if (again < 0) return again === -EINVAL || again === -EOPNOTSUPP ? 'none' : 'unknown';
  const got = addon.readAt(again, alignedPage(addon), 0);
  addon.closeFd(again);
  // Any other error comes from the device: the request reached it, so the route is direct.
  return got === -EINVAL || got === -EOPNOTSUPP ? 'refused' : 'works';
}

function alignedPage(addon: Addon): Uint8Array {
  const whole = Buffer.allocUnsafeSlow(2 * PAGE_SIZE);
  const past = addon.addressOf(whole) % PAGE_SIZE;
  const start = past === 0 ? 0 : PAGE_SIZE - past;
  return whole.subarray(start, start + PAGE_SIZE);
}
