import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { EFAULT, EINVAL, ENODEV, ENOMEM } from '../../lib/base/errno.js';
import { FOLL_PCI_P2PDMA, newPageRange, pinUserPages, unpinUserPages } from '../../lib/kernel/gup.js';
import { isPciP2pdmaView, Mm } from '../../lib/kernel/memremap.js';
import {
  type P2pmemMapping,
  pciAllocP2pmem,
  pciFreeP2pmem,
  pciHasP2pmem,
  pciMmapP2pmem,
  pciP2pdmaAddResource,
  pciP2pdmaRelease,
  pciP2pmemAllocSgl,
  pciP2pmemAvailable,
  pciP2pmemFreeSgl,
  pciP2pmemPublish,
  pciP2pmemSize,
  pciP2pmemVirtToBus,
} from '../../lib/kernel/pci-p2pdma.js';
import { FakeHostMemory } from '../helpers/fake-host-memory.js';
import { INTEL, MiB, memoryBar, provide, switchMachine, TestBar } from '../helpers/pci-fixture.js';
import { fc } from '../helpers/random.js';

function mmap(mm: Mm, pdev: PciDev, length: number, offset = 0): P2pmemMapping {
  const mapping = pciMmapP2pmem(mm, pdev, { length, offset, shared: true });
  if (typeof mapping === 'number') throw new Error(`mmap: ${mapping}`);
  return mapping;
}

t.test('add_resource wants a memory BAR and a range inside it', async (t) => {
  const { a, machine } = switchMachine();
  const at = a.bars[2]!.cpuAddress;
  (a as { bars: unknown }).bars = [
    null,
    { ...memoryBar(1, 0x1000, 4096), kind: 'io' },
    memoryBar(2, at, 16 * MiB),
  ];
  const mm = new Mm(new FakeHostMemory());
  const add = (bar: number, size: number, offset: number) =>
    pciP2pdmaAddResource(mm, machine, a, { bar, size, offset }, new TestBar());
  for (const [bar, size, offset] of [
    [0, 0, 0],
    [1, 0, 0],
    [6, 0, 0],
    [2, 0, 16 * MiB],
    [2, 16 * MiB, 2 * MiB],
    [2, 17 * MiB, 0],
    [2, 2 * MiB, -1],
    [2, -1, 0],
    [2, 2 * MiB, 4096],
    [2, 4096, 0],
  ] as const) {
    t.equal(add(bar, size, offset), -EINVAL, `bar ${bar} size ${size} offset ${offset}`);
  }
  t.equal(pciP2pmemSize(a), 0);
  t.equal(add(2, 4 * MiB, 0), 0);
  t.equal(add(2, 4 * MiB, 2 * MiB), -ENOMEM, 'it overlaps the first');
  t.equal(add(2, 0, 8 * MiB), 0, 'size 0: the rest');
  t.equal(pciP2pmemSize(a), 12 * MiB);
  t.equal(pciP2pmemAvailable(a), 12 * MiB);
  t.equal(pciHasP2pmem(a), false, 'not published yet');
  pciP2pmemPublish(a, true);
  t.equal(pciHasP2pmem(a), true);
});

t.test('drivers allocate pages, and give them back once', async (t) => {
  const { machine, a } = switchMachine({ busOffset: -0x8_0000_0000 });
  const { mm } = provide(machine, a);
  t.equal(pciAllocP2pmem(a, 0), null);
  t.equal(pciAllocP2pmem(a, 17 * MiB), null);
  const first = pciAllocP2pmem(a, 1000)!;
  const second = pciAllocP2pmem(a, 8192)!;
  t.match(second, { offset: 4096, bar: 2, length: 8192, phys: a.bars[2]!.cpuAddress + 4096 });
  t.equal(pciP2pmemAvailable(a), 16 * MiB - 12288);
  t.equal(mm.pagemaps[0]!.refs, 2);
  t.equal(pciP2pmemVirtToBus(a, second.phys + 5), a.bars[2]!.busAddress + 4096 + 5);
  t.equal(pciP2pmemVirtToBus(a, 0x1000), 0);
  pciFreeP2pmem(a, first);
  t.throws(() => pciFreeP2pmem(a, first), /twice/);
  pciFreeP2pmem(a, second);
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
  t.equal(mm.pagemaps[0]!.refs, 0);
});

