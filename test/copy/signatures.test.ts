import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { askBlkid } from '../../lib/copy/blkid.js';
import { SIGNATURES, SPOT } from '../../lib/copy/signature-table.js';
import { findSignatures, LOOK, spotsOf } from '../../lib/copy/signatures.js';
import { openSystem, planCopy, type Signature } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';
import { bytesOf } from '../helpers/copies.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-signatures-'));
t.teardown(() => rmSync(folder, { recursive: true }));

function ends(disk: Buffer) {
  const spots = new Map(spotsOf(disk.length).map((at) => [at, disk.subarray(at, at + SPOT)]));
  return { size: disk.length, head: disk.subarray(0, LOOK), tail: disk.subarray(-LOOK), spots };
}

/** What a disk of `size` bytes holds that has these bytes at these offsets; negative ones count from the end. */
function found(size: number, ...parts: [number, string | Buffer][]): Signature[] {
  const disk = Buffer.alloc(size);
  for (const [at, what] of parts) {
    (typeof what === 'string' ? Buffer.from(what, 'latin1') : what).copy(disk, at < 0 ? size + at : at);
  }
  return findSignatures(ends(disk));
}

const hex = (text: string) => Buffer.from(text, 'hex');
const names = (signatures: readonly Signature[]) => signatures.map(({ name }) => name);

/** A superblock of ext: inodes, block size, magic, features. */
function ext(compat: number, incompat: number, roCompat: number): [number, Buffer] {
  const block = Buffer.alloc(264);
  block.writeUInt32LE(64, 0);
  block.writeUInt16LE(0xef53, 0x38);
  block.writeUInt32LE(compat, 0x5c);
  block.writeUInt32LE(incompat, 0x60);
  block.writeUInt32LE(roCompat, 0x64);
  block.write('a label', 0x78);
  return [1024, block];
}

function mbr(type = 0x83, boot = 0): [number, Buffer] {
  const sector = Buffer.alloc(512);
  sector[446] = boot;
  sector[450] = type;
  sector.writeUInt32LE(2048, 454);
  sector.writeUInt32LE(4096, 458);
  sector.writeUInt16LE(0xaa55, 510);
  return [0, sector];
}

