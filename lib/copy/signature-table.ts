/**
 * The signatures of what disks and images can hold, as a table. Each row gives the position of the magic bytes and what
 * they mean. A magic that is short, or used by several formats, needs a further check.
 */
/** What a signature says is there. @inline */
export type SignatureKind =
  | 'partition table'
  | 'filesystem'
  | 'volume manager'
  | 'RAID member'
  | 'encrypted volume'
  | 'swap space'
  | 'cache';

/** When it was used, as far as the structure itself says; ISO 8601 in UTC. @inline */
export interface SignatureTimes {
  /** When it was made. */
  readonly created: string | null;
  /** When it was last mounted. */
  readonly mounted: string | null;
  /** When its structure was last written. */
  readonly written: string | null;
}

export interface Row {
  readonly name: string | ((read: Look, at: number) => string);
  readonly kind: SignatureKind;
  /** Offsets of the magic; negative: from the end. A function if they depend on the size. */
  readonly at: readonly number[] | ((size: number) => readonly number[]);
  /** Any of these matches. */
  readonly magic: readonly Uint8Array[];
  /** A further check, for a magic that is short or used by several formats. */
  readonly also?: (read: Look, at: number) => boolean;
  /** Offset of the label from the magic, and its length. */
  readonly label?: readonly [number, number];
  /** Seconds since 1970, of a structure that has such fields; 0: it was never done. */
  readonly times?: (read: Look, at: number) => Partial<Record<keyof SignatureTimes, number>>;
}

/** Reads bytes of the target; null where they were not read. */
export type Look = (offset: number, length: number) => Uint8Array | null;

const KIB = 1024;
const text = (magic: string): Uint8Array => Buffer.from(magic, 'latin1');
const hex = (magic: string): Uint8Array => Buffer.from(magic.replaceAll(' ', ''), 'hex');
const every = (from: number, step: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + i * step);

/** Size of the blocks that are read besides the two ends. */
export const SPOT = 4 * KIB;

/** Distances from the end, in sectors, at which Promise controllers keep their metadata. */
const PROMISE = [63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087];
/** LUKS2's second header begins where the first header, including its JSON area, ends. */
const LUKS2_SECOND = every(0, 0, 9).map((_, i) => 0x4000 * 2 ** i);
const PROMISE_AT = (size: number): number[] => {
  const whole = size - (size % 512);
  return PROMISE.map((sectors) => whole - sectors * 512);
};

/** Offsets of further blocks to read; negative: from the end. */
export const SPOTS: readonly number[] = [
  1024 * KIB,
  2048 * KIB,
  ...LUKS2_SECOND,
  ...PROMISE.map((n) => -n * 512),
];

const sector =
  (fromEnd: number, plus = 0) =>
  (size: number): number[] => [size - (size % 512) - fromEnd * 512 + plus];

/** From 1904 to 1970, in seconds. */
const HFS_EPOCH = 2_082_844_800;

const MINIX_MAGIC = ['7f13', '137f', '8f13', '138f', '6824', '2468', '7824', '2478'].map(hex);

const ATARI_IDS = every(0x1c7, 12, 4);