t.test('a list over peer memory', async (t) => {
  const { machine, a, b } = switchMachine();
  provide(machine, a);
  t.equal(pciP2pmemAllocSgl(b, 4096), null, 'no provider');
  t.equal(pciP2pmemAllocSgl(a, 17 * MiB), null);
  const { sgl, nents } = pciP2pmemAllocSgl(a, 5000)!;
  t.equal(nents, 1);
  t.match(sgl, { length: 5000, end: true, phys: a.bars[2]!.cpuAddress, pgmap: { provider: { bdf: a.bdf } } });
  t.equal(pciP2pmemAvailable(a), 16 * MiB - 8192);
  pciP2pmemFreeSgl(a, sgl);
  t.throws(() => pciP2pmemFreeSgl(a, sgl), /twice/);
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
});

t.test('mmap answers as a booted kernel does', async (t) => {
  const { machine, a, b } = switchMachine();
  const { mm, bar } = provide(machine, a);
  const ask = (pdev: PciDev, length: number, offset: number, shared: boolean) =>
    pciMmapP2pmem(mm, pdev, { length, offset, shared });
  t.equal(ask(a, MiB, 0, false), -EINVAL, 'private');
  t.equal(ask(a, MiB, 4096, true), -EINVAL, 'an offset');
  t.equal(ask(a, 0, 0, true), -EINVAL);
  t.equal(ask(a, 17 * MiB, 0, true), -ENOMEM);
  t.equal(ask(b, MiB, 0, true), -ENODEV, 'no provider');
  t.equal(bar.mapped, 0);
  pciP2pmemPublish(a, false);
  const mapping = mmap(mm, a, 1000);
  t.match(mapping, { bytes: 4096, provider: { bdf: a.bdf } }, 'published or not');
  t.equal(mapping.buffer.byteLength, 4096);
  t.equal(pciP2pmemAvailable(a), 16 * MiB - 4096);
  t.ok(isPciP2pdmaView(Buffer.from(mapping.buffer, 100, 10)));
  mapping.munmap();
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
  t.equal(mapping.buffer.byteLength, 0, 'detached');
});

t.test('VMA copies share the allocation; the last close frees it, once', async (t) => {
  const { machine, a } = switchMachine();
  const { mm, bar } = provide(machine, a);
  const first = mmap(mm, a, MiB);
  const copy = first.copy();
  t.equal(copy.buffer, first.buffer);
  t.equal(pciP2pmemAvailable(a), 15 * MiB);
  first.munmap();
  first.munmap();
  t.equal(copy.buffer.byteLength, MiB, 'the copy lives');
  t.throws(() => first.copy(), /closed/);
  const third = copy.copy();
  copy.munmap();
  t.equal(pciP2pmemAvailable(a), 15 * MiB);
  third.munmap();
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
  t.equal(bar.mapped, 0);
  t.equal(mm.pagemaps[0]!.refs, 0);
});

t.test('memory under an I/O is neither reused nor detached, and not pinned again', async (t) => {
  const { machine, a } = switchMachine();
  const { mm, bar } = provide(machine, a);
  const mapping = mmap(mm, a, 16 * MiB);
  const view = new Uint8Array(mapping.buffer, 4096, 8192);
  const pins = [newPageRange(), newPageRange()] as const;
  for (const pin of pins) t.equal(pinUserPages(mm, view, FOLL_PCI_P2PDMA, pin), 8192);
  t.equal(pins[0].phys, a.bars[2]!.cpuAddress + 4096);
  mapping.munmap();
  t.equal(view.byteLength, 8192, 'the device still writes there');
  t.equal(pciMmapP2pmem(mm, a, { length: 4096, offset: 0, shared: true }), -ENOMEM);
  t.equal(pinUserPages(mm, view, FOLL_PCI_P2PDMA, newPageRange()), -EFAULT, 'it is unmapped');
  unpinUserPages(mm, pins[0]);
  t.equal(pciP2pmemAvailable(a), 0);
  unpinUserPages(mm, pins[1]);
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
  t.equal(bar.mapped, 0);
  t.equal(view.byteLength, 0);
  mapping.munmap();
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
});

