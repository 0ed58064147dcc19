/**
 * The route that a picture of the tree shows: the functions that it touches, the links that it uses, and the reasons.
 *
 *     --route nvme0 nvme1          a provider's memory and its clients: the kernel's verdict, nothing is opened
 *     --route nvme0n1 nvme1n1      a source and its destinations: what a copy would do
 */

import { didYouMean } from '../../base/nearest.js';
import { hex } from '../../base/words.js';
import type { ClientVerdict, Explanation, HostBridge, PciDev, System } from '../../index.js';
import { CommandError } from '../errors.js';

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

export function bridgeId({ domain, bus }: HostBridge): string {
  return `${hex(domain, 4)}:${hex(bus, 2)}`;
}

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
  /** By PCI address, bridgeId() or HOST_ID. */
  readonly nodes: ReadonlyMap<string, RouteKind>;
  /** The kind of the link from this node upwards. */
  readonly links: ReadonlyMap<string, RouteKind>;
}

/** @throws P2pdmaError, CommandError for a name that is not known */
export function findRoute(system: System, names: readonly string[]): RouteView {
  const [first, ...others] = names;
  if (first === undefined || others.length === 0) {
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      `option --route: needs two names (received ${names.length})`,
      'Name a provider and its client (nvme0 nvme1), or a source and a destination (nvme0n1 nvme1n1).',
    );
  }
  return isFunction(system, first) ? verdictRoute(system, first, others) : copyRoute(system, names);
}

function namesOn({ controllers }: System): string[] {
  return controllers.flatMap(({ name, namespaces }) => [name, ...namespaces.map((ns) => ns.name)]);
}

function isFunction({ controllers, topology }: System, name: string): boolean {
  return controllers.some((c) => c.name === name) || topology.find(name) !== null;
}

function verdictRoute(system: System, provider: string, names: readonly string[]): RouteView {
  const explanation = system.explain(provider, names);
  const roles = new Roles();
  roles.add(explanation.provider, 'provider');
  for (const client of explanation.clients) roles.add(client.bdf, 'client');
  const question = `${names.join(', ')} ⇄ memory of ${provider}`;
  const notes = explanation.notes.map(({ text }) => text);
  return peerRoute(system, explanation, { question, roles, reason: null, notes });
}

function copyRoute(system: System, names: readonly string[]): RouteView {
  for (const name of names) {
    if (system.locate(name) !== null) continue;
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      `option --route: there is no '${name}'`,
      `${didYouMean(name, namesOn(system))} \`p2pdma list\` shows the namespaces and controllers.`.trimStart(),
    );
  }
  const choice = system.route(names);
  const question = `${names[0]} → ${names.slice(1).join(', ')}`;
  const notes = choice.unproven === null ? [] : [`unproven: ${choice.unproven}`];
  const roles = new Roles();
  for (const [i, client] of choice.clients.entries()) {
    if (client !== null) roles.add(client, i === 0 ? 'source' : 'destination');
  }
  const drives = [...new Set(choice.clients.filter((client) => client !== null))];
  if (choice.provider !== null) {
    roles.add(choice.provider, 'provider');
    const { reason } = choice;
    return peerRoute(system, system.explain(choice.provider, drives), { question, roles, reason, notes });
  }
  const marks = new Marks(system);
  for (const drive of drives) marks.upToHost(drive);
  return {
    question,
    kind: 'host-memory',
    provider: null,
    clients: drives,
    distance: null,
    reason: choice.reason,
    remedies: remediesFor(system, drives, choice.reason),
    notes,
    roles: roles.byAddress,
    nodes: marks.nodes,
    links: marks.links,
  };
}

/** The remedies, if the reason for host memory is the kernel's verdict on some provider. */
function remediesFor(system: System, drives: readonly string[], reason: string): string[] {
  for (const { bdf, p2pmem } of system.topology.functions) {
    if (p2pmem?.published !== true) continue;
    const decided = system.explain(bdf, drives).clients.find((client) => client.reason === reason);
    if (decided !== undefined) return decided.remedy === null ? [] : [decided.remedy];
  }
  return [];
}

interface Asked {
  readonly question: string;
  readonly roles: Roles;
  /** The reason for the route; null: the worst of the clients' reasons. */
  readonly reason: string | null;
  readonly notes: readonly string[];
}

function peerRoute(
  system: System,
  { provider, distance, clients }: Explanation,
  { question, roles, reason, notes }: Asked,
): RouteView {
  const marks = new Marks(system);
  let kind: RouteKind = clients.length === 0 ? 'refused' : 'bus';
  for (const client of clients) {
    const leg = legOf(client);
    marks.leg(provider, client, leg);
    kind = worse(kind, leg);
  }
  const worst = clients.find((c) => c.distance < 0) ?? clients.toSorted((a, b) => b.distance - a.distance)[0];
  return {
    question,
    kind,
    provider,
    clients: clients.map((client) => client.bdf),
    distance,
    reason: reason ?? worst?.reason ?? 'no PCI function does the DMA of what was named',
    remedies: [...new Set(clients.flatMap((client) => client.remedy ?? []))],
    notes,
    roles: roles.byAddress,
    nodes: marks.nodes,
    links: marks.links,
  };
}

function legOf({ mapType, rule }: ClientVerdict): RouteKind {
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

function worse(a: RouteKind, b: RouteKind | undefined): RouteKind {
  return b !== undefined && ROUTE_KINDS.indexOf(b) > ROUTE_KINDS.indexOf(a) ? b : a;
}

class Roles {
  readonly byAddress = new Map<string, string[]>();

  add(bdf: string, role: string): void {
    const roles = this.byAddress.get(bdf) ?? [];
    if (!roles.includes(role)) this.byAddress.set(bdf, [...roles, role]);
  }
}

/** Functions and links of a route, collected from its legs. */
class Marks {
  readonly nodes = new Map<string, RouteKind>();
  readonly links = new Map<string, RouteKind>();
  readonly #system: System;

  constructor(system: System) {
    this.#system = system;
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
    const bridges = [...new Set([a, b].map((way) => bridgeId(way.at(-1)!.hostBridge)))];
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
    const bridge = bridgeId(way.at(-1)!.hostBridge);
    mark(this.nodes, bridge, 'host-memory');
    mark(this.links, bridge, 'host-memory');
    mark(this.nodes, HOST_ID, 'host-memory');
  }

  #chain(bdf: string): PciDev[] {
    const way: PciDev[] = [];
    for (let dev = this.#system.topology.find(bdf); dev !== null; dev = dev.upstream) way.push(dev);
    return way;
  }
}

function mark(map: Map<string, RouteKind>, id: string, kind: RouteKind): void {
  map.set(id, worse(kind, map.get(id)));
}
