/**
 * How PCIe switches and root complexes route a TLP.
 *
 *                 root complex ── host memory            addresses here are the CPU's
 *                 │ (IOMMU)  │
 *            root port    root port                      ── below: addresses on the bus ──
 *                │
 *          upstream port      windows: every MiB in which something below has a BAR
 *            ┌───┴────┐
 *      downstream  downstream   ◀─ a TLP from A to an address in this window crosses over here,
 *            │        │            unless one of the two ports redirects (ACS RR)
 *            A        B
 *
 * A TLP goes upstream from its requester. On each bus, a function whose BAR or window contains the address claims it.
 * If the address is in the window of the bridge above, but no function on the bus claims it, the TLP is an unsupported
 * request. Above the topmost port, or after a redirect, the TLP is in the root complex. There an address is host
 * memory, or the CPU address of a BAR below a port if the root complex forwards TLPs between ports.
 *
 * This is stricter than the specification in two points. Redirection checks both ports of a crossing, not just the
 * ingress port of the TLP, so that a request never passes where its completion would not. And a redirected TLP goes all
 * the way up to the root complex. Completions of reads follow ACS Completion Redirect: such a read counts as going
 * through the host bridge. Egress control vectors are assumed to be zero, which blocks nothing.
 */
import type { KnownWay } from '../../backend/backend.js';
import { PCI_ACS_CR, PCI_ACS_RR, type PciBar, type PciDev, type Topology } from '../../backend/topology.js';
import type { DeviceMemory } from './device-memory.js';
import type { TlpDirection } from './pci-fault.js';
import type { EmulatedHostBridge } from './topology.js';

/** A memory BAR and the memory behind it. */
export interface BarSlot {
  readonly owner: PciNode;
  readonly bar: PciBar;
  memory: DeviceMemory | null;
  /** The offset in the BAR at which `memory` begins. */
  memoryOffset: number;
}

/** A route to a BAR. `base` is the address of the BAR as seen from the start of the route. */
export interface BarRoute {
  readonly kind: 'bar';
  readonly slot: BarSlot;
  readonly base: number;
  readonly path: KnownWay;
}

/** The destination of TLPs from one requester to a range of addresses. */
export type Route =
  | BarRoute
  /** Result on the bus: the TLP goes up into the root complex. */
  | { readonly kind: 'up' }
  /** Result in the root complex: host memory, if there is any at the address. */
  | { readonly kind: 'memory' }
  | { readonly kind: 'refused'; readonly why: string };

const UP: Route = { kind: 'up' };
const MEMORY: Route = { kind: 'memory' };

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Bridge windows have a granularity of 1 MiB. */
const WINDOW_GRAIN = 0x100000;

/** One function in the routing tree. */
export class PciNode {
  readonly pdev: PciDev;
  readonly parent: PciNode | null;
  readonly children: PciNode[] = [];
  readonly slots: readonly BarSlot[];
  /** The bus addresses that it forwards downstream, in order. */
  windows: readonly Range[] = [];
  present = true;
  /** An injected fault: writes from other functions are acknowledged and lost. */
  dropsPeerWrites = false;
  #nearReads: RouteTable | null = null;
  #nearWrites: RouteTable | null = null;

  constructor(pdev: PciDev, parent: PciNode | null) {
    this.pdev = pdev;
    this.parent = parent;
    this.slots = pdev.bars
      .filter((bar) => bar !== null)
      .filter((bar) => bar.kind === 'memory')
      .map((bar) => ({ owner: this, bar, memory: null, memoryOffset: 0 }));
    parent?.children.push(this);
  }

  get hostBridge(): EmulatedHostBridge {
    return this.pdev.hostBridge as EmulatedHostBridge;
  }

  /** The routes of its TLPs, by bus address. */
  near(direction: TlpDirection): RouteTable {
    if (direction === 'read') {
      this.#nearReads ??= this.#table('read');
      return this.#nearReads;
    }
    this.#nearWrites ??= this.#table('write');
    return this.#nearWrites;
  }

  #table(direction: TlpDirection): RouteTable {
    return new RouteTable(busBoundaries(this), (address) => routeOnBus(this, address, direction));
  }
}

/** Links the functions of a topology and sets the windows of the bridges. */
export function wire(topology: Topology): Map<PciDev, PciNode> {
  const nodes = new Map<PciDev, PciNode>();
  const build = (pdev: PciDev): PciNode => {
    const done = nodes.get(pdev);
    if (done !== undefined) return done;
    const node = new PciNode(pdev, pdev.upstream === null ? null : build(pdev.upstream));
    nodes.set(pdev, node);
    return node;
  };
  for (const pdev of topology.functions) build(pdev);
  for (const node of nodes.values()) if (node.parent === null) openWindows(node);
  return nodes;
}

/** Sets the windows of `node` and of everything below it. Returns the ranges that must be reachable through `node`. */
function openWindows(node: PciNode): Range[] {
  const below: Range[] = [];
  for (const child of node.children) {
    below.push(...openWindows(child));
    for (const { bar } of child.slots) {
      const start = Math.floor(bar.busAddress / WINDOW_GRAIN) * WINDOW_GRAIN;
      const end = Math.ceil((bar.busAddress + bar.size) / WINDOW_GRAIN) * WINDOW_GRAIN;
      below.push({ start, end });
    }
  }
  node.windows = merge(below);
  return [...node.windows];
}