const PARTITION_TABLES: readonly Row[] = [
  // GPT: the header is in LBA 1 and in the last LBA, for block sizes of 512 to 4096 bytes.
  {
    name: 'GPT',
    kind: 'partition table',
    at: [512, 1024, 2048, 4096, -512, -4096],
    magic: [text('EFI PART')],
  },
  { name: 'MBR', kind: 'partition table', at: [510], magic: [hex('55aa')], also: hasBootFlags },
  {
    name: 'Apple partition map',
    kind: 'partition table',
    at: [512, 2048],
    magic: [text('PM\0\0'), text('TS\0\0')],
  },
  {
    name: 'BSD disklabel',
    kind: 'partition table',
    at: [0, 64, 128, 512, 576],
    magic: [hex('57455682'), hex('82564557')],
  },
  { name: 'Sun disklabel', kind: 'partition table', at: [508], magic: [hex('dabe')], also: sunChecksum },
  { name: 'SGI volume header', kind: 'partition table', at: [0], magic: [hex('0be5a941')] },
  { name: 'AIX label', kind: 'partition table', at: [0], magic: [hex('c9c2d4c1')] },
  { name: 'Solaris x86 VTOC', kind: 'partition table', at: [524], magic: [hex('eede0d60')] },
  { name: 'UnixWare VTOC', kind: 'partition table', at: [29 * 512 + 4], magic: [hex('0d605eca')] },
  { name: 'Ultrix disklabel', kind: 'partition table', at: [16312], magic: [hex('57290300')] },
  { name: 'Amiga RDB', kind: 'partition table', at: every(0, 512, 16), magic: [text('RDSK')] },
  {
    name: 'Atari partition table',
    kind: 'partition table',
    // The identifier of each of the four entries; its flags are in the byte before it.
    at: ATARI_IDS,
    magic: ['GEM', 'BGM', 'XGM', 'LNX', 'SWP', 'RAW'].map(text),
    also: atariSane,
  },
  { name: 'Windows LDM', kind: 'partition table', at: [0xc00, -512], magic: [text('PRIVHEAD')] },
];

