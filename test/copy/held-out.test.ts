/**
 * The kinds that util-linux's libblkid knows, each as an image that is written out here from the format's documentation and
 * not from our table: the guard must refuse every one. A row says who names it: our table alone, or `blkid` too. Where
 * blkid is installed, it is asked, which also shows that the image is what it is meant to be.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import t from 'tap';
import { askBlkid } from '../../lib/copy/blkid.js';
import { openSystem, planCopy } from '../../lib/index.js';
import { p2pdma } from '../helpers/cli.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 16 * MIB;

type Part = readonly [at: number, what: string | Buffer];

const le16 = (value: number) => Buffer.from(Uint16Array.of(value).buffer);
const le32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const le64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const be16 = (value: number) => le16(value).reverse();
const be32 = (value: number) => le32(value).reverse();
const be64 = (value: number) => le64(value).reverse();
const hex = (text: string) => Buffer.from(text, 'hex');

/** A structure of this many bytes with these fields. */
function made(bytes: number, ...fields: Part[]): Buffer {
  const block = Buffer.alloc(bytes);
  for (const [at, what] of fields)
    (typeof what === 'string' ? Buffer.from(what, 'latin1') : what).copy(block, at);
  return block;
}

/** A superblock of ext: 100 inodes, 1000 blocks of 1 KiB, and its three words of features. */
function ext(compat: number, incompat: number, roCompat: number, flags = 0): Part {
  const counts: Part[] = [
    [0, le32(100)],
    [4, le32(1000)],
    [20, le32(1)],
    [32, le32(8192)],
    [40, le32(100)],
  ];
  const features: Part[] = [
    [0x5c, le32(compat)],
    [0x60, le32(incompat)],
    [0x64, le32(roCompat)],
  ];
  return [
    1024,
    made(
      1024,
      ...counts,
      ...features,
      [56, hex('53ef')],
      [76, le32(1)],
      [88, le16(128)],
      [0x160, le32(flags)],
    ),
  ];
}

/** Linux md, version 1: where it lies is in it, and its checksum is over the first 256 bytes. */
function md1(at: number): Part {
  const sb = made(
    256,
    ...([
      [0, hex('fc4e2ba9')],
      [4, le32(1)],
      [16, 'a-uuid-of-array!'],
      [32, 'host:0'],
    ] as Part[]),
    ...([
      [128, le64(0)],
      [136, le64(1000)],
      [144, le64(at / 512)],
    ] as Part[]),
  );
  let sum = 0;
  for (let word = 0; word < 256; word += 4) sum += sb.readUInt32LE(word);
  sb.writeUInt32LE((sum % 2 ** 32) + Math.floor(sum / 2 ** 32), 216);
  return [at, sb];
}

/** SNIA DDF's anchor header, in the last block; the primary header is where it says. */
function ddf(): Part[] {
  const header = made(
    512,
    [0, be32(0xde11de11)],
    [8, 'LSI     12345678'],
    [32, '01.02.00'],
    [4, be32(0xffffffff)],
  );
  header.set(be64((SIZE - 512) / 512), 96);
  header.set(be32(crc32(header)), 4);
  return [[SIZE - 512, header]];
}

function via(): Part {
  const sector = made(512, [0, hex('55aa')], [2, hex('01')]);
  sector[50] = sector.subarray(0, 50).reduce((sum, byte) => sum + byte, 0) & 0xff;
  return [SIZE - 512, sector];
}

/** Silicon Image: the words up to the checksum and the checksum add up to 0. */
function silicon(): Part {
  const sector = made(512, [0x60, le32(0x2f000000)], [0x6a, le16(2)], [0x6c, le16(1)], [0x74, hex('05')]);
  sector.writeUInt16LE(2, 0x110);
  sector.writeUInt16LE(1, 0x112);
  let sum = 0;
  for (let at = 0; at < 0x13e; at += 2) sum += sector.readUInt16LE(at);
  sector.writeUInt16LE(-sum & 0xffff, 0x13e);
  return [SIZE - 512, sector];
}

function nvidia(): Part {
  const sector = made(512, [0, 'NVIDIA  '], [8, le32(30)], [16, le16(100)]);
  let sum = 0;
  for (let at = 0; at < 120; at += 4) sum += sector.readUInt32LE(at);
  sector.writeUInt32LE(sum % 2 ** 32, 12);
  return [SIZE - 1024, sector];
}

