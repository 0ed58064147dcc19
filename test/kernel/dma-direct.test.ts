import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { EINVAL, EREMOTEIO } from '../../lib/base/errno.js';
import { DMA_ATTR_P2PDMA, dmaMapSgtable, dmaUnmapSgtable } from '../../lib/kernel/dma-mapping.js';
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
import { provide, switchMachine, testDevice, ZEN } from '../helpers/pci-fixture.js';
import { fc } from '../helpers/random.js';

type Segment = readonly [phys: number, length: number, pgmap?: DevPagemap];

function table(segments: readonly Segment[], maxSingle = 128): SgTable {
  const sgt = new SgTable();
  sgAllocTable(sgt, segments.length, maxSingle);
  let sg: SgTable['sgl'] | null = sgt.sgl;
  for (const [phys, length, pgmap] of segments) {
    sgSetPage(sg!, phys, length, pgmap ?? null);
    sg = sgNext(sg!);
  }
  return sgt;
}

function dmaSide(sgt: SgTable): { address: number; length: number; bus: boolean }[] {
  const side = [];
  let sg: SgTable['sgl'] | null = sgt.sgl;
  for (let i = 0; i < sgt.nents && sg !== null; i++, sg = sgNext(sg)) {
    side.push({ address: sg.dmaAddress, length: sgDmaP2pdmaLen(sg), bus: sgDmaIsP2pdma(sg) });
  }
  return side;
}

function setUp(options: Parameters<typeof switchMachine>[0] = {}) {
  const { machine, a, b } = switchMachine(options);
  const { mm } = provide(machine, a);
  return { dev: testDevice(b), a, b, pgmap: mm.pagemaps[0]! };
}

t.test('a bus address is phys + bus offset, counted once, at any offset in the page', async (t) => {
  for (const busOffset of [0, -0x8_0000_0000, 0x7_1234_5000]) {
    const { dev, a, pgmap } = setUp({ busOffset });
    for (const offset of [0, 4, 512, 4095, 8192 + 12]) {
      const sgt = table([[pgmap.start + offset, 5000, pgmap]]);
      t.equal(dmaMapSgtable(dev, sgt, 'DMA_FROM_DEVICE', DMA_ATTR_P2PDMA), 0);
      t.strictSame(dmaSide(sgt), [{ address: a.bars[2]!.busAddress + offset, length: 5000, bus: true }]);
    }
  }
});

t.test('through the host bridge, peer memory is mapped as any memory', async (t) => {
  const { dev, pgmap } = setUp({ busOffset: -0x8_0000_0000, acs: 0x1d, cpu: ZEN });
  const sgt = table([[pgmap.start + 4, 4096, pgmap]]);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
  t.strictSame(dmaSide(sgt), [{ address: pgmap.start + 4, length: 4096, bus: false }]);
});

t.test('a list may mix peer and ordinary memory, and be chained', async (t) => {
  const { dev, pgmap } = setUp({ busOffset: 0x1000_0000 });
  const segments: Segment[] = [];
  for (let i = 0; i < 20; i++) {
    segments.push(i % 3 === 0 ? [pgmap.start + i * 4096 + i, 1000 + i, pgmap] : [0x5000 * i + i, 2000 + i]);
  }
  const sgt = table(segments, 4);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
  t.strictSame(
    dmaSide(sgt),
    segments.map(([phys, length, of]) => ({
      address: of ? phys + 0x1000_0000 : phys,
      length,
      bus: of !== undefined,
    })),
  );
});

t.test('peer memory that may not be mapped undoes the whole list', async (t) => {
  const refused = setUp({ acs: 0x1d });
  const allowed = setUp();
  for (const [what, { dev, pgmap }, attrs] of [
    ['not supported', refused, DMA_ATTR_P2PDMA],
    ['attribute missing', allowed, 0],
    ['no PCI device', { dev: testDevice(null), pgmap: allowed.pgmap }, DMA_ATTR_P2PDMA],
  ] as const) {
    const sgt = table([
      [0x1000, 4096],
      [pgmap.start, 4096, pgmap],
      [0x9000, 512],
    ]);
    t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', attrs), -EREMOTEIO, what);
    t.ok(
      dmaSide(sgt).every((s) => s.length === 0 && !s.bus),
      'nothing is mapped',
    );
  }
});

t.test('a segment of 2 GiB or more, or of nothing, is refused, not cut', async (t) => {
  const { dev, pgmap } = setUp();
  for (const length of [SG_DMA_P2PDMA, SG_DMA_P2PDMA + 4096, 2 ** 33, 0]) {
    for (const of of [pgmap, null]) {
      const sgt = table([
        [0x1000, 4096],
        [0x2000, 4096],
      ]);
      sgt.sgl.following!.length = length;
      sgt.sgl.following!.pgmap = of;
      t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), -EINVAL, `${length}`);
    }
  }
  const sgt = table([[pgmap.start, SG_DMA_P2PDMA - 1, pgmap]]);
  t.equal(dmaMapSgtable(dev, sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
  t.strictSame(dmaSide(sgt)[0]!.length, SG_DMA_P2PDMA - 1);
});

t.test('lists over the memory of two providers get each its own verdict', async (t) => {
  const { machine, a, b, bridge } = switchMachine();
  const bars = [null, null, { ...a.bars[2]!, cpuAddress: 2 ** 40, busAddress: 2 ** 40 }];
  const far: PciDev = machine.add(bridge, { bdf: '0000:00:09.0', bars });
  const { mm } = provide(machine, a, far);
  const of = (pdev: PciDev) => mm.pagemaps.find((p) => p.provider === pdev)!;
  const sgt = table([
    [of(a).start, 4096, of(a)],
    [of(far).start, 4096, of(far)],
  ]);
  t.equal(dmaMapSgtable(testDevice(b), sgt, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), -EREMOTEIO);
});

t.test('property: what was mapped and unmapped can be mapped again, and holds no pages', async (t) => {
  const { dev, pgmap } = setUp({ busOffset: -4096 * 7 });
  const segment = fc.record({
    peer: fc.boolean(),
    page: fc.nat({ max: 500 }),
    inPage: fc.nat({ max: 4095 }),
    length: fc.integer({ min: 1, max: 100000 }),
  });
  const sgt = new SgTable();
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 30 }), fc.boolean(), (list, withAttr) => {
      sgAllocTable(sgt, list.length, 8);
      let sg: SgTable['sgl'] | null = sgt.sgl;
      for (const s of list) {
        const base = s.peer ? pgmap.start : 0x10000;
        sgSetPage(sg!, base + s.page * 4096 + s.inPage, s.length, s.peer ? pgmap : null);
        sg = sgNext(sg!);
      }
      const fits = withAttr || !list.some((s) => s.peer);
      const result = dmaMapSgtable(dev, sgt, 'DMA_BIDIRECTIONAL', withAttr ? DMA_ATTR_P2PDMA : 0);
      if (result !== (fits ? 0 : -EREMOTEIO)) return false;
      if (fits) {
        const side = dmaSide(sgt);
        if (side.some((s, i) => s.length !== list[i]!.length || s.bus !== list[i]!.peer)) return false;
        dmaUnmapSgtable(dev, sgt, 'DMA_BIDIRECTIONAL', DMA_ATTR_P2PDMA);
      }
      const { pinned, allocated } = dev.memory.pages;
      return dmaSide(sgt).every((s) => s.length === 0) && pinned === 0 && allocated === 0 && pgmap.refs === 0;
    }),
  );
  t.pass();
});
