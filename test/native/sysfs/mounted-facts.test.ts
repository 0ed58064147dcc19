/** What is remembered of a mounted filesystem: only what cannot change while it is mounted. */
import { rmSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { parseMountinfo } from '../../../lib/native/sysfs/mountinfo.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

function machine(test: Test) {
  const root = writeSysfsTree(test.testdir({}), twoDrivesBelowASwitch());
  const sysfs = readSysfs(root);
  const before = sysfs.devices.mounts();
  let mounts = before;
  sysfs.takeMountsFrom({ mounts: () => mounts, mountsThisTurn: () => mounts });
  const place = (name: string) => `${root}/${sysfs.devices.byName(name)!.dir.real.join('/')}`;
  return {
    ...{ root, sysfs, place },
    mountAgain: () => {
      mounts = before.map((mount) => ({ ...mount }));
    },
  };
}

t.test('of a disk everything but the limit of a transfer, until it is mounted anew', async (t) => {
  const { sysfs, place, mountAgain } = machine(t);
  const first = sysfs.blockInfo('/mnt/xfs/f');
  t.match(first, { client: { bdf: '0000:03:00.0' }, limits: { maxTransfer: 512 * 1024, maxSegments: 127 } });
  const queue = `${place('nvme0n1')}/queue`;
  writeFileSync(`${queue}/max_sectors_kb`, '64\n');
  writeFileSync(`${queue}/max_segments`, '5\n');
  t.match(sysfs.blockInfo('/mnt/xfs/g'), {
    limits: { maxTransfer: 64 * 1024, maxSegments: 127 },
    stack: first!.stack,
  });
  mountAgain();
  t.match(sysfs.blockInfo('/mnt/xfs/g'), { limits: { maxTransfer: 64 * 1024, maxSegments: 5 } });

  rmSync(queue, { recursive: true });
  t.match(sysfs.blockInfo('/mnt/xfs/g'), { limits: { maxSegments: 32 } }, 'the drive was removed');
});

t.test('nothing of what can change below a filesystem', async (t) => {
  const { root, sysfs, place } = machine(t);
  const [mount] = parseMountinfo('36 35 253:0 / /dm rw - ext4 /dev/mapper/vg-data rw\n');
  const number = sysfs.blockInfo('dm-0')!.number!;
  sysfs.takeMountsFrom({ mounts: () => mounts, mountsThisTurn: () => mounts });
  const mounts = [{ ...mount!, device: number }];
  t.match(sysfs.blockInfo('/dm/f'), { stack: ['dm-0', 'nvme0n1p1', 'nvme0n1'] });
  rmSync(`${place('dm-0')}/slaves`, { recursive: true });
  t.match(sysfs.blockInfo('/dm/f'), { stack: ['dm-0'] }, `the table of ${root} was replaced`);
});

t.test('a filesystem without a device has nothing that changes', async (t) => {
  const { sysfs } = machine(t);
  const first = sysfs.blockInfo('/tmp/f');
  t.match(first, { fileSystem: 'tmpfs', client: null });
  t.same(sysfs.blockInfo('/tmp/f'), first);
  sysfs.takeMountsFrom(null);
  t.same(sysfs.blockInfo('/tmp/f'), first, 'the same as when nothing is remembered');
});
