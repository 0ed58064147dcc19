/**
 * What is stacked on drives, or is a filesystem on one: whether the kernel takes peer memory there, and whether what is
 * said before, and the receipt after, are true of it.
 */
import t, { type Test } from 'tap';
import { openSystem, type Receipt } from '../../../lib/index.js';
import { asked } from './command.js';
import { type GuestDrive, guest, guestDrive, Probe, sh, witnessed, writePattern } from './guest.js';

const MIB = 2 ** 20;
const [A, B, C] = ['nvme0', 'nvme1', 'nvme2'].map(guestDrive) as [GuestDrive, GuestDrive, GuestDrive];
const disk = (drive: GuestDrive) => drive.disks[0]!;
const OLD = !/^(7\.[2-9]|[89]\.)/.test(guest().release);
let seed = 100;

function run(command: string): void {
  const { status, text } = sh(command);
  if (status !== 0) throw new Error(`${command}: ${text}`);
}

/** The kernel refuses, explain and the dry run say so with the reason, and a copy goes through host memory. */
async function refuses(t: Test, device: string, reason: RegExp): Promise<void> {
  const probe = new Probe();
  await probe.all([`map 0 ${A.allocate} 65536 0 shared`, `open 0 ${device} rw,direct`]);
  t.equal(await probe.ask('pread 0 0 0 0 65536'), 'err 121', `${device}: EREMOTEIO to a read`);
  t.equal(await probe.ask('pwrite 0 0 0 0 65536'), 'err 121', `${device}: EREMOTEIO to a write`);
  await probe.end();
  const { clients } = await asked('explain', A.kernelName, device);
  for (const { refusal } of clients) t.match(refusal, reason, 'explain');
  const tried = await asked('explain', '--try', A.kernelName, device);
  for (const client of tried.clients) t.match(client.tried, { outcome: 'none' }, 'not tried');
  const range = ['--end', String(MIB - 1), '--force'];
  const planned = await asked('copy', disk(A), device, ...range, '--dry-run');
  t.match(JSON.stringify(planned), reason, 'dry run');
  t.match(JSON.stringify(planned), /"transport":"host-memory"/);
  writePattern(disk(A), MIB, seed++);
  t.match(await asked('copy', disk(A), device, ...range, '--verify'), {
    ...{ transport: 'host-memory', provider: null, reason, verified: true },
  });
  t.equal(sh(`cmp -n ${MIB} ${disk(A)} ${device}`).status, 0, `${device}: identical`);
}

t.test('dm-linear', async (t) => {
  run(
    `dmsetup create --noudevsync --noudevrules lin --table "0 65536 linear ${disk(C)} 0" && dmsetup mknodes`,
  );
  t.teardown(() => run('dmsetup remove --noudevsync --noudevrules lin'));
  await refuses(t, '/dev/mapper/lin', /device-mapper/);
});

t.test('dm-crypt', async (t) => {
  const table = `0 65536 crypt aes-xts-plain64 ${'0123456789abcdef'.repeat(4)} 0 ${disk(C)} 0`;
  run(`dmsetup create --noudevsync --noudevrules secret --table "${table}" && dmsetup mknodes`);
  t.teardown(() => run('dmsetup remove --noudevsync --noudevrules secret'));
  await refuses(t, '/dev/mapper/secret', /device-mapper/);
  t.not(sh(`cmp -n ${MIB} ${disk(A)} ${disk(C)}`).status, 0, 'below it is something else: enciphered');
});

t.test('loop over a drive', async (t) => {
  const loop = sh('losetup -f').text;
  run(`losetup ${loop} ${disk(C)}`);
  t.teardown(() => run(`losetup -d ${loop}`));
  await refuses(t, loop, /loop device/);
});

/** Two legs, no superblock, nothing to synchronise: the ioctls of `mdadm --build`, by sysfs. */
t.test('md raid1', async (t) => {
  const md = '/sys/block/md0/md';
  run('echo md0 > /sys/module/md_mod/parameters/new_array');
  t.teardown(() => run(`echo clear > ${md}/array_state`));
  for (const [file, value] of [
    ['metadata_version', 'none'],
    ['level', 'raid1'],
    ['raid_disks', '2'],
    ['component_size', '65536'],
  ]) {
    run(`echo ${value} > ${md}/${file}`);
  }
  for (const [i, drive] of [B, C].entries()) {
    const name = disk(drive).slice(5);
    run(`cat /sys/block/${name}/dev > ${md}/new_dev && echo 65536 > ${md}/dev-${name}/size`);
    run(`echo ${i} > ${md}/dev-${name}/slot`);
  }
  run(`echo none > ${md}/resync_start && echo active > ${md}/array_state`);
  if (OLD) await refuses(t, '/dev/md0', /md0 \(raid1\) is an md array.*Linux 7\.2/);
  t.equal(sh(`cmp -n ${MIB} ${disk(B)} ${disk(C)}`).status, 0, 'its legs are equal');
});

t.test('ext4, XFS and f2fs: direct', async (t) => {
  for (const [fs, make] of [
    ['ext4', 'mkfs.ext4 -q -F'],
    ['xfs', 'mkfs.xfs -q -f'],
    ['f2fs', 'mkfs.f2fs -q -f'],
  ] as const) {
    run(`mkdir -p /mnt/fs && ${make} ${disk(B)} && mount -t ${fs} ${disk(B)} /mnt/fs`);
    try {
      run('dd if=/dev/urandom of=/mnt/fs/file bs=1M count=1 2>/dev/null');
      run('sync; echo 3 > /proc/sys/vm/drop_caches');
      await using system = await openSystem({ backend: 'native' });
      const receipt: Receipt = await witnessed(
        `${fs} → disk`,
        ({ path, transport }) => ({
          ...{ bytes: MIB, source: B.name, destination: C.name, besides: 2 * MIB, path },
          provider: transport === 'p2p-bus' ? A.name : null,
        }),
        () => system.pipeline('/mnt/fs/file', disk(C), { end: MIB - 1, provider: A.bdf, force: true }),
      );
      t.equal(receipt.bytes, MIB, fs);
      t.match(
        receipt,
        { transport: 'p2p-bus', unproven: null },
        `${fs}: ${receipt.unproven ?? receipt.reason}`,
      );
      t.equal(sh(`cmp -n ${MIB} /mnt/fs/file ${disk(C)}`).status, 0, `${fs}: identical`);
    } finally {
      run('umount /mnt/fs');
    }
  }
});
