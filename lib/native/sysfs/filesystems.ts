/**
 * Filesystems as O_DIRECT with CMB memory meets them: a table, each row with its reason. P2P pages get through
 * where direct I/O is made of bios by iomap (patch 12: bio_iov_iter_get_pages); the older direct I/O helper
 * does not ask for them; and where the filesystem may quietly do buffered I/O instead, success proves nothing.
 */
export interface FileSystemFacts {
  /** Why CMB memory is refused, or null. */
  readonly noP2p: string | null;
  /** Why success is no proof, or null. */
  readonly unproven: string | null;
  /** A non-zero `stx_dio_mem_align` from statx(STATX_DIOALIGN) on the file takes the doubt away. */
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

/** Asked of its layers (overlay.ts), where they can be seen. */
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
