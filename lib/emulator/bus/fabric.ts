import type { KnownWay, PathBytes } from '../../backend/backend.js';
import type { BusMonitor } from '../../backend/hardware.js';
import { addBytes, addPath, clearPath, zeroPath } from '../../backend/path-bytes.js';
import type { PciDev } from '../../backend/topology.js';
import type { Machine } from '../../machine/schema.js';
import { DeviceMemory } from './device-memory.js';
import { DmaRouter, type DmaWindow } from './dma-router.js';
import { DRAM_SPAN, EmulatedHostMemory } from './host-memory.js';
import { EmulatedIommu } from './iommu.js';
import type { TlpDirection } from './pci-fault.js';
import { type BarSlot, type PciNode, wire } from './routing.js';
import { EmulatedTopology } from './topology.js';

export type { DmaWindow } from './dma-router.js';
export { PciFault, type PciFaultKind, type TlpDirection } from './pci-fault.js';

export interface FabricParts {
  readonly topology: EmulatedTopology;
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
}

/** A function of the machine, as the bus sees it. */
interface Member {
  readonly pdev: PciDev;
  readonly node: PciNode;
  /** The bytes of each command that it executed, by the id of its queue and by its own. */
  readonly commands: PathBytes[][];
}

/**
 * The interconnect of a machine: it routes DMA (dma-router.ts), and a protocol analyser counts the bytes of
 * each command by path.
 */
export class Fabric implements BusMonitor {
  readonly topology: EmulatedTopology;
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
  readonly #members = new Map<PciDev, Member>();
  /** The last member that was asked for: a function does many DMAs in a row. */
  #last: Member | null = null;
  readonly #router: DmaRouter;

  constructor(parts: FabricParts) {
    this.topology = parts.topology;
    this.memory = parts.memory;
    this.iommu = parts.iommu;
    const nodes = wire(parts.topology);
    for (const [pdev, node] of nodes) this.#members.set(pdev, { pdev, node, commands: [] });
    const slots = [...nodes.values()].flatMap((node) => node.slots);
    this.#router = new DmaRouter({ memory: parts.memory, iommu: parts.iommu, slots });
  }

  /**
   * Appends to `out` the memory that a DMA of `length` bytes at bus address `addr` by `requester` reaches, as
   * consecutive windows in order.
   *
   * `direction` is from the device's point of view: 'write' puts data into memory (an NVMe Read), 'read' takes data out
   * of it.
   * @throws PciFault; `out` is then unchanged
   */
  resolve(requester: PciDev, addr: number, length: number, direction: TlpDirection, out: DmaWindow[]): void {
    this.#router.resolve(this.#node(requester), addr, length, direction, out);
  }

  /** Counts bytes that were really moved for command `cid` of queue `qid`. */
  account(requester: PciDev, qid: number, cid: number, way: KnownWay, bytes: number): void {
    const { commands } = this.#member(requester);
    let queue = commands[qid];
    if (queue === undefined) {
      queue = [];
      commands[qid] = queue;
    }
    let command = queue[cid];
    if (command === undefined) {
      command = zeroPath();
      queue[cid] = command;
    }
    addBytes(command, way, bytes);
  }

  take(dev: PciDev, qid: number, cid: number, into: PathBytes): void {
    const command = this.#member(dev).commands[qid]?.[cid];
    if (command === undefined) return;
    addPath(into, command);
    clearPath(command);
  }

  /** Registers `memory` as the target of DMA to this BAR, starting at `offset` in the BAR. */
  registerBar(pdev: PciDev, bar: number, memory: DeviceMemory, offset = 0): void {
    const slot = this.#slot(pdev, bar);
    if (slot === null) throw new RangeError(`${pdev.bdf} has no memory BAR ${bar}`);
    if (offset < 0 || offset + memory.size > slot.bar.size) {
      throw new RangeError(`${memory.size} bytes at ${offset} do not fit BAR ${bar} of ${pdev.bdf}`);
    }
    slot.memory = memory;
    slot.memoryOffset = offset;
  }

  /** The memory that is registered for this BAR, if any. */
  barMemory(pdev: PciDev, bar: number): DeviceMemory | null {
    return this.#slot(pdev, bar)?.memory ?? null;
  }

  /** Removes the function and everything below it. They no longer respond to requests or send any. */
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

  #member(pdev: PciDev): Member {
    const last = this.#last;
    if (last !== null && last.pdev === pdev) return last;
    const member = this.#members.get(pdev);
    if (member === undefined) throw new RangeError(`${pdev.bdf} is not a function of this machine`);
    this.#last = member;
    return member;
  }

  #node(pdev: PciDev): PciNode {
    return this.#member(pdev).node;
  }

  #slot(pdev: PciDev, bar: number): BarSlot | null {
    return this.#node(pdev).slots.find((slot) => slot.bar.index === bar) ?? null;
  }
}

/**
 * Builds the interconnect of a described machine with everything passive on it: host memory, the IOMMU, and the memory
 * of functions that are not NVMe controllers. Controllers register their own memory.
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

/** An unknown IOMMU cannot be emulated, so DMA is direct. */
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

/** A base address for host memory. No BAR uses its range, neither as a CPU address nor as a bus address. */
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
