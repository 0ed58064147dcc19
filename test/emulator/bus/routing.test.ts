import t from 'tap';
import type { PciBar, PciDev } from '../../../lib/backend/topology.js';
import { buildFabric, type DmaWindow, PciFault } from '../../../lib/emulator/bus/fabric.js';
import { calcMapTypeAndDist } from '../../../lib/kernel/pci-p2pdma-distance.js';
import { type MachineInput, parseMachine } from '../../../lib/machine/machine.js';
import { fc } from '../../helpers/random.js';

/*
 * Random machines against a router that was written differently: it knows no tables, no climbing, no
 * windows but "some BAR is in this MiB", and looks for the one BAR that holds the address.
 */

type Fn = MachineInput['functions'][number];
const MiB = 2 ** 20;

/** A machine out of a tape of choices. */
function build(tape: readonly number[]): MachineInput {
  let i = 0;
  const choose = <T>(...of: readonly T[]): T => of[tape[i++ % tape.length]! % of.length]!;
  const functions: Fn[] = [];
  const hostBridges: { domain: number; bus: number; busOffset: number; peerRouting: boolean }[] = [];
  const acs = () => choose<Fn['acs']>('none', 'none', 'unknown', 0, 4, 8, 0x1d, 0x20);
  const hex = (n: number) => n.toString(16).padStart(2, '0');

  for (let domain = 0; domain < choose(1, 1, 2); domain++) {
    hostBridges.push({
      domain,
      bus: 0,
      busOffset: choose(0, 0, 2 ** 38, -0x1000000000),
      peerRouting: choose(true, false),
    });
    let nextBus = 1;
    const at = (bus: number, device: number, fn = 0) =>
      `${domain.toString(16).padStart(4, '0')}:${hex(bus)}:${hex(device)}.${fn}`;
    const bridge = (bdf: string, type: Fn['type'], upstream: string | null): string => {
      functions.push({ bdf, type, upstream, vendor: 1, device: 1, acs: acs() });
      return bdf;
    };
    const endpoints = (bus: number, upstream: string | null, first = 0) => {
      for (let fn = 0; fn < choose(1, 1, 2, 3); fn++) {
        const size = choose(4096, 65536, MiB, 2 * MiB);
        functions.push({
          bdf: at(bus, first, fn),
          type: upstream === null ? 'root-complex-endpoint' : 'endpoint',
          upstream,
          vendor: 1,
          device: 2,
          acs: acs(),
          bars: [
            { index: 2, size, prefetchable: true },
            ...choose([], [{ index: 0, size: 4096 }], [{ index: 4, kind: 'io' as const, size: 256 }]),
          ],
          p2pmem: { size, published: true, bar: 2 },
        });
      }
    };
    const below = (upstream: string, depth: number): void => {
      const bus = nextBus++;
      if (depth === 0 || choose(true, false)) {
        endpoints(bus, upstream);
        return;
      }
      const up = bridge(at(bus, 0), 'upstream-port', upstream);
      const inner = nextBus++;
      for (let d = 0; d < choose(1, 2, 3); d++) below(bridge(at(inner, d), 'downstream-port', up), depth - 1);
    };
    for (let p = 0; p < choose(1, 2, 3); p++) below(bridge(at(0, 1 + p), 'root-port', null), 2);
    if (choose(true, false)) endpoints(0, null, 8);
  }
  return { version: 1, name: 'random', hostBridges, functions };
}

interface Place {
  readonly owner: PciDev;
  readonly bar: PciBar;
}
type Expected = { readonly to: Place; readonly path: string } | 'fault' | 'dram';

const top = (f: PciDev): PciDev => (f.upstream === null ? f : top(f.upstream));
const chain = (f: PciDev): PciDev[] => (f.upstream === null ? [f] : [f, ...chain(f.upstream)]);
const flag = (f: PciDev, bit: number) => typeof f.acs === 'number' && Math.floor(f.acs / bit) % 2 === 1;
const peers = (f: PciDev) => (f.hostBridge as unknown as { peerRouting: boolean }).peerRouting;

