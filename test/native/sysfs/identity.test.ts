import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import t from 'tap';
import { BlockDevices } from '../../../lib/native/sysfs/devices.js';
import { deviceIdentity } from '../../../lib/native/sysfs/identity.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';

const root = mkdtempSync(join(tmpdir(), 'p2pdma-foresee-'));
t.teardown(() => rmSync(root, { recursive: true }));

/** A block device at `path` below sys/devices, with these attributes. */
function device(path: string, attributes: Record<string, string>): void {
  const dir = join(root, 'sys/devices', path);
  mkdirSync(dir, { recursive: true });
  for (const [name, value] of Object.entries(attributes)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), `${value}\n`);
  }
  const link = join(root, 'sys/class/block', path.split('/').at(-1)!);
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(relative(dirname(link), dir), link);
}

device('pci0/nvme/nvme0/nvme0n1', { wwid: 'eui.0025385b71b0f3a2', uuid: 'not this' });
device('pci0/nvme/nvme0/nvme0n1/nvme0n1p2', { partition: '2' });
device('pci0/ata/sda', { 'device/wwid': 'naa.5000c500a1b2c3d4' });
device('virtual/dm-0', { 'dm/uuid': 'LVM-abc' });
device('virtual/md!0', { 'md/uuid': 'a:b:c:d' });
device('virtual/loop7', { 'loop/backing_file': '/srv/disk.img' });
device('pci0/virtio/vda', { serial: '' });
device('pci0/virtio/vda/vda1', { partition: '1' });
device('pci0/nvme/nvme1/nvme1n1', { wwid: '00000000-0000-0000-0000-000000000000' });

const devices = new BlockDevices(new SysfsTree(root), new Map());

t.test('what a device keeps when its name changes', async (t) => {
  t.equal(deviceIdentity(devices, 'nvme0n1'), 'eui.0025385b71b0f3a2');
  t.equal(deviceIdentity(devices, 'nvme0n1p2'), 'eui.0025385b71b0f3a2 partition 2');
  t.equal(deviceIdentity(devices, 'sda'), 'naa.5000c500a1b2c3d4');
  t.equal(deviceIdentity(devices, 'dm-0'), 'LVM-abc');
  t.equal(deviceIdentity(devices, 'md/0'), 'a:b:c:d');
  t.equal(deviceIdentity(devices, 'loop7'), '/srv/disk.img');
});

t.test('a device that says nothing, or nothing of use, has no identity', async (t) => {
  for (const name of ['vda', 'vda1', 'nvme1n1', 'sdb', '../../etc'])
    t.equal(deviceIdentity(devices, name), null, name);
});