/** JMicron: 64 words that add up to 0. */
function jmicron(): Part {
  const sector = made(512, [0, 'JM'], [2, le16(1)], [16, le32(1)], [30, hex('01')]);
  let sum = 0;
  for (let at = 0; at < 128; at += 2) sum += sector.readUInt16LE(at);
  sector.writeUInt16LE(-sum & 0xffff, 4);
  return [SIZE - 512, sector];
}

/** LVM2's own checksum: the reflected CRC-32 with another beginning and no inversion at the end. */
function lvmCrc(bytes: Uint8Array): number {
  let crc = 0xf597a6cf;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return crc >>> 0;
}

function lvm2(): Part {
  const label = made(
    512,
    [0, 'LABELONE'],
    [8, le64(1)],
    [20, le32(32)],
    [24, 'LVM2 001'],
    [32, 'a'.repeat(32)],
  );
  label.writeUInt32LE(lvmCrc(label.subarray(20)), 16);
  return [512, label];
}

/** A BIOS parameter block. */
function fat(): Part {
  const sizes: Part[] = [
    [11, le16(512)],
    [13, hex('04')],
    [14, le16(1)],
    [16, hex('02')],
    [17, le16(512)],
    [21, hex('f8')],
  ];
  return [
    0,
    made(
      512,
      [0, hex('eb3c90')],
      ...sizes,
      [22, le16(32)],
      [32, le32(32768)],
      [54, 'FAT16   '],
      [510, hex('55aa')],
    ),
  ];
}

function ntfs(): Part[] {
  const bpb: Part[] = [
    [3, 'NTFS    '],
    [11, le16(512)],
    [13, hex('08')],
    [21, hex('f8')],
    [40, le64(32760)],
  ];
  const mft: Part[] = [
    [48, le64(4)],
    [56, le64(2)],
    [64, hex('f6')],
    [68, hex('01')],
  ];
  return [
    [0, made(512, [0, hex('eb5290')], ...bpb, ...mft, [510, hex('55aa')])],
    [4 * 4096, 'FILE'],
  ];
}

function reiserfs(): Part {
  return [64 * KIB, made(204, [0, le32(4096)], [44, le16(4096)], [52, 'ReIsEr2Fs'], [72, le16(2)])];
}

/** A uberblock in each of four slots, of 1 KiB, of the first label. */
const ZFS: Part[] = [0, 1, 2, 3].map((n) => [
  128 * KIB + n * KIB,
  made(40, [0, le64(0xbab10c)], [8, le64(5000)]),
]);

function hfsPlus(): Part {
  return [1024, made(512, [0, 'H+'], [2, be16(4)], [40, be32(4096)], [44, be32(4096)])];
}

function nilfs2(): Part {
  const sb = made(1024, [0, le32(2)], [6, le16(0x3434)], [8, le16(1024)], [24, le32(2)], [32, le64(SIZE)]);
  return [1024, sb];
}

function apfs(): Part {
  return [0, made(4096, [24, le32(0x80000001)], [32, 'NXSB'], [36, le32(4096)])];
}

function udf(): Part[] {
  return ['BEA01', 'NSR03', 'TEA01'].map((id, i) => [
    32 * KIB + i * 2048,
    made(2048, [1, id], [6, hex('01')]),
  ]);
}

function cramfs(): Part {
  return [0, made(64, [0, le32(0x28cd3d45)], [4, le32(4096)], [16, 'Compressed ROMFS'], [48, 'label'])];
}

/** Atari's root sector: the disk's length, one partition, no lists of bad sectors. */
function atari(): Part {
  const entry = made(12, [0, hex('01')], [1, 'GEM'], [4, be32(2)], [8, be32(1000)]);
  return [0, made(512, [0x1c2, be32(SIZE / 512)], [0x1c6, entry])];
}

/** [the kind in libblkid's words; in ours; whether blkid 2.38 names this image too, or wants more; its bytes] */
type Row = readonly [theirs: string, ours: string, blkid: boolean, ...parts: Part[]];

