/**
 * What a disk or an image holds, by its signature: is there something that a copy would destroy? A table; each row says
 * where the magic bytes stand and whose they are. Only the first and the last half MiB are looked at.
 *
 *     0      512    1 KiB   4 KiB      32 KiB   64 KiB   128 KiB …          end − 64 KiB …   end
 *     │ MBR   GPT    ext     md 1.2      ISO      btrfs    ZFS uberblocks        md 0.9/1.0    GPT copy
 */
export interface Signature {
  /** `'ext4'`, `'GPT'`, `'LUKS2'`. */
  readonly name: string;
  /** What sort of thing it is. */
  readonly kind: SignatureKind;
  /** Byte offset of the magic in the target. */
  readonly offset: number;
  /** The volume's own name, if it has one. */
  readonly label: string | null;
}

/** What a signature says is there. */
export type SignatureKind =
  | 'partition table'
  | 'filesystem'
  | 'volume manager'
  | 'RAID member'
  | 'encrypted volume'
  | 'swap space'
  | 'cache';

/** The ends of a target: `head` begins at byte 0, `tail` ends at its last byte; they may overlap. */
export interface Ends {
  readonly size: number;
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

/** How much of either end is looked at. */
export const LOOK = 512 * 1024;

interface Row {
  readonly name: string | ((read: Look, at: number) => string);
  readonly kind: SignatureKind;
  /** Offsets of the magic; negative: from the end. A function where the size decides. */
  readonly at: readonly number[] | ((size: number) => readonly number[]);
  /** Any of these. */
  readonly magic: readonly Uint8Array[];
  /** A magic that is short or shared needs more to be believed. */
  readonly also?: (read: Look, at: number) => boolean;
  /** From the magic: where the label is, and its length. */
  readonly label?: readonly [number, number];
}

const KIB = 1024;
const text = (magic: string): Uint8Array => Buffer.from(magic, 'latin1');
const hex = (magic: string): Uint8Array => Buffer.from(magic.replaceAll(' ', ''), 'hex');
const every = (from: number, step: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + i * step);

const TABLE: readonly Row[] = [
  // Partition tables. GPT: header in LBA 1 and in the last LBA, of 512 or 4096 bytes.
  { name: 'GPT', kind: 'partition table', at: [512, 4096, -512, -4096], magic: [text('EFI PART')] },
  { name: 'MBR', kind: 'partition table', at: [510], magic: [hex('55aa')], also: hasPartitions },
  { name: 'Apple partition map', kind: 'partition table', at: [512], magic: [text('PM\0\0')] },
  { name: 'BSD disklabel', kind: 'partition table', at: [0, 512], magic: [hex('57455682')] },
  { name: 'Sun disklabel', kind: 'partition table', at: [508], magic: [hex('dabe')], also: sunChecksum },

  // Filesystems of Linux.
  { name: extVersion, kind: 'filesystem', at: [0x438], magic: [hex('53ef')], also: extSane, label: [64, 16] },
  { name: 'XFS', kind: 'filesystem', at: [0], magic: [text('XFSB')], label: [108, 12] },
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
  { name: 'ReiserFS', kind: 'filesystem', at: [0x2034, 0x10034], magic: [text('ReIsEr')] },
  { name: 'NILFS2', kind: 'filesystem', at: [1030], magic: [hex('3434')], also: nilfsSane },
  { name: 'GFS2', kind: 'filesystem', at: [0x10000], magic: [hex('01161970')] },
  { name: 'OCFS2', kind: 'filesystem', at: [0x400, 0x800, 0x1000, 0x2000], magic: [text('OCFSV2')] },
  { name: 'EROFS', kind: 'filesystem', at: [1024], magic: [hex('e2e1f5e0')] },
  { name: 'SquashFS', kind: 'filesystem', at: [0], magic: [text('hsqs'), text('sqsh')] },
  { name: 'Ceph BlueStore', kind: 'filesystem', at: [0], magic: [text('bluestore block device')] },
  // Every label holds a ring of uberblocks; a young pool has written few of them. Either byte order.
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

  // Filesystems of others.
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
  { name: 'HFS+', kind: 'filesystem', at: [1024], magic: [hex('482b0004'), hex('48580005')] },
  { name: 'APFS', kind: 'filesystem', at: [32], magic: [text('NXSB')] },
  {
    name: 'UFS',
    kind: 'filesystem',
    at: [9564, 66908],
    magic: [hex('19015401'), hex('54190100'), hex('19540119')],
  },
  { name: 'ISO 9660', kind: 'filesystem', at: [0x8001], magic: [text('CD001')], label: [39, 32] },
  { name: 'UDF', kind: 'filesystem', at: [0x8001], magic: [text('BEA01')] },

  // What other things are built on.
  {
    name: 'LVM2 physical volume',
    kind: 'volume manager',
    at: every(0, 512, 4),
    magic: [text('LABELONE')],
    also: (read, at) => same(read(at + 24, 8), text('LVM2 001')),
  },
  { name: 'Stratis', kind: 'volume manager', at: [516, 4612], magic: [text('!Stra0tis\x86\xff\x02^\x41rh')] },
  { name: 'Oracle ASM', kind: 'volume manager', at: [32], magic: [text('ORCLDISK')] },
  { name: 'Storage Spaces', kind: 'volume manager', at: [4096], magic: [text('SPACEDB ')] },
  { name: 'md 1.1', kind: 'RAID member', at: [0], magic: [hex('fc4e2ba9')], also: mdSane, label: [32, 32] },
  {
    name: 'md 1.2',
    kind: 'RAID member',
    at: [4096],
    magic: [hex('fc4e2ba9')],
    also: mdSane,
    label: [32, 32],
  },
  {
    name: 'md 1.0',
    kind: 'RAID member',
    // 8 KiB before the end, on a boundary of 4 KiB.
    at: (size) => [(Math.floor(size / 512) - 16 - ((Math.floor(size / 512) - 16) % 8)) * 512],
    magic: [hex('fc4e2ba9')],
    also: mdSane,
    label: [32, 32],
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
    at: [-1024, -8192],
    magic: [text('Intel Raid ISM Cfg Sig. ')],
  },
  { name: 'DDF RAID', kind: 'RAID member', at: [-512], magic: [hex('de11de11')] },
  { name: 'LUKS1', kind: 'encrypted volume', at: [0], magic: [hex('4c554b53babe0001')] },
  { name: 'LUKS2', kind: 'encrypted volume', at: [0], magic: [hex('4c554b53babe0002')], label: [24, 48] },
  {
    name: 'LUKS2 (second header)',
    kind: 'encrypted volume',
    at: [0x4000, 0x8000],
    magic: [hex('534b554cbabe')],
  },
  { name: 'BitLocker', kind: 'encrypted volume', at: [3], magic: [text('-FVE-FS-')] },
  { name: 'dm-verity', kind: 'encrypted volume', at: [0], magic: [text('verity\0\0')] },
  { name: 'dm-integrity', kind: 'encrypted volume', at: [0], magic: [text('integrt\0')] },
  // At the end of the first page, whose size is the machine's.
  {
    name: (read, at) => (same(read(at, 4), text('SWAP')) ? 'swap' : 'hibernation image'),
    kind: 'swap space',
    at: [4086, 8182, 16374, 32758, 65526],
    magic: [text('SWAPSPACE2'), text('SWAP-SPACE'), text('S1SUSPEND'), text('S2SUSPEND'), text('ULSUSPEND')],
  },
  {
    name: 'bcache',
    kind: 'cache',
    at: [4096 + 24],
    magic: [hex('c68573f6 4e1a 45ca 8265 f57f48ba6d81')],
    label: [48, 32],
  },
];

/** Bytes of the target, or null where neither end has them. */
type Look = (offset: number, length: number) => Uint8Array | null;

/** Everything that can be told from the ends of a target, in the table's order. */
export function findSignatures({ size, head, tail }: Ends): Signature[] {
  const tailStart = size - tail.length;
  const look: Look = (offset, length) => {
    if (offset < 0 || offset + length > size) return null;
    if (offset + length <= head.length) return head.subarray(offset, offset + length);
    if (offset < tailStart) return null;
    return tail.subarray(offset - tailStart, offset - tailStart + length);
  };
  const found: Signature[] = [];
  for (const row of TABLE) {
    const signature = match(row, size, look);
    if (signature !== null) found.push(signature);
  }
  // The boot sectors of FAT and NTFS end like an MBR, and a GPT has one for those who know no GPT.
  const better = found.some(({ name }) => name === 'GPT' || /^(FAT|exFAT|NTFS|BitLocker)/.test(name));
  return better ? found.filter(({ name }) => name !== 'MBR') : found;
}

function match(row: Row, size: number, look: Look): Signature | null {
  for (const place of typeof row.at === 'function' ? row.at(size) : row.at) {
    const at = place < 0 ? size + place : place;
    for (const magic of row.magic) {
      if (!same(look(at, magic.length), magic) || row.also?.(look, at) === false) continue;
      const label = row.label === undefined ? null : look(at + row.label[0], row.label[1]);
      return {
        name: typeof row.name === 'string' ? row.name : row.name(look, at),
        kind: row.kind,
        offset: at,
        label: label === null ? null : labelText(label),
      };
    }
  }
  return null;
}

function same(bytes: Uint8Array | null, magic: Uint8Array): boolean {
  return bytes !== null && Buffer.compare(bytes, magic) === 0;
}

function labelText(bytes: Uint8Array): string | null {
  const end = bytes.indexOf(0);
  const label = Buffer.from(end < 0 ? bytes : bytes.subarray(0, end))
    .toString('utf8')
    .trim();
  return label === '' || label === 'NO NAME' ? null : label;
}

function word(look: Look, at: number, bytes: 2 | 4): number {
  const view = look(at, bytes);
  return view === null ? 0 : Buffer.from(view).readUIntLE(0, bytes);
}

/** An entry in use, with a boot flag of 0 or 0x80: 55 AA alone is on many a boot sector. */
function hasPartitions(look: Look): boolean {
  const entries = every(446, 16, 4).map((at) => look(at, 16));
  const sane = entries.every((entry) => entry !== null && (entry[0] === 0 || entry[0] === 0x80));
  return sane && entries.some((entry) => entry![4] !== 0 && entry!.subarray(12).some((byte) => byte !== 0));
}

function sunChecksum(look: Look): boolean {
  let sum = 0;
  for (let at = 0; at < 512; at += 2) sum ^= word(look, at, 2);
  return sum === 0;
}

/** s_log_block_size is small and there are inodes: two bytes of magic alone are little. */
function extSane(look: Look): boolean {
  return word(look, 0x418, 4) <= 6 && word(look, 0x400, 4) > 0;
}

/** By the features: has_journal; and of ext4 any that ext3 does not know. */
function extVersion(look: Look): string {
  const compat = word(look, 0x45c, 4);
  const incompat = word(look, 0x460, 4);
  const roCompat = word(look, 0x464, 4);
  if ((incompat & 0x8) !== 0) return 'ext journal';
  if ((incompat & ~0x16) !== 0 || (roCompat & ~0x7) !== 0) return 'ext4';
  return (compat & 0x4) !== 0 ? 'ext3' : 'ext2';
}

/** Revision 2, and a superblock whose size is given as what it is. */
function nilfsSane(look: Look): boolean {
  const bytes = word(look, 1024 + 8, 2);
  return word(look, 1024, 4) === 2 && bytes >= 0x100 && bytes <= 0x400;
}

function mdSane(look: Look, at: number): boolean {
  return word(look, at + 4, 4) === 1;
}
