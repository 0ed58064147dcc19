/** What the words on the line of `copy` stand for, and what of a disk is shown before anything is destroyed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { named, resolvedText } from '../../../lib/cli/copy/names.js';
import { openSystem } from '../../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { runCli } from '../../helpers/cli.js';
import { loopDevice, skipLoop } from '../../helpers/native.js';

const MIB = 1024 * 1024;
const cwd = mkdtempSync(join(tmpdir(), 'p2pdma-names-'));
t.teardown(() => rmSync(cwd, { recursive: true }));
const run = (...args: string[]) => runCli(args, { cwd, env: { COLUMNS: '200' } });

/** Two drives below one switch; the second has two namespaces, of which the first has partitions. */
const IDS = { vendor: '0x1b36', device: '0x0010' };
const drive = (bdf: string, serial: string, namespaces: object[]) => ({
  bdf,
  type: 'endpoint',
  upstream: '0000:02:00.0',
  ...{ class: '0x010802', ...IDS },
  nvme: { model: 'Example SSD', serial, cmb: { size: '16MiB' }, namespaces },
});
const disk = join(cwd, 'disk.img');
writeFileSync(
  join(cwd, 'machine.json'),
  JSON.stringify({
    version: 1,
    name: 'two',
    hostBridges: [{ bus: 0 }],
    functions: [
      { bdf: '0000:00:01.0', type: 'root-port', upstream: null, ...IDS },
      { bdf: '0000:01:00.0', type: 'upstream-port', upstream: '0000:00:01.0', ...IDS },
      { bdf: '0000:02:00.0', type: 'downstream-port', upstream: '0000:01:00.0', ...IDS },
      drive('0000:03:00.0', 'SERIAL-A', [{ nsid: 1, size: '64MiB' }]),
      drive('0000:03:00.1', 'SERIAL-B', [
        {
          ...{ nsid: 1, size: '64MiB', store: 'file', file: disk },
          partitions: [
            { number: 1, start: '1MiB', size: '16MiB' },
            { number: 2, start: '17MiB', size: '16MiB' },
          ],
        },
        { nsid: 2, size: '32MiB' },
      ]),
    ],
  }),
);
const MACHINE = ['--machine', './machine.json'];

/** The magic of ext4, made on 2021-03-04, last mounted on 2024-05-06. */
function ext4(): Buffer {
  const sb = Buffer.alloc(1024);
  sb.writeUInt16LE(0xef53, 56);
  sb.writeUInt32LE(0x42, 0x60);
  sb.write('home', 0x78);
  sb.writeUInt32LE(Date.UTC(2021, 2, 4) / 1000, 0x108);
  sb.writeUInt32LE(Date.UTC(2024, 4, 6) / 1000, 0x2c);
  return sb;
}

const image = Buffer.alloc(64 * MIB);
image.write('EFI PART', 512);
ext4().copy(image, 17 * MIB + 1024);
writeFileSync(disk, image);

t.test('a serial number, a name of udev, a name in /dev: it is said which disk they are', async (t) => {
  const id = 'nvme-Example_SSD_SERIAL-A_1';
  for (const source of ['SERIAL-A', id, `/dev/disk/by-id/${id}`]) {
    const { status, stdout, stderr } = run('copy', source, './out', '--bytes', '1MiB', ...MACHINE);
    t.equal(status, 0, stderr);
    t.ok(stderr.includes(`${source} is /dev/nvme0n1: Example SSD, serial SERIAL-A, 64 MiB\n`), stderr);
    t.match(stdout, /^nvme0n1 ──▶ /m, 'and from there on it has that name');
    const lines = run('copy', source, './out', '--bytes', '1MiB', ...MACHINE, '--json').stderr.split('\n');
    t.match(JSON.parse(lines[0]!), {
      ...{ backend: 'emulator', machine: 'two', type: 'resolved', given: source, name: 'nvme0n1' },
      ...{ path: '/dev/nvme0n1', model: 'Example SSD', serial: 'SERIAL-A' },
    });
  }
  const plain = run('copy', 'nvme0n1', './out', '--bytes', '1MiB', ...MACHINE);
  t.notMatch(plain.stderr, / is \/dev/, 'an emulated disk has no other name than its own');
  t.equal(run('copy', 'SERIAL-A', './out', '--bytes', '1MiB', ...MACHINE, '--quiet').stderr, '');
});

