import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { findSignatures, LOOK } from '../lib/copy/signatures.js';
import { openSystem, planCopy, type Signature } from '../lib/index.js';
import { bytesOf } from './helpers/copies.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-signatures-'));
t.teardown(() => rmSync(folder, { recursive: true }));

function ends(disk: Buffer) {
  return { size: disk.length, head: disk.subarray(0, LOOK), tail: disk.subarray(-LOOK) };
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
  t.same(found(4 * MIB, [510, hex('55aa')]), [], 'a boot sector without partitions');
  t.same(found(4 * MIB, mbr(0x83, 0x41)), [], 'text where an MBR has its boot flag');
  t.same(found(4 * MIB, [0x438, hex('53ef')]), [], 'the magic of ext without inodes');
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
