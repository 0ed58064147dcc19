/**
 * What a booted kernel answers on machine `switch`: drive A owns the CMB, B is the other drive. The emulator
 * must answer the same; these are the facts it is held to.
 */
import t from 'tap';
import { dmesg, guestDrive, Probe, p2pmem, sh } from './guest.js';

const A = guestDrive('nvme0');
const B = guestDrive('nvme1');
const [diskA, diskB] = [A.disks[0]!, B.disks[0]!];
const MIB = 2 ** 20;
const errno = { EIO: 5, ENOMEM: 12, EFAULT: 14, EBUSY: 16, ENODEV: 19, EINVAL: 22, EREMOTEIO: 121 } as const;
const err = (name: keyof typeof errno) => `err ${errno[name]}`;

/** Questions and what the kernel answers; a string alone is a question whose answer is `ok …`. */
type Row = string | readonly [question: string, answer: string];

function ask(
  name: string,
  rows: readonly Row[],
  after?: (t: { equal(is: unknown, should: unknown, what: string): boolean }) => void,
): void {
  t.test(name, async (t) => {
    const before = p2pmem(A, 'available');
    const probe = new Probe();
    for (const row of rows) {
      const [question, answer] = typeof row === 'string' ? [row, /^ok/] : row;
      t.match(await probe.ask(question), answer, `${question}`);
    }
    after?.(t);
    await probe.end();
    t.equal(p2pmem(A, 'available'), before, 'the pool is whole again');
  });
}

const map = `map 0 ${A.allocate} ${MIB} 0 shared`;
const openA = `open 0 ${diskA} rw,direct`;
const openB = `open 1 ${diskB} rw,direct`;

ask('a shared mapping takes exactly its pages of the pool', [map], (t) => {
  t.equal(p2pmem(A, 'available'), 16646144 - MIB, '1 MiB');
});
ask('1000 bytes take one page', [`map 0 ${A.allocate} 1000 0 shared`], (t) => {
  t.equal(p2pmem(A, 'available'), 16646144 - 4096, 'one page');
});
ask('a mapping that cannot be', [
  [`map 0 ${A.allocate} ${MIB} 0 private`, err('EINVAL')],
  [`map 0 ${A.allocate} ${MIB} 4096 shared`, err('EINVAL')],
  [`map 0 ${A.allocate} ${32 * MIB} 0 shared`, err('ENOMEM')],
  [`map 0 ${A.controller} ${MIB} 0 shared`, err('ENODEV')],
]);
ask('the pool runs dry, and is refilled by munmap', [
  `map 0 ${A.allocate} ${8 * MIB} 0 shared`,
  [`map 1 ${A.allocate} ${8 * MIB} 0 shared`, err('ENOMEM')],
  'unmap 0',
  `map 1 ${A.allocate} ${8 * MIB} 0 shared`,
]);
ask('A → CMB → B by O_DIRECT', [
  ...[map, openA, openB],
  'fill 0 0 65536 1',
  ['pwrite 0 0 0 0 65536', 'ok 65536'],
  'fill 0 0 65536 2',
  ['pread 0 0 0 0 65536', 'ok 65536'],
  ['check 0 0 65536 1', 'ok 0'],
  ['pwrite 1 0 0 0 65536', 'ok 65536'],
  'alloc 1 65536',
  ['pread 1 0 1 0 65536', 'ok 65536'],
  ['check 1 0 65536 1', 'ok 0'],
]);
ask('the same by passthrough ioctl', [
  ...[map, openA, openB],
  'fill 0 0 65536 3',
  ['iowrite 0 1 256 128 0 0 65536', 'ok 0'],
  'fill 0 0 65536 4',
  ['ioread 0 1 256 128 0 0 65536', 'ok 0'],
  ['check 0 0 65536 3', 'ok 0'],
  ['iowrite 1 1 256 128 0 0 65536', 'ok 0'],
  'alloc 1 65536',
  ['ioread 1 1 256 128 1 0 65536', 'ok 0'],
  ['check 1 0 65536 3', 'ok 0'],
]);
ask('the same by io_uring, plain and uring_cmd', [
  ...[map, openA, openB],
  'fill 0 0 65536 5',
  ['uring_write 0 0 0 0 65536', 'ok 65536'],
  'fill 0 0 65536 6',
  ['uring_read 0 0 0 0 65536', 'ok 65536'],
  ['check 0 0 65536 5', 'ok 0'],
  `open 2 ${A.chars[0]} rw`,
  `open 3 ${B.chars[0]} rw`,
  ['uring_cmd_read 2 1 0 128 0 0 65536', 'ok 0'],
  ['uring_cmd_write 3 1 0 128 0 0 65536', 'ok 0'],
  'alloc 1 65536',
  ['uring_cmd_read 3 1 0 128 1 0 65536', 'ok 0'],
  ['check 1 0 65536 5', 'ok 0'],
]);
ask('alignment', [
  ...[map, openB],
  ['pread 1 0 0 512 4096', 'ok 4096'],
  ['pread 1 0 0 4 4096', 'ok 4096'],
  ['pread 1 0 0 1 4096', err('EINVAL')],
  ['pread 1 0 0 0 100', err('EINVAL')],
  ['ioread 1 1 0 8 0 2 4096', 'ok 0'],
]);
t.test('queue/dma_alignment', async (t) => {
  t.equal(sh(`cat /sys/block/${diskB.slice(5)}/queue/dma_alignment`).text, '3');
});
ask('buffered reads and writes, by the CPU', [
  ...[map, `open 0 ${diskA} rw`, `open 1 ${diskB} rw`],
  'fill 0 0 10000 7',
  ['pwrite 1 4096 0 0 10000', 'ok 10000'],
  'fill 0 0 10000 8',
  ['pread 1 4096 0 0 10000', 'ok 10000'],
  ['check 0 0 10000 7', 'ok 0'],
]);
const mixed = '0 0 4096 1 0 4096 0 4096 4096';
ask('CMB and host memory in one I/O: B can, A the owner cannot', [
  ...[map, openA, openB, 'alloc 1 4096', 'fill 0 0 8192 9', 'fill 1 0 4096 10'],
  [`pwritev 1 0 ${mixed}`, 'ok 12288'],
  ['fill 0 0 4096 11', 'ok 0'],
  [`preadv 1 0 ${mixed}`, 'ok 12288'],
  ['check 1 0 4096 10', 'ok 0'],
  [`pwritev 0 0 ${mixed}`, err('EIO')],
  [`preadv 0 0 ${mixed}`, err('EIO')],
]);
ask('admin commands have no peer-to-peer', [
  ...[map, `open 0 ${A.controller} rw`],
  ['identify 0 0 0', err('EREMOTEIO')],
]);
ask('io_uring’s fixed buffers are long-term pins', [map, ['uring_register 0 0 65536', err('EFAULT')]]);