t.test('a serial number of several disks: the candidates, and nothing is done', async (t) => {
  const { status, stderr } = run('copy', 'SERIAL-A', 'SERIAL-B', ...MACHINE);
  t.equal(status, 2);
  t.match(
    stderr,
    /ERR_INVALID_ARG_VALUE: 'SERIAL-B' is the serial number of 2 disks: \/dev\/nvme1n1 \(.*64 MiB\); \/dev\/nvme1n2 \(.*32 MiB\)/s,
  );
  t.match(stderr, /Name the one that you mean by its name in \/dev\./);
});

t.test('a word that is a disk and also a file here is neither', async (t) => {
  for (const [word, path] of [
    ['nvme0n1', '/dev/nvme0n1'],
    ['SERIAL-A', '/dev/nvme0n1'],
  ]) {
    writeFileSync(join(cwd, word!), 'a file');
    const { status, stderr } = run('copy', word!, './out', ...MACHINE);
    t.equal(status, 2);
    t.match(stderr, new RegExp(`'${word}' is .*, and there is a file with this name in this folder`));
    t.match(stderr, `For the device write ${path}, for the file ./${word}.`);
    const asFile = run('copy', `./${word}`, './out', ...MACHINE);
    t.equal(asFile.status, 0, asFile.stderr);
    t.match(asFile.stdout, /6 B/);
    t.equal(run('copy', path!, './out', '--bytes', '1MiB', ...MACHINE).status, 0);
    rmSync(join(cwd, word!));
  }
});

t.test('what is not a name of a disk is a file, as before', async (t) => {
  writeFileSync(join(cwd, 'plain'), 'text');
  t.equal(run('copy', 'plain', 'SERIAL-C', ...MACHINE).status, 0);
  const { status, stderr } = run('copy', '/dev/disk/by-id/nvme-none', './out', ...MACHINE);
  t.equal(status, 2);
  t.match(stderr, /ENOENT/);
});