t.test('a provider that goes takes its mappings along, pinned ones when their I/O ends', async (t) => {
  const { machine, a } = switchMachine();
  const { mm, bar } = provide(machine, a);
  const idle = mmap(mm, a, MiB);
  const busy = mmap(mm, a, MiB);
  const block = pciAllocP2pmem(a, 4096)!;
  const pin = newPageRange();
  pinUserPages(mm, new Uint8Array(busy.buffer), FOLL_PCI_P2PDMA, pin);
  pciP2pdmaRelease(a);
  pciP2pdmaRelease(a);
  t.equal(pciHasP2pmem(a), false);
  t.equal(pciMmapP2pmem(mm, a, { length: 4096, offset: 0, shared: true }), -ENODEV);
  t.equal(pciAllocP2pmem(a, 4096), null);
  t.equal(idle.buffer.byteLength, 0);
  t.equal(busy.buffer.byteLength, MiB);
  t.equal(mm.pagemaps.length, 1, 'its range is not free yet');
  unpinUserPages(mm, pin);
  pciFreeP2pmem(a, block);
  t.equal(bar.mapped, 0);
  t.equal(mm.pagemaps.length, 0);
  idle.munmap();
  busy.munmap();
  t.equal(pciP2pdmaAddResource(mm, { cpu: INTEL }, a, { bar: 2 }, bar), 0, 'and may come back');
  t.equal(pciP2pmemAvailable(a), 16 * MiB);
});

t.test(
  'property: whatever the order of mmap, copy, pin, munmap and unpin, all memory comes back',
  async (t) => {
    const step = fc.record({
      op: fc.constantFrom('mmap', 'copy', 'pin', 'munmap', 'unpin'),
      at: fc.nat(),
      bytes: fc.integer({ min: 1, max: 3 * MiB }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const { machine, a } = switchMachine();
        const { mm, bar } = provide(machine, a);
        const open: P2pmemMapping[] = [];
        const pins: { range: ReturnType<typeof newPageRange>; buffer: ArrayBuffer }[] = [];
        for (const { op, at, bytes } of steps) {
          const mapping = open[at % Math.max(open.length, 1)];
          if (op === 'mmap') {
            const made = pciMmapP2pmem(mm, a, { length: bytes, offset: 0, shared: true });
            if (typeof made !== 'number') open.push(made);
            else if (made !== -ENOMEM) return false;
          } else if (op === 'copy' && mapping !== undefined) {
            open.push(mapping.copy());
          } else if (op === 'pin' && mapping !== undefined) {
            const range = newPageRange();
            if (pinUserPages(mm, new Uint8Array(mapping.buffer), FOLL_PCI_P2PDMA, range) < 0) return false;
            pins.push({ range, buffer: mapping.buffer });
          } else if (op === 'munmap' && mapping !== undefined) {
            open.splice(open.indexOf(mapping), 1);
            mapping.munmap();
          } else if (op === 'unpin' && pins.length > 0) {
            const [pin] = pins.splice(at % pins.length, 1);
            unpinUserPages(mm, pin!.range);
          }
          const held = new Set([...open.map((m) => m.buffer), ...pins.map((p) => p.buffer)]);
          const bytesHeld = [...held].reduce((sum, buffer) => sum + buffer.byteLength, 0);
          if (bytesHeld + pciP2pmemAvailable(a) !== 16 * MiB || bar.mapped !== held.size) return false;
        }
        for (const mapping of open) mapping.munmap();
        for (const { range } of pins) unpinUserPages(mm, range);
        return pciP2pmemAvailable(a) === 16 * MiB && bar.mapped === 0 && mm.pagemaps[0]!.refs === 0;
      }),
      { numRuns: 60 },
    );
    t.pass();
  },
);
