/** Which mount a file is in. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BlockDevices } from '../../../lib/native/sysfs/devices.js';
import { clearMount } from '../../../lib/native/sysfs/mountinfo.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';

const MOUNTINFO = `21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /mnt rw - xfs /dev/sda2 rw
23 21 8:3 / /a rw - ext4 /dev/sda3 rw
24 21 8:3 /sub /b rw - ext4 /dev/sda3 rw
25 21 0:50 / /c rw - overlay overlay rw,lowerdir=/a,upperdir=/b
`;

const root = mkdtempSync(join(tmpdir(), 'p2pdma-mounts-'));
t.teardown(() => rmSync(root, { recursive: true }));
mkdirSync(join(root, 'proc/self'), { recursive: true });
writeFileSync(join(root, 'proc/self/mountinfo'), MOUNTINFO);
const devices = new BlockDevices(new SysfsTree(root), new Map());

t.test('a filesystem that is mounted once is found by its number, whatever the path', async (t) => {
  t.equal(clearMount(devices.mounts(), '8:1')?.mountPoint, '/');
  t.equal(clearMount(devices.mounts(), '8:2')?.mountPoint, '/mnt');
  t.equal(clearMount(devices.mounts(), '8:2'), devices.mountOf('/mnt/file', '8:2'));
});

t.test('of one that is mounted twice, the path says which mount', async (t) => {
  t.equal(clearMount(devices.mounts(), '8:3'), null);
  t.equal(devices.mountOf('/a/file', '8:3')?.mountPoint, '/a');
  t.equal(devices.mountOf('/b/file', '8:3')?.mountPoint, '/b');
  t.equal(clearMount(devices.mounts(), '8:9'), null, 'none');
});

t.test('on overlayfs the path says which layer', async (t) => {
  t.equal(clearMount(devices.mounts(), '0:50'), null);
  t.equal(devices.mountOf('/c/file', '0:50')?.type, 'overlay');
});