t.test('each by its magic, and nothing else by it', async (t) => {
  const size = 4 * MIB;
  const md = hex('fc4e2ba901000000');
  const cases: [string, Signature['kind'], number, ...[number, string | Buffer][]][] = [
    ['GPT', 'partition table', 512, mbr(0xee), [512, 'EFI PART']],
    ['GPT', 'partition table', 4096, [4096, 'EFI PART']],
    ['GPT', 'partition table', size - 512, [-512, 'EFI PART']],
    ['MBR', 'partition table', 510, mbr()],
    ['MBR', 'partition table', 510, mbr(0x0c, 0x80)],
    ['ext2', 'filesystem', 0x438, ext(0, 0x2, 0x3)],
    ['ext3', 'filesystem', 0x438, ext(0x4, 0x2, 0x3)],
    ['ext3', 'filesystem', 0x438, ext(0x4, 0x6, 0x3)],
    ['ext4', 'filesystem', 0x438, ext(0x4, 0x42, 0x3)],
    ['XFS', 'filesystem', 0, [0, 'XFSB']],
    ['btrfs', 'filesystem', 0x10040, [0x10040, '_BHRfS_M']],
    ['bcachefs', 'filesystem', 4120, [4120, hex('c68573f666ce90a9d96a60cf803df7ef')]],
    ['F2FS', 'filesystem', 1024, [1024, hex('1020f5f2')]],
    ['ZFS', 'filesystem', 128 * 1024 + 5 * 1024, [133 * 1024, hex('0cb1ba0000000000')]],
    ['ZFS', 'filesystem', size - 128 * 1024, [-128 * 1024, hex('0000000000bab10c')]],
    ['NTFS', 'filesystem', 3, [3, 'NTFS    '], [510, hex('55aa')]],
    ['exFAT', 'filesystem', 3, [3, 'EXFAT   '], [510, hex('55aa')]],
    ['FAT16', 'filesystem', 54, [54, 'FAT16   '], [510, hex('55aa')]],
    ['FAT32', 'filesystem', 82, mbr(), [82, 'FAT32   ']],
    ['HFS+', 'filesystem', 1024, [1024, hex('482b0004')]],
    ['APFS', 'filesystem', 32, [32, 'NXSB']],
    ['ISO 9660', 'filesystem', 0x8001, [0x8001, 'CD001']],
    ['LVM2 physical volume', 'volume manager', 512, [512, 'LABELONE'], [536, 'LVM2 001']],
    ['md 1.1', 'RAID member', 0, [0, md]],
    ['md 1.2', 'RAID member', 4096, [4096, md]],
    ['md 1.0', 'RAID member', size - 8192, [-8192, md]],
    ['md 0.90', 'RAID member', size - 65536, [-65536, md]],
    ['LUKS1', 'encrypted volume', 0, [0, hex('4c554b53babe0001')]],
    ['LUKS2', 'encrypted volume', 0, [0, hex('4c554b53babe0002')]],
    ['BitLocker', 'encrypted volume', 3, [3, '-FVE-FS-']],
    ['swap', 'swap space', 4086, [4086, 'SWAPSPACE2']],
    ['swap', 'swap space', 65526, [65526, 'SWAPSPACE2']],
    ['hibernation image', 'swap space', 4086, [4086, 'S1SUSPEND']],
    ['bcache', 'cache', 4120, [4120, hex('c68573f64e1a45ca8265f57f48ba6d81')]],
  ];
  for (const [name, kind, offset, ...parts] of cases) {
    t.match(found(size, ...parts), [{ name, kind, offset }], `${name} at ${offset}`);
    t.equal(found(size, ...parts).length, 1, `${name} at ${offset}: alone`);
  }
  t.equal(found(size, ext(0, 2, 3))[0]!.label, 'a label');
});

t.test('more than one, and what only looks like one', async (t) => {
  t.same(names(found(4 * MIB, mbr(0xee), [512, 'EFI PART'], ext(4, 0x42, 3))), ['GPT', 'ext4']);
  t.same(found(4 * MIB), [], 'zeros');
  t.same(found(4 * MIB, mbr(0x83, 0x41)), [], 'text where an MBR has its boot flag');
  t.same(
    found(4 * MIB, [0x418, hex('07')], [0x438, hex('53ef')]),
    [],
    'the magic of ext with blocks too large',
  );
  t.same(found(4 * MIB, [512, 'LABELONE']), [], 'LABELONE without LVM2');
  t.same(findSignatures(ends(bytesOf(4 * MIB))), [], 'random bytes');
  for (const size of [1, 511, 512, 1000, 4096, 70_000]) t.same(found(size), [], `${size} bytes`);
  t.same(names(found(1024, [-512, 'EFI PART'])), ['GPT'], 'where the ends overlap');
  t.same(names(found(1_000_003, [0, 'XFSB'])), ['XFS'], 'a file of an odd length');
});

