import type { PathBytes } from '../../backend/backend.js';
import type { BusMonitor } from '../../backend/hardware.js';
import type { HostBridge, PciDev } from '../../backend/topology.js';
import { trace, tracing } from '../../base/trace.js';
import type { Machine } from '../../machine/schema.js';
import { DeviceMemory } from './device-memory.js';
import { DRAM_SPAN, EmulatedHostMemory } from './host-memory.js';
import { EmulatedIommu } from './iommu.js';
import { PciFault, type PciFaultKind, type TlpDirection } from './pci-fault.js';
import { type BarSlot, type PciNode, type RouteTable, rootComplexTable, wire } from './routing.js';
import { type EmulatedHostBridge, EmulatedTopology } from './topology.js';

export { PciFault, type PciFaultKind, type TlpDirection } from './pci-fault.js';

/** A piece of memory that a DMA reaches. Reading or writing `bytes` is the transfer. */
export interface DmaWindow {
  bytes: Uint8Array;
  path: keyof PathBytes;
}

export interface FabricParts {
  readonly topology: EmulatedTopology;
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
}

/**
 * All the wires of a machine: where DMA goes (the rules are in routing.ts), and the protocol analyser that
 * counts which way it went.
 *
 *     resolve ─▶ requester's table, by bus address ─▶ a BAR: internal, peerBus
 *                        │ up
 *                        ▼
 *                (IOMMU) ─▶ root complex's table, by CPU address ─▶ a BAR: hostBridge
 *                                        │
 *                                        ▼
 *                                   host memory: hostDram
 */
export class Fabric implements BusMonitor {
  readonly topology: EmulatedTopology;
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
  /** Bytes by path of all that was accounted. */
  readonly totals: PathBytes = noBytes();
  readonly #nodes: Map<PciDev, PciNode>;
  readonly #slots: BarSlot[] = [];
  readonly #rootComplex = new Map<HostBridge, RouteTable>();
  readonly #counters = new Map<PciDev, Counters>();
  /** Where lost writes go. */
  #sink = new Uint8Array(0);

  constructor(parts: FabricParts) {
    this.topology = parts.topology;
    this.memory = parts.memory;
    this.iommu = parts.iommu;
    this.#nodes = wire(parts.topology);
    for (const node of this.#nodes.values()) this.#slots.push(...node.slots);
  }

  /**
   * Append to `out` what a DMA of `length` bytes at bus address `addr` by `requester` reaches: consecutive
   * windows, in order.
   *
   * `direction` is the device's: 'write' puts data into memory (an NVMe Read), 'read' takes data out of it.
   * @throws PciFault, and leaves `out` as it was
   */
  resolve(requester: PciDev, addr: number, length: number, direction: TlpDirection, out: DmaWindow[]): void {
    const node = this.#node(requester);
    if (!node.present)
      this.#fault('unsupported-request', node, addr, direction, out, out.length, 'it is gone');
    if (!(addr >= 0 && addr + length <= Number.MAX_SAFE_INTEGER)) {
      this.#fault('unsupported-request', node, addr, direction, out, out.length, 'not an address');
    }
    if (addr === 0 && length > 0) {
      const why = 'nothing is at address 0: a pointer that was needed was not set';
      this.#fault('unsupported-request', node, addr, direction, out, out.length, why);
    }
    const before = out.length;
    const table = node.near(direction);
    for (let at = addr, end = addr + length; at < end; ) {
      const i = table.find(at);
      const n = Math.min(end, table.end(i)) - at;
      const route = table.route(i);
      if (route.kind === 'up') this.#enterRootComplex(node, at, n, direction, out, before);
      else if (route.kind === 'bar') {
        this.#deliver(node, at, route.slot, at - route.base, n, route.path, direction, out, before);
      } else {
        const why = route.kind === 'refused' ? route.why : 'no route';
        this.#fault('unsupported-request', node, at, direction, out, before, why);
      }
      at += n;
    }
  }

  /** Count bytes that really moved for command `cid` of queue `qid`. */
  account(requester: PciDev, qid: number, cid: number, path: keyof PathBytes, bytes: number): void {
    const counters = this.#countersOf(requester);
    const key = qid * 0x10000 + cid;
    let command = counters.commands.get(key);
    if (command === undefined) {
      command = noBytes();
      counters.commands.set(key, command);
    }
    command[path] += bytes;
    counters.total[path] += bytes;
    this.totals[path] += bytes;
  }

  take(dev: PciDev, qid: number, cid: number, into: PathBytes): void {
    const command = this.#counters.get(dev)?.commands.get(qid * 0x10000 + cid);
    if (command === undefined) return;
    into.internal += command.internal;
    into.peerBus += command.peerBus;
    into.hostBridge += command.hostBridge;
    into.hostDram += command.hostDram;
    command.internal = 0;
    command.peerBus = 0;
    command.hostBridge = 0;
    command.hostDram = 0;
  }

  /** Bytes by path of everything this function moved. */
  totalsOf(requester: PciDev): Readonly<PathBytes> {
    return this.#countersOf(requester).total;
  }

  /** `memory` answers DMA to this BAR, from `offset` of the BAR on. */
  registerBar(pdev: PciDev, bar: number, memory: DeviceMemory, offset = 0): void {
    const slot = this.#slot(pdev, bar);
    if (slot === null) throw new RangeError(`${pdev.bdf} has no memory BAR ${bar}`);
    if (offset < 0 || offset + memory.size > slot.bar.size) {
      throw new RangeError(`${memory.size} bytes at ${offset} do not fit BAR ${bar} of ${pdev.bdf}`);
    }
    slot.memory = memory;
    slot.memoryOffset = offset;
  }

  /** The memory that answers in this BAR, if any does. */
  barMemory(pdev: PciDev, bar: number): DeviceMemory | null {
    return this.#slot(pdev, bar)?.memory ?? null;
  }

  /** The function is gone, and everything below it: nothing answers any more, nothing is sent. */
  remove(pdev: PciDev): void {
    const node = this.#node(pdev);
    node.present = false;
    for (const child of node.children) this.remove(child.pdev);
  }

  isPresent(pdev: PciDev): boolean {
    return this.#node(pdev).present;
  }

  /** Broken hardware: from now on, peer writes to this function are acknowledged and lost. */
  dropPeerWrites(pdev: PciDev, options: { readonly on: boolean } = { on: true }): void {
    this.#node(pdev).dropsPeerWrites = options.on;
  }

  #enterRootComplex(
    node: PciNode,
    addr: number,
    length: number,
    direction: TlpDirection,
    out: DmaWindow[],
    before: number,
  ): void {
    if (this.iommu === null) {
      this.#route(node, addr, addr, length, direction, out, before);
      return;
    }
    for (let done = 0; done < length; ) {
      const at = addr + done;
      const translation = this.iommu.translate(node.pdev, at, length - done, direction === 'write');
      if (translation === null) {
        this.#fault('iommu-fault', node, at, direction, out, before, 'not mapped');
      }
      done += translation.length;
      this.#route(node, at, translation.phys, translation.length, direction, out, before);
    }
  }

