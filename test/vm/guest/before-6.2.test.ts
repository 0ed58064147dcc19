/** Before Linux 6.2 the kernel has peer-to-peer memory for its own drivers, and none for programs: what we say must be so. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import t from 'tap';
import { openSystem } from '../../../lib/index.js';
import { asked, p2pdma } from './command.js';
import { dmesg, guest, guestDrive, p2pmem, sh, writePattern } from './guest.js';

const MIB = 2 ** 20;
const TOO_OLD = /gives programs no peer-to-peer memory.*Linux 6\.2/s;

t.test('what the kernel has', async (t) => {
  t.match(release(), /^6\.1\./);
  t.ok(
    dmesg().some((line) => /added peer-to-peer DMA memory/.test(line)),
    'it registers the CMBs',
  );
  for (const drive of guest().drives) {
    t.equal(p2pmem(drive, 'size'), 16 * MIB);
    t.equal(
      existsSync(`${drive.sysfs}/p2pmem/allocate`),
      false,
      `${drive.name}: and no allocate to map it by`,
    );
  }
});

t.test('doctor says that it is too old', async (t) => {
  const { status, stdout } = await p2pdma('doctor');
  t.equal(status, 2, 'impossible here');
  t.match(stdout.replace(/\s+/g, ' '), TOO_OLD);
});

t.test('explain answers for the kernel’s drivers, and says so', async (t) => {
  const answer = await asked('explain', 'nvme0', 'nvme1');
  const [row] = Array.isArray(answer) ? answer : [answer.explanation ?? answer];
  t.match(JSON.stringify(row), /not-for-programs/);
});

t.test('list shows the memory', async (t) => {
  const { status, stdout } = await p2pdma('list');
  t.equal(status, 0);
  t.match(stdout, /16(\.0)? ?MiB/);
});

t.test('a copy goes through host memory, and says why', async (t) => {
  const [source, destination] = [guestDrive('nvme0').disks[0]!, guestDrive('nvme1').disks[0]!];
  writePattern(source, 2 * MIB, 5);
  const bytes = String(2 * MIB);
  const refused = await p2pdma('copy', source, destination, '--bytes', bytes, '--force', '--require-p2p');
  t.equal(refused.status, 1);
  t.match(refused.stderr.replace(/\s+/g, ' '), TOO_OLD);
  const copied = await p2pdma('copy', source, destination, '--bytes', bytes, '--force', '--verify', '--json');
  t.equal(copied.status, 0, copied.stderr);
  t.match(copied.stdout, /"transport":"host-memory"/);
  t.match(copied.stdout, TOO_OLD);
  t.equal(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0);
});

t.test('memory of a drive cannot be had', async (t) => {
  const system = await openSystem();
  t.throws(() => system.allocate('nvme0', 65536), { code: 'ENODEV', syscall: 'open' });
  await system.close();
});
