import t from 'tap';
import { EFAULT, EHWPOISON, EINVAL, EOPNOTSUPP, EREMOTEIO } from '../../lib/base/errno.js';
import {
  FOLL_LONGTERM,
  FOLL_PCI_P2PDMA,
  FOLL_WRITE,
  newPageRange,
  pinUserPages,
  pinUserRange,
  unpinUserPages,
} from '../../lib/kernel/gup.js';
import { PMD_SIZE, PUD_SIZE } from '../../lib/kernel/huge_memory.js';
import { memoryFailure } from '../../lib/kernel/memory-failure.js';
import { Mm, memunmapPages, registerVma, unregisterVma } from '../../lib/kernel/memremap.js';
import { fakeCmb, fakePgmap } from '../helpers/fake-cmb.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';

function machine() {
  const memory = new FakeHostMemory();
  return { memory, mm: new Mm(memory), out: newPageRange() };
}

t.test('foreign memory has an address for as long as it is pinned', async (t) => {
  const { memory, mm, out } = machine();
  const view = Buffer.from(new ArrayBuffer(16384), 512, 8192);
  view.fill(7);
  t.equal(pinUserPages(mm, view, FOLL_WRITE, out), 8192);
  t.match(out, { length: 8192, pgmap: null });
  t.equal(out.phys % 4096, 512, 'its place in the page is kept');
  t.strictSame(memory.at(out.phys, 8192), new Uint8Array(view));
  t.equal(mm.pinned, 1);
  unpinUserPages(mm, out);
  unpinUserPages(mm, out);
  t.strictSame([mm.pinned, memory.pages.pinned, memory.calls], [0, 0, { pin: 1, unpin: 1 }]);
  t.throws(() => memory.at(out.phys, 1));
});

t.test('a part of a view is pinned, not the whole', async (t) => {
  const { memory, mm, out } = machine();
  const view = new Uint8Array(8192).fill(1);
  view[4096] = 42;
  t.equal(pinUserRange(mm, { view: view, start: 4096, length: 512 }, 0, out), 512);
  t.equal(memory.at(out.phys, 512)[0], 42);
  unpinUserPages(mm, out);
  t.equal(pinUserRange(mm, { view: view, start: 8000, length: 512 }, 0, out), -EFAULT, 'beyond its end');
});

t.test('P2P memory needs FOLL_PCI_P2PDMA', async (t) => {
  const { memory, mm, out } = machine();
  const { pgmap, bytes } = fakeCmb(mm);
  const chunk = bytes.subarray(8192, 12288);
  t.equal(pinUserPages(mm, chunk, FOLL_WRITE, out), -EREMOTEIO);
  t.match(out, { length: 0, pgmap: null, held: null });
  t.equal(pgmap.refs, 0);
  t.equal(pinUserPages(mm, chunk, FOLL_WRITE | FOLL_PCI_P2PDMA, out), 4096);
  t.match(out, { phys: pgmap.start + 8192, length: 4096 });
  t.equal(out.pgmap, pgmap);
  t.equal(pgmap.refs, 1);
  t.equal(memory.calls.pin, 0);
  unpinUserPages(mm, out);
  t.equal(pgmap.refs, 0);
});

t.test('P2P memory cannot be pinned for long', async (t) => {
  const { mm, out } = machine();
  const { pgmap, bytes } = fakeCmb(mm);
  t.equal(
    pinUserPages(mm, bytes, FOLL_LONGTERM | FOLL_WRITE, out),
    -EFAULT,
    'io_uring registering a fixed buffer',
  );
  t.equal(pinUserPages(mm, bytes, FOLL_LONGTERM, out), -EREMOTEIO);
  t.equal(
    pinUserPages(mm, bytes, FOLL_LONGTERM | FOLL_PCI_P2PDMA, out),
    -EINVAL,
    'the flags exclude each other',
  );
  t.strictSame([pgmap.refs, mm.pinned], [0, 0]);
});

t.test('ordinary memory can be pinned for long, fs-dax memory cannot', async (t) => {
  const { mm, out } = machine();
  t.equal(pinUserPages(mm, new Uint8Array(4096), FOLL_LONGTERM | FOLL_WRITE, out), 4096);
  unpinUserPages(mm, out);
  const dax = fakeCmb(mm, 0x90_0000_0000, 2 * 1024 * 1024, 'MEMORY_DEVICE_FS_DAX');
  t.equal(pinUserPages(mm, dax.bytes, FOLL_LONGTERM | FOLL_WRITE, out), -EOPNOTSUPP);
  t.equal(pinUserPages(mm, dax.bytes, FOLL_WRITE, out), dax.bytes.length);
  unpinUserPages(mm, out);
  t.strictSame([dax.pgmap.refs, mm.pinned], [0, 0]);
});