  /** `phys` is what the root complex sees, `addr` what the device sent. */
  #route(
    node: PciNode,
    addr: number,
    phys: number,
    length: number,
    direction: TlpDirection,
    out: DmaWindow[],
    before: number,
  ): void {
    const table = this.#rootComplexOf(node.hostBridge);
    for (let done = 0; done < length; ) {
      const at = phys + done;
      const i = table.find(at);
      const n = Math.min(length - done, table.end(i) - at);
      const route = table.route(i);
      if (route.kind === 'memory') this.#reachDram(node, addr + done, at, n, direction, out, before);
      else if (route.kind === 'bar') {
        this.#deliver(node, addr + done, route.slot, at - route.base, n, route.path, direction, out, before);
      } else {
        const why = route.kind === 'refused' ? route.why : 'no route';
        this.#fault('unsupported-request', node, addr + done, direction, out, before, why);
      }
      done += n;
    }
  }

  #reachDram(
    node: PciNode,
    addr: number,
    phys: number,
    length: number,
    direction: TlpDirection,
    out: DmaWindow[],
    before: number,
  ): void {
    for (let done = 0; done < length; ) {
      const bytes = this.memory.window(phys + done, length - done);
      if (bytes === null) {
        const why = this.memory.contains(phys + done)
          ? 'host memory that is not allocated or pinned (any more)'
          : 'neither host memory nor a BAR';
        this.#fault('unsupported-request', node, addr + done, direction, out, before, why);
      }
      out.push({ bytes, path: 'hostDram' });
      done += bytes.byteLength;
    }
    if (tracing()) traceRoute(node, addr, length, direction, 'hostDram', null);
  }

  #deliver(
    node: PciNode,
    addr: number,
    slot: BarSlot,
    offset: number,
    length: number,
    path: keyof PathBytes,
    direction: TlpDirection,
    out: DmaWindow[],
    before: number,
  ): void {
    const { owner, memory } = slot;
    if (!owner.present) {
      this.#fault('unsupported-request', node, addr, direction, out, before, `${owner.pdev.bdf} is gone`);
    }
    const from = offset - slot.memoryOffset;
    if (memory === null || from < 0 || from + length > memory.size) {
      const why = `BAR ${slot.bar.index} of ${owner.pdev.bdf} is no memory there`;
      this.#fault('unsupported-request', node, addr, direction, out, before, why);
    }
    if (tracing()) traceRoute(node, addr, length, direction, path, owner.pdev);
    if (owner.dropsPeerWrites && owner !== node && direction === 'write') {
      if (this.#sink.byteLength < length) this.#sink = new Uint8Array(length);
      out.push({ bytes: this.#sink.subarray(0, length), path });
      return;
    }
    for (let done = 0; done < length; ) {
      const bytes = memory.window(from + done, length - done);
      out.push({ bytes, path });
      done += bytes.byteLength;
    }
  }

  #fault(
    kind: PciFaultKind,
    node: PciNode,
    addr: number,
    direction: TlpDirection,
    out: DmaWindow[],
    before: number,
    why: string,
  ): never {
    out.length = before;
    if (tracing())
      trace('fabric', 'fault', { kind, requester: node.pdev.bdf, address: addr, direction, why });
    throw new PciFault(kind, node.pdev, addr, direction, why);
  }

  #node(pdev: PciDev): PciNode {
    const node = this.#nodes.get(pdev);
    if (node === undefined) throw new RangeError(`${pdev.bdf} is not a function of this machine`);
    return node;
  }

  #slot(pdev: PciDev, bar: number): BarSlot | null {
    return this.#node(pdev).slots.find((slot) => slot.bar.index === bar) ?? null;
  }

  #rootComplexOf(bridge: EmulatedHostBridge): RouteTable {
    let table = this.#rootComplex.get(bridge);
    if (table === undefined) {
      table = rootComplexTable(bridge, this.#slots);
      this.#rootComplex.set(bridge, table);
    }
    return table;
  }

  #countersOf(pdev: PciDev): Counters {
    let counters = this.#counters.get(pdev);
    if (counters === undefined) {
      counters = { total: noBytes(), commands: new Map() };
      this.#counters.set(pdev, counters);
    }
    return counters;
  }
}

