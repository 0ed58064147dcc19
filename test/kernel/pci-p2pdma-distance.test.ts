import t from 'tap';
import type { Cpu } from '../../lib/backend/topology.js';
import {
  type AcsControl,
  PCI_ACS_CR,
  PCI_ACS_EC,
  PCI_ACS_RR,
  type PciDev,
} from '../../lib/backend/topology.js';
import { calcMapTypeAndDist, pciBridgeHasAcsRedir } from '../../lib/kernel/pci-p2pdma.js';
import { HOST_BRIDGES } from '../../lib/kernel/releases/host-bridges.js';
import { holds } from '../../lib/kernel/releases/rule.js';
import { MODEL } from '../../lib/kernel/releases/table.js';
import { INTEL, switchMachine, TestMachine, ZEN } from '../helpers/pci-fixture.js';
import { fc } from '../helpers/random.js';

/** Each drive below a root port of its own. */
function rootPorts(
  options: { cpu?: typeof INTEL; first?: number; second?: number; vendor?: number; two?: boolean } = {},
) {
  const machine = new TestMachine(options.cpu);
  const left = machine.bridge(0, 0);
  const vendor = options.vendor ?? 0x8086;
  machine.add(left, { bdf: '0000:00:00.0', vendor, device: options.first ?? 0x29c0 });
  let right = left;
  if (options.two) {
    right = machine.bridge(0, 0x80);
    machine.add(right, { bdf: '0000:80:00.0', vendor, device: options.second ?? options.first ?? 0x29c0 });
  }
  const p0 = machine.add(left, { bdf: '0000:00:01.0', type: 'root-port' });
  const p1 = machine.add(right, { bdf: options.two ? '0000:80:02.0' : '0000:00:02.0', type: 'root-port' });
  const a = machine.add(p0, { bdf: '0000:01:00.0' });
  const b = machine.add(p1, { bdf: options.two ? '0000:81:00.0' : '0000:02:00.0' });
  return { machine, a, b, p0, p1, left, right };
}

t.test('the distances that the kernel documents', async (t) => {
  const { machine, down0, a, b } = switchMachine();
  t.match(calcMapTypeAndDist(machine, a, a), {
    distance: 0,
    mapType: 'PCI_P2PDMA_MAP_BUS_ADDR',
    rule: 'same-function',
    remedy: null,
  });
  const twin = machine.add(down0, { bdf: '0000:03:00.1' });
  t.match(calcMapTypeAndDist(machine, a, twin), { distance: 2, mapType: 'PCI_P2PDMA_MAP_BUS_ADDR' });
  const verdict = calcMapTypeAndDist(machine, a, b);
  t.match(verdict, {
    distance: 4,
    mapType: 'PCI_P2PDMA_MAP_BUS_ADDR',
    rule: 'common-bridge',
    commonBridge: { bdf: '0000:01:00.0' },
    acsKnown: true,
    remedy: null,
  });
  t.strictSame(
    verdict.providerPath.map((f) => f.bdf),
    ['0000:03:00.0', '0000:02:00.0', '0000:01:00.0'],
  );
  t.strictSame(
    verdict.clientPath.map((f) => f.bdf),
    ['0000:04:00.0', '0000:02:01.0'],
  );
  t.match(verdict.reason, /0000:04:00\.0.*0000:03:00\.0.*0000:01:00\.0/);
  const apart = rootPorts();
  t.match(calcMapTypeAndDist(apart.machine, apart.a, apart.b), {
    distance: 4,
    commonBridge: null,
    mapType: 'PCI_P2PDMA_MAP_NOT_SUPPORTED',
    rule: 'host-bridge-not-listed',
    remedy: /PCIe switch/,
  });
});

t.test('each of the three ACS bits redirects, other bits do not', async (t) => {
  for (const bits of [PCI_ACS_RR, PCI_ACS_CR, PCI_ACS_EC, 0x1d, 0x7f]) {
    const { machine, a, b } = switchMachine({ acs: bits });
    const verdict = calcMapTypeAndDist(machine, a, b);
    t.match(verdict, { mapType: 'PCI_P2PDMA_MAP_NOT_SUPPORTED', acsKnown: true }, `${bits}`);
    t.strictSame(
      verdict.acs.map((f) => f.bdf),
      ['0000:02:00.0', '0000:02:01.0'],
    );
  }
  for (const bits of [0, 0x01, 0x02, 0x10, 0x40, 0x53]) {
    const { machine, a, b } = switchMachine({ acs: bits });
    t.match(calcMapTypeAndDist(machine, a, b), { mapType: 'PCI_P2PDMA_MAP_BUS_ADDR', acs: [] }, `${bits}`);
  }
});

