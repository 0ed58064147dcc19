import diagnostics from 'node:diagnostics_channel';
import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { ENODEV } from '../../lib/base/errno.js';
import { TRACE_CHANNEL, type TraceEvent } from '../../lib/base/trace.js';
import {
  calcMapTypeAndDist,
  pciP2pdmaBusOffset,
  pciP2pdmaDistance,
  pciP2pdmaDistanceMany,
  pciP2pdmaEnableShow,
  pciP2pdmaEnableStore,
  pciP2pdmaMapType,
  pciP2pdmaRelease,
  pciP2pdmaShouldMapBus,
  pciP2pmemFind,
  pciP2pmemFindMany,
  pciP2pmemPublish,
} from '../../lib/kernel/pci-p2pdma.js';
import { INTEL, provide, switchMachine, TestMachine, testDevice, ZEN } from '../helpers/pci-fixture.js';

function traced(run: () => void): TraceEvent[] {
  const events: TraceEvent[] = [];
  const note = (event: unknown) => events.push(event as TraceEvent);
  diagnostics.subscribe(TRACE_CHANNEL, note);
  try {
    run();
  } finally {
    diagnostics.unsubscribe(TRACE_CHANNEL, note);
  }
  return events.filter((e) => e.layer === 'pci-p2pdma');
}

function pgmapOfProvider(mm: ReturnType<typeof provide>['mm'], pdev: PciDev) {
  return mm.pagemaps.find((p) => p.provider === pdev)!;
}

t.test('distance_many sums up, and is -1 as soon as one client cannot', async (t) => {
  const { machine, a, b, bridge } = switchMachine();
  t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, [a, b]), 4);
  t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, [b, b]), 8);
  t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, []), -1, 'no clients');
  t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, [a, null]), -1, 'a client that is no PCI function');
  t.equal(pciP2pdmaDistance({ cpu: INTEL }, a, null), -1);
  const far = machine.add(bridge, { bdf: '0000:00:05.0' });
  t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, [b, far]), -1);
  t.equal(pciP2pdmaDistanceMany({ cpu: ZEN }, a, [b, far]), 4 + 5);
  const blind = switchMachine({ acs: 'unknown' });
  t.equal(pciP2pdmaDistance({ cpu: INTEL }, blind.a, blind.b), 4, 'unknown ACS may be tried');
});

t.test('verbose names every obstacle, and the remedy', async (t) => {
  const { machine, a, b, bridge } = switchMachine({ acs: 0x1d });
  const far = machine.add(bridge, { bdf: '0000:00:05.0' });
  t.strictSame(
    traced(() => pciP2pdmaDistanceMany({ cpu: INTEL }, a, [b, far])),
    [],
  );
  const events = traced(() =>
    t.equal(pciP2pdmaDistanceMany({ cpu: INTEL }, a, [b, far], { verbose: true }), -1),
  );
  t.match(events, [
    { event: 'warn', client: b.bdf, remedy: /pci=disable_acs_redir=0000:02:00\.0;0000:02:01\.0/ },
    { event: 'warn', client: far.bdf, reason: /share no upstream bridge/ },
  ]);
});

