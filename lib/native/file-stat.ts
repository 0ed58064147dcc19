/** What the kernel says of an open file (fstat(2), and STATX_DIOALIGN of statx(2)). */
import type { Addon } from './addon.js';

export interface FileStat {
  readonly kind: 'file' | 'block' | 'directory' | 'other';
  readonly size: number;
  /** Its st_dev, of the filesystem that it is on. */
  readonly device: number;
  /** The st_dev and st_ino that node:fs reports, `'65025:12'`. */
  readonly identity: string;
  /** STATX_DIOALIGN: -1 if the kernel does not report it, 0 if O_DIRECT is refused for this file. */
  readonly dioMemAlign: number;
  readonly dioOffsetAlign: number;
}

/** The kinds by their numbers: StatKind in src-native/file.cc. */
const KINDS = ['other', 'file', 'block', 'directory'] as const;

/** Where the addon writes what it finds: StatWord in src-native/file.cc. */
export const STAT_WORDS = new Float64Array(7);

/** What `openFile` or `statFd` has just written into STAT_WORDS. */
export function statIn(): FileStat {
  const words = STAT_WORDS;
  return {
    kind: KINDS[words[0]!]!,
    size: words[1]!,
    device: words[2]!,
    identity: `${words[2]}:${inodeOf(words[3]!, words[4]!)}`,
    dioMemAlign: words[5]!,
    dioOffsetAlign: words[6]!,
  };
}

function inodeOf(high: number, low: number): number | bigint {
  const inode = high * 2 ** 32 + low;
  return Number.isSafeInteger(inode) ? inode : (BigInt(high) << 32n) | BigInt(low);
}

/** The same for a descriptor that is open already; a negative errno: it could not be asked. */
export function statFd(addon: Addon, fd: number): FileStat | number {
  const error = addon.statFd(fd, STAT_WORDS);
  return error < 0 ? error : statIn();
}