function expected(
  places: readonly Place[],
  from: PciDev,
  address: number,
  direction: 'read' | 'write',
): Expected {
  const answers = (p: Place) => p.owner.p2pmem !== null && p.bar.index === 2;
  const inRootComplex = (): Expected => {
    const to = places.find((p) => address >= p.bar.cpuAddress && address < p.bar.cpuAddress + p.bar.size);
    if (to === undefined) return 'dram';
    return peers(from) && peers(to.owner) && answers(to) ? { to, path: 'hostBridge' } : 'fault';
  };
  const family = places.filter((p) => top(p.owner) === top(from) && from.upstream !== null);
  const own = places.find(
    (p) => p.owner === from && address >= p.bar.busAddress && address < p.bar.busAddress + p.bar.size,
  );
  if (own !== undefined) return answers(own) ? { to: own, path: 'internal' } : 'fault';

  // Whoever has a BAR in this MiB draws the TLP: everybody who does is on one bus.
  const mib = Math.floor(address / MiB);
  const near = family.filter(
    ({ bar }) =>
      Math.floor(bar.busAddress / MiB) <= mib && Math.floor((bar.busAddress + bar.size - 1) / MiB) >= mib,
  );
  const to = family.find((p) => address >= p.bar.busAddress && address < p.bar.busAddress + p.bar.size);
  if (to === undefined && near.length === 0) return inRootComplex();
  const [someone] = near;
  const mine = chain(from);
  const theirs = chain((to ?? someone!).owner);
  const meeting = mine.find((f, i) => i > 0 && theirs.includes(f))!;
  const ingress = mine[mine.indexOf(meeting) - 1]!;
  const egress = theirs[theirs.indexOf(meeting) - 1]!;
  if (to === undefined) {
    // Nobody's BAR, but somebody's window: lost there, unless redirected before it gets there.
    const crosses = ingress !== egress && egress !== someone!.owner;
    return crosses && (flag(ingress, 4) || flag(egress, 4)) ? inRootComplex() : 'fault';
  }
  if (flag(ingress, 4) || flag(egress, 4)) return inRootComplex();
  if (!answers(to)) return 'fault';
  if (direction === 'read' && (flag(ingress, 8) || flag(egress, 8))) {
    return peers(from) ? { to, path: 'hostBridge' } : 'fault';
  }
  return { to, path: 'peerBus' };
}

t.test('every address reaches exactly the place that the rules say, or faults', async (t) => {
  let reached = 0;
  let faulted = 0;
  fc.assert(
    fc.property(
      fc.array(fc.nat(5039), { minLength: 40, maxLength: 120 }),
      fc.array(
        fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.constantFrom(0, 0, 1, -1, 4096, -4096, MiB / 2, MiB)),
        {
          minLength: 30,
          maxLength: 30,
        },
      ),
      (tape, probes) => {
        const fabric = buildFabric(parseMachine(build(tape)));
        const { functions } = fabric.topology;
        const requesters = functions.filter((f) => f.bars[2] !== null);
        const places = functions.flatMap((owner) =>
          owner.bars
            .filter((bar) => bar !== null && bar.kind === 'memory')
            .map((bar) => ({ owner, bar: bar! })),
        );
        for (const [r, p, where, shift] of probes) {
          const from = requesters[r % requesters.length]!;
          const { bar } = places[p % places.length]!;
          const base = where % 2 === 0 ? bar.busAddress : bar.cpuAddress;
          const address = base + (where % 3 === 0 ? bar.size : where % bar.size) + shift;
          const direction = where % 5 < 2 ? 'read' : 'write';
          const wanted = expected(places, from, address, direction);
          const out: DmaWindow[] = [];
          try {
            fabric.resolve(from, address, 1, direction, out);
          } catch (error) {
            if (!(error instanceof PciFault)) throw error;
            if (wanted !== 'fault' && wanted !== 'dram')
              throw new Error(`fault instead of ${wanted.path}: ${error.message}`);
            faulted++;
            continue;
          }
          if (wanted === 'fault' || wanted === 'dram')
            throw new Error(`reached something instead of ${wanted}`);
          if (out.length !== 1 || out[0]!.path !== wanted.path)
            throw new Error(`${out[0]?.path} is not ${wanted.path}`);
          const { owner, bar: target } = wanted.to;
          const offset =
            address -
            (wanted.path === 'hostBridge' &&
            address - target.cpuAddress >= 0 &&
            address - target.cpuAddress < target.size
              ? target.cpuAddress
              : target.busAddress);
          out[0]!.bytes[0] = 77;
          if (fabric.barMemory(owner, 2)!.view(offset, 1)[0]![0] !== 77) throw new Error('another place');
          out[0]!.bytes[0] = 0;
          reached++;
        }
      },
    ),
    { numRuns: 300 },
  );
  t.ok(reached > 500, `${reached} reached`);
  t.ok(faulted > 500, `${faulted} faulted`);
});

