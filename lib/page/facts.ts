/**
 * A machine as a page carries it: plain JSON with everything that a verdict depends on, and nothing that tells whose machine
 * it is (no serial numbers, no mount points). `machineOf` makes a machine of it again, which lib/explain then examines as it
 * examines any other: the page has no rules of its own.
 *
 *     System ─▶ factsOf() ─▶ JSON in the page ─▶ machineOf(facts, changes) ─▶ explain()
 *
 * What drives and queues do may depend on the kernel (the CMB that it registers, the stack that takes peer memory). These
 * facts were gathered once for each release; releases that do not differ share them.
 */
import type { Backend, Controller, End, Origin, Place } from '../backend/backend.js';
import type { Evidence } from '../backend/evidence.js';
import { parseRelease } from '../backend/kernel-release.js';
import { bdfId, normalizeBdf, parseBdf } from '../backend/names.js';
import type { AcsControl, Bdf, HostBridge, IommuMode, PciDev, Topology } from '../backend/topology.js';
import type { Stacked } from '../explain/stacked.js';
import type { Seen } from './tree.js';

type FunctionFacts = Omit<PciDev, 'id' | 'devfn' | 'bars' | 'upstream' | 'hostBridge'> & {
  readonly upstream: Bdf | null;
  /** Index in `bridges`. */
  readonly bridge: number;
};

type ControllerFacts = Omit<Controller, 'pdev'> & { readonly bdf: Bdf | null };

type PlaceFacts = Pick<Place, 'kind' | 'layers' | 'noP2pReason' | 'unproven' | 'zones'> & {
  readonly clients: readonly Bdf[];
  readonly legs: { readonly of: string; readonly mirror: boolean; readonly clients: readonly Bdf[] } | null;
};

/** A machine under the kernel under which it was looked at. */
export interface MachineFacts {
  readonly cpu: Topology['cpu'];
  readonly iommu: IommuMode;
  readonly peerMemory: 'unknown' | null;
  readonly bridges: readonly { readonly domain: number; readonly bus: number; readonly first: Bdf | null }[];
  readonly functions: readonly FunctionFacts[];
  readonly controllers: readonly ControllerFacts[];
  /** Multipath heads and md arrays; what lies below them is in `places`. */
  readonly stacked: readonly Omit<Stacked, 'place'>[];
  /** By name: the namespaces, and what else was asked about; null: there is no such thing. */
  readonly places: Readonly<Record<string, PlaceFacts | null>>;
}

export interface PageFacts extends Origin {
  /** What the machine is called at the top of the page. */
  readonly name: string;
  readonly notice: string | null;
  readonly evidence: Evidence | null;
  /** The version of the package that wrote the page. */
  readonly version: string;
  /** The first is the kernel of the machine, or the one that was asked for. `machine` is an index in `machines`. */
  readonly kernels: readonly { readonly release: string | null; readonly machine: number }[];
  readonly machines: readonly MachineFacts[];
  /** What the page shows first. */
  readonly asked: { readonly provider: string | null; readonly clients: readonly string[] };
}

/** What somebody changed in the page. */
export interface Changes {
  /** Index in `kernels`. */
  readonly kernel: number;
  /** Null: as the machine has it. */
  readonly iommu: IommuMode | null;
  readonly acs: ReadonlyMap<Bdf, AcsControl>;
}

export const AS_IT_IS: Changes = { kernel: 0, iommu: null, acs: new Map() };

/** What a System tells: `locate` is its answer about one name. */
export interface Told extends Omit<Seen, 'notice'> {
  locate(name: string): Place | null;
}

export function factsOf(system: Told, asked: readonly string[] = []): MachineFacts {
  const { topology, controllers } = system;
  const names = controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => name));
  const isThere = (name: string) => controllers.some((one) => one.name === name) || topology.find(name);
  const stacked = system.stacked().map(({ place: _, ...device }) => device);
  const others = [...stacked.map(({ name }) => name), ...asked.filter((name) => !isThere(name))];
  return {
    cpu: topology.cpu,
    iommu: topology.iommu,
    peerMemory: topology.peerMemory ?? null,
    bridges: topology.hostBridges.map(({ domain, bus, firstDevice }) => ({
      domain,
      bus,
      first: firstDevice?.bdf ?? null,
    })),
    functions: topology.functions.map((dev) => functionFacts(dev, topology)),
    controllers: controllers.map(({ name, pdev, transport, model, namespaces, cmb }) => ({
      name,
      bdf: pdev?.bdf ?? null,
      transport,
      model,
      namespaces: namespaces.map(({ name, nsid, size, logicalBlockSize }) => ({
        name,
        nsid,
        size,
        logicalBlockSize,
      })),
      cmb,
    })),
    stacked,
    places: Object.fromEntries([...names, ...others].map((name) => [name, placeFacts(system.locate(name))])),
  };
}

