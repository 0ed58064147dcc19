/**
 * What happens on each filesystem to O_DIRECT with CMB memory: a table in which each row has a reason. P2P pages are accepted
 * where iomap builds the bios of direct I/O (patch 12: bio_iov_iter_get_pages). The older direct I/O helper does not request
 * them. Where the filesystem may silently fall back to buffered I/O, success proves nothing.
 */
export interface FileSystemFacts {
  /** The reason why CMB memory is refused, or null. */
  readonly noP2p: string | null;
  /** The reason why success is not a proof, or null. */
  readonly unproven: string | null;
  /** True if a non-zero `stx_dio_mem_align` from statx(STATX_DIOALIGN) on the file removes the doubt. */
  readonly dioAlignProves: boolean;
}

const clear: FileSystemFacts = { noP2p: null, unproven: null, dioAlignProves: false };

const oldDirectIo = (type: string): FileSystemFacts => ({
  ...clear,
  noP2p: `direct I/O of ${type} does not take peer-to-peer memory`,
});
const notLocal = (type: string): FileSystemFacts => ({
  ...clear,
  noP2p: `${type} is not on a block device that a drive's DMA would reach`,
});

const EXT4: FileSystemFacts = {
  ...clear,
  unproven: 'ext4 does buffered I/O on inodes without direct I/O (inline data, encryption, verity)',
  dioAlignProves: true,
};

/** Its layers (overlay.ts) are checked instead, where they are visible. */
const OVERLAY: FileSystemFacts = {
  ...clear,
  noP2p: 'the layers of overlayfs cannot be seen from here, so the disk that holds the file is not known',
};

const table: Readonly<Record<string, FileSystemFacts>> = {
  xfs: clear,
  overlay: OVERLAY,
  zonefs: clear,
  ext4: EXT4,
  ext3: EXT4,
  ext2: EXT4,
  f2fs: {
    ...clear,
    unproven: 'f2fs does buffered I/O on compressed, encrypted and some zoned files',
    dioAlignProves: true,
  },
  btrfs: {
    ...clear,
    unproven:
      'btrfs does buffered I/O on compressed and inline extents, and to inodes with checksums on new kernels',
  },
  ...Object.fromEntries(
    [
      'vfat',
      'msdos',
      'exfat',
      'ntfs3',
      'hfs',
      'hfsplus',
      'jfs',
      'nilfs2',
      'ocfs2',
      'udf',
      'affs',
      'reiserfs',
    ].map((type) => [type, oldDirectIo(type)]),
  ),
  ...Object.fromEntries(
    [
      ...['tmpfs', 'ramfs', 'rootfs', 'devtmpfs', 'hugetlbfs', 'zfs', 'squashfs', 'proc', 'sysfs'],
      ...['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'virtiofs', 'ceph', 'fuse', 'fuseblk', 'lustre', 'vboxsf'],
    ].map((type) => [type, notLocal(type)]),
  ),
};

/** @param options the mount's super options, as in mountinfo */
export function fileSystemFacts(type: string, options: readonly string[]): FileSystemFacts {
  if (EXT4 === table[type] && options.includes('data=journal')) {
    return { ...clear, unproven: 'ext4 does buffered I/O while it journals data (data=journal)' };
  }
  if (Object.hasOwn(table, type)) return table[type]!;
  if (type.startsWith('fuse.')) return notLocal(type);
  return { ...clear, unproven: `whether ${type} really does direct I/O is not known` };
}
