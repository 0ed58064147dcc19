/**
 * Namespaces of another kind: zoned (nvme2), of size 0 because their blocks contain metadata (nvme3), with metadata
 * beside the blocks (nvme4). What is said of them before a copy is what the kernel then answers.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { asked, p2pdma } from './command.js';
import { type GuestDrive, guestDrive, Probe, sh, writePattern } from './guest.js';

const MIB = 2 ** 20;
const [A, B, zoned, empty, beside] = ['nvme0', 'nvme1', 'nvme2', 'nvme3', 'nvme4'].map(guestDrive) as [
  GuestDrive,
  GuestDrive,
  GuestDrive,
  GuestDrive,
  GuestDrive,
];
const disk = (drive: GuestDrive) => drive.disks[0]!;
const nameOf = (drive: GuestDrive) => disk(drive).slice(5);
const sysfs = (drive: GuestDrive, file: string) =>
  readFileSync(`/sys/block/${nameOf(drive)}/${file}`, 'utf8').trim();
const oneLine = (text: string) => text.replace(/\s+/g, ' ');
const MIBS = ['--end', String(MIB - 1), '--force'];

t.test('what the kernel makes of them', (t) => {
  t.equal(sysfs(zoned, 'queue/zoned'), 'host-managed');
  t.equal(sysfs(zoned, 'queue/chunk_sectors'), String((16 * MIB) / 512));
  t.equal(sysfs(empty, 'size'), '0');
  t.equal(sysfs(beside, 'metadata_bytes'), '8');
  t.ok(Number(sysfs(beside, 'size')) > 0);
  t.end();
});

t.test('the kernel writes a zone in order only, also from a CMB', async (t) => {
  const probe = new Probe();
  for (const [question, answer] of [
    [`map 0 ${A.allocate} 65536 0 shared`, /^ok/],
    [`open 0 ${disk(zoned)} rw,direct`, /^ok/],
    ['fill 0 0 65536 1', /^ok/],
    ['pwrite 0 0 0 0 65536', 'ok 65536'],
    ['pread 0 0 0 0 65536', 'ok 65536'],
    ['check 0 0 65536 1', 'ok 0'],
    ['pwrite 0 0 0 0 65536', 'err 5'],
    // Another zone: after an error, one may refuse what is in order too.
    [`pwrite 0 ${16 * MIB + 65536} 0 0 65536`, 'err 5'],
  ] as const) {
    t.match(await probe.ask(question), answer, question);
  }
  await probe.end();
});

t.test(
  'zoned: said by list, explain and the dry run; refused before a byte is written; readable',
  async (t) => {
    const HOW = /zones of 16777216 bytes are host-managed/;
    t.match(oneLine((await p2pdma('list')).stdout), HOW);
    t.match(oneLine((await p2pdma('explain', A.kernelName, disk(zoned))).stdout), HOW);
    const dry = await p2pdma('copy', disk(A), disk(zoned), ...MIBS, '--dry-run');
    t.match(oneLine(dry.stdout + dry.stderr), HOW, 'the dry run');
    t.equal(dry.status, 1);
    const before = sh(`cat /sys/block/${nameOf(zoned)}/stat`).text.split(/\s+/)[4];
    const refused = await p2pdma('copy', disk(A), disk(zoned), ...MIBS);
    t.equal(refused.status, 1);
    t.match(oneLine(refused.stderr), HOW);
    t.match(oneLine(refused.stderr), /blkzone reset/);
    t.equal(sh(`cat /sys/block/${nameOf(zoned)}/stat`).text.split(/\s+/)[4], before, 'nothing was written');
    t.match(await asked('copy', disk(zoned), disk(B), '--end', '65535', '--force', '--verify'), {
      transport: 'p2p-bus',
      verified: true,
    });
  },
);

t.test('size 0: said for what it is, and in no count of usable pairs', async (t) => {
  const SAID = /metadata/;
  for (const args of [
    ['copy', disk(A), disk(empty), ...MIBS],
    ['copy', disk(A), disk(empty), ...MIBS, '--dry-run'],
    ['copy', disk(empty), disk(A), '--force'],
  ]) {
    const { status, stdout, stderr } = await p2pdma(...args);
    t.not(status, 0, args.join(' '));
    t.match(oneLine(stdout + stderr), SAID, args.join(' '));
    t.notMatch(oneLine(stdout + stderr), /still there/, args.join(' '));
  }
  const explained = await p2pdma('explain', A.kernelName, disk(empty));
  t.match(oneLine(explained.stdout), /size 0|no size/, explained.stdout);
  const matrix = await p2pdma('explain');
  t.comment(`note: ${matrix.stdout.replaceAll('\n', '\n# note: ')}`);
  const { findings } = JSON.parse((await p2pdma('doctor', '--json')).stdout);
  const pairs = findings
    .filter(({ check, level }: { check: string; level: string }) => check === 'pairs' && level === 'ok')
    .map(({ fact }: { fact: string }) => fact)
    .join('; ');
  // Four drives lend to four that have a disk to read: each to the three others; the fifth lends and is no client.
  t.notMatch(pairs, new RegExp(`◀─ ${empty.kernelName}\\b`), pairs);
  const tried = await asked('explain', '--try', A.kernelName, empty.kernelName);
  t.match(tried.clients[0].tried, { outcome: 'none' }, 'there is no block to try');
});

t.test('metadata beside the blocks: the kernel carries it, and peer memory is taken', async (t) => {
  writePattern(disk(A), MIB, 5);
  t.match(await asked('copy', disk(A), disk(beside), ...MIBS, '--verify', '--require-p2p'), {
    transport: 'p2p-bus',
    verified: true,
  });
  const tried = await asked('explain', '--try', A.kernelName, disk(beside));
  t.match(tried.clients[0].tried, { outcome: 'works' });
  const raw = await p2pdma('copy', disk(A), disk(beside), ...MIBS, '--engine', 'passthrough');
  t.equal(raw.status, 1);
  t.match(oneLine(raw.stderr), /8 bytes of metadata/);
});