t.test('what the real tools make', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  t.teardown(() => system.close());
  const source = join(folder, 'source');
  writeFileSync(source, 'x');
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const makers: [string, number, string[]][] = [
    ["ext2 'mine'", 8, ['mkfs.ext4', '-q', '-F', '-t', 'ext2', '-L', 'mine']],
    ["ext3 'mine'", 8, ['mkfs.ext4', '-q', '-F', '-t', 'ext3', '-L', 'mine']],
    ["ext4 'mine'", 8, ['mkfs.ext4', '-q', '-F', '-L', 'mine']],
    ["XFS 'mine'", 320, ['mkfs.xfs', '-q', '-f', '-L', 'mine']],
    ["btrfs 'mine'", 160, ['mkfs.btrfs', '-q', '-f', '-L', 'mine']],
    ["FAT16 'MINE'", 16, ['mkfs.vfat', '-F', '16', '-n', 'MINE']],
    ["FAT32 'MINE'", 64, ['mkfs.vfat', '-F', '32', '-n', 'MINE']],
    ['exFAT', 16, ['mkfs.exfat']],
    ['NTFS', 16, ['mkfs.ntfs', '-Q', '-F']],
    ['swap', 8, ['mkswap']],
    [
      "LUKS2 'mine'",
      32,
      ['cryptsetup', 'luksFormat', '-q', '--label', 'mine', '--pbkdf', 'pbkdf2', '--key-file', source],
    ],
    ['LVM2 physical volume', 8, ['pvcreate', '-qq', '--devices']],
    ['GPT', 8, ['sgdisk', '-n', '1']],
    ['ext journal', 8, ['mkfs.ext4', '-q', '-F', '-O', 'journal_dev']],
    ['minix', 8, ['mkfs.minix', '-2']],
    ['minix 3', 8, ['mkfs.minix', '-3']],
    ['BFS', 8, ['mkfs.bfs']],
    ['JFS', 32, ['mkfs.jfs', '-q']],
    ['F2FS', 64, ['mkfs.f2fs', '-q']],
    ['NILFS2', 160, ['mkfs.nilfs2', '-q']],
    ['UDF', 16, ['mkfs.udf']],
    ['ReiserFS', 64, ['mkfs.reiserfs', '-q', '-f', '-f']],
    ['OCFS2', 64, ['mkfs.ocfs2', '-q', '-F', '-M', 'local', '--fs-features=local']],
    ['GFS2', 128, ['mkfs.gfs2', '-q', '-O', '-p', 'lock_nolock']],
    ['bcache', 16, ['make-bcache', '-B']],
    // Those that take a folder: the image is their last argument.
    ['cramfs', 1, ['mkfs.cramfs', empty]],
    ['UBIFS', 1, ['mkfs.ubifs', '-m', '2048', '-e', '129024', '-c', '64', '-r', empty, '-o']],
  ];
  for (const [i, [expected, mib, [command, ...args]]] of makers.entries()) {
    const image = join(folder, `image-${i}`);
    const fd = openSync(image, 'w');
    ftruncateSync(fd, mib * MIB);
    closeSync(fd);
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const { status, error, stderr } = spawnSync(command!, [...args, image], { encoding: 'utf8', env });
    if (error !== undefined || status !== 0) {
      t.pass(`skipped: ${expected}`, { skip: error?.message ?? stderr.trim().split('\n')[0] ?? 'failed' });
      continue;
    }
    const { holds } = (await planCopy(source, image, { system })).destinations[0]!;
    const words = holds.map(({ name, label }) => (label === null ? name : `${name} '${label}'`));
    t.ok(words.includes(expected), `${expected}: ${words.join(', ')}`);
  }
});

/** A BIOS parameter block of FAT, whose type field says `type`. */
function fat(type: Buffer, fat32 = false): [number, Buffer] {
  const sector = Buffer.alloc(512);
  sector.set([0xeb, 0x3c, 0x90]);
  sector.writeUInt16LE(512, 11);
  sector[13] = 4;
  sector.writeUInt16LE(1, 14);
  sector[16] = 2;
  sector.writeUInt16LE(fat32 ? 0 : 512, 17);
  sector[21] = 0xf8;
  if (fat32) sector.writeUInt32LE(256, 36);
  else sector.writeUInt16LE(32, 22);
  sector.writeUInt32LE(32768, 32);
  type.copy(sector, fat32 ? 82 : 54);
  return [0, sector];
}