const KINDS: readonly Row[] = [
  ['atari', 'Atari partition table', true, atari()],
  // RAID members.
  [
    'linux_raid_member',
    'md 0.90',
    true,
    [SIZE - 64 * KIB, made(4096, [0, hex('fc4e2ba9')], [8, le32(90)], [28, le32(1)])],
  ],
  ['linux_raid_member', 'md 1.0', true, md1(SIZE - 8 * KIB)],
  ['linux_raid_member', 'md 1.1', true, md1(0)],
  ['linux_raid_member', 'md 1.2', true, md1(4096)],
  ['ddf_raid_member', 'DDF RAID', true, ...ddf()],
  ['isw_raid_member', 'Intel Matrix RAID', true, [SIZE - 1024, 'Intel Raid ISM Cfg Sig. 1.1.00']],
  ['lsi_mega_raid_member', 'LSI MegaRAID', true, [SIZE - 512, '$XIDE$']],
  ['via_raid_member', 'VIA RAID', true, via()],
  ['silicon_medley_raid_member', 'Silicon Image RAID', true, silicon()],
  ['nvidia_raid_member', 'NVIDIA RAID', true, nvidia()],
  ['promise_fasttrack_raid_member', 'Promise RAID', true, [SIZE - 63 * 512, 'Promise Technology, Inc.']],
  ['hpt45x_raid_member', 'HighPoint RAID', true, [SIZE - 11 * 512, hex('f316785a')]],
  ['hpt37x_raid_member', 'HighPoint RAID', true, [9 * 512 + 32, hex('f016785a')]],
  [
    'adaptec_raid_member',
    'Adaptec RAID',
    true,
    [SIZE - 512, made(512, [0, be32(0x37fc4d1e)], [256, 'DPTM'])],
  ],
  ['jmicron_raid_member', 'JMicron RAID', true, jmicron()],
  // Volumes, caches, encryption.
  ['bcache', 'bcache', true, [4096, made(4096, [8, le64(8)], [24, hex('c68573f64e1a45ca8265f57f48ba6d81')])]],
  ['ceph_bluestore', 'Ceph BlueStore', true, [0, 'bluestore block device\n']],
  ['drbd', 'DRBD', true, [SIZE - 4096, made(4096, [60, be32(0x8374026c)], [64, be32(8)])]],
  [
    'drbdmanage_control_volume',
    'DRBD control volume',
    false,
    [0, `$DRBDmgr=q${'0123456789abcdef'.repeat(2)}\n`],
  ],
  ['drbdproxy_datalog', 'DRBD proxy log', false, [0, made(512, [16, 'DRBDdlh*'], [8, le64(1)])]],
  ['LVM2_member', 'LVM2 physical volume', true, lvm2()],
  ['LVM1_member', 'LVM1 physical volume', true, [0, made(512, [0, hex('484d0100')], [44, 'a'.repeat(32)])]],
  ['DM_snapshot_cow', 'LVM snapshot', true, [0, made(512, [0, 'SnAp'], [8, le32(1)])]],
  ['DM_verity_hash', 'dm-verity', true, [0, made(512, [0, 'verity\0\0'], [8, le32(1)])]],
  ['DM_integrity', 'dm-integrity', true, [0, made(512, [0, 'integrt\0'], [8, hex('01')])]],
  ['crypto_LUKS', 'LUKS1', true, [0, made(592, [0, hex('4c554b53babe0001')], [168, 'a-uuid'])]],
  ['crypto_LUKS', 'LUKS2', true, [0, made(4096, [0, hex('4c554b53babe0002')], [8, be64(16384)])]],
  ['VMFS_volume_member', 'VMFS volume', true, [MIB, made(512, [0, le32(0xc001d00d)])]],
  ['ubi', 'UBI', true, [0, made(64, [0, 'UBI#'], [4, hex('01')])]],
  ['vdo', 'VDO', true, [0, made(512, [0, 'dmvdo001'])]],
  ['stratis', 'Stratis', false, [512, made(512, [4, '!Stra0tis\x86\xff\x02^\x41rh'])]],
  ['BitLocker', 'BitLocker', false, [0, made(512, [0, hex('eb5890')], [3, '-FVE-FS-'], [510, hex('55aa')])]],
  [
    'cs_fvault2',
    'FileVault',
    false,
    [0, made(512, [8, le16(1)], [10, le16(0x10)], [88, 'CS'], [90, le32(1)])],
  ],
  // Swap.
  ['swap', 'swap', true, [1024, made(512, [0, le32(1)], [4, le32(4000)])], [4086, 'SWAPSPACE2']],
  ['swsuspend', 'hibernation image', true, [1024, le32(1)], [4086, 'S1SUSPEND']],
  // Filesystems.
  ['vfat', 'FAT16', true, fat()],
  [
    'exfat',
    'exFAT',
    false,
    [0, made(512, [0, hex('eb7690')], [3, 'EXFAT   '], [108, hex('0903')], [510, hex('55aa')])],
  ],
  ['ntfs', 'NTFS', false, ...ntfs()],
  ['ReFS', 'ReFS', true, [0, made(512, [3, 'ReFS\0\0\0\0'])]],
  ['xfs', 'XFS', false, [0, made(512, [0, 'XFSB'], [4, be32(4096)], [8, be64(4096)])]],
  ['exfs', 'XFS', false, [0, made(512, [0, 'EXFS'], [4, be32(4096)], [8, be64(4096)])]],
  [
    'xfs_external_log',
    'XFS log',
    false,
    [0, made(512, [0, be32(0xfeedbabe)], [4, be32(1)], [8, be32(2)], [12, be32(512)])],
  ],
  ['jbd', 'ext journal', true, ext(0, 0x8, 0)],
  ['ext2', 'ext2', true, ext(0, 0x2, 0x1)],
  ['ext3', 'ext3', true, ext(0x4, 0x2, 0x1)],
  ['ext4', 'ext4', true, ext(0x4, 0x42, 0x1)],
  ['ext4dev', 'ext4', true, ext(0x4, 0x42, 0x1, 0x4)],
  ['btrfs', 'btrfs', false, [64 * KIB, made(4096, [64, '_BHRfS_M'])]],
  ['reiserfs', 'ReiserFS', false, reiserfs()],
  ['reiser4', 'Reiser4', true, [64 * KIB, made(512, [0, 'ReIsEr4'])]],
  ['jfs', 'JFS', false, [32 * KIB, made(512, [0, 'JFS1'])]],
  ['udf', 'UDF', false, ...udf()],
  [
    'iso9660',
    'ISO 9660',
    true,
    [32 * KIB, made(2048, [0, hex('01')], [1, 'CD001'], [6, hex('01')], [40, 'LABEL'])],
  ],
  ['zfs_member', 'ZFS', false, ...ZFS],
  ['hfsplus', 'HFS+', false, hfsPlus()],
  ['hfs', 'HFS', true, [1024, made(512, [0, 'BD'], [20, be32(512)])]],
  ['ufs', 'UFS', true, [8 * KIB, made(2048, [1372, hex('54190100')])]],
  ['hpfs', 'HPFS', false, [0x2000, hex('49e895f9')], [0, hex('eb')], [0x2000 + 8, hex('02')]],
  ['sysv', 'System V', true, [0x200, made(512, [504, hex('207e18fd')], [508, le32(2)])]],
  ['xenix', 'Xenix', false, [0x400, made(1024, [0x3f8, hex('44552b00')], [0x3fc, le32(2)])]],
  ['cramfs', 'cramfs', false, cramfs()],
  ['romfs', 'romfs', true, [0, made(64, [0, '-rom1fs-'], [16, 'label'])]],
  [
    'minix',
    'minix',
    true,
    [
      1024,
      made(
        32,
        [0, le16(64)],
        [2, le16(1000)],
        [4, le16(1)],
        [6, le16(1)],
        [8, le16(6)],
        [12, le32(4096)],
        [16, hex('7f13')],
        [18, le16(1)],
      ),
    ],
  ],
  [
    'gfs',
    'GFS',
    false,
    [
      64 * KIB,
      made(512, [0, be32(0x01161970)], [4, be32(1)], [12, be32(100)], [24, be32(1309)], [28, be32(1401)]),
    ],
  ],
  [
    'gfs2',
    'GFS2',
    false,
    [
      64 * KIB,
      made(512, [0, be32(0x01161970)], [4, be32(1)], [16, be32(100)], [24, be32(1801)], [28, be32(1900)]),
    ],
  ],
  ['ocfs', 'OCFS', false, [0, made(512, [0, le32(2)], [8, 'OracleCFS'])]],
  ['ocfs2', 'OCFS2', true, [2048, made(512, [0, 'OCFSV2'])]],
  ['oracleasm', 'Oracle ASM', true, [32, 'ORCLDISKlabel']],
  ['vxfs', 'VxFS', true, [1024, made(512, [0, le32(0xa501fcf5)], [4, le32(5)], [32, le32(1024)])]],
  ['squashfs', 'SquashFS', true, [0, made(96, [0, 'hsqs'], [28, le16(4)])]],
  ['squashfs3', 'SquashFS', true, [0, made(96, [0, 'hsqs'], [28, le16(3)])]],
  ['nss', 'NetWare', true, [4096, made(512, [0, 'SPB5'])]],
  ['ubifs', 'UBIFS', true, [0, made(4096, [0, hex('31181006')], [20, hex('06')])]],
  ['bfs', 'BFS', true, [0, hex('cefaad1b')]],
  ['VMFS', 'VMFS', true, [2 * MIB, hex('5ef1ab2f')]],
  ['befs', 'BeFS', false, [512, made(512, [0x20, '1SFB'])]],
  ['nilfs2', 'NILFS2', false, nilfs2()],
  ['f2fs', 'F2FS', true, [1024, made(4096, [0, hex('1020f5f2')], [4, le16(1)])]],
  ['mpool', 'mpool', false, [0, made(4096, [8, 'mpoolDev'])]],
  ['apfs', 'APFS', true, apfs()],
  ['zonefs', 'zonefs', false, [0, made(4096, [0, 'SFOZ'])]],
  ['erofs', 'EROFS', false, [1024, made(128, [0, hex('e2e1f5e0')], [12, hex('0c')])]],
  ['scoutfs_meta', 'ScoutFS', false, [64 * KIB, made(4096, [4, le32(0x103c428b)], [24, le64(16)])]],
  ['scoutfs_data', 'ScoutFS', false, [64 * KIB, made(4096, [4, le32(0x103c428b)], [24, le64(16)])]],
  ['bcachefs', 'bcachefs', false, [4096, made(4096, [24, hex('c68573f666ce90a9d96a60cf803df7ef')])]],
];

