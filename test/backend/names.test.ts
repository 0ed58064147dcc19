/** PCI addresses: one rule for every reader of them. */
import t from 'tap';
import { bdfId, isBdf, normalizeBdf, parseBdf, parseRootBus } from '../../lib/backend/names.js';

t.test('an address, with and without its domain', async (t) => {
  t.equal(normalizeBdf('03:00.0'), '0000:03:00.0');
  t.equal(normalizeBdf('0000:0A:1F.7'), '0000:0a:1f.7');
  t.same(parseBdf('0a:1f.7'), { domain: 0, bus: 0x0a, devfn: 0xff });
  t.same(parseBdf('0001:03:02.1'), { domain: 1, bus: 3, devfn: 0x11 });
  t.same(parseBdf('10000:E1:00.0'), { domain: 0x10000, bus: 0xe1, devfn: 0 }, 'a domain of VMD');
});

t.test('a bus has 32 devices of 8 functions', async (t) => {
  for (const wrong of ['03:20.0', '0000:03:ff.0', '03:00.8', '3:00.0', '000:03:00.0', '03:00', 'nvme0', '']) {
    t.equal(parseBdf(wrong), null, wrong);
    t.equal(normalizeBdf(wrong), wrong, `${wrong} is left as it is`);
    t.notOk(isBdf(wrong), wrong);
  }
  t.equal(normalizeBdf('NVMe0'), 'nvme0');
});

t.test('as the kernel writes it', async (t) => {
  t.ok(isBdf('0000:03:00.0'));
  t.ok(isBdf('10000:e1:00.0'));
  for (const other of ['03:00.0', '0000:0A:00.0', '0000:03:00.0 ', 'pci0000:00'])
    t.notOk(isBdf(other), other);
});

t.test('the order of addresses', async (t) => {
  const sorted = [
    '0000:00:00.0',
    '0000:00:00.1',
    '0000:00:01.0',
    '0000:01:00.0',
    '0001:00:00.0',
    '10000:00:00.0',
  ];
  const ids = sorted.map((bdf) => bdfId(parseBdf(bdf)!));
  t.same(ids, [0, 1, 8, 0x100, 0x10000, 0x1_0000_0000]);
});

t.test('root buses', async (t) => {
  t.same(parseRootBus('pci0000:00'), { domain: 0, bus: 0 });
  t.same(parseRootBus('pci10000:e0'), { domain: 0x10000, bus: 0xe0 });
  for (const other of ['0000:00', 'pci0000:00:01.0', 'pci000:00', 'pci0000:000'])
    t.equal(parseRootBus(other), null);
});