const FILESYSTEMS: readonly Row[] = [
  // Linux filesystems.
  {
    ...{ name: extVersion, kind: 'filesystem', at: [0x438], magic: [hex('53ef')], also: extSane },
    ...{ label: [64, 16], times: extTimes },
  },
  { name: 'XFS', kind: 'filesystem', at: [0], magic: [text('XFSB'), text('EXFS')], label: [108, 12] },
  { name: 'XFS log', kind: 'filesystem', at: every(0, 512, 512), magic: [hex('feedbabe')], also: xfsLogSane },
  { name: 'btrfs', kind: 'filesystem', at: [0x10040], magic: [text('_BHRfS_M')], label: [0xeb, 256] },
  {
    name: 'bcachefs',
    kind: 'filesystem',
    at: [4096 + 24],
    magic: [hex('c68573f6 66ce 90a9 d96a 60cf803df7ef')],
    label: [48, 32],
  },
  { name: 'F2FS', kind: 'filesystem', at: [1024, 5120], magic: [hex('1020f5f2')] },
  { name: 'JFS', kind: 'filesystem', at: [0x8000], magic: [text('JFS1')] },
  {
    name: 'ReiserFS',
    kind: 'filesystem',
    at: [0x2014, 0x2034, 0x10034],
    magic: [text('ReIsErFs'), text('ReIsEr2Fs'), text('ReIsEr3Fs')],
  },
  { name: 'Reiser4', kind: 'filesystem', at: [0x10000], magic: [text('ReIsEr4')] },
  {
    name: 'NILFS2',
    kind: 'filesystem',
    at: nilfsPlaces,
    magic: [hex('3434')],
    also: nilfsSane,
    times: nilfsTimes,
  },
  { name: 'GFS2', kind: 'filesystem', at: [0x10000], magic: [hex('01161970')], also: gfsIs(1801) },
  { name: 'GFS', kind: 'filesystem', at: [0x10000], magic: [hex('01161970')], also: gfsIs(1309) },
  { name: 'ScoutFS', kind: 'filesystem', at: [0x10004], magic: [hex('8b423c10')] },
  { name: 'OCFS2', kind: 'filesystem', at: [0x400, 0x800, 0x1000, 0x2000], magic: [text('OCFSV2')] },
  { name: 'OCFS', kind: 'filesystem', at: [8, 0x2000], magic: [text('OracleCFS')] },
  { name: 'EROFS', kind: 'filesystem', at: [1024], magic: [hex('e2e1f5e0')] },
  {
    name: 'SquashFS',
    kind: 'filesystem',
    at: [0],
    magic: ['hsqs', 'sqsh', 'sqlz', 'qshs', 'shsq'].map(text),
  },
  { name: 'cramfs', kind: 'filesystem', at: [0, 512], magic: [hex('453dcd28'), hex('28cd3d45')] },
  { name: 'romfs', kind: 'filesystem', at: [0], magic: [text('-rom1fs-')] },
  { name: 'minix', kind: 'filesystem', at: [1040], magic: MINIX_MAGIC, also: minixSane },
  { name: 'minix 3', kind: 'filesystem', at: [1048], magic: [hex('5a4d'), hex('4d5a')], also: minix3Sane },
  { name: 'UBI', kind: 'volume manager', at: [0], magic: [text('UBI#')] },
  { name: 'UBIFS', kind: 'filesystem', at: [0], magic: [hex('31181006')] },
  { name: 'zonefs', kind: 'filesystem', at: [0], magic: [text('SFOZ')] },
  { name: 'mpool', kind: 'filesystem', at: [0, 8], magic: [text('mpoolDev')] },
  { name: 'Ceph BlueStore', kind: 'filesystem', at: [0], magic: [text('bluestore block device')] },
  // Every label has a ring of uberblocks; in a young pool only a few are written. Both byte orders are possible.
  {
    name: 'ZFS',
    kind: 'filesystem',
    at: (size) => {
      const last = size - (size % (256 * KIB)) - 512 * KIB;
      const labels = last > 0 ? [0, 256 * KIB, last, last + 256 * KIB] : [0, 256 * KIB];
      return labels.flatMap((label) => every(label + 128 * KIB, KIB, 128));
    },
    magic: [hex('0cb1ba0000000000'), hex('0000000000bab10c')],
  },

  // Filesystems of other systems.
  { name: 'NTFS', kind: 'filesystem', at: [3], magic: [text('NTFS    ')] },
  { name: 'exFAT', kind: 'filesystem', at: [3], magic: [text('EXFAT   ')] },
  { name: 'ReFS', kind: 'filesystem', at: [3], magic: [text('ReFS\0\0\0\0')] },
  {
    name: (read, at) => Buffer.from(read(at, 5)!).toString('latin1'),
    kind: 'filesystem',
    at: [54],
    magic: [text('FAT12   '), text('FAT16   ')],
    label: [-11, 11],
  },
  { name: 'FAT32', kind: 'filesystem', at: [82], magic: [text('FAT32   ')], label: [-11, 11] },
  { name: 'FAT', kind: 'filesystem', at: [54], magic: [text('FAT     '), text('MSDOS')] },
  { name: 'FAT', kind: 'filesystem', at: [82], magic: [text('MSWIN')] },
  // Without a type string the BIOS parameter block must be valid. The magic is the beginning of the boot code.
  { name: 'FAT', kind: 'filesystem', at: [0], magic: [hex('eb'), hex('e9')], also: fatSane },
  { name: 'FAT', kind: 'filesystem', at: [510], magic: [hex('55aa')], also: fatSane },
  {
    name: 'HFS+',
    kind: 'filesystem',
    at: [1024],
    magic: ['482b', '4858'].map(hex),
    also: hfsPlusSane,
    times: hfsPlusTimes,
  },
  { name: 'HFS', kind: 'filesystem', at: [1024], magic: [text('BD')], also: hfsSane },
  { name: 'APFS', kind: 'filesystem', at: [32], magic: [text('NXSB')] },
  {
    name: 'UFS',
    kind: 'filesystem',
    // The superblock comes after 0, 8, 64 or 256 KiB of boot blocks.
    at: [0, 8, 64, 256].map((kib) => kib * KIB + 1372),
    magic: [
      '54190100',
      '00011954',
      '19015419',
      '19540119',
      '12561900',
      '00195612',
      '14500900',
      '00095014',
    ].map(hex),
  },
  { name: 'HPFS', kind: 'filesystem', at: [0x2000], magic: [hex('49e895f9')] },
  {
    name: 'System V',
    kind: 'filesystem',
    at: [0, 9, 15, 18].map((block) => block * KIB + 0x200 + 504),
    magic: [hex('207e18fd'), hex('fd187e20')],
  },
  { name: 'Xenix', kind: 'filesystem', at: [0x400 + 0x3f8], magic: [hex('44552b00'), hex('002b5544')] },
  { name: 'BFS', kind: 'filesystem', at: [0], magic: [hex('cefaad1b')] },
  { name: 'BeFS', kind: 'filesystem', at: [0x20, 0x220], magic: [text('1SFB'), text('BFS1')] },
  { name: 'VxFS', kind: 'filesystem', at: [0x400, 0x2000], magic: [hex('f5fc01a5'), hex('a501fcf5')] },
  { name: 'NetWare', kind: 'filesystem', at: [0x1000], magic: [text('SPB5')] },
  { name: 'VMFS', kind: 'filesystem', at: [0x200000], magic: [hex('5ef1ab2f')] },
  { name: 'EFS', kind: 'filesystem', at: [512 + 28], magic: [hex('00072959'), hex('0007295a')] },
  {
    name: 'Amiga filesystem',
    kind: 'filesystem',
    at: [0],
    magic: every(0, 1, 8).map((n) => text(`DOS${String.fromCharCode(n)}`)),
  },
  { name: 'ISO 9660', kind: 'filesystem', at: [0x8001], magic: [text('CD001')], label: [39, 32] },
  { name: 'High Sierra', kind: 'filesystem', at: [0x8009], magic: [text('CDROM')] },
  {
    name: 'UDF',
    kind: 'filesystem',
    at: every(0x8001, 2 * KIB, 16),
    magic: ['BEA01', 'NSR02', 'NSR03', 'BOOT2', 'CDW02', 'TEA01'].map(text),
  },
];

