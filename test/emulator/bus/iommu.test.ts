import t from 'tap';
import { EmulatedIommu } from '../../../lib/emulator/bus/iommu.js';
import { EmulatedTopology } from '../../../lib/emulator/bus/topology.js';
import { presets } from '../../../lib/machine/presets.js';

const topology = new EmulatedTopology(presets.iommu);
const a = topology.find('03:00.0')!;
const b = topology.find('04:00.0')!;

t.test('translates what is mapped, for that function and direction only', async (t) => {
  const iommu = new EmulatedIommu();
  iommu.map(a, 0x10000, 0x5000000, 0x2000, true);
  iommu.map(a, 0x12000, 0x9000000, 0x1000, false);
  t.strictSame({ ...iommu.translate(a, 0x10800, 0x10000, true) }, { phys: 0x5000800, length: 0x1800 });
  t.equal(iommu.translate(a, 0x12000, 1, true), null, 'read-only');
  t.strictSame({ ...iommu.translate(a, 0x12fff, 9, false) }, { phys: 0x9000fff, length: 1 });
  t.equal(iommu.translate(a, 0x13000, 1, false), null);
  t.equal(iommu.translate(a, 0xffff, 1, false), null);
  t.equal(iommu.translate(b, 0x10000, 1, false), null, 'another domain');
  t.equal(iommu.mappings(), 2);
  iommu.unmap(a, 0x10000, 0x3000);
  t.equal(iommu.mappings(a), 0);
  t.equal(iommu.translate(a, 0x10000, 1, false), null);
});

t.test('what a driver stack must not do throws', async (t) => {
  const iommu = new EmulatedIommu();
  iommu.map(a, 0x10000, 0x5000000, 0x4000, true);
  t.throws(() => iommu.map(a, 0x13000, 0, 0x1000, true), /mapped already/);
  t.throws(() => iommu.map(a, 0x100, 0, 0x1000, true), /whole pages/);
  t.throws(() => iommu.unmap(a, 0x10000, 0x2000), /not what is mapped/);
  t.throws(() => iommu.unmap(a, 0x20000, 0x1000), /not what is mapped/);
  t.throws(() => iommu.unmap(b, 0x10000, 0x4000), /not what is mapped/);
  t.equal(iommu.mappings(), 1);
});

t.test('a function that was never attached is blocked, or passed through', async (t) => {
  const iommu = new EmulatedIommu('passthrough');
  t.strictSame({ ...iommu.translate(a, 0x5000, 16, true) }, { phys: 0x5000, length: 16 });
  iommu.map(a, 0x1000, 0x2000, 0x1000, true);
  t.equal(iommu.translate(a, 0x5000, 16, true), null, 'attached now');
  t.ok(iommu.translate(b, 0x5000, 16, true));
});