t.test('the remedy for ACS is a kernel parameter that can be pasted, with its price', async (t) => {
  const { machine, a, b } = switchMachine({ acs: PCI_ACS_RR });
  const { remedy, reason } = calcMapTypeAndDist(machine, a, b);
  t.ok(remedy!.includes('"pci=disable_acs_redir=0000:02:00.0;0000:02:01.0"'), remedy!);
  t.match(remedy, /isolation/);
  t.match(reason, /ACS redirection in 0000:02:00\.0, 0000:02:01\.0/);
  const zen = switchMachine({ acs: PCI_ACS_RR, cpu: ZEN });
  t.match(calcMapTypeAndDist(zen.machine, zen.a, zen.b), {
    mapType: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
    rule: 'cpu-zen',
    distance: 4,
    remedy: /disable_acs_redir/,
  });
});

t.test('ACS that could not be read is said to be unknown, not clear', async (t) => {
  const blind = switchMachine({ acs: 'unknown' });
  const verdict = calcMapTypeAndDist(blind.machine, blind.a, blind.b);
  t.match(verdict, {
    mapType: 'PCI_P2PDMA_MAP_UNKNOWN',
    possible: ['PCI_P2PDMA_MAP_BUS_ADDR', 'PCI_P2PDMA_MAP_NOT_SUPPORTED'],
    acsKnown: false,
    acs: [],
    rule: 'acs-unknown',
    reason: /unknown/,
    remedy: /as root/,
  });
  t.strictSame(verdict.acsUnknown, [blind.down0, blind.down1]);
  const own = calcMapTypeAndDist(blind.machine, blind.down0, blind.down0);
  t.match(own, {
    rule: 'acs-unknown',
    reason: /and its own memory: the ACS settings of 0000:02:00\.0 could not/,
  });
  t.equal(pciBridgeHasAcsRedir(blind.down0), null);
  const listed = switchMachine({ acs: 'unknown', firstDevice: 0x09a2 });
  t.strictSame(calcMapTypeAndDist(listed.machine, listed.a, listed.b).possible, [
    'PCI_P2PDMA_MAP_BUS_ADDR',
    'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
  ]);

  const half = switchMachine({ acs: 'unknown' });
  const c = half.machine.add(half.up, { bdf: '0000:02:02.0', type: 'downstream-port', acs: PCI_ACS_RR });
  const d = half.machine.add(c, { bdf: '0000:05:00.0' });
  const known = calcMapTypeAndDist(half.machine, half.a, d);
  t.match(
    known,
    { mapType: 'PCI_P2PDMA_MAP_NOT_SUPPORTED', acsKnown: false },
    'one redirect known is enough',
  );
  t.match(known.remedy, /incomplete/);
});

t.test('ACS above the common bridge, and on it, counts as the kernel counts it', async (t) => {
  const machine = new TestMachine();
  const bridge = machine.bridge();
  const root = machine.add(bridge, { bdf: '0000:00:01.0', type: 'root-port', acs: 0x1d });
  const up = machine.add(root, { bdf: '0000:01:00.0', type: 'upstream-port' });
  const [x, y] = ['0000:02:00.0', '0000:02:01.0'].map((bdf) =>
    machine.add(machine.add(up, { bdf, type: 'downstream-port' }), { bdf: bdf.replace('02:0', '03:0') }),
  ) as [PciDev, PciDev];
  t.equal(calcMapTypeAndDist(machine, x, y).mapType, 'PCI_P2PDMA_MAP_BUS_ADDR', 'above: not on the way');
  const twin = machine.add(root, { bdf: '0000:01:00.1', type: 'endpoint' });
  t.strictSame(calcMapTypeAndDist(machine, twin, x).acs, [root], 'on the common bridge: once');
});

t.test('an AMD CPU from Zen on passes peer traffic; older ones and others do not', async (t) => {
  for (const [vendor, family, fine] of [
    ['AuthenticAMD', 0x17, true],
    ['AuthenticAMD', 0x1a, true],
    ['AuthenticAMD', 0x16, false],
    ['AuthenticAMD', null, false],
    ['HygonGenuine', 0x18, false],
    ['GenuineIntel', 0x17, false],
    [null, null, false],
  ] as const) {
    const { machine, a, b } = rootPorts({ cpu: { vendor, family } as typeof INTEL, two: true });
    const expected = fine ? 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE' : 'PCI_P2PDMA_MAP_NOT_SUPPORTED';
    t.equal(calcMapTypeAndDist(machine, a, b).mapType, expected, `${vendor} ${family}`);
  }
});

