import t from 'tap';
import { EINVAL, ENOMEM, EREMOTEIO } from '../../lib/base/errno.js';
import { iommuSetupDmaOps, iovasInUse } from '../../lib/kernel/dma-iommu.js';
import { DMA_ATTR_P2PDMA, dmaMapSgtable, dmaUnmapSgtable } from '../../lib/kernel/dma-mapping.js';
import { IovaDomain } from '../../lib/kernel/iova.js';
import type { DevPagemap } from '../../lib/kernel/memremap.js';
import {
  SG_DMA_P2PDMA,
  SgTable,
  sgAllocTable,
  sgDmaIsP2pdma,
  sgDmaP2pdmaLen,
  sgNext,
  sgSetPage,
} from '../../lib/kernel/scatterlist.js';
import { provide, switchMachine, TestIommu, testDevice, ZEN } from '../helpers/pci-fixture.js';
import { fc } from '../helpers/random.js';

type Segment = readonly [phys: number, length: number, pgmap?: DevPagemap];

function fill(sgt: SgTable, segments: readonly Segment[], maxSingle = 128): SgTable {
  sgAllocTable(sgt, segments.length, maxSingle);
  let sg: SgTable['sgl'] | null = sgt.sgl;
  for (const [phys, length, pgmap] of segments) {
    sgSetPage(sg!, phys, length, pgmap ?? null);
    sg = sgNext(sg!);
  }
  return sgt;
}

const table = (...segments: Segment[]) => fill(new SgTable(), segments);

function dmaSide(sgt: SgTable, nents = sgt.nents): { address: number; length: number; bus: boolean }[] {
  const side = [];
  let sg: SgTable['sgl'] | null = sgt.sgl;
  for (let i = 0; i < nents && sg !== null; i++, sg = sgNext(sg)) {
    side.push({ address: sg.dmaAddress, length: sgDmaP2pdmaLen(sg), bus: sgDmaIsP2pdma(sg) });
  }
  return side;
}

function setUp(options: Parameters<typeof switchMachine>[0] = {}) {
  const { machine, a, b } = switchMachine({ busOffset: -0x8_0000_0000, ...options });
  const { mm } = provide(machine, a);
  const iommu = new TestIommu();
  const dev = testDevice(b, iommu);
  iommuSetupDmaOps(dev, { functions: machine.functions });
  return { dev, iommu, a, b, pgmap: mm.pagemaps[0]! };
}

t.test('ordinary segments lie in one contiguous IOVA and merge where pages join', async (t) => {
  const { dev, iommu } = setUp();
  const sgt = table([0x10200, 4096 - 512], [0x30000, 8192], [0x50000, 100], [0x60010, 50]);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0), 0);
  const side = dmaSide(sgt);
  const iova = side[0]!.address - 0x200;
  t.strictSame(side, [
    { address: iova + 0x200, length: 0xe00 + 0x2000 + 100, bus: false },
    { address: iova + 0x4010, length: 50, bus: false },
  ]);
  t.equal(iommu.translate(iova + 0x200), 0x10200);
  t.equal(iommu.translate(iova + 0x1000), 0x30000);
  t.equal(iommu.translate(iova + 0x3000 + 99), 0x50063);
  t.equal(iommu.translate(iova + 0x4010), 0x60010);
  t.notOk(iommu.pages.get(iova)!.write, 'the device only reads');
  t.equal(iommu.pages.size, 5);
  t.equal(iovasInUse(dev), 1);
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);
  t.equal(iommu.pages.size, 0);
  t.equal(iovasInUse(dev), 0);
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);
  t.equal(iovasInUse(dev), 0);
});

t.test('bus-address segments take no IOVA, and nothing merges across or into them', async (t) => {
  const { dev, iommu, a, pgmap } = setUp();
  const bus = a.bars[2]!.busAddress;
  const sgt = table(
    [pgmap.start + 4, 4092, pgmap],
    [0x10000, 4096],
    [pgmap.start + 4096, 4096, pgmap],
    [pgmap.start + 8192, 4096, pgmap],
    [0x11000, 4096],
    [0x20000, 4096],
    [pgmap.start, 512, pgmap],
  );
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_FROM_DEVICE', DMA_ATTR_P2PDMA), 0);
  const side = dmaSide(sgt);
  const iova = side[1]!.address;
  t.strictSame(side, [
    { address: bus + 4, length: 4092, bus: true },
    { address: iova, length: 4096, bus: false },
    { address: bus + 4096, length: 4096, bus: true },
    { address: bus + 8192, length: 4096, bus: true },
    { address: iova + 4096, length: 8192, bus: false },
    { address: bus, length: 512, bus: true },
  ]);
  t.equal(dmaSide(sgt, 7)[6]!.length, 0, 'what is behind the last one is cleared');
  t.equal(iommu.pages.size, 3);
  t.ok([...iommu.pages.values()].every((page) => page.write));
  dmaUnmapSgtable(dev, sgt, 'DMA_FROM_DEVICE', DMA_ATTR_P2PDMA);
  t.equal(iommu.pages.size, 0);
  t.equal(iovasInUse(dev), 0);
});

