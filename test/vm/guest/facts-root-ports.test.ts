/** Each drive on a root port of its own: q35's host bridge is not on the kernel's host bridge allow-list. */
import t from 'tap';
import { asked, p2pdma } from './command.js';
import { copyInC, dmesg, guestDrive, p2pmem, witnessed } from './guest.js';

const A = guestDrive('nvme0');
const B = guestDrive('nvme1');

t.test('no peer-to-peer between them: EREMOTEIO, and the kernel says why, once', async (t) => {
  const before = p2pmem(A, 'available');
  for (let i = 0; i < 2; i++) {
    const copied = copyInC(A.disks[0]!, B.disks[0]!, A.allocate!, 65536, 65536);
    t.match(copied, { errno: 121, call: 'pwrite' });
  }
  const lines = dmesg().filter(
    (line) =>
      /do not share an upstream bridge or whitelisted host bridge/.test(line) && line.includes(`(${A.bdf})`),
  );
  t.equal(lines.length, 1, lines[0] ?? 'no line');
  t.equal(p2pmem(A, 'available'), before);
});

t.test('explain --try asks, is refused, and changes nothing', async (t) => {
  const before = p2pmem(A, 'available');
  const { clients } = await asked('explain', '--try', A.kernelName, B.kernelName);
  t.match(clients[0], {
    mapType: 'NOT_SUPPORTED',
    rule: 'host-bridge-not-listed',
    tried: { outcome: 'refused', code: 'EREMOTEIO', answered: /^The kernel refused it: EREMOTEIO/ },
  });
  const own = await asked('explain', '--try', A.kernelName, A.kernelName);
  t.match(own.clients[0].tried, { outcome: 'works', code: null });
  t.match((await p2pdma('explain', '--try')).stdout, /tried: yes/);
  t.equal(p2pmem(A, 'available'), before, 'the page went back');
});

t.test('a drive and its own CMB', async (t) => {
  const expect = { bytes: 65536, source: 'nvme0', destination: null, provider: 'nvme0' };
  await witnessed('read into its own CMB', expect, () => {
    t.match(copyInC(A.disks[0]!, B.disks[0]!, A.allocate!, 65536, 65536), { errno: 121 });
  });
});

t.test('host memory', async (t) => {
  const expect = { bytes: 65536, source: 'nvme0', destination: 'nvme1', provider: null };
  await witnessed('copy through host memory', expect, () => {
    t.match(copyInC(A.disks[0]!, B.disks[0]!, 'host', 65536, 65536), { errno: 0 });
  });
});
