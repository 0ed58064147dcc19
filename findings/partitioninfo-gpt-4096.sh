#!/usr/bin/env bash
# partitioninfo finds the GPT of a disk with 4096-byte blocks, and gives an eighth of every offset and size.
#
# Seen with partitioninfo 6.0.3 (with gpt 3.0.0 of its own): the GPT header is searched for at byte 512, 1024, 2048 and
# 4096, so that a table made for 4096-byte blocks is found. Its LBAs are then multiplied by 512, whatever the block size
# was. A partition that begins at 1 MiB and has 8 MiB is given as one that begins at 128 KiB and has 1 MiB, without an
# error, and get() with a partition's number names the same wrong place. The same disk made for 512-byte blocks is right.
#
# The README gives offset and size in bytes, and nothing about block sizes. UEFI counts a GPT in the blocks of the disk;
# NVMe namespaces are often formatted with blocks of 4096 bytes. Whoever reads the partition there by these numbers gets
# other bytes, and whoever writes destroys what lies before the partition.

set -euo pipefail

skip() { echo "skipped: $1" >&2; exit 77; }
changed() { echo "changed: $1"; exit 1; }
check() { # what, seen now, seen when this was written
  echo "$1: $2"
  [ "$2" = "$3" ] || changed "$1 was '$3'"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
command -v npm >/dev/null || skip 'npm, which fetches the packages, is not installed'
unset NODE_OPTIONS

cd "$tmp"
echo '{ "private": true }' >package.json
npm install --silent --no-audit --no-fund partitioninfo@6.0.3 file-disk@8.0.1 ||
  skip 'partitioninfo 6.0.3 and file-disk 8.0.1 could not be fetched'

cat >disk.cjs <<'JS'
// A disk of 32 MiB with a GPT by the UEFI specification, section 5.3: one partition from 1 MiB on, of 8 MiB.
const { writeFileSync } = require('node:fs');
const { crc32 } = require('node:zlib');
const [path, block] = [process.argv[2], Number(process.argv[3])];
const MiB = 1024 * 1024;
const disk = Buffer.alloc(32 * MiB);
const last = disk.length / block - 1;
const entries = Buffer.alloc(128 * 128);
Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex').copy(entries); // the type: Linux filesystem data
entries.fill(7, 16, 32);
entries.writeBigUInt64LE(BigInt(MiB / block), 32);
entries.writeBigUInt64LE(BigInt((9 * MiB) / block - 1), 40);
entries.write('data', 56, 'utf16le');
const tableBlocks = Math.ceil(entries.length / block);

function header(here, other, table) {
  const bytes = Buffer.alloc(92);
  bytes.write('EFI PART');
  bytes.writeUInt32LE(0x10000, 8);
  bytes.writeUInt32LE(bytes.length, 12);
  bytes.writeBigUInt64LE(BigInt(here), 24);
  bytes.writeBigUInt64LE(BigInt(other), 32);
  bytes.writeBigUInt64LE(BigInt(2 + tableBlocks), 40);
  bytes.writeBigUInt64LE(BigInt(last - 1 - tableBlocks), 48);
  bytes.fill(5, 56, 72);
  bytes.writeBigUInt64LE(BigInt(table), 72);
  bytes.writeUInt32LE(128, 80);
  bytes.writeUInt32LE(128, 84);
  bytes.writeUInt32LE(crc32(entries), 88);
  bytes.writeUInt32LE(crc32(bytes), 16);
  bytes.copy(disk, here * block);
  entries.copy(disk, table * block);
}
header(1, last, 2);
header(last, 1, last - tableBlocks);
disk[446 + 4] = 0xee; // the protective MBR
disk.writeUInt32LE(1, 446 + 8);
disk.writeUInt32LE(last, 446 + 12);
disk.writeUInt16LE(0xaa55, 510);
writeFileSync(path, disk);
JS

cat >probe.cjs <<'JS'
const { getPartitions } = require('partitioninfo');
getPartitions(process.argv[2]).then(({ type, partitions }) =>
  console.log(type, partitions.map(({ name, offset, size }) => `${name} at ${offset}, ${size} bytes`).join('; ')),
);
JS

for block in 512 4096; do node disk.cjs "disk-$block" "$block"; done
check 'blocks of 512 bytes' "$(node probe.cjs disk-512)" 'gpt data at 1048576, 8388608 bytes'
check 'blocks of 4096 bytes' "$(node probe.cjs disk-4096)" 'gpt data at 131072, 1048576 bytes'
# What the disk itself says, read by somebody else.
if [ "$(id -u)" = 0 ] && command -v losetup >/dev/null && command -v partx >/dev/null; then
  if disk=$(losetup --find --show --sector-size 4096 disk-4096 2>/dev/null); then
    seen=$(partx --raw --noheadings --bytes --output START,SIZE "$disk" || true)
    losetup -d "$disk"
    # partx counts START in 512-byte units.
    check 'the same disk, by partx of util-linux' "$seen" '2048 8388608'
  fi
fi
echo 'as stated: offsets and sizes of a GPT with 4096-byte blocks are an eighth of what they should be'