t.test('stacked devices refuse CMB memory', async (t) => {
  sh('dd if=/dev/zero of=/tmp/loop.img bs=1M count=4');
  const loop = sh('losetup -f').text;
  t.equal(sh(`losetup ${loop} /tmp/loop.img`).status, 0, loop);
  const table = `0 ${B.size / 512} linear ${diskB} 0`;
  const linear = sh(`dmsetup create --noudevsync --noudevrules lin --table "${table}" && dmsetup mknodes`);
  t.equal(linear.status, 0, `dm-linear over B ${linear.text}`);
  const probe = new Probe();
  t.match(await probe.ask(map), /^ok/);
  for (const disk of [loop, '/dev/mapper/lin']) {
    t.match(await probe.ask(`open 3 ${disk} rw,direct`), /^ok/, disk);
    t.equal(await probe.ask('pread 3 0 0 0 4096'), err('EREMOTEIO'), `read ${disk}`);
    t.equal(await probe.ask('pwrite 3 0 0 0 4096'), err('EREMOTEIO'), `write ${disk}`);
    t.match(await probe.ask('close 3'), /^ok/);
  }
  await probe.end();
  sh(`dmsetup remove --noudevsync --noudevrules lin; losetup -d ${loop}; rm /tmp/loop.img`);
});

for (const fs of ['ext4', 'xfs']) {
  t.test(`a file of ${fs} on B`, async (t) => {
    const file = `/mnt/${fs}.bin`;
    // mkfs.xfs wants 300 MB of a disk, so it is told to make a small one.
    const make = fs === 'xfs' ? `mkfs.xfs -q -f --unsupported ${diskB}` : `mkfs.ext4 -q -F ${diskB}`;
    const made = sh(`${make} && mount -t ${fs} ${diskB} /mnt`);
    t.equal(made.status, 0, `mkfs and mount ${made.text}`);
    const probe = new Probe();
    for (const question of [map, `open 3 ${file} rw,direct,creat`, 'fill 0 0 65536 12']) {
      t.match(await probe.ask(question), /^ok/, question);
    }
    t.equal(await probe.ask('pwrite 3 0 0 0 65536'), 'ok 65536');
    await probe.ask('fill 0 0 65536 13');
    t.equal(await probe.ask('pread 3 0 0 0 65536'), 'ok 65536');
    t.equal(await probe.ask('check 0 0 65536 12'), 'ok 0');
    t.equal(await probe.ask('pwrite 3 0 0 0 100'), err('EINVAL'), '100 bytes');
    t.equal(await probe.ask(`open 4 ${diskB} rw,excl`), err('EBUSY'), 'O_EXCL of a mounted drive');
    await probe.end();
    t.equal(sh('umount /mnt').status, 0);
  });
}

t.test('SIGKILL gives the pool back', async (t) => {
  const before = p2pmem(A, 'available');
  const probe = new Probe();
  t.match(await probe.ask(map), /^ok/);
  t.equal(p2pmem(A, 'available'), before - MIB);
  await probe.end('SIGKILL');
  t.equal(p2pmem(A, 'available'), before);
});

t.test('a drive removed while open', async (t) => {
  const before = p2pmem(A, 'available');
  const probe = new Probe();
  for (const question of [map, openB]) t.match(await probe.ask(question), /^ok/, question);
  t.equal(await probe.ask('pread 1 0 0 0 4096'), 'ok 4096');
  t.equal(sh(`echo 1 > ${B.sysfs}/remove`).status, 0);
  t.equal(await probe.ask('pread 1 0 0 0 4096'), 'ok 0', 'looks like the end of the file');
  t.comment(`note: write to a removed drive: ${await probe.ask('pwrite 1 0 0 0 4096')}`);
  await probe.end();
  t.equal(p2pmem(A, 'available'), before);
  t.equal(dmesg().filter((line) => /BUG:|WARNING:|Oops/.test(line)).length, 0, 'nothing broke in the kernel');
});