function minix(at: number, magic: string, little: boolean): [number, Buffer] {
  const sb = Buffer.alloc(32);
  const put = (offset: number, value: number) =>
    little ? sb.writeUInt16LE(value, offset) : sb.writeUInt16BE(value, offset);
  if (at === 0x18)
    for (const [offset, value] of [
      [little ? 0 : 2, 64],
      [6, 1],
      [8, 1],
      [28, 1024],
    ])
      put(offset!, value!);
  else
    for (const [offset, value] of [
      [0, 64],
      [4, 1],
      [6, 1],
      [18, 1],
    ])
      put(offset!, value!);
  hex(magic).copy(sb, at);
  return [1024, sb];
}

type Held = [name: string, size: number, ...parts: [number, string | Buffer][]];

/** What libblkid names, and what it names by more than it asks for. Each alone on a disk. */
const HELD: Held[] = [
  ['ext journal', 8 * MIB, [0x438, hex('53ef')], [0x460, hex('08')]],
  ['ext journal', 8 * MIB, [0x438, hex('53ef')], [0x460, hex('08')], [0x418, hex('02')]],
  ['ext2', 8 * MIB, [0x438, hex('53ef')]],
  ['XFS log', 8 * MIB, [0, hex('feedbabe0000000100000002')]],
  ['XFS log', 8 * MIB, [37 * 512, hex('feedbabe0000000100000001')]],
  ['FAT', 8 * MIB, fat(Buffer.from('FAT16\0\0\0'))],
  ['FAT', 8 * MIB, fat(Buffer.alloc(8))],
  ['FAT', 8 * MIB, fat(Buffer.alloc(8), true), [510, hex('55aa')]],
  ...['54190100', '00011954', '19015419', '19540119'].flatMap((magic) =>
    [0, 8, 64, 256].map((kib): Held => ['UFS', 8 * MIB, [kib * 1024 + 1372, hex(magic)]]),
  ),
  ['HFS', 8 * MIB, [1024, 'BD'], [1044, hex('00000200')]],
  ['HFS+', 8 * MIB, [1024, hex('48580005')]],
  ...['7f13', '8f13', '6824', '7824'].map((magic): Held => ['minix', 8 * MIB, minix(0x10, magic, true)]),
  ...['137f', '138f', '2468', '2478'].map((magic): Held => ['minix', 8 * MIB, minix(0x10, magic, false)]),
  ['minix 3', 8 * MIB, minix(0x18, '5a4d', true)],
  ['minix 3', 8 * MIB, minix(0x18, '4d5a', false)],
  ['UBI', 8 * MIB, [0, 'UBI#']],
  ['UBIFS', 8 * MIB, [0, hex('31181006')]],
  ['ReiserFS', 8 * MIB, [0x10034, 'ReIsEr3Fs']],
  ['ReiserFS', 8 * MIB, [0x2014, 'ReIsErFs']],
  ['Reiser4', 8 * MIB, [0x10000, 'ReIsEr4']],
  ['VMFS', 8 * MIB, [2 * MIB, hex('5ef1ab2f')]],
  ['VMFS volume', 8 * MIB, [MIB, hex('0dd001c0')]],
  ['GFS', 8 * MIB, [0x10000, hex('01161970')], [0x10018, hex('0000051d')]],
  ['GFS2', 8 * MIB, [0x10000, hex('01161970')], [0x10018, hex('00000709')]],
  ['OCFS', 8 * MIB, [0x2000, 'OracleCFS']],
  ['cramfs', 8 * MIB, [0, hex('453dcd28')]],
  ['cramfs', 8 * MIB, [0, hex('28cd3d45')]],
  ['romfs', 8 * MIB, [0, '-rom1fs-']],
  ['SquashFS', 8 * MIB, [0, 'hsqs']],
  ['zonefs', 8 * MIB, [0, 'SFOZ']],
  ['High Sierra', 8 * MIB, [0x8009, 'CDROM']],
  ['UDF', 8 * MIB, [0x8801, 'NSR03']],
  ['BFS', 8 * MIB, [0, hex('cefaad1b')]],
  ['BeFS', 8 * MIB, [0x220, '1SFB']],
  ['BeFS', 8 * MIB, [0x20, 'BFS1']],
  ['System V', 8 * MIB, [0x3f8, hex('207e18fd')]],
  ['System V', 8 * MIB, [9 * 1024 + 0x3f8, hex('fd187e20')]],
  ['Xenix', 8 * MIB, [0x7f8, hex('002b5544')]],
  ['HPFS', 8 * MIB, [0x2000, hex('49e895f9')]],
  ['VxFS', 8 * MIB, [0x400, hex('f5fc01a5')]],
  ['NetWare', 8 * MIB, [0x1000, 'SPB5']],
  ['NILFS2', 8 * MIB, [-4096, hex('020000000000343400020000')]],
  ['Oracle ASM', 8 * MIB, [32, 'ORCLDISK']],
  ['LVM1 physical volume', 8 * MIB, [0, hex('484d0100')]],
  ['LVM snapshot', 8 * MIB, [0, 'SnAp']],
  ['VDO', 8 * MIB, [0, 'dmvdo001']],
  ['DRBD', 8 * MIB, [-4096 + 60, hex('8374026b')]],
  ['DDF RAID', 8 * MIB, [-512, hex('de11de11')]],
  ['DDF RAID', 8 * MIB, [-257 * 512, hex('de11de11')]],
  ['Intel Matrix RAID', 8 * MIB, [-1024, 'Intel Raid ISM Cfg Sig. ']],
  ['LSI MegaRAID', 8 * MIB, [-512, '$XIDE$']],
  ['Silicon Image RAID', 8 * MIB, [-512 + 0x60, hex('0000002f')]],
  ['NVIDIA RAID', 8 * MIB, [-1024, 'NVIDIA  ']],
  ...[63, 3087].map((n): Held => ['Promise RAID', 16 * MIB, [-n * 512, 'Promise Technology, Inc.']]),
  ['HighPoint RAID', 8 * MIB, [-11 * 512, hex('f316785a')]],
  ['HighPoint RAID', 8 * MIB, [9 * 512 + 32, hex('f016785a')]],
  ['Adaptec RAID', 8 * MIB, [-512, hex('37fc4d1e')]],
  ['JMicron RAID', 8 * MIB, [-512, 'JM']],
  ['LUKS2 (second header)', 16 * MIB, [4 * MIB, hex('534b554cbabe')]],
  ['BitLocker To Go', 8 * MIB, [0x1a8, hex('3bd66749292ed84a8399f6a339e3d001')]],
  ['hibernation image', 8 * MIB, [0, hex('edc302e99856e50c')]],
  ['hibernation image', 8 * MIB, [4086, 'LINHIB0001']],
  ['SGI volume header', 8 * MIB, [0, hex('0be5a941')]],
  ['AIX label', 8 * MIB, [0, hex('c9c2d4c1')]],
  ['Solaris x86 VTOC', 8 * MIB, [524, hex('eede0d60')]],
  ['UnixWare VTOC', 8 * MIB, [29 * 512 + 4, hex('0d605eca')]],
  ['MBR', 8 * MIB, [510, hex('55aa')]],
];

