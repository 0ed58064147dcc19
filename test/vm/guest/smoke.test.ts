import t from 'tap';
import { copyInC, dmesg, guest, guestDrive, p2pmem, sh, witnessed, writePattern } from './guest.js';

const MIB = 2 ** 20;

t.test('the kernel took both CMBs as peer-to-peer memory', async (t) => {
  for (const drive of guest().drives) {
    t.equal(p2pmem(drive, 'size'), 16 * MIB);
    t.equal(p2pmem(drive, 'available'), 16646144, 'the driver keeps its submission queues there');
    t.equal(drive.published, true);
    t.equal(drive.cmb?.size, 16 * MIB);
  }
  t.equal(dmesg().filter((line) => /added peer-to-peer DMA memory/.test(line)).length, guest().drives.length);
});

t.test('copies from drive to drive', async (t) => {
  const [a, b] = [guestDrive('nvme0'), guestDrive('nvme1')];
  const [source, destination] = [a.disks[0]!, b.disks[0]!];
  const bytes = 2 * MIB;
  const rows = [
    { name: 'through the source’s CMB', provider: a, chunk: 65536 },
    { name: 'through the destination’s CMB', provider: b, chunk: 65536 },
    { name: 'in 4 KiB chunks', provider: a, chunk: 4096 },
    { name: 'in 1 MiB chunks', provider: a, chunk: MIB },
    { name: 'through host memory', provider: null, chunk: 65536 },
  ];
  for (const [seed, { name, provider, chunk }] of rows.entries()) {
    writePattern(source, bytes, seed + 1);
    const before = provider === null ? 0 : p2pmem(provider, 'available');
    const expect = { bytes, source: 'nvme0', destination: 'nvme1', provider: provider?.name ?? null };
    const memory = provider?.allocate ?? 'host';
    const copied = await witnessed(`copy ${name}`, expect, () =>
      copyInC(source, destination, memory, bytes, chunk),
    );
    t.match(copied, { errno: 0, bytes }, name);
    t.equal(sh(`cmp -n ${bytes} ${source} ${destination}`).status, 0, `${name}: data intact`);
    if (provider !== null)
      t.equal(p2pmem(provider, 'available'), before, `${name}: nothing kept of the pool`);
    t.comment(`note: ${name}: ${(copied.bytes / copied.seconds / MIB).toFixed(1)} MiB/s in this guest`);
  }
});