t.test('a list of only bus addresses allocates no IOVA', async (t) => {
  const { dev, iommu, pgmap } = setUp();
  iommu.mapsLeft = 0;
  dev.iommuDomain = new IovaDomain({ aperture: [] });
  const sgt = table([pgmap.start, 65536, pgmap], [pgmap.start + 65536, 65536, pgmap]);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
  t.equal(sgt.nents, 2, 'unmerged, although they touch');
  t.equal(iovasInUse(dev), 0);
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA);
});

t.test('through the host bridge, peer memory gets an IOVA like any memory', async (t) => {
  const { dev, iommu, pgmap } = setUp({ acs: 0x1d, cpu: ZEN });
  const sgt = table([0x10000, 4096], [pgmap.start + 8192, 4096, pgmap]);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
  t.equal(sgt.nents, 1);
  t.notOk(sgDmaIsP2pdma(sgt.sgl));
  t.equal(iommu.translate(sgt.sgl.dmaAddress + 4096), pgmap.start + 8192);
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA);
  t.equal(iommu.pages.size, 0);
});

t.test('failures leave nothing behind', async (t) => {
  const refused = setUp({ acs: 0x1d });
  const ok = setUp();
  for (const [{ dev, pgmap }, attrs] of [
    [refused, DMA_ATTR_P2PDMA],
    [ok, 0],
  ] as const) {
    const sgt = table([0x1000, 4096], [pgmap.start, 4096, pgmap]);
    t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', attrs), -EREMOTEIO);
    t.ok(dmaSide(sgt, 2).every((s) => s.length === 0));
    t.equal(iovasInUse(dev), 0);
  }
  const { dev, iommu, pgmap } = ok;
  for (const mapsLeft of [0, 1, 2]) {
    iommu.mapsLeft = mapsLeft;
    const sgt = table([0x1000, 4096], [pgmap.start, 4096, pgmap], [0x4000, 8192], [0x9000, 1]);
    t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), -ENOMEM);
    t.equal(iommu.pages.size, 0);
    t.equal(iovasInUse(dev), 0);
    t.ok(dmaSide(sgt, 4).every((s) => s.length === 0 && !s.bus));
  }
  iommu.mapsLeft = Number.POSITIVE_INFINITY;
  dev.iommuDomain = new IovaDomain({ aperture: [{ start: 0x10000, length: 0x2000 }] });
  t.equal(dmaMapSgtable(dev, table([0x1000, 0x3000]), 'DMA_TO_DEVICE', 0), -ENOMEM, 'address space is out');
  for (const length of [SG_DMA_P2PDMA, 2 ** 32, 0]) {
    const sgt = table([0x1000, 4096], [0x2000, 4096]);
    sgt.sgl.following!.length = length;
    t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0), -EINVAL, `${length}`);
  }
  t.equal(iovasInUse(dev), 0);
});

t.test('segments merge up to the device’s limit, and never reach 2 GiB', async (t) => {
  const { dev } = setUp();
  dev.dmaParms.maxSegmentSize = 12288;
  const sgt = table([0x1000, 8192], [0x5000, 4096], [0x9000, 4096]);
  dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);
  t.strictSame(
    dmaSide(sgt).map((s) => s.length),
    [12288, 4096],
  );
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);

  dev.dmaParms.maxSegmentSize = 0xffffffff;
  const { iommu: _, ...quiet } = dev;
  const big = { ...quiet, iommu: { map() {}, unmap() {} } };
  const half = 2 ** 30;
  const huge = table([0x1000_0000, half], [2 ** 34, half], [2 ** 35, half]);
  t.equal(dmaMapSgtable(big, huge, 'DMA_TO_DEVICE', 0), 0);
  t.strictSame(
    dmaSide(huge).map((s) => s.length),
    [half, half, half],
    '1 + 1 GiB would touch the flag',
  );
});

t.test('no segment crosses the device’s boundary', async (t) => {
  const { dev, iommu } = setUp();
  dev.dmaParms.segmentBoundaryMask = 0x3fff;
  const sgt = table(
    [0x1000, 0x3000],
    [0x8000, 0x2000],
    [0x10000, 0x2000],
    [0x20000, 0x1000],
    [0x30000, 0x4000],
  );
  dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);
  for (const { address, length } of dmaSide(sgt)) {
    t.equal(Math.floor(address / 0x4000), Math.floor((address + length - 1) / 0x4000), `${length}`);
  }
  t.equal(iommu.pages.size, 3 + 2 + 2 + 1 + 4, 'padding maps no memory');
  dmaUnmapSgtable(dev, sgt, 'DMA_TO_DEVICE', 0);
  t.equal(iommu.pages.size, 0);
  t.equal(iovasInUse(dev), 0);
});