/** Kinds of partition table, which `blkid -k` does not list. */
const TABLES = new Set(['atari']);

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-held-out-'));
const image = join(folder, 'image');
const source = join(folder, 'source');
t.teardown(() => rmSync(folder, { recursive: true }));
writeFileSync(source, 'x');

function write(parts: readonly Part[]): void {
  const fd = openSync(image, 'w');
  ftruncateSync(fd, SIZE);
  for (const [at, what] of parts) {
    const bytes = typeof what === 'string' ? Buffer.from(what, 'latin1') : what;
    writeSync(fd, bytes, 0, bytes.length, at);
  }
  closeSync(fd);
}

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const blkid = (...args: string[]) => spawnSync('blkid', args, { env, encoding: 'utf8' }).stdout ?? '';
const installed = /util-linux/.test(blkid('-V'));

t.test('every kind is named by our table, without blkid', async (t) => {
  // An emulated machine never asks blkid.
  await using system = await openSystem({ machine: 'switch' });
  for (const [theirs, ours, , ...parts] of KINDS) {
    write(parts);
    const { holds } = (await planCopy(source, image, { system })).destinations[0]!;
    t.ok(holds.map(({ name }) => name).includes(ours), `${theirs}: ${holds.map(({ name }) => name)}`);
  }
});