t.test('what libblkid knows, by magics written out here', async (t) => {
  for (const [name, size, ...parts] of HELD) {
    t.ok(names(found(size, ...parts)).includes(name), `${name}: ${parts.map(([at]) => at)}`);
  }
});

t.test('every place in the table is one that is read', async (t) => {
  for (const size of [64 * MIB, 64 * MIB + 512 * 3]) {
    const disk = Buffer.alloc(size);
    for (const row of SIGNATURES.filter(({ also }) => also === undefined)) {
      const places = typeof row.at === 'function' ? row.at(size) : row.at;
      for (const place of places.map((at) => (at < 0 ? size + at : at))) {
        const [magic] = row.magic;
        disk.set(magic!, place);
        if (findSignatures(ends(disk)).length === 0) t.fail(`${row.name} at ${place} of ${size}`);
        disk.fill(0, place, place + magic!.length);
      }
    }
  }
});

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const noBlkid = !/util-linux/.test(spawnSync('blkid', ['--version'], { env, encoding: 'utf8' }).stdout ?? '');

t.test('what blkid names is refused', { skip: noBlkid && 'no blkid of util-linux' }, async (t) => {
  const image = join(folder, 'named');
  let named = 0;
  for (const [name, size, ...parts] of HELD) {
    const disk = Buffer.alloc(size);
    for (const [at, what] of parts) Buffer.from(what as string, 'latin1').copy(disk, at < 0 ? size + at : at);
    writeFileSync(image, disk);
    const [theirs] = await askBlkid(image);
    if (theirs === undefined) continue;
    named++;
    t.ok(findSignatures(ends(disk)).length > 0, `${name}: blkid says ${theirs.name}`);
  }
  t.ok(named > 20, `blkid named ${named} of ${HELD.length}`);
});