const VOLUMES: readonly Row[] = [
  {
    name: 'LVM2 physical volume',
    kind: 'volume manager',
    at: every(0, 512, 4),
    magic: [text('LABELONE')],
    also: (read, at) => same(read(at + 24, 8), text('LVM2 001')),
  },
  {
    name: 'LVM1 physical volume',
    kind: 'volume manager',
    at: [0],
    magic: [hex('484d0100'), hex('484d0200')],
  },
  { name: 'LVM snapshot', kind: 'volume manager', at: [0], magic: [text('SnAp')] },
  { name: 'VDO', kind: 'volume manager', at: [0], magic: [text('dmvdo001')] },
  { name: 'Stratis', kind: 'volume manager', at: [516, 4612], magic: [text('!Stra0tis\x86\xff\x02^\x41rh')] },
  { name: 'Oracle ASM', kind: 'volume manager', at: [32], magic: [text('ORCLDISK')] },
  { name: 'Storage Spaces', kind: 'volume manager', at: [4096], magic: [text('SPACEDB ')] },
  { name: 'VMFS volume', kind: 'volume manager', at: [0x100000], magic: [hex('0dd001c0')] },
  {
    name: 'DRBD',
    kind: 'volume manager',
    at: [-4096 + 60, -4096 + 64],
    magic: ['8374026b', '8374026c', '8374026d'].map(hex),
  },
  { name: 'DRBD control volume', kind: 'volume manager', at: [0], magic: [text('$DRBDmgr=q')] },
  { name: 'DRBD proxy log', kind: 'volume manager', at: [0, 16], magic: [text('DRBDdlh*')] },

  {
    ...{ name: 'md 1.1', kind: 'RAID member', at: [0], magic: [hex('fc4e2ba9')] },
    ...{ also: mdSane, label: [32, 32], times: mdTimes },
  },
  {
    name: 'md 1.2',
    kind: 'RAID member',
    at: [4096],
    magic: [hex('fc4e2ba9')],
    also: mdSane,
    label: [32, 32],
    times: mdTimes,
  },
  {
    name: 'md 1.0',
    kind: 'RAID member',
    // 8 KiB before the end, rounded down to a multiple of 4 KiB.
    at: (size) => [(Math.floor(size / 512) - 16 - ((Math.floor(size / 512) - 16) % 8)) * 512],
    magic: [hex('fc4e2ba9')],
    also: mdSane,
    label: [32, 32],
    times: mdTimes,
  },
  {
    name: 'md 0.90',
    kind: 'RAID member',
    at: (size) => [size - (size % (64 * KIB)) - 64 * KIB],
    magic: [hex('fc4e2ba9'), hex('a92b4efc')],
  },
  {
    name: 'Intel Matrix RAID',
    kind: 'RAID member',
    at: (size) => [...sector(2)(size), ...sector(16)(size)],
    magic: [text('Intel Raid ISM Cfg Sig. ')],
  },
  {
    name: 'DDF RAID',
    kind: 'RAID member',
    at: (size) => [...sector(1)(size), ...sector(257)(size)],
    magic: [hex('de11de11'), hex('11de11de')],
  },
  { name: 'LSI MegaRAID', kind: 'RAID member', at: sector(1), magic: [text('$XIDE$')] },
  { name: 'VIA RAID', kind: 'RAID member', at: sector(1), magic: [hex('55aa')], also: viaSane },
  { name: 'Silicon Image RAID', kind: 'RAID member', at: sector(1, 0x60), magic: [hex('0000002f')] },
  { name: 'NVIDIA RAID', kind: 'RAID member', at: sector(2), magic: [text('NVIDIA')] },
  { name: 'Promise RAID', kind: 'RAID member', at: PROMISE_AT, magic: [text('Promise Technology, Inc.')] },
  {
    name: 'HighPoint RAID',
    kind: 'RAID member',
    at: (size) => [...sector(11)(size), ...sector(11, 32)(size), 9 * 512 + 32],
    magic: ['f016785a', 'f316785a', 'fd16785a'].map(hex),
  },
  { name: 'Adaptec RAID', kind: 'RAID member', at: sector(1), magic: [hex('37fc4d1e')] },
  { name: 'JMicron RAID', kind: 'RAID member', at: sector(1), magic: [text('JM')] },

  { name: 'LUKS1', kind: 'encrypted volume', at: [0], magic: [hex('4c554b53babe0001')] },
  { name: 'LUKS2', kind: 'encrypted volume', at: [0], magic: [hex('4c554b53babe0002')], label: [24, 48] },
  { name: 'LUKS2 (second header)', kind: 'encrypted volume', at: LUKS2_SECOND, magic: [hex('534b554cbabe')] },
  { name: 'BitLocker', kind: 'encrypted volume', at: [3], magic: [text('-FVE-FS-')] },
  {
    name: 'BitLocker To Go',
    kind: 'encrypted volume',
    at: [0x1a8],
    magic: [hex('3bd66749292ed84a8399f6a339e3d001')],
  },
  { name: 'FileVault', kind: 'encrypted volume', at: [88], magic: [text('CS')], also: fileVaultSane },
  { name: 'dm-verity', kind: 'encrypted volume', at: [0], magic: [text('verity\0\0')] },
  { name: 'dm-integrity', kind: 'encrypted volume', at: [0], magic: [text('integrt\0')] },
  // At the end of the first page, whose size depends on the machine.
  {
    name: (read, at) => (same(read(at, 4), text('SWAP')) ? 'swap' : 'hibernation image'),
    kind: 'swap space',
    at: [4086, 8182, 16374, 32758, 65526],
    magic: ['SWAPSPACE2', 'SWAP-SPACE', 'S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'].map(text),
  },
  {
    name: 'hibernation image',
    kind: 'swap space',
    at: [0, 4086, 8182, 16374, 32758, 65526],
    magic: [hex('edc302e99856e50c')],
  },
  {
    name: 'bcache',
    kind: 'cache',
    at: [4096 + 24],
    magic: [hex('c68573f6 4e1a 45ca 8265 f57f48ba6d81')],
    label: [48, 32],
  },
];