function merge(ranges: Range[]): Range[] {
  ranges.sort((a, b) => a.start - b.start);
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of ranges) {
    const last = merged[merged.length - 1];
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

/** The route of one TLP from its requester to a bus address: to a BAR without passing the root complex, or up. */
export function routeOnBus(requester: PciNode, address: number, direction: TlpDirection): Route {
  const own = slotAt(requester, address);
  if (own !== null) return { kind: 'bar', slot: own, base: own.bar.busAddress, path: 'internal' };
  let from = requester;
  for (let above = from.parent; above !== null; from = above, above = from.parent) {
    const self = slotAt(from, address);
    if (self !== null) return { kind: 'bar', slot: self, base: self.bar.busAddress, path: 'peerBus' };
    for (const peer of above.children) {
      if (peer !== from && claims(peer, address)) return crossOver(from, peer, address, direction);
    }
    if (inWindows(above, address)) return missed(above);
  }
  return UP;
}

/** Crosses from one port of a bus to another, if ACS lets both the TLP and its completion pass. */
function crossOver(from: PciNode, peer: PciNode, address: number, direction: TlpDirection): Route {
  if (has(from, PCI_ACS_RR) || has(peer, PCI_ACS_RR)) return UP;
  const route = descend(peer, address);
  if (route.kind !== 'bar' || direction === 'write') return route;
  if (!has(from, PCI_ACS_CR) && !has(peer, PCI_ACS_CR)) return route;
  if (from.hostBridge.peerRouting) return { ...route, path: 'hostBridge' };
  return { kind: 'refused', why: 'its completion is redirected, and the root complex does not pass it on' };
}

function descend(node: PciNode, address: number): Route {
  const slot = slotAt(node, address);
  if (slot !== null) return { kind: 'bar', slot, base: slot.bar.busAddress, path: 'peerBus' };
  for (const child of node.children) if (claims(child, address)) return descend(child, address);
  return missed(node);
}

function missed(bridge: PciNode): Route {
  return { kind: 'refused', why: `in the window of ${bridge.pdev.bdf}, but in no BAR below it` };
}

function slotAt(node: PciNode, address: number): BarSlot | null {
  for (const slot of node.slots) {
    const { busAddress, size } = slot.bar;
    if (address >= busAddress && address < busAddress + size) return slot;
  }
  return null;
}

function inWindows(node: PciNode, address: number): boolean {
  for (const { start, end } of node.windows) if (address >= start && address < end) return true;
  return false;
}

function claims(node: PciNode, address: number): boolean {
  return slotAt(node, address) !== null || inWindows(node, address);
}

/** An unreadable ACS register (on a captured machine) is assumed to be clear; the kernel under test must not rely on it. */
function has(node: PciNode, flag: number): boolean {
  const { acs } = node.pdev;
  return typeof acs === 'number' && (acs & flag) !== 0;
}

/** All addresses at which the route of a TLP from `node` can change. */
function busBoundaries(node: PciNode): number[] {
  let top = node;
  while (top.parent !== null) top = top.parent;
  const edges: number[] = [];
  const add = (n: PciNode): void => {
    for (const { bar } of n.slots) edges.push(bar.busAddress, bar.busAddress + bar.size);
    for (const { start, end } of n.windows) edges.push(start, end);
    for (const child of n.children) add(child);
  };
  add(top);
  return edges;
}

/** The routes, by CPU address, of TLPs that enter the root complex through a port of `bridge`. */
export function rootComplexTable(bridge: EmulatedHostBridge, slots: readonly BarSlot[]): RouteTable {
  const sorted = [...slots].sort((a, b) => a.bar.cpuAddress - b.bar.cpuAddress);
  const edges: number[] = [];
  for (const { bar } of sorted) edges.push(bar.cpuAddress, bar.cpuAddress + bar.size);
  let next = 0;
  // The table calls this function with ascending addresses.
  return new RouteTable(edges, (address) => {
    while (next < sorted.length && sorted[next]!.bar.cpuAddress + sorted[next]!.bar.size <= address) next++;
    const slot = sorted[next];
    if (slot === undefined || address < slot.bar.cpuAddress) return MEMORY;
    if (bridge.peerRouting && slot.owner.hostBridge.peerRouting) {
      return { kind: 'bar', slot, base: slot.bar.cpuAddress, path: 'hostBridge' };
    }
    return { kind: 'refused', why: `the root complex does not pass it on to ${slot.owner.pdev.bdf}` };
  });
}

/** The address space, divided where the route changes. It is built once per requester, so that a lookup is a binary search. */
export class RouteTable {
  readonly #starts: number[] = [0];
  readonly #routes: Route[] = [];
  #last = 0;

  /** `route` is called with ascending addresses. */
  constructor(edges: readonly number[], route: (address: number) => Route) {
    this.#routes.push(route(0));
    let before = 0;
    for (const edge of [...edges].sort((a, b) => a - b)) {
      if (edge <= before) continue;
      before = edge;
      const next = route(edge);
      if (sameRoute(next, this.#routes[this.#routes.length - 1]!)) continue;
      this.#starts.push(edge);
      this.#routes.push(next);
    }
  }

  get length(): number {
    return this.#routes.length;
  }

  /** The index of the range that contains `address`. */
  find(address: number): number {
    const starts = this.#starts;
    const last = this.#last;
    if (address >= starts[last]! && address < (starts[last + 1] ?? Number.POSITIVE_INFINITY)) return last;
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= address) low = middle;
      else high = middle;
    }
    this.#last = low;
    return low;
  }

  route(index: number): Route {
    return this.#routes[index]!;
  }

  end(index: number): number {
    return this.#starts[index + 1] ?? Number.POSITIVE_INFINITY;
  }
}

function sameRoute(a: Route, b: Route): boolean {
  if (a.kind === 'bar') return b.kind === 'bar' && a.slot === b.slot && a.path === b.path;
  if (a.kind === 'refused') return b.kind === 'refused' && a.why === b.why;
  return a.kind === b.kind;
}