t.test('and this is what blkid says to them', { skip: !installed && 'no blkid of util-linux' }, async (t) => {
  const known = new Set(blkid('-k').split('\n'));
  for (const [theirs, , named, ...parts] of KINDS) {
    if (!named || !(known.has(theirs) || TABLES.has(theirs))) continue;
    write(parts);
    const names = (await askBlkid(image)).map(({ name }) => name);
    t.ok(names.includes(theirs), `${theirs}: blkid says ${names}`);
  }
});

t.test(
  'no kind of the installed blkid is left out',
  { skip: !installed && 'no blkid of util-linux' },
  async (t) => {
    const swept = new Set(KINDS.map(([theirs]) => theirs));
    const others = blkid('-k')
      .split('\n')
      .filter((kind) => kind !== '' && !swept.has(kind));
    t.same(others, [], 'a newer blkid guards these itself; give them a row');
  },
);

t.test('the command refuses them and writes nothing', async (t) => {
  for (const kind of ['jbd', 'xfs_external_log', 'adaptec_raid_member', 'minix']) {
    const [, ours, , ...parts] = KINDS.find(([theirs]) => theirs === kind)!;
    write(parts);
    const before = spawnSync('sha256sum', [image], { encoding: 'utf8' }).stdout;
    const { status, stderr } = p2pdma('copy', source, image, '--machine', 'switch');
    t.equal(status, 1, kind);
    t.match(stderr, new RegExp(`ERR_HOLDS_DATA.*holds ${ours}`, 's'));
    t.equal(spawnSync('sha256sum', [image], { encoding: 'utf8' }).stdout, before);
  }
});
