/** The way of data through the tree: the functions and links that it touches, each with the kind of way that it is. */
import { rootBusName } from '../backend/names.js';
import type { PciDev, Topology } from '../backend/topology.js';
import type { ClientVerdict } from '../explain/explain.js';

export { rootBusName as bridgeId };

/** How data goes over a link, best first. */
export const ROUTE_KINDS = ['bus', 'host-bridge', 'unknown', 'host-memory', 'refused'] as const;
export type RouteKind = (typeof ROUTE_KINDS)[number];

export const routeWords: Readonly<Record<RouteKind, string>> = {
  bus: 'peer-to-peer on the bus',
  'host-bridge': 'peer-to-peer through the host bridge',
  unknown: 'not known whether peer-to-peer: what decides could not be read',
  'host-memory': 'through host memory',
  refused: 'not supported: the kernel refuses it',
};

/** The CPU with its memory; the host bridges are below it. */
export const HOST_ID = 'host';

export interface RouteView {
  /** What is shown: `nvme0n1 → nvme1n1`. */
  readonly question: string;
  /** The worst of its legs. */
  readonly kind: RouteKind;
  readonly provider: string | null;
  readonly clients: readonly string[];
  /** As pci_p2pdma_distance_many() counts; −1: not supported; null: host memory. */
  readonly distance: number | null;
  readonly reason: string;
  readonly remedies: readonly string[];
  /** Further remarks. */
  readonly notes: readonly string[];
  /** By PCI address: provider, client, source, destination. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  /** By PCI address, rootBusName() or HOST_ID. */
  readonly nodes: ReadonlyMap<string, RouteKind>;
  /** The kind of the link from this node upwards. */
  readonly links: ReadonlyMap<string, RouteKind>;
}

export function legOf({ mapType, rule }: ClientVerdict): RouteKind {
  switch (mapType) {
    case 'NOT_SUPPORTED':
      return 'refused';
    case 'THRU_HOST_BRIDGE':
      return 'host-bridge';
    case 'UNKNOWN':
      return 'unknown';
    case 'BUS_ADDR':
      return rule === 'acs-unknown' ? 'unknown' : 'bus';
    default:
      return mapType satisfies never;
  }
}

export function worse(a: RouteKind, b: RouteKind | undefined): RouteKind {
  return b !== undefined && ROUTE_KINDS.indexOf(b) > ROUTE_KINDS.indexOf(a) ? b : a;
}

export class Roles {
  readonly byAddress = new Map<string, string[]>();

  add(bdf: string, role: string): void {
    const roles = this.byAddress.get(bdf) ?? [];
    if (!roles.includes(role)) this.byAddress.set(bdf, [...roles, role]);
  }
}

/** Functions and links of a route, collected from its legs. */
export class Marks {
  readonly nodes = new Map<string, RouteKind>();
  readonly links = new Map<string, RouteKind>();
  readonly #topology: Topology;

  constructor({ topology }: { readonly topology: Topology }) {
    this.#topology = topology;
  }

  /** Marks the path between a provider and one client, which meet at a common bridge, or above it. */
  leg(provider: string, client: ClientVerdict, kind: RouteKind): void {
    const [a, b] = [this.#chain(provider), this.#chain(client.bdf)];
    const common = a.find((dev) => b.includes(dev)) ?? null;
    const turnsBelow = client.mapType === 'BUS_ADDR' && common !== null;
    for (const way of [a, b]) {
      for (const dev of way) {
        mark(this.nodes, dev.bdf, kind);
        if (turnsBelow && dev === common) break;
        mark(this.links, dev.bdf, kind);
      }
    }
    const bridges = [...new Set([a, b].map((way) => rootBusName(way.at(-1)!.hostBridge)))];
    if (turnsBelow) return;
    for (const bridge of bridges) mark(this.nodes, bridge, kind);
    if (bridges.length === 1) return;
    for (const bridge of bridges) mark(this.links, bridge, kind);
    mark(this.nodes, HOST_ID, kind);
  }

  upToHost(drive: string): void {
    const way = this.#chain(drive);
    for (const dev of way) {
      mark(this.nodes, dev.bdf, 'host-memory');
      mark(this.links, dev.bdf, 'host-memory');
    }
    const bridge = rootBusName(way.at(-1)!.hostBridge);
    mark(this.nodes, bridge, 'host-memory');
    mark(this.links, bridge, 'host-memory');
    mark(this.nodes, HOST_ID, 'host-memory');
  }

  #chain(bdf: string): PciDev[] {
    const way: PciDev[] = [];
    for (let dev = this.#topology.find(bdf); dev !== null; dev = dev.upstream) way.push(dev);
    return way;
  }
}

function mark(map: Map<string, RouteKind>, id: string, kind: RouteKind): void {
  map.set(id, worse(kind, map.get(id)));
}
