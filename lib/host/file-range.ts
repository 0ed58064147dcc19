/** The device or file that holds the bytes of a file or a device, according to this host's filesystem. */
import { type BigIntStats, lstatSync, readlinkSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { UnderlyingRange } from '../backend/backend.js';

/** The range of an open file; `identity`: its st_dev and st_ino, as in `'65025:12'`. */
export function openFileRange(path: string, identity: string): UnderlyingRange {
  return { on: `file ${identity}`, name: path, start: 0, length: Number.POSITIVE_INFINITY, exact: true };
}

/** What the kernel says of a path; null: there is nothing, or it cannot be asked about. */
export function statOf(path: string): BigIntStats | null {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false }) ?? null;
  } catch {
    return null;
  }
}

/**
 * The range of a file, independent of its name; a file that does not exist yet is identified by where it would be created.
 * @param there  what {@link statOf} says of it
 */
export function fileRange(path: string, there: BigIntStats | null = statOf(path)): UnderlyingRange {
  return {
    on: fileOrDevice(path, there),
    name: path,
    start: 0,
    length: Number.POSITIVE_INFINITY,
    exact: true,
  };
}

function fileOrDevice(path: string, there: BigIntStats | null): string {
  if (there === null) return `file ${wouldBeAt(path, 0)}`;
  return there.isBlockDevice() ? `device ${deviceNumber(there.rdev)}` : `file ${there.dev}:${there.ino}`;
}

/** Where the kernel would create it: a name in a directory, after the link that is there, if there is one that leads nowhere. */
function wouldBeAt(path: string, links: number): string {
  const link = linkAt(path);
  if (link !== null && links <= 40) {
    return wouldBeAt(link.startsWith('/') ? link : `${dirname(path)}/${link}`, links + 1);
  }
  const folder = statOf(dirname(path));
  return folder === null ? resolve(path) : `${folder.dev}:${folder.ino}/${basename(path)}`;
}

function linkAt(path: string): string | null {
  try {
    // To ask what nothing is costs less than an exception for what is no link.
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : null;
  } catch {
    return null;
  }
}

/** Linux's dev_t as stat returns it: 12 + 20 bits in the low half, the rest of both numbers above. */
export function deviceNumber(dev: bigint | number): string {
  // Linux itself has 32 bits; on them this takes a tenth of the time.
  if (typeof dev === 'number' && dev >>> 0 === dev) {
    return `${(dev >>> 8) & 0xfff}:${((dev & 0xff) | ((dev >>> 12) & ~0xff)) >>> 0}`;
  }
  const wide = BigInt(dev);
  const major = ((wide >> 8n) & 0xfffn) | ((wide >> 32n) & ~0xfffn);
  const minor = (wide & 0xffn) | ((wide >> 12n) & ~0xffn);
  return `${major}:${BigInt.asUintN(32, minor)}`;
}