t.test('--dry-run shows what the disk is recognised by, and what is on its partitions', async (t) => {
  const { status, stdout } = run('copy', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', ...MACHINE, '--dry-run');
  t.equal(status, 1);
  for (const line of [
    'disk        Example SSD, serial SERIAL-A, 64 MiB',
    'disk        Example SSD, serial SERIAL-B, 64 MiB',
    'by-id       nvme-Example_SSD_SERIAL-B_1',
    'it holds    GPT (partition table)',
    'since       not known: GPT does not say',
    'partition   nvme1n1p1 16 MiB, nothing recognised',
    "partition   nvme1n1p2 16 MiB, ext4 'home' (filesystem), made on 2021-03-04, last mounted on 2024-05-06",
  ]) {
    t.ok(stdout.includes(`${line}\n`), `${line}\n${stdout}`);
  }
  const plan = JSON.parse(run('copy', 'nvme0n1', 'nvme1n1', ...MACHINE, '--dry-run', '--json').stdout);
  t.match(plan.destinations[0], {
    disks: [
      { name: 'nvme1n1', model: 'Example SSD', serial: 'SERIAL-B', ids: ['nvme-Example_SSD_SERIAL-B_1'] },
    ],
    partitions: [
      { name: 'nvme1n1p1', holds: [] },
      {
        name: 'nvme1n1p2',
        holds: [{ name: 'ext4', times: { created: '2021-03-04T00:00:00.000Z', written: null } }],
      },
    ],
  });
});

t.test('list shows the same, of which nothing is read', async (t) => {
  const { stdout } = run('list', ...MACHINE);
  t.match(
    stdout,
    /└ Example SSD, serial SERIAL-B\n +└ by-id nvme-Example_SSD_SERIAL-B_1\n +└ nvme1n1p1 16 MiB/,
  );
  const { controllers } = JSON.parse(run('list', ...MACHINE, '--json').stdout);
  t.match(controllers[1].namespaces[0].disk, { serial: 'SERIAL-B', record: null });
});

t.test('a partition: the disk below it', async (t) => {
  await using system = await openSystem({ machine: join(cwd, 'machine.json') });
  t.same(
    system.disks().map(({ name, serial, size }) => [name, serial, size]),
    [
      ['nvme0n1', 'SERIAL-A', 64 * MIB],
      ['nvme1n1', 'SERIAL-B', 64 * MIB],
      ['nvme1n2', 'SERIAL-B', 32 * MIB],
    ],
  );
  const { stdout } = run('copy', 'nvme0n1', 'nvme1n1p1', '--bytes', '1MiB', ...MACHINE, '--dry-run');
  t.match(stdout, /to +\/dev\/nvme1n1p1: .*\ndisk +Example SSD, serial SERIAL-B, 64 MiB/);
});

t.test(
  'of a real machine, the bare name is said too; a name of udev may be that of a partition',
  async (t) => {
    const tree = twoDrivesBelowASwitch();
    Object.assign(tree.nvme![1]!, { model: 'Example SSD', serial: 'REAL-1' });
    const root = writeSysfsTree(t.testdir(), tree);
    mkdirSync(join(root, 'dev/disk/by-id'), { recursive: true });
    symlinkSync('../../nvme0n1p2', join(root, 'dev/disk/by-id/nvme-eui.01-part2'));
    await using system = await openSystem({ root });
    const said = (source: string) => {
      const names = { source, destinations: ['./out'] };
      const ends = { source, destinations: ['./out'], names, stdin: false, stdout: false, remark: null };
      return named(system, { ...ends, close: () => {} }).resolved.map(resolvedText);
    };
    const whole = '/dev/nvme1n1: Example SSD, serial REAL-1, 1 GiB';
    t.same(said('nvme1n1'), [`nvme1n1 is ${whole}`]);
    t.same(said('REAL-1'), [`REAL-1 is ${whole}`]);
    t.same(said('/dev/nvme1n1'), [], 'this is what it is');
    const id = '/dev/disk/by-id/nvme-eui.01-part2';
    t.same(said(id), [`${id} is /dev/nvme0n1p2`]);
  },
);

t.test('--dry-run and a refusal say where a disk is mounted', { skip: skipLoop }, async (t) => {
  const device = loopDevice(t, 16 * MIB);
  const point = join(cwd, 'mount point');
  mkdirSync(point);
  if (
    spawnSync('mkfs.ext4', ['-q', device]).status !== 0 ||
    // Read-only: a filesystem that is mounted for writing writes to its disk by itself.
    spawnSync('mount', ['-o', 'ro', device, point]).status !== 0
  ) {
    t.comment('skipped: no mkfs.ext4, or mounting is not allowed');
    return;
  }
  try {
    writeFileSync(join(cwd, 'image'), Buffer.alloc(MIB, 'new'));
    const before = readFileSync(device);
    const planned = run('copy', './image', device, '--dry-run');
    t.equal(planned.status, 1);
    t.ok(planned.stdout.includes(`in use      mounted on ${point}\n`), planned.stdout);
    const refused = run('copy', './image', device);
    t.equal(refused.status, 1);
    t.match(refused.stderr, /EBUSY/);
    t.ok(refused.stderr.includes(`mounted on ${point}`), refused.stderr);
    t.ok(readFileSync(device).equals(before), 'nothing was written');
  } finally {
    execFileSync('umount', [point]);
  }
});