t.test('blkid is asked, for so long, and believed', { skip: process.platform === 'win32' }, async (t) => {
  const script = join(folder, 'blkid');
  const says = (text: string) => {
    writeFileSync(script, `#!/bin/sh\n${text}\n`);
    chmodSync(script, 0o755);
    return askBlkid('/dev/x', { command: script, timeout: 500 });
  };
  t.same(
    await says(
      'printf "DEVNAME=%s\\nLABEL=a\\\\ b\\nUSAGE=raid\\nTYPE=odd_raid\\nSBMAGIC_OFFSET=64\\n" "$5"',
    ),
    [{ name: 'odd_raid', kind: 'RAID member', offset: 64, label: 'a b' }],
  );
  t.same(await says('echo PTTYPE=atari'), [
    { name: 'atari', kind: 'partition table', offset: 0, label: null },
  ]);
  t.match(await says('exit 8'), [{ name: /several things/ }], 'things that exclude each other are something');
  t.same(await says('exit 2'), []);
  t.same(await says('echo PART_ENTRY_TYPE=0x83'), [], 'an entry about a partition is not what is on it');
  t.same(await says('echo TYPE=ext4; exit 1'), [], 'one that takes other options');
  const began = performance.now();
  const late = 'no answer is not the answer that nothing is there';
  t.match(
    await says('sleep 20'),
    [{ name: /^something unknown \(blkid gave no answer: none within 0\.5 s/ }],
    late,
  );
  t.ok(performance.now() - began < 5000);
  for (const [text, why] of [
    ['while :; do echo TYPE=ext4; done', /more than 64 KiB/],
    ['kill -9 $$', /SIGKILL/],
    ['kill -SEGV $$', /SIGSEGV/],
    ['exit 4', /: 4\)/],
  ] as const) {
    t.match(await says(text), [{ name: why }], text);
  }
  t.same(await askBlkid('/dev/x', { command: join(folder, 'none'), timeout: 500 }), []);
});

t.test(
  'a destination whose first blocks cannot be read is written with force: that may be the cure',
  async (t) => {
    const { switch: preset } = presets;
    const faults = [{ kind: 'media-error', namespace: 'nvme1n1', lba: 1, op: 'read' }] as const;
    await using system = await openSystem({ machine: { ...preset, faults } });
    const plan = (force: boolean) => planCopy('nvme0n1', 'nvme1n1', { system, end: MIB - 1, force });
    const { problems } = await plan(false);
    t.equal(problems.length, 1);
    t.match(problems[0], { code: 'ENODATA', hint: /Writing to it may repair it: pass force/ });
    t.same((await plan(true)).problems, []);
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: MIB - 1, force: true });
    t.equal(receipt.bytes, MIB);
  },
);
