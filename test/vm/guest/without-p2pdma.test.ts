/** A kernel of a distribution's that is built without CONFIG_PCI_P2PDMA: what we say there must be so. */
import { existsSync } from 'node:fs';
import t from 'tap';
import { asked, p2pdma } from './command.js';
import { dmesg, guest, guestDrive, sh, writePattern } from './guest.js';

const MIB = 2 ** 20;

t.test('what the kernel has', async (t) => {
  t.notOk(dmesg().some((line) => /added peer-to-peer DMA memory/.test(line)));
  for (const drive of guest().drives) {
    t.notOk(existsSync(`${drive.sysfs}/p2pmem`), `${drive.name} has no p2pmem, though it has a CMB`);
  }
});

t.test('doctor says that it is impossible here, and that such kernels lack it', async (t) => {
  const { status, stdout } = await p2pdma('doctor');
  t.equal(status, 2);
  const said = stdout.replace(/\s+/g, ' ');
  t.match(
    said,
    /whether the kernel has CONFIG_PCI_P2PDMA is not known: .*kernels of Debian .* do not have it/,
  );
  t.notMatch(said, /no drive has a CMB/);
  t.match(said, /BAR 2 may be a CMB, whose registers a kernel without CONFIG_PCI_P2PDMA does not show/);
});

t.test('list shows the drives, and no memory that could be had', async (t) => {
  const { status, stdout } = await p2pdma('list');
  t.equal(status, 0);
  for (const { kernelName } of guest().drives) t.match(stdout, kernelName);
  t.notMatch(stdout, / free/);
  t.match(stdout, /16(\.0)? MiB, not published/);
});

t.test('explain answers for the kernel’s rules, and says that there is no memory', async (t) => {
  const answer = await asked('explain', 'nvme0', 'nvme1');
  const { notes } = answer.explanation ?? answer;
  t.ok(notes.length > 0);
});

t.test('a copy goes through host memory, and is whole', async (t) => {
  const [source, destination] = [guestDrive('nvme0').disks[0]!, guestDrive('nvme1').disks[0]!];
  writePattern(source, 2 * MIB, 5);
  const bytes = String(2 * MIB);
  const refused = await p2pdma('copy', source, destination, '--bytes', bytes, '--force', '--require-p2p');
  t.equal(refused.status, 1);
  const copied = await p2pdma('copy', source, destination, '--bytes', bytes, '--force', '--verify', '--json');
  t.equal(copied.status, 0, copied.stderr);
  t.match(copied.stdout, /"transport":"host-memory"/);
  t.equal(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0);
});