export const SIGNATURES: readonly Row[] = [...PARTITION_TABLES, ...FILESYSTEMS, ...VOLUMES];

export function same(bytes: Uint8Array | null, magic: Uint8Array): boolean {
  return bytes !== null && Buffer.compare(bytes, magic) === 0;
}

/** 0 where no bytes were read. */
function word(look: Look, at: number, bytes: 1 | 2 | 4): number {
  const view = look(at, bytes);
  return view === null ? 0 : Buffer.from(view).readUIntLE(0, bytes);
}

/** 64 bits; what is beyond 2^53 is no time. */
function long(look: Look, at: number): number {
  return word(look, at, 4) + word(look, at + 4, 4) * 2 ** 32;
}

function bigWord(look: Look, at: number, bytes: 2 | 4): number {
  const view = look(at, bytes);
  return view === null ? 0 : Buffer.from(view).readUIntBE(0, bytes);
}

/**
 * All four entries have boot flags of 0 or 0x80. 55 AA alone is not enough: many boot sectors with code in that place
 * end with it. A table without entries is accepted, as `blkid` does.
 */
function hasBootFlags(look: Look): boolean {
  return every(446, 16, 4)
    .map((at) => look(at, 1)?.[0])
    .every((flag) => flag === 0 || flag === 0x80);
}