function functionFacts(dev: PciDev, { hostBridges }: Topology): FunctionFacts {
  const { bdf, vendor, device, class: code, portType, upstream, wayUp, acs } = dev;
  const { numaNode, iommuGroup, p2pmem } = dev;
  return {
    bdf,
    vendor,
    device,
    class: code,
    portType,
    upstream: upstream?.bdf ?? null,
    ...(wayUp === undefined ? {} : { wayUp }),
    bridge: hostBridges.indexOf(dev.hostBridge),
    acs,
    numaNode,
    iommuGroup,
    p2pmem: p2pmem === null ? null : { ...numbersOf(p2pmem) },
  };
}

/** Backends have getters here. */
function numbersOf({ size, available, published }: NonNullable<PciDev['p2pmem']>) {
  return { size, available, published };
}

function placeFacts(place: Place | null): PlaceFacts | null {
  if (place === null) return null;
  const { kind, layers, clients, legs = null, noP2pReason, unproven, zones = null } = place;
  return {
    kind,
    layers,
    clients: clients.map(({ bdf }) => bdf),
    legs:
      legs === null
        ? null
        : { of: legs.of, mirror: legs.mirror, clients: legs.clients.map(({ bdf }) => bdf) },
    noP2pReason,
    unproven,
    zones,
  };
}

/** What `explain` examines. */
export type ExplainedMachine = Pick<Backend, 'topology' | 'controllers'> & {
  inspect(nameOrPath: string): Pick<End, 'place'>;
} & Seen;

/** The machine under another kernel, with other ACS settings or another IOMMU. */
export function machineOf(page: PageFacts, changes: Changes = AS_IT_IS): ExplainedMachine {
  const { release, machine } = page.kernels[changes.kernel]!;
  const facts = page.machines[machine]!;
  const { byName, bridges } = functionsOf(facts, changes.acs);
  const dev = (bdf: Bdf): PciDev => byName.get(bdf)!;
  const locate = (name: string): Place | null => {
    const place = Object.hasOwn(facts.places, name) ? facts.places[name]! : null;
    if (place === null) return null;
    const { clients, legs, ...rest } = place;
    return {
      ...rest,
      clients: clients.map(dev),
      legs: legs === null ? null : { ...legs, clients: legs.clients.map(dev) },
      inUse: null,
      partitions: [],
    };
  };
  return {
    notice: page.notice,
    topology: {
      cpu: facts.cpu,
      kernel: parseRelease(release),
      iommu: changes.iommu ?? facts.iommu,
      ...(facts.peerMemory === null ? {} : { peerMemory: facts.peerMemory }),
      hostBridges: bridges,
      functions: [...byName.values()],
      find: (bdf) => byName.get(normalizeBdf(bdf)) ?? null,
      unknowns: [],
    },
    controllers: facts.controllers.map(({ bdf, ...rest }) => ({
      ...rest,
      pdev: bdf === null ? null : dev(bdf),
    })),
    inspect: (name) => ({ place: locate(name) }),
    stacked: () => facts.stacked.map((device) => ({ ...device, place: locate(device.name)! })),
  };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function functionsOf(
  facts: MachineFacts,
  acs: ReadonlyMap<Bdf, AcsControl>,
): { readonly byName: ReadonlyMap<Bdf, PciDev>; readonly bridges: readonly HostBridge[] } {
  const bridges = facts.bridges.map(
    ({ domain, bus }): Writable<HostBridge> => ({ domain, bus, firstDevice: null }),
  );
  const byName = new Map<Bdf, Writable<PciDev>>();
  for (const { bridge, upstream: _, ...rest } of facts.functions) {
    const address = parseBdf(rest.bdf)!;
    byName.set(rest.bdf, {
      ...rest,
      id: bdfId(address),
      devfn: address.devfn,
      bars: [],
      upstream: null,
      hostBridge: bridges[bridge]!,
      acs: acs.get(rest.bdf) ?? rest.acs,
    });
  }
  for (const { bdf, upstream } of facts.functions) {
    if (upstream !== null) byName.get(bdf)!.upstream = byName.get(upstream)!;
  }
  for (const [i, { first }] of facts.bridges.entries()) {
    if (first !== null) bridges[i]!.firstDevice = byName.get(first) ?? null;
  }
  return { byName, bridges };
}