t.test('memory that is gone is EFAULT', async (t) => {
  const { mm, out } = machine();
  await t.test('a mmapped buffer that was detached', async (t) => {
    const { vma, bytes } = fakeCmb(mm, 0x80_0000_0000);
    structuredClone(vma.buffer, { transfer: [vma.buffer] });
    t.equal(pinUserPages(mm, bytes, FOLL_PCI_P2PDMA, out), -EFAULT);
  });
  await t.test('a mapping that was taken away does not pass for ordinary memory', async (t) => {
    const { vma, bytes } = fakeCmb(mm, 0x81_0000_0000);
    unregisterVma(vma.buffer);
    t.equal(pinUserPages(mm, bytes, FOLL_PCI_P2PDMA, out), -EFAULT);
    t.equal(pinUserPages(mm, bytes, 0, out), -EFAULT);
  });
  await t.test('a device that was removed', async (t) => {
    const { pgmap, bytes } = fakeCmb(mm, 0x82_0000_0000);
    memunmapPages(mm, pgmap);
    t.equal(pinUserPages(mm, bytes, FOLL_PCI_P2PDMA, out), -EFAULT);
  });
  await t.test('ordinary memory that was transferred', async (t) => {
    const view = new Uint8Array(4096);
    structuredClone(view.buffer, { transfer: [view.buffer] });
    t.equal(pinUserPages(mm, view, 0, out), -EFAULT);
    t.equal(pinUserRange(mm, { view: view, start: 0, length: 4096 }, 0, out), -EFAULT);
  });
  await t.test('a mapping whose pagemap the machine never heard of', async (t) => {
    const buffer = new ArrayBuffer(4096);
    registerVma({ buffer, phys: 0x83_0000_0000, length: 4096, pgmap: fakePgmap(0x83_0000_0000, 4096) });
    t.equal(pinUserPages(mm, new Uint8Array(buffer), FOLL_PCI_P2PDMA, out), -EFAULT);
  });
  await t.test('but an empty view is just empty', async (t) => {
    t.equal(pinUserPages(mm, new Uint8Array(0), 0, out), 0);
  });
  t.equal(mm.pinned, 0);
});

t.test('mmapped host memory keeps its address and needs no pin of HostMemory', async (t) => {
  const { memory, mm, out } = machine();
  const { phys, bytes } = memory.allocPages(8192);
  registerVma({ buffer: bytes.buffer as ArrayBuffer, phys, length: 8192, pgmap: null });
  t.equal(pinUserPages(mm, bytes.subarray(4096), FOLL_WRITE, out), 4096);
  t.equal(out.phys, phys + 4096);
  t.strictSame([memory.calls.pin, mm.pinned], [0, 1]);
  unpinUserPages(mm, out);
  t.equal(mm.pinned, 0);
});

t.test('munmap under an I/O can wait for the last pin', async (t) => {
  const { mm } = machine();
  const { vma, bytes } = fakeCmb(mm);
  const [a, b] = [newPageRange(), newPageRange()];
  pinUserPages(mm, bytes.subarray(0, 4096), FOLL_PCI_P2PDMA, a);
  pinUserPages(mm, bytes.subarray(4096, 8192), FOLL_PCI_P2PDMA, b);
  t.equal(vma.pins, 2);
  let freed = 0;
  vma.onUnpinned = () => freed++;
  unregisterVma(vma.buffer);
  unpinUserPages(mm, a);
  t.equal(freed, 0);
  unpinUserPages(mm, b);
  t.equal(freed, 1);
});

t.test('poisoned memory is EHWPOISON, and nothing stays pinned', async (t) => {
  const { memory, mm, out } = machine();
  const { phys, bytes } = memory.allocPages(16384);
  registerVma({ buffer: bytes.buffer as ArrayBuffer, phys, length: 16384, pgmap: null });
  t.equal(memoryFailure(mm, phys + 8192 + 17), 0);
  t.equal(pinUserPages(mm, bytes, 0, out), -EHWPOISON);
  t.equal(pinUserPages(mm, bytes.subarray(8192, 8193), 0, out), -EHWPOISON);
  t.equal(pinUserPages(mm, bytes.subarray(0, 8192), 0, out), 8192, 'the pages before it are fine');
  unpinUserPages(mm, out);

  const foreign = new Uint8Array(4096);
  const where = memory.pin(foreign);
  memoryFailure(mm, where);
  t.equal(pinUserPages(mm, foreign, 0, out), -EHWPOISON);
  memory.unpin(where);
  t.strictSame([mm.pinned, memory.pages.pinned], [0, 0]);

  const dax = fakeCmb(mm, 0x90_0000_0000, 2 * 1024 * 1024, 'MEMORY_DEVICE_FS_DAX');
  t.equal(memoryFailure(mm, dax.pgmap.start), 0);
  t.equal(pinUserPages(mm, dax.bytes, 0, out), -EHWPOISON);
  t.equal(dax.pgmap.refs, 0);
});

t.test('large ranges take one reference, whatever steps they are followed in', async (t) => {
  const { mm, out } = machine();
  const start = 0x80_0000_0000;
  const length = PUD_SIZE + 3 * PMD_SIZE;
  const pgmap = fakePgmap(start, length);
  mm.pagemaps.push(pgmap);
  const huge = { byteLength: length, byteOffset: 0, buffer: new ArrayBuffer(0) } as unknown as Uint8Array;
  registerVma({ buffer: huge.buffer as ArrayBuffer, phys: start, length, pgmap });
  for (const [from, bytes] of [
    [0, length],
    [4096, PUD_SIZE + PMD_SIZE],
    [PUD_SIZE - 512, PMD_SIZE * 2],
    [PMD_SIZE - 1, 2],
  ] as const) {
    t.equal(pinUserRange(mm, { view: huge, start: from, length: bytes }, FOLL_PCI_P2PDMA, out), bytes);
    t.equal(pgmap.refs, 1);
    t.equal(out.phys, start + from);
    unpinUserPages(mm, out);
    t.equal(pgmap.refs, 0);
    t.equal(pinUserRange(mm, { view: huge, start: from, length: bytes }, 0, out), -EREMOTEIO);
    t.equal(pgmap.refs, 0);
  }
});