function sunChecksum(look: Look): boolean {
  let sum = 0;
  for (let at = 0; at < 512; at += 2) sum ^= word(look, at, 2);
  return sum === 0;
}

/** The entry is in use, and lies on the disk, whose length in sectors is at 0x1c2. */
function atariSane(look: Look, at: number): boolean {
  const sectors = bigWord(look, 0x1c2, 4);
  const [start, length] = [bigWord(look, at + 3, 4), bigWord(look, at + 7, 4)];
  return (word(look, at - 1, 1) & 1) === 1 && start > 0 && length > 0 && start + length <= sectors;
}

/** s_log_block_size must be small: a magic of two bytes alone is weak evidence. */
function extSane(look: Look): boolean {
  return word(look, 0x418, 4) <= 6;
}

/** s_mkfs_time, s_mtime and s_wtime, each with the byte that extends it. */
function extTimes(look: Look): ReturnType<NonNullable<Row['times']>> {
  const seconds = (low: number, high: number) =>
    word(look, 0x400 + low, 4) + word(look, 0x400 + high, 1) * 2 ** 32;
  return { created: seconds(0x108, 0x276), mounted: seconds(0x2c, 0x275), written: seconds(0x30, 0x274) };
}

/** s_ctime, s_mtime, s_wtime: 64 bits each. */
function nilfsTimes(look: Look, at: number): ReturnType<NonNullable<Row['times']>> {
  const seconds = (offset: number) => long(look, at - 6 + offset);
  return { created: seconds(88), mounted: seconds(96), written: seconds(104) };
}

/** modifyDate, in UTC; createDate is in the local time of whoever made it. HFS counts from 1904. */
function hfsPlusTimes(look: Look, at: number): ReturnType<NonNullable<Row['times']>> {
  const since1904 = bigWord(look, at + 20, 4);
  return { written: since1904 === 0 ? 0 : since1904 - HFS_EPOCH };
}

/** ctime and utime: seconds in the lower 40 bits. */
function mdTimes(look: Look, at: number): ReturnType<NonNullable<Row['times']>> {
  return { created: long(look, at + 64) % 2 ** 40, written: long(look, at + 192) % 2 ** 40 };
}

/** The version follows from the features: has_journal, and for ext4 any feature that ext3 does not know. */
function extVersion(look: Look): string {
  const compat = word(look, 0x45c, 4);
  const incompat = word(look, 0x460, 4);
  const roCompat = word(look, 0x464, 4);
  if ((incompat & 0x8) !== 0) return 'ext journal';
  if ((incompat & ~0x16) !== 0 || (roCompat & ~0x7) !== 0) return 'ext4';
  return (compat & 0x4) !== 0 ? 'ext3' : 'ext2';
}

/** The first superblock is at the beginning, the second in the last whole 4 KiB; the magic is 6 bytes into each. */
function nilfsPlaces(size: number): number[] {
  return [1030, size - (size % (4 * KIB)) - 4 * KIB + 6];
}

