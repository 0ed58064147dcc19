import t from 'tap';
import { EINVAL, EIO, ENOMEM, EREMOTEIO } from '../../lib/base/errno.js';
import { iommuSetupDmaOps, iovasInUse, legacyIommuOps } from '../../lib/kernel/dma-iommu.js';
import {
  type Device,
  DMA_ATTR_P2PDMA,
  DMA_MAPPING_ERROR,
  type DmaMapOps,
  dmaAllocCoherent,
  dmaDefaultParms,
  dmaFreeCoherent,
  dmaGetMaxSegSize,
  dmaGetSegBoundary,
  dmaMapPhysSingle,
  dmaMapSgAttrs,
  dmaMapSgtable,
  dmaPciP2pdmaSupported,
  dmaSetMaxSegSize,
  dmaSetSegBoundary,
  dmaUnmapPhysSingle,
  dmaUnmapSgtable,
} from '../../lib/kernel/dma-mapping.js';
import { SgTable, sgAllocTable, sgSetPage } from '../../lib/kernel/scatterlist.js';
import { provide, switchMachine, TestIommu, testDevice } from '../helpers/pci-fixture.js';

function oneSegment(phys = 0x12345, length = 4096): SgTable {
  const table = new SgTable();
  sgAllocTable(table, 1);
  sgSetPage(table.sgl, phys, length, null);
  return table;
}

function setUp(ops?: DmaMapOps) {
  const { machine, a, b } = switchMachine();
  const { mm } = provide(machine, a);
  const iommu = new TestIommu();
  const dev = testDevice(b, iommu);
  iommuSetupDmaOps(dev, ops === undefined ? {} : { ops });
  return { dev, iommu, pgmap: mm.pagemaps[0]! };
}

t.test('P2PDMA is supported without dma_map_ops and by those that say so', async (t) => {
  const { b } = switchMachine();
  t.equal(dmaPciP2pdmaSupported(testDevice(b)), true, 'dma-direct');
  t.equal(dmaPciP2pdmaSupported(setUp().dev), true, 'dma-iommu');
  t.equal(dmaPciP2pdmaSupported(setUp(legacyIommuOps).dev), false, 'another IOMMU driver');
});

t.test('dma_map_sgtable gives an errno, dma_map_sg 0, on any failure', async (t) => {
  const answering = (answer: number): Device => {
    const dev = testDevice(null);
    dev.dmaOps = { ...legacyIommuOps, mapSg: () => answer };
    return dev;
  };
  for (const [answer, expected] of [
    [-EINVAL, -EINVAL],
    [-ENOMEM, -ENOMEM],
    [-EREMOTEIO, -EREMOTEIO],
    [-EIO, -EIO],
    [-1, -EIO],
    [0, -EIO],
  ] as const) {
    const table = oneSegment();
    t.equal(dmaMapSgtable(answering(answer), table, 'DMA_TO_DEVICE', 0), expected);
    t.equal(table.nents, 1, 'as it was');
    t.equal(dmaMapSgAttrs(answering(answer), table.sgl, 1, 'DMA_TO_DEVICE', 0), 0);
  }
  t.equal(dmaMapSgAttrs(testDevice(null), oneSegment().sgl, 1, 'DMA_TO_DEVICE', 0), 1);
  t.equal(dmaMapSgAttrs(testDevice(null), oneSegment().sgl, 0, 'DMA_TO_DEVICE', 0), 0);
  t.equal(dmaMapSgtable(testDevice(null), new SgTable(), 'DMA_TO_DEVICE', 0), -EINVAL, 'an empty table');
});

t.test(
  'an IOMMU driver without P2PDMA maps ordinary memory and refuses lists with peer memory',
  async (t) => {
    const { dev, iommu, pgmap } = setUp(legacyIommuOps);
    const table = new SgTable();
    sgAllocTable(table, 2);
    sgSetPage(table.sgl, 0x5000, 4096, null);
    sgSetPage(table.sgl.following!, pgmap.start, 4096, pgmap);
    t.equal(dmaMapSgtable(dev, table, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), -EREMOTEIO);
    t.equal(iovasInUse(dev), 0);
    const host = oneSegment();
    t.equal(dmaMapSgtable(dev, host, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), 0);
    t.equal(iommu.translate(host.sgl.dmaAddress), 0x12345);
    dmaUnmapSgtable(dev, host, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA);
    t.equal(iommu.pages.size, 0);

    const untranslated = testDevice(dev.pdev);
    untranslated.dmaOps = legacyIommuOps;
    t.equal(dmaMapSgtable(untranslated, table, 'DMA_TO_DEVICE', DMA_ATTR_P2PDMA), -EREMOTEIO);
    t.equal(dmaMapSgtable(untranslated, host, 'DMA_TO_DEVICE', 0), 0);
    t.equal(host.sgl.dmaAddress, 0x12345);
    dmaUnmapSgtable(untranslated, host, 'DMA_TO_DEVICE', 0);
    t.equal(dmaMapPhysSingle(untranslated, 0x777, 1, 'DMA_TO_DEVICE'), 0x777);
    dmaUnmapPhysSingle(untranslated, 0x777, 1, 'DMA_TO_DEVICE');
  },
);

t.test('coherent memory and single ranges, with and without an IOMMU', async (t) => {
  const direct = testDevice(null);
  const { dev, iommu } = setUp();
  for (const device of [direct, dev]) {
    const block = dmaAllocCoherent(device, 5000)!;
    t.equal(block.cpu.length, 5000);
    t.equal(device.memory.pages.allocated, 2);
    t.equal(
      device === dev ? iommu.translate(block.dmaHandle + 4096) : block.dmaHandle + 4096,
      block.phys + 4096,
    );
    const single = dmaMapPhysSingle(device, 0x12ff0, 32, 'DMA_TO_DEVICE');
    t.equal(single % 4096, 0xff0);
    if (device === dev) t.equal(iommu.translate(single + 16), 0x13000, 'both pages are mapped');
    dmaUnmapPhysSingle(device, single, 32, 'DMA_TO_DEVICE');
    dmaFreeCoherent(device, block);
    t.equal(device.memory.pages.allocated, 0);
  }
  t.equal(iommu.pages.size, 0);
  t.equal(iovasInUse(dev), 0);
});

t.test('a single mapping that fails leaves nothing', async (t) => {
  const { dev, iommu } = setUp();
  iommu.mapsLeft = 0;
  t.equal(dmaMapPhysSingle(dev, 0x1000, 4096, 'DMA_TO_DEVICE'), DMA_MAPPING_ERROR);
  t.equal(dmaAllocCoherent(dev, 4096), null);
  t.equal(iovasInUse(dev), 0);
  t.equal(dev.memory.pages.allocated, 0);
});

t.test('segment limits are the device’s', async (t) => {
  const dev: Device = { ...testDevice(null), dmaParms: dmaDefaultParms() };
  t.equal(dmaGetMaxSegSize(dev), 65536);
  t.equal(dmaGetSegBoundary(dev), 0xffffffff);
  dmaSetMaxSegSize(dev, 4096);
  dmaSetSegBoundary(dev, 0xffff);
  t.equal(dmaGetMaxSegSize(dev), 4096);
  t.equal(dmaGetSegBoundary(dev), 0xffff);
});
