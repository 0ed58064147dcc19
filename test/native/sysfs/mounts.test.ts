/** Which mount a file is in. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BlockDevices } from '../../../lib/native/sysfs/devices.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';

const MOUNTINFO = `21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /mnt rw - xfs /dev/sda2 rw
23 21 8:3 / /a rw - ext4 /dev/sda3 rw
24 21 8:3 /sub /b rw - ext4 /dev/sda3 rw
`;

const root = mkdtempSync(join(tmpdir(), 'p2pdma-mounts-'));
t.teardown(() => rmSync(root, { recursive: true }));
mkdirSync(join(root, 'proc/self'), { recursive: true });
writeFileSync(join(root, 'proc/self/mountinfo'), MOUNTINFO);
const devices = new BlockDevices(new SysfsTree(root), new Map());

t.test('a filesystem that is mounted once is found by its number, whatever the path', async (t) => {
  t.equal(devices.onlyMountOf('8:1')?.mountPoint, '/');
  t.equal(devices.onlyMountOf('8:2')?.mountPoint, '/mnt');
  t.equal(devices.onlyMountOf('8:2'), devices.mountOf('/mnt/file', '8:2'));
});

t.test('of one that is mounted twice, the path says which mount', async (t) => {
  t.equal(devices.onlyMountOf('8:3'), null);
  t.equal(devices.mountOf('/a/file', '8:3')?.mountPoint, '/a');
  t.equal(devices.mountOf('/b/file', '8:3')?.mountPoint, '/b');
  t.equal(devices.onlyMountOf('8:9'), null, 'none');
});