/** Revision 2, and a plausible superblock size. */
function nilfsSane(look: Look, at: number): boolean {
  const bytes = word(look, at + 2, 2);
  return word(look, at - 6, 4) === 2 && bytes >= 0x100 && bytes <= 0x400;
}

/** GFS and GFS2 have the same superblock except for this format number. */
function gfsIs(format: number): NonNullable<Row['also']> {
  return (look, at) => {
    const said = bigWord(look, at + 24, 4);
    return format === 1309 ? said === format : said !== 1309;
  };
}

/** A log record of version 1 or 2. */
function xfsLogSane(look: Look, at: number): boolean {
  const version = bigWord(look, at + 8, 4);
  return version === 1 || version === 2;
}

/** The inode bitmap has enough blocks for the inodes, there is a zone bitmap, and the state is a valid one. */
function minixSane(look: Look, at: number): boolean {
  const sb = at - 16;
  const read = same(look(at + 1, 1), hex('13')) || same(look(at + 1, 1), hex('24')) ? word : bigWord;
  const [inodes, imap, zmap] = [read(look, sb, 2), read(look, sb + 4, 2), read(look, sb + 6, 2)];
  return inodes > 0 && zmap > 0 && imap * 8192 > inodes && read(look, sb + 18, 2) <= 3;
}

function minix3Sane(look: Look, at: number): boolean {
  const sb = at - 24;
  const read = same(look(at, 2), hex('5a4d')) ? word : bigWord;
  const block = read(look, sb + 28, 2);
  const [inodes, imap, zmap] = [read(look, sb, 4), read(look, sb + 6, 2), read(look, sb + 8, 2)];
  return inodes > 0 && imap > 0 && zmap > 0 && block >= 1024 && block % 1024 === 0;
}

/**
 * A valid BIOS parameter block: valid sector and cluster sizes, FATs with a length, a valid medium byte, room for
 * clusters.
 * JFS and HPFS have a similar sector, which names its owner.
 */
function fatSane(look: Look): boolean {
  const owner = look(54, 8);
  if (same(owner, text('JFS     ')) || same(owner, text('HPFS    '))) return false;
  const sectorSize = word(look, 11, 2);
  const perCluster = word(look, 13, 1);
  const reserved = word(look, 14, 2);
  const fats = word(look, 16, 1);
  const medium = word(look, 21, 1);
  const fatLength = word(look, 22, 2) || word(look, 36, 4);
  const sectors = word(look, 19, 2) || word(look, 32, 4);
  if (![512, 1024, 2048, 4096].includes(sectorSize) || !isPowerOfTwo(perCluster)) return false;
  if (reserved === 0 || fats === 0 || fats > 4 || fatLength === 0) return false;
  if (medium < 0xf8 && medium !== 0xf0) return false;
  const root = Math.ceil((word(look, 17, 2) * 32) / sectorSize);
  return sectors > reserved + fats * fatLength + root;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

/** The version must be that of HFS+ or HFSX. */
function hfsPlusSane(look: Look, at: number): boolean {
  const version = bigWord(look, at + 2, 2);
  return version === 4 || version === 5;
}

/** Allocation blocks must be whole sectors. */
function hfsSane(look: Look, at: number): boolean {
  const block = bigWord(look, at + 20, 4);
  return block > 0 && block % 512 === 0;
}

/** Version 0 to 2, and a correct checksum over its first 50 bytes. */
function viaSane(look: Look, at: number): boolean {
  const bytes = look(at, 51);
  if (bytes === null || bytes[2]! > 2) return false;
  return (bytes.subarray(0, 50).reduce((sum, byte) => sum + byte, 0) & 0xff) === bytes[50];
}

/** CoreStorage's header: version 1 of a physical volume, with a CRC-32C checksum. */
function fileVaultSane(look: Look): boolean {
  return word(look, 8, 2) === 1 && word(look, 10, 2) === 0x10 && word(look, 90, 4) === 1;
}

function mdSane(look: Look, at: number): boolean {
  return word(look, at + 4, 4) === 1;
}
