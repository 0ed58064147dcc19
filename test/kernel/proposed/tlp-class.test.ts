/** The test tables that came with the patches (9 October 2026), and what they say of the fabric that they are of. */

import t from 'tap';
import type { PciDev } from '../../../lib/backend/topology.js';
import { calcMapTypeAndDist } from '../../../lib/kernel/pci-p2pdma.js';
import { walkDistance } from '../../../lib/kernel/pci-p2pdma-distance.js';
import { byHmat, type HmatAnswer } from '../../../lib/kernel/proposed/hmat.js';
import {
  type AcsReading,
  completionAt,
  mapTypesByClass,
  requestAt,
} from '../../../lib/kernel/proposed/tlp-class.js';
import { INTEL, TestMachine } from '../../helpers/pci-fixture.js';

const [TB, RR, CR, EC, DT] = [0x02, 0x04, 0x08, 0x20, 0x40];

t.test('a request at its port: 16 cases', async (t) => {
  for (const [control, translated, verdict] of [
    [0, false, 'direct'],
    [RR, false, 'redirect'],
    [CR, false, 'direct'],
    [RR | CR, false, 'redirect'],
    [EC, false, 'redirect'],
    [EC | CR, false, 'redirect'],
    [DT, false, 'direct'],
    [DT | RR, false, 'redirect'],
    [0, true, 'direct'],
    [RR, true, 'redirect'],
    [DT | RR, true, 'direct'],
    [DT | EC, true, 'direct'],
    [TB, false, 'direct'],
    [TB | RR, false, 'redirect'],
    [TB, true, 'blocked'],
    [TB | DT, true, 'blocked'],
  ] as const) {
    t.equal(
      requestAt(control, translated),
      verdict,
      `0x${control.toString(16)}${translated ? ' translated' : ''}`,
    );
  }
});

t.test('a completion at its port: 9 cases', async (t) => {
  for (const [control, relaxed, verdict] of [
    [0, false, 'direct'],
    [RR, false, 'direct'],
    [CR, false, 'redirect'],
    [RR | CR, false, 'redirect'],
    [EC, false, 'direct'],
    [EC | CR, false, 'redirect'],
    [0, true, 'direct'],
    [CR, true, 'direct'],
    [RR | CR, true, 'direct'],
  ] as const) {
    t.equal(completionAt(control, relaxed), verdict, `0x${control.toString(16)}${relaxed ? ' relaxed' : ''}`);
  }
});

/** Root port of a listed bridge, switch, two down ports, a nested switch and an endpoint below each. */
function fabric(listed = true) {
  const machine = new TestMachine(INTEL, listed ? '7.4' : '7.3.0');
  const bridge = machine.bridge();
  const root = machine.add(bridge, {
    ...{ bdf: '0000:00:00.0', type: 'root-port', vendor: listed ? 0x1ae0 : 0x1234, device: 1, acs: 0 },
  });
  const port = (above: PciDev, bdf: string, type: 'upstream-port' | 'downstream-port') =>
    machine.add(above, { bdf, type, acs: 0 });
  const up = port(root, '0000:01:00.0', 'upstream-port');
  const d0 = port(up, '0000:02:00.0', 'downstream-port');
  const d1 = port(up, '0000:02:01.0', 'downstream-port');
  const pLeaf = port(port(d0, '0000:03:00.0', 'upstream-port'), '0000:04:00.0', 'downstream-port');
  const cLeaf = port(port(d1, '0000:05:00.0', 'upstream-port'), '0000:06:00.0', 'downstream-port');
  const provider = machine.add(pLeaf, { bdf: '0000:07:00.0' });
  const client = machine.add(cLeaf, { bdf: '0000:08:00.0' });
  return { machine, root, up, d0, d1, pLeaf, cLeaf, provider, client };
}

type Port = 'root' | 'up' | 'd0' | 'd1' | 'pLeaf' | 'cLeaf';
const LETTERS = {
  PCI_P2PDMA_MAP_BUS_ADDR: 'bus',
  PCI_P2PDMA_MAP_THRU_HOST_BRIDGE: 'thru',
  PCI_P2PDMA_MAP_NOT_SUPPORTED: 'not',
  PCI_P2PDMA_MAP_UNKNOWN: '?',
} as const;

function verdicts(set: Partial<Record<Port, AcsReading>>, listed = true): string {
  const f = fabric(listed);
  const readings = new Map(Object.entries(set).map(([port, value]) => [f[port as Port], value] as const));
  const read = (dev: PciDev): AcsReading =>
    readings.has(dev) ? readings.get(dev)! : dev.acs === 'none' ? 0 : 0;
  return mapTypesByClass(f.machine, walkDistance(f.machine, f.provider, f.client), read)
    .map((type) => LETTERS[type])
    .join(' ');
}