t.test('a long DMA reaches what its bytes reach one by one', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5039), { minLength: 40, maxLength: 80 }),
      fc.nat(),
      fc.nat(),
      fc.integer({ min: 1, max: 64 }),
      (tape, r, p, pages) => {
        const fabric = buildFabric(parseMachine(build(tape)));
        const requesters = fabric.topology.functions.filter((f) => f.bars[2] !== null);
        const from = requesters[r % requesters.length]!;
        const bar = requesters[p % requesters.length]!.bars[2]!;
        const start = bar.busAddress + bar.size - Math.min(bar.size, 32 * 4096);
        const single = (addr: number): string | null => {
          const out: DmaWindow[] = [];
          try {
            fabric.resolve(from, addr, 1, 'write', out);
            return out[0]!.path;
          } catch {
            return null;
          }
        };
        const ways = Array.from({ length: pages }, (_, i) => single(start + i * 4096));
        const out: DmaWindow[] = [];
        try {
          fabric.resolve(from, start, pages * 4096, 'write', out);
        } catch {
          if (!ways.includes(null)) throw new Error('a fault, yet every page is reachable');
          return;
        }
        if (ways.includes(null)) throw new Error('no fault, yet a page is not reachable');
        const got = out.flatMap(({ bytes, path }) => Array.from({ length: bytes.length / 4096 }, () => path));
        if (got.join() !== ways.join()) throw new Error(`${got} instead of ${ways}`);
      },
    ),
    { numRuns: 100 },
  );
});

t.test('what the kernel predicts works on these wires', async (t) => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(fc.array(fc.nat(5039), { minLength: 40, maxLength: 120 }), (tape) => {
      const machine = build(tape);
      const clear = (acs: Fn['acs']) => (acs === 'unknown' ? 0 : (acs ?? 'none'));
      const fabric = buildFabric(
        parseMachine({
          ...machine,
          cpu: { vendor: 'AuthenticAMD', family: 0x19 },
          hostBridges: machine.hostBridges.map((bridge) => ({ ...bridge, peerRouting: true })),
          functions: machine.functions.map((f) => ({ ...f, acs: clear(f.acs) })),
        }),
      );
      const { functions } = fabric.topology;
      const memories = functions.filter((f) => f.p2pmem !== null);
      for (const provider of memories) {
        for (const client of memories) {
          const { mapType } = calcMapTypeAndDist(fabric.topology, provider, client);
          seen.set(mapType, (seen.get(mapType) ?? 0) + 1);
          const { busAddress, cpuAddress } = provider.bars[2]!;
          for (const direction of ['read', 'write'] as const) {
            const out: DmaWindow[] = [];
            if (mapType === 'PCI_P2PDMA_MAP_BUS_ADDR') {
              fabric.resolve(client, busAddress, 4096, direction, out);
              const path = client === provider ? 'internal' : 'peerBus';
              if (out[0]!.path !== path) throw new Error(`${out[0]!.path} is not ${path}`);
            } else {
              fabric.resolve(client, cpuAddress, 4096, direction, out);
              if (busAddress !== cpuAddress && out[0]!.path !== 'hostBridge') throw new Error(out[0]!.path);
            }
          }
        }
      }
    }),
    { numRuns: 100 },
  );
  t.ok((seen.get('PCI_P2PDMA_MAP_BUS_ADDR') ?? 0) > 50);
  t.ok((seen.get('PCI_P2PDMA_MAP_THRU_HOST_BRIDGE') ?? 0) > 50);
});