t.test(
  'the first map of a pair computes and warns, later ones are cached until the provider goes',
  async (t) => {
    const { machine, a, b } = switchMachine({ acs: 0x1d });
    const { mm } = provide(machine, a);
    const pgmap = pgmapOfProvider(mm, a);
    const events = traced(() => {
      t.equal(pciP2pdmaMapType(pgmap, b), 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
      t.equal(pciP2pdmaMapType(pgmap, b), 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
    });
    t.equal(events.length, 1, 'one warning');
    t.equal(events[0]!.reason, calcMapTypeAndDist(machine, a, b).reason);

    (b as { upstream: PciDev | null }).upstream = a.upstream;
    (a.upstream as { acs: number }).acs = 0;
    t.equal(
      pciP2pdmaMapType(pgmap, b),
      'PCI_P2PDMA_MAP_NOT_SUPPORTED',
      'the cache, though the machine changed',
    );
    pciP2pdmaRelease(a);
    t.equal(pciP2pdmaMapType(pgmap, b), 'PCI_P2PDMA_MAP_NOT_SUPPORTED', 'a provider that is gone');
    provide(machine, a);
    t.equal(pciP2pdmaMapType(pgmap, b), 'PCI_P2PDMA_MAP_BUS_ADDR', 'a new provider, a new cache');
  },
);

t.test('the cache tells functions of different domains apart', async (t) => {
  const { machine, a, down1, bridge } = switchMachine();
  const { mm } = provide(machine, a);
  const near = machine.add(down1, { bdf: '0000:04:00.1' });
  const far = machine.add(bridge, { bdf: '0001:04:00.1' });
  const vmd = machine.add(bridge, { bdf: '10000:04:00.1' });
  t.equal(pciP2pdmaMapType(pgmapOfProvider(mm, a), near), 'PCI_P2PDMA_MAP_BUS_ADDR');
  t.equal(pciP2pdmaMapType(pgmapOfProvider(mm, a), far), 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
  t.equal(pciP2pdmaMapType(pgmapOfProvider(mm, a), vmd), 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
});

t.test('should_map_bus: 1 on the bus, 0 through the host bridge, -1 otherwise', async (t) => {
  const ask = (options: Parameters<typeof switchMachine>[0], pci = true) => {
    const { machine, a, b } = switchMachine(options);
    const { mm } = provide(machine, a);
    return pciP2pdmaShouldMapBus(testDevice(pci ? b : null), pgmapOfProvider(mm, a));
  };
  t.equal(ask({}), 1);
  t.equal(ask({ acs: 0x1d, cpu: ZEN }), 0);
  t.equal(ask({ acs: 0x1d, firstDevice: 0x2030 }), 0);
  t.equal(ask({ acs: 0x1d }), -1);
  t.equal(ask({ acs: 'unknown', cpu: ZEN }), -1, 'unknown is not mapped');
  t.equal(ask({}, false), -1, 'no PCI device');
  const { machine, a } = switchMachine({ busOffset: -0x1000_0000 });
  const { mm } = provide(machine, a);
  t.equal(pciP2pdmaBusOffset(pgmapOfProvider(mm, a)), -0x1000_0000);
});

t.test('find_many takes the nearest published provider', async (t) => {
  const { machine, a, b, bridge } = switchMachine();
  t.equal(pciP2pmemFind(machine, b), null, 'nobody provides');
  provide(machine, a, b);
  t.equal(pciP2pmemFind(machine, b), b);
  t.equal(pciP2pmemFindMany(machine, [a, a, b]), a, 'the smallest sum');
  pciP2pmemPublish(b, false);
  t.equal(pciP2pmemFind(machine, b), a, 'unpublished memory is not chosen');
  t.equal(pciP2pmemFindMany(machine, [b, null]), null);
  t.equal(pciP2pmemFindMany(machine, []), null);
  const far = machine.add(bridge, { bdf: '0000:00:05.0' });
  t.equal(pciP2pmemFindMany(machine, [b, far]), null);
  pciP2pdmaRelease(a);
  t.equal(pciP2pmemFind(machine, b), null);
});

t.test('find_many, of machines that another kernel runs, goes by what the topology says', async (t) => {
  const machine = new TestMachine();
  const root = machine.add(machine.bridge(), { bdf: '0000:00:01.0', type: 'root-port' });
  const p2pmem = { size: 4096, available: 4096, published: true };
  const a = machine.add(root, { bdf: '0000:01:00.0', p2pmem });
  const b = machine.add(root, { bdf: '0000:01:00.1', p2pmem: { ...p2pmem, published: false } });
  t.equal(pciP2pmemFind(machine, b), a);
});

t.test('equally near providers are chosen with the same probability', async (t) => {
  const { machine, a, down0 } = switchMachine();
  const bars = (i: number) => [
    null,
    null,
    { ...a.bars[2]!, cpuAddress: 2 ** 40 * i, busAddress: 2 ** 40 * i },
  ];
  const twins = [1, 2, 3, 4, 5].map((i) => machine.add(down0, { bdf: `0000:03:00.${i}`, bars: bars(i) }));
  provide(machine, ...twins);
  const picks = new Map<PciDev, number>();
  for (let i = 0; i < 1000; i++) {
    const pick = pciP2pmemFind(machine, a, () => i / 1000)!;
    picks.set(pick, (picks.get(pick) ?? 0) + 1);
  }
  t.strictSame(
    twins.map((twin) => picks.get(twin)),
    [200, 200, 200, 200, 200],
  );
  t.ok(twins.includes(pciP2pmemFind(machine, a)!), 'with the default generator too');
});

t.test('enable store and show, as the attribute’s text', async (t) => {
  const { machine, a, b } = switchMachine();
  provide(machine, a);
  const show = (text: string) => {
    const enable = pciP2pdmaEnableStore(text, machine);
    return typeof enable === 'number' ? enable : pciP2pdmaEnableShow(enable);
  };
  for (const text of ['0', '0\n', 'n', 'no', 'No', 'off', 'Off\n', 'N']) t.equal(show(text), '0\n', text);
  for (const text of ['1', '1\n', 'y', 'yes', 'YES', 'on', 'On\n']) t.equal(show(text), '1\n', text);
  t.equal(show('0000:03:00.0\n'), '0000:03:00.0\n');
  t.equal(show(b.bdf), -ENODEV, 'it has no peer memory');
  for (const text of [
    '0000:01:00.1',
    '0000:09:00.0\n',
    '00',
    '10',
    '1 ',
    '0x1',
    '',
    '\n',
    'o',
    'x',
    '2',
    '03:00.0',
  ]) {
    t.equal(show(text), -ENODEV, JSON.stringify(text));
  }
});