interface Counters {
  readonly total: PathBytes;
  /** By qid << 16 | cid. Bounded by the queues' entries. */
  readonly commands: Map<number, PathBytes>;
}

/**
 * The wires of a described machine, with everything passive on them: host memory, the IOMMU, and the memory
 * of functions that have some without being NVMe controllers. Controllers register their own.
 */
export function buildFabric(machine: Machine): Fabric {
  const topology = new EmulatedTopology(machine);
  const fabric = new Fabric({
    topology,
    memory: new EmulatedHostMemory(dramBase(topology)),
    iommu: buildIommu(machine),
  });
  for (const fn of machine.functions) {
    const bar = fn.p2pmem?.bar ?? null;
    const pdev = topology.find(fn.bdf)!;
    if (bar === null || (fn.nvme?.cmb ?? null) !== null) continue;
    fabric.registerBar(pdev, bar, new DeviceMemory(pdev.bars[bar]!.size));
  }
  for (const fault of machine.faults) {
    if (fault.kind === 'drop-peer-writes') fabric.dropPeerWrites(topology.find(fault.function)!);
  }
  return fabric;
}

/** Of an unknown IOMMU nothing can be emulated: DMA is direct. */
function buildIommu(machine: Machine): EmulatedIommu | null {
  switch (machine.iommu) {
    case 'translating':
      return new EmulatedIommu('blocked');
    case 'unsupported':
      return new EmulatedIommu('passthrough');
    case 'none':
    case 'unknown':
      return null;
    default:
      return machine.iommu satisfies never;
  }
}

/** Addresses for host memory that no BAR uses, neither as the CPU nor as the bus sees it. */
function dramBase(topology: EmulatedTopology): number {
  const taken = new Set<number>([0]);
  for (const pdev of topology.functions) {
    for (const bar of pdev.bars) {
      if (bar === null) continue;
      for (const address of [bar.cpuAddress, bar.busAddress]) {
        const last = Math.floor((address + bar.size - 1) / DRAM_SPAN);
        for (let i = Math.floor(address / DRAM_SPAN); i <= last; i++) taken.add(i);
      }
    }
  }
  let i = 1;
  while (taken.has(i)) i++;
  return i * DRAM_SPAN;
}

function noBytes(): PathBytes {
  return { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
}

function traceRoute(
  node: PciNode,
  address: number,
  length: number,
  direction: TlpDirection,
  path: keyof PathBytes,
  target: PciDev | null,
): void {
  trace('fabric', 'route', {
    requester: node.pdev.bdf,
    address,
    length,
    direction,
    path,
    target: target?.bdf ?? null,
  });
}
