/** What a person recognises a disk by, from sysfs and udev's records. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { runCli } from '../../helpers/cli.js';

function captured(folder: string): string {
  const tree = twoDrivesBelowASwitch();
  Object.assign(tree.nvme![0]!, { model: 'Example SSD 2TB', serial: 'S6Z1' });
  Object.assign(tree.nvme![1]!, { model: 'Example SSD 2TB', serial: '0000' });
  return writeSysfsTree(folder, tree);
}

function put(root: string, path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

/** udev's record of a device and a name of it. */
function withUdev(root: string): string {
  const number = (device: string) =>
    readFileSync(join(root, 'sys/class/block', device, 'dev'), 'utf8').trim();
  put(root, `run/udev/data/b${number('nvme0n1')}`, 'S:disk/by-id/x\nE:ID_PART_TABLE_TYPE=gpt\n');
  put(
    root,
    `run/udev/data/b${number('nvme0n1p2')}`,
    'E:ID_FS_TYPE=xfs\nE:ID_FS_LABEL=my_data\nE:ID_FS_LABEL_ENC=my\\x20data\nE:ID_PART_ENTRY_NAME=caf\u00e9\n',
  );
  put(root, `run/udev/data/b${number('vda')}`, 'E:ID_SERIAL_SHORT=VD1\nE:ID_FS_TYPE=ext4\n');
  mkdirSync(join(root, 'dev/disk/by-id'), { recursive: true });
  symlinkSync('../../nvme0n1', join(root, 'dev/disk/by-id/nvme-Example_SSD_2TB_S6Z1_1'));
  symlinkSync('../../nvme0n1', join(root, 'dev/disk/by-id/nvme-eui.01'));
  symlinkSync('../../nvme0n1p1', join(root, 'dev/disk/by-id/nvme-eui.01-part1'));
  return root;
}

t.test('without records: what the drives report, and what is not known is null', async (t) => {
  const disks = readSysfs(captured(t.testdir())).disks();
  t.notOk(
    disks.some(({ name }) => /^(dm-|md|loop)/.test(name)),
    'disks only',
  );
  t.match(
    disks.find(({ name }) => name === 'nvme0n1'),
    { model: 'Example SSD 2TB', serial: 'S6Z1', size: 2 ** 30, ids: [], record: null },
  );
  t.equal(disks.find(({ name }) => name === 'nvme1n1')?.serial, null, 'zeros are no serial number');
  t.match(
    disks.find(({ name }) => name === 'vda'),
    { model: null, serial: null },
  );
});

t.test('with them: names, partition tables, filesystems, labels', async (t) => {
  const disks = readSysfs(withUdev(captured(t.testdir()))).disks(['nvme0n1', 'vda']);
  t.same(
    disks.map(({ name }) => name),
    ['nvme0n1', 'vda'],
  );
  t.match(disks[0], {
    ids: ['nvme-eui.01', 'nvme-Example_SSD_2TB_S6Z1_1'],
    record: { table: 'gpt', type: null, label: null },
    partitions: [
      { name: 'nvme0n1p1', record: null },
      { name: 'nvme0n1p2', record: { type: 'xfs', label: 'my data', partitionLabel: 'caf\u00e9' } },
    ],
  });
  t.match(disks[1], { serial: 'VD1', record: { type: 'ext4' } });
});

t.test('list shows them', async (t) => {
  const root = withUdev(captured(t.testdir()));
  const { stdout } = runCli(['list', '--root', root], { env: { COLUMNS: '80' } });
  t.match(stdout, /└ Example SSD 2TB, serial S6Z1, gpt partition table\n/);
  t.match(stdout, /└ by-id nvme-eui\.01, nvme-Example_SSD_2TB_S6Z1_1\n/);
  t.match(stdout, /nvme0n1p2 512 MiB, named 'café', xfs 'my data', mounted on\s+\/mnt\/xfs/);
  t.notOk(stdout.split('\n').some((line) => line.length > 80));
});

const lsblk = () => execFileSync('lsblk', ['-dnJbo', 'NAME,SIZE,MODEL,SERIAL,TYPE'], { encoding: 'utf8' });
const has = process.platform === 'linux' && existsSync('/usr/bin/lsblk');

t.test('as lsblk sees this machine', { skip: !has && 'no lsblk' }, async (t) => {
  const disks = readSysfs('/').disks();
  const { blockdevices } = JSON.parse(lsblk()) as { blockdevices: Record<string, string | null>[] };
  for (const { name, size, serial, type } of blockdevices) {
    const ours = disks.find((disk) => disk.name === name);
    if (type !== 'disk' || ours === undefined) continue;
    t.equal(ours.size, Number(size), `${name}: ${size}`);
    if (ours.serial !== null && serial !== null) t.equal(ours.serial, serial?.trim());
  }
});
