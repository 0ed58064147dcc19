/**
 * Which route the I/O of a file on btrfs takes, as far as the file itself shows it. btrfs accepts O_DIRECT in every case:
 *
 *     read    compressed and inline extents are read through the page cache, all others directly
 *     write   through the page cache over such an extent, and, since 6.15, to any inode with checksums (968f19c5b1b7,
 *             also backported to older series); directly if there are no checksums (nodatasum, nodatacow, chattr +C)
 */
import { type KernelVersion, olderThan } from '../backend/kernel-release.js';
import type { Addon } from './addon.js';

/** The facts about an open file: what is known not to be direct, and what is not known. */
export interface FileWay {
  readonly noP2p: string | null;
  readonly unproven: string | null;
}

/** FIEMAP_EXTENT_ENCODED (compressed or encrypted), _NOT_ALIGNED, _DATA_INLINE, _DATA_TAIL */
const THROUGH_PAGE_CACHE = 0x0008 | 0x0100 | 0x0200 | 0x0400;
/** FIEMAP_EXTENT_UNKNOWN, _DELALLOC: the extent is not on the device yet. */
const UNDECIDED = 0x0002 | 0x0004;
/** FS_COMPR_FL and FS_NOCOW_FL of FS_IOC_GETFLAGS. */
const FS_COMPR_FL = 0x0000_0004;
const FS_NOCOW_FL = 0x0080_0000;

export function btrfsWay(
  addon: Pick<Addon, 'fileFlags' | 'extentFlags'>,
  fd: number,
  file: {
    readonly path: string;
    readonly write: boolean;
    readonly mountOptions: readonly string[];
    readonly version: KernelVersion | null;
  },
): FileWay {
  const { path, write, mountOptions, version } = file;
  const extents = addon.extentFlags(fd);
  if (extents >= 0 && (extents & THROUGH_PAGE_CACHE) !== 0) {
    return no(`'${path}' has compressed or inline extents, which btrfs moves through the page cache`);
  }
  if (extents < 0 || (extents & UNDECIDED) !== 0) {
    return unsettled(
      `whether '${path}' has compressed extents, which btrfs moves through the page cache, is not known`,
    );
  }
  if (!write) return { noP2p: null, unproven: null };
  const flags = addon.fileFlags(fd);
  const has = (name: string) =>
    mountOptions.some((option) => option === name || option.startsWith(`${name}=`));
  const noChecksums = has('nodatasum') || has('nodatacow') || (flags >= 0 && (flags & FS_NOCOW_FL) !== 0);
  if (noChecksums) return { noP2p: null, unproven: null };
  if (version !== null && !olderThan(version, 6, 15)) {
    return no(
      `btrfs writes files with checksums through the page cache since Linux 6.15 (of '${path}': chattr +C, or mount with nodatasum)`,
    );
  }
  const compresses = has('compress') || has('compress-force') || (flags >= 0 && (flags & FS_COMPR_FL) !== 0);
  return unsettled(
    compresses
      ? `btrfs compresses what is written to '${path}', unless it is written directly, which cannot be seen from here`
      : `some kernels’ btrfs writes files with checksums, as '${path}' is one, through the page cache`,
  );
}

function no(noP2p: string): FileWay {
  return { noP2p, unproven: null };
}

function unsettled(unproven: string): FileWay {
  return { noP2p: null, unproven };
}