t.test('the fabric: plain, translated, relaxed, both', async (t) => {
  for (const [what, set, verdict] of [
    ['nothing', {}, 'bus bus bus bus'],
    ['D1 RR', { d1: RR }, 'thru thru thru thru'],
    ['D0 CR', { d0: CR }, 'thru thru bus bus'],
    ['D1 EC', { d1: EC }, 'thru thru thru thru'],
    ['the reverse directions', { d0: RR | EC, d1: CR }, 'bus bus bus bus'],
    ['P-leaf CR', { pLeaf: CR }, 'bus bus bus bus'],
    ['C-leaf RR', { cLeaf: RR }, 'bus bus bus bus'],
    ['C-leaf TB', { cLeaf: TB }, 'bus not bus not'],
    ['D1 RR, DT', { d1: RR | DT }, 'thru bus thru bus'],
    ['D1 unreadable', { d1: 'unreadable' }, 'not not not not'],
    ['D0 unreadable', { d0: 'unreadable' }, 'not not not not'],
    ['C-leaf unreadable: on the way of translated ones', { cLeaf: 'unreadable' }, 'bus not bus not'],
    ['above the common bridge, and the way is not up', { root: TB | RR }, 'bus bus bus bus'],
    ['sent up to a port that blocks', { d1: RR, root: TB }, 'thru not thru not'],
    ['what whoever asks could not read', { d1: null }, '? ? ? ?'],
    ['not read, and only on the way', { cLeaf: null }, 'bus ? bus ?'],
  ] as const) {
    t.equal(verdicts(set), verdict, what);
  }
  t.equal(verdicts({ d1: RR }, false), 'not not not not', 'the host bridge is on no list');
});

t.test('today’s kernel says otherwise where the bits point the other way', async (t) => {
  for (const set of [{ d0: RR | EC, d1: CR }, { pLeaf: CR }, { cLeaf: RR }] as const) {
    const f = fabric();
    for (const [port, acs] of Object.entries(set)) Object.assign(f[port as Port], { acs });
    t.equal(
      calcMapTypeAndDist(f.machine, f.provider, f.client).mapType,
      'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
      JSON.stringify(set),
    );
    t.equal(
      mapTypesByClass(f.machine, walkDistance(f.machine, f.provider, f.client))[0],
      'PCI_P2PDMA_MAP_BUS_ADDR',
    );
  }
});

t.test('no port in between, no common bridge', async (t) => {
  const f = fabric();
  const own = mapTypesByClass(f.machine, walkDistance(f.machine, f.provider, f.provider));
  t.same(new Set(own), new Set(['PCI_P2PDMA_MAP_BUS_ADDR']), 'a function and its own memory');
  const below = mapTypesByClass(f.machine, walkDistance(f.machine, f.provider, f.d0));
  t.same(new Set(below), new Set(['PCI_P2PDMA_MAP_BUS_ADDR']), 'the client is the common bridge');
  const machine = new TestMachine(INTEL, '7.4');
  const bridge = machine.bridge();
  machine.add(bridge, { bdf: '0000:00:00.0', vendor: 0x1ae0 });
  const ports = ['0000:00:01.0', '0000:00:02.0'].map((bdf) =>
    machine.add(bridge, { bdf, type: 'root-port' }),
  );
  const [a, b] = ports.map((port, i) => machine.add(port, { bdf: `0000:0${i + 1}:00.0` }));
  const of = () => mapTypesByClass(machine, walkDistance(machine, a!, b!)).map((type) => LETTERS[type]);
  t.same(of(), ['thru', 'thru', 'thru', 'thru']);
  Object.assign(ports[1]!, { acs: TB });
  t.same(of(), ['thru', 'not', 'thru', 'not'], 'a root port that blocks translated requests');
  Object.assign(ports[1]!, { acs: 'unknown' });
  t.same(of(), ['thru', '?', 'thru', '?']);
});

t.test('HMAT: 9 cases, with how often it is asked', async (t) => {
  for (const [cpu, listed, client, provider, answer, passes, asked] of [
    [false, false, 11, 22, 'passes', true, 1],
    [false, false, 11, 22, 'no-entry', false, 1],
    [false, false, 11, 22, 'only-uio', false, 1],
    [false, false, null, 22, 'passes', false, 0],
    [false, false, 11, null, 'passes', false, 0],
    [true, false, 11, 22, 'no-entry', true, 1],
    [true, false, 11, 22, 'only-uio', false, 1],
    [false, true, 11, 22, 'no-entry', true, 1],
    [false, true, 11, 22, 'only-uio', false, 1],
  ] as const) {
    let lookups = 0;
    const ask = (initiator: number, target: number): HmatAnswer => {
      t.same([initiator, target], [client, provider], 'the client begins');
      lookups++;
      return answer;
    };
    t.equal(
      byHmat({ client, provider, ask }, () => cpu || listed),
      passes,
    );
    t.equal(lookups, asked);
  }
  t.equal(
    byHmat(null, () => null),
    null,
    'no HMAT was read, and the fallback does not know',
  );
});
