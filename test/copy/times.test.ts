/** Since when what a disk holds has been in use, as far as its own structures say. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { findSignatures } from '../../lib/copy/signatures.js';
import { openSystem, planCopy } from '../../lib/index.js';

const SIZE = 64 * 1024;

/** Numbers at offsets: bits, little-endian unless negative. */
function times(...fields: [at: number, bits: 16 | 32 | 64 | -32 | -16 | 8, value: number][]) {
  const disk = Buffer.alloc(SIZE);
  for (const [at, bits, value] of fields) {
    if (bits === 64) disk.writeBigUInt64LE(BigInt(value), at);
    else if (bits < 0) disk.writeUIntBE(value, at, -bits / 8);
    else disk.writeUIntLE(value, at, bits / 8);
  }
  const [found] = findSignatures({ size: SIZE, head: disk, tail: disk });
  return found?.times;
}

const at = (year: number) => Date.UTC(year, 0, 1) / 1000;
const iso = (year: number) => `${year}-01-01T00:00:00.000Z`;
const HFS_YEARS = Date.UTC(1904, 0, 1) / 1000;

t.test('where the structure has times', async (t) => {
  const ext = (...more: Parameters<typeof times>) => times([0x438, 16, 0xef53], ...more);
  t.same(ext([0x508, 32, at(2020)], [0x42c, 32, at(2021)], [0x430, 32, at(2022)]), {
    created: iso(2020),
    mounted: iso(2021),
    written: iso(2022),
  });
  t.same(ext([0x508, 32, at(2150) % 2 ** 32], [0x676, 8, 1]), {
    created: iso(2150),
    mounted: null,
    written: null,
  });
  t.same(ext(), { created: null, mounted: null, written: null }, 'zeros: it does not say');
  t.same(times([0, 32, 0xa92b4efc], [4, 32, 1], [64, 64, at(2019)], [192, 64, at(2023)]), {
    created: iso(2019),
    mounted: null,
    written: iso(2023),
  });
  t.same(times([1024, -16, 0x482b], [1026, -16, 4], [1044, -32, at(2018) - HFS_YEARS]), {
    created: null,
    mounted: null,
    written: iso(2018),
  });
  t.same(
    times(
      ...([
        [1024, 32, 2],
        [1030, 16, 0x3434],
        [1032, 16, 0x400],
      ] as Parameters<typeof times>),
      ...([
        [1112, 64, at(2017)],
        [1120, 64, at(2018)],
        [1128, 64, at(2019)],
      ] as Parameters<typeof times>),
    ),
    { created: iso(2017), mounted: iso(2018), written: iso(2019) },
  );
});

t.test('where it has none, or none that could be meant', async (t) => {
  t.equal(times([0, -32, 0x58465342]), undefined, 'XFS');
  t.same(times([0, 32, 0xa92b4efc], [4, 32, 1], [64, 64, 2 ** 39]), {
    created: null,
    mounted: null,
    written: null,
  });
});

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const noMkfs = spawnSync('mkfs.ext4', ['-V'], { env }).error !== undefined;

t.test('of a filesystem that was made just now', { skip: noMkfs && 'no mkfs.ext4' }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-times-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [source, image] = [join(folder, 'source'), join(folder, 'image')];
  writeFileSync(source, 'x');
  writeFileSync(image, '');
  truncateSync(image, 8 * 1024 * 1024);
  const before = Date.now();
  const { status, stderr } = spawnSync('mkfs.ext4', ['-q', '-F', image], { env, encoding: 'utf8' });
  t.equal(status, 0, stderr);
  await using system = await openSystem({ machine: 'switch' });
  const [signature] = (await planCopy(source, image, { system })).destinations[0]!.holds;
  const made = Date.parse(signature!.times!.created!);
  t.ok(made >= before - 1000 && made <= Date.now(), signature!.times!.created!);
  t.equal(signature!.times!.mounted, null, 'never mounted');
});