t.test('every listed host bridge, alone and as one of two', async (t) => {
  const known = HOST_BRIDGES.filter((row) => holds(row.rule, MODEL) === 'yes');
  t.equal(known.length, 10);
  for (const { vendor, device, sameHostBridge, why } of known) {
    t.ok(why.length > 10);
    const one = rootPorts({ vendor, first: device! });
    t.match(calcMapTypeAndDist(one.machine, one.a, one.b), {
      mapType: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
      rule: 'host-bridge-listed',
      remedy: null,
    });
    const two = rootPorts({ vendor, first: device!, two: true });
    t.match(
      calcMapTypeAndDist(two.machine, two.a, two.b),
      sameHostBridge
        ? { mapType: 'PCI_P2PDMA_MAP_NOT_SUPPORTED', rule: 'host-bridges-differ', remedy: /one host bridge/ }
        : { mapType: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE' },
    );
    const mixed = rootPorts({ vendor, first: device!, second: 0x1234, two: true });
    t.equal(calcMapTypeAndDist(mixed.machine, mixed.a, mixed.b).mapType, 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
    const other = rootPorts({ vendor: 0x1022, first: device! });
    t.equal(calcMapTypeAndDist(other.machine, other.a, other.b).mapType, 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
  }
});

t.test('a host bridge is told by its first device, if that is 00.0 or a root port', async (t) => {
  for (const [bdf, type, rule] of [
    ['0000:00:00.0', 'endpoint', 'host-bridge-listed'],
    ['0000:00:01.0', 'root-port', 'host-bridge-listed'],
    ['0000:00:01.0', 'root-complex-endpoint', 'host-bridge-unidentified'],
    ['0000:00:00.1', 'endpoint', 'host-bridge-unidentified'],
  ] as const) {
    const machine = new TestMachine();
    const bridge = machine.bridge();
    machine.add(bridge, { bdf, type, vendor: 0x8086, device: 0x2030 });
    const p0 = machine.add(bridge, { bdf: '0000:00:04.0', type: 'root-port' });
    const p1 = machine.add(bridge, { bdf: '0000:00:05.0', type: 'root-port' });
    const a = machine.add(p0, { bdf: '0000:01:00.0' });
    const b = machine.add(p1, { bdf: '0000:02:00.0' });
    t.equal(calcMapTypeAndDist(machine, a, b).rule, rule, `${bdf} ${type}`);
  }
  const bare = rootPorts();
  bare.left.firstDevice = null;
  t.match(calcMapTypeAndDist(bare.machine, bare.a, bare.b), { rule: 'host-bridge-unidentified' });
});

/*
 * The rules once more, as statements about sets. With A and B the sets of functions from provider and client up to
 * their roots, C = A ∩ B, and c the deepest member of C:
 *   the way is (A Δ B) ∪ {c}; the distance |A \ B| + |B \ A|.
 */
const SAME_ONLY = new Set(['8086:3c00', '8086:3c01', '8086:2f00', '8086:2f01']);
const ALWAYS = new Set(['8086:2030', '8086:2031', '8086:2032', '8086:2033', '8086:2020', '8086:09a2']);

function bySets(cpu: Cpu, p: PciDev, q: PciDev) {
  const up = (f: PciDev): PciDev[] => (f.upstream === null ? [f] : [...up(f.upstream), f]);
  const A = new Set(up(p));
  const B = new Set(up(q));
  const common = [...A].filter((f) => B.has(f));
  const apart = [...A, ...B].filter((f) => !(A.has(f) && B.has(f)));
  const deepest = common.sort((x, y) => up(y).length - up(x).length)[0];
  const way = deepest === undefined ? apart : [...apart, deepest];
  const redirecting = way.filter((f) => typeof f.acs === 'number' && (f.acs & 0b101100) > 0);
  const unread = way.filter((f) => f.acs === 'unknown');

  const zen = cpu.vendor === 'AuthenticAMD' && (cpu.family ?? 0) > 0x16;
  const ids = [...new Set([p.hostBridge, q.hostBridge])].map((h) => {
    const d = h.firstDevice;
    if (d === null || !(d.bdf.endsWith('00.0') || d.portType === 'root-port')) return 'nothing';
    return `${d.vendor.toString(16).padStart(4, '0')}:${d.device.toString(16).padStart(4, '0')}`;
  });
  const listed = ids.every((id) => ALWAYS.has(id)) || (ids.length === 1 && SAME_ONLY.has(ids[0]!));
  const refused = cpu.known === false ? 'PCI_P2PDMA_MAP_UNKNOWN' : 'PCI_P2PDMA_MAP_NOT_SUPPORTED';
  const up2 = zen || listed ? 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE' : refused;

  const mapType =
    deepest === undefined || redirecting.length > 0
      ? up2
      : unread.length > 0
        ? 'PCI_P2PDMA_MAP_UNKNOWN'
        : 'PCI_P2PDMA_MAP_BUS_ADDR';
  return { mapType, distance: apart.length, redirecting, unread, common: deepest ?? null };
}

const acs = fc.oneof(
  { weight: 6, arbitrary: fc.constant<AcsControl>('none') },
  { weight: 1, arbitrary: fc.constant<AcsControl>('unknown') },
  { weight: 2, arbitrary: fc.constantFrom<AcsControl>(0, 0x01, 0x10, 0x53, 0x04, 0x08, 0x20, 0x1d) },
);
const hostBridge = fc.record({
  vendor: fc.constantFrom(0x8086, 0x8086, 0x8086, 0x1022),
  device: fc.constantFrom(0x3c00, 0x2f01, 0x2030, 0x2020, 0x09a2, 0x29c0),
  first: fc.constantFrom('00.0', 'root-port', 'neither'),
});
const nodes = fc.array(
  fc.record({
    bridge: fc.boolean(),
    sibling: fc.boolean(),
    parent: fc.nat(),
    acs,
  }),
  { minLength: 2, maxLength: 20 },
);
const cpus = fc.constantFrom<Cpu>(...[INTEL, INTEL, ZEN, { vendor: 'AuthenticAMD', family: 0x15 }], {
  vendor: null,
  family: null,
  known: false,
});

t.test('property: verdicts on random machines agree with the rules stated as sets', async (t) => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(cpus, fc.array(hostBridge, { minLength: 1, maxLength: 3 }), nodes, (cpu, bridges, list) => {
      const machine = new TestMachine(cpu);
      const hosts = bridges.map((h, i) => {
        const bridge = machine.bridge(0, i * 0x40);
        const bus = (i * 0x40).toString(16).padStart(2, '0');
        const slot = h.first === '00.0' ? '00' : '01';
        const type = h.first === 'root-port' ? 'root-port' : 'root-complex-endpoint';
        machine.add(bridge, { bdf: `0000:${bus}:${slot}.0`, type, vendor: h.vendor, device: h.device });
        return bridge;
      });
      const made: { dev: PciDev; bridge: boolean; above: PciDev | (typeof hosts)[number] }[] = [];
      for (const [i, node] of list.entries()) {
        const above = [...hosts, ...made.filter((m) => m.bridge).map((m) => m.dev)];
        const last = made.at(-1);
        const parent = node.sibling && last !== undefined ? last.above : above[node.parent % above.length]!;
        const bdf = `0001:${i.toString(16).padStart(2, '0')}:02.0`;
        const type = node.bridge ? 'downstream-port' : 'endpoint';
        made.push({
          dev: machine.add(parent, { bdf, type, acs: node.acs }),
          bridge: node.bridge,
          above: parent,
        });
      }
      for (const { dev: p } of made) {
        for (const { dev: q } of made) {
          const verdict = calcMapTypeAndDist(machine, p, q);
          const truth = bySets(cpu, p, q);
          const same = (a: readonly PciDev[], b: readonly PciDev[]) =>
            a.length === b.length && a.every((f) => b.includes(f));
          if (
            verdict.mapType !== truth.mapType ||
            verdict.distance !== truth.distance ||
            verdict.commonBridge !== truth.common ||
            !same(verdict.acs, truth.redirecting) ||
            !same(verdict.acsUnknown, truth.unread) ||
            verdict.acsKnown !== (truth.unread.length === 0 || truth.common === null)
          ) {
            return false;
          }
          if (!verdict.reason.includes(p.bdf)) return false;
          if (verdict.possible.length > 1 !== (verdict.mapType === 'PCI_P2PDMA_MAP_UNKNOWN')) return false;
          if ((verdict.mapType === 'PCI_P2PDMA_MAP_NOT_SUPPORTED') > (verdict.remedy !== null)) return false;
          seen.set(verdict.rule, (seen.get(verdict.rule) ?? 0) + 1);
        }
      }
      return true;
    }),
    { numRuns: 400 },
  );
  t.equal(seen.size, 9, `every rule decided something: ${[...seen.keys()].join(', ')}`);
});