t.test('the bus addresses of peers’ BARs are not used as IOVA', async (t) => {
  const { machine, a, b } = switchMachine({ busOffset: 0xff00_0000 - 0x10_0000_0000 });
  const dev = testDevice(b, new TestIommu());
  iommuSetupDmaOps(dev, { functions: machine.functions });
  const bar = a.bars[2]!;
  for (let i = 0; i < 64; i++) {
    const iova = dev.iommuDomain!.alloc(0x100000);
    if (iova < bar.busAddress + bar.size && bar.busAddress < iova + 0x100000)
      t.fail(`0x${iova.toString(16)}`);
  }
  t.throws(() => iommuSetupDmaOps(testDevice(b)), /no IOMMU/);
});

const segment = fc.record({
  peer: fc.boolean(),
  page: fc.nat({ max: 1000 }),
  inPage: fc.constantFrom(0, 0, 0, 4, 512, 4095),
  length: fc.oneof(fc.constantFrom(4096, 8192, 65536), fc.integer({ min: 1, max: 40000 })),
});
const request = fc.record({
  segments: fc.array(segment, { minLength: 1, maxLength: 24 }),
  failAt: fc.option(fc.nat({ max: 12 }), { nil: Number.POSITIVE_INFINITY, freq: 4 }),
  attrs: fc.constantFrom(DMA_ATTR_P2PDMA, DMA_ATTR_P2PDMA, 0),
  unmapAt: fc.nat(),
});

t.test('property: any maps and unmaps say where each byte is, and leave the IOVA space empty', async (t) => {
  const limits = fc.record({
    max: fc.constantFrom(4096, 12288, 65536, 0xffffffff),
    boundary: fc.constantFrom(0xffff, 0xfffff, 0xffffffff),
    through: fc.boolean(),
  });
  fc.assert(
    fc.property(limits, fc.array(request, { maxLength: 12 }), ({ max, boundary, through }, requests) => {
      const { dev, iommu, pgmap } = setUp(through ? { acs: 0x1d, cpu: ZEN } : {});
      dev.dmaParms.maxSegmentSize = max;
      dev.dmaParms.segmentBoundaryMask = boundary;
      const live: SgTable[] = [];
      for (const { segments, failAt, attrs, unmapAt } of requests) {
        const list = segments.map(({ peer, page, inPage, length }): Segment => {
          const phys = (peer ? pgmap.start : 0x10_0000) + page * 4096 + inPage;
          return peer ? [phys, length, pgmap] : [phys, length];
        });
        const sgt = fill(new SgTable(), list, 8);
        const before = { pages: iommu.pages.size, iovas: iovasInUse(dev) };
        iommu.mapsLeft = failAt;
        const result = dmaMapSgtable(dev, sgt, 'DMA_FROM_DEVICE', attrs);
        iommu.mapsLeft = Number.POSITIVE_INFINITY;
        const translated = list.filter(([, , of]) => through || of === undefined);
        if (result !== 0) {
          const refused = attrs === 0 && segments.some((s) => s.peer);
          if (result !== (refused ? -EREMOTEIO : -ENOMEM)) return false;
          if (!refused && failAt >= translated.length) return false;
          if (iommu.pages.size !== before.pages || iovasInUse(dev) !== before.iovas) return false;
          continue;
        }
        if (iovasInUse(dev) - before.iovas !== (translated.length > 0 ? 1 : 0)) return false;

        // Byte by byte (at the ends of every run), the device must find what the CPU meant, in order.
        const side = dmaSide(sgt);
        const meant = list.map(([phys, length]) => ({ phys, length }));
        let at = { segment: 0, done: 0 };
        for (const { address, length, bus } of side) {
          if (length > max && !meant.some((m) => m.length === length)) return false;
          let done = 0;
          while (done < length) {
            const m = meant[at.segment];
            if (m === undefined) return false;
            const run = Math.min(m.length - at.done, length - done);
            for (const k of [0, Math.floor(run / 2), run - 1]) {
              const found = bus ? address + done + k + 0x8_0000_0000 : iommu.translate(address + done + k);
              if (found !== m.phys + at.done + k) return false;
            }
            done += run;
            at =
              at.done + run === m.length
                ? { segment: at.segment + 1, done: 0 }
                : { ...at, done: at.done + run };
          }
          const pagesNeeded = Math.ceil(((address % 4096) + length) / 4096) * 4096;
          const crosses =
            Math.floor(address / (boundary + 1)) !== Math.floor((address + length - 1) / (boundary + 1));
          if (!bus && crosses && pagesNeeded <= boundary + 1) return false;
        }
        if (at.segment !== meant.length) return false;
        live.push(sgt);
        if (unmapAt % 2 === 0) {
          const [gone] = live.splice(unmapAt % live.length, 1);
          dmaUnmapSgtable(dev, gone!, 'DMA_FROM_DEVICE', DMA_ATTR_P2PDMA);
        }
      }
      for (const sgt of live) dmaUnmapSgtable(dev, sgt, 'DMA_FROM_DEVICE', DMA_ATTR_P2PDMA);
      const { pinned, allocated } = dev.memory.pages;
      return iommu.pages.size === 0 && iovasInUse(dev) === 0 && pinned === 0 && allocated === 0;
    }),
    { numRuns: 300 },
  );
  t.pass();
});
