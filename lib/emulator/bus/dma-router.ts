import type { KnownWay } from '../../backend/backend.js';
import type { HostBridge, PciDev } from '../../backend/topology.js';
import { trace, tracing } from '../../base/trace.js';
import type { EmulatedHostMemory } from './host-memory.js';
import type { EmulatedIommu } from './iommu.js';
import { PciFault, type PciFaultKind, type TlpDirection } from './pci-fault.js';
import { type BarRoute, type BarSlot, type PciNode, type RouteTable, rootComplexTable } from './routing.js';
import type { EmulatedHostBridge } from './topology.js';

/** A piece of memory that a DMA reaches. Reading or writing `bytes` is the transfer. */
export interface DmaWindow {
  bytes: Uint8Array;
  path: KnownWay;
}

export interface DmaRouterParts {
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
  /** Every memory BAR of the machine. */
  readonly slots: readonly BarSlot[];
}

/**
 * Resolves a bus address to the memory behind it (the rules are in routing.ts).
 *
 *     resolve ─▶ requester's table, by bus address ─▶ a BAR: internal, peerBus
 *                        │ up
 *                        ▼
 *                (IOMMU) ─▶ root complex's table, by CPU address ─▶ a BAR: hostBridge
 *                                        │
 *                                        ▼
 *                                   host memory: hostDram
 *
 * The current DMA is kept in fields instead of arguments, because one is resolved at a time, and thousands in a row.
 * Below, `addr` is the address that the device sent and `phys` the address that the root complex sees.
 */
export class DmaRouter {
  readonly #memory: EmulatedHostMemory;
  readonly #iommu: EmulatedIommu | null;
  readonly #slots: readonly BarSlot[];
  readonly #rootComplex = new Map<HostBridge, RouteTable>();
  #requester!: PciNode;
  #direction: TlpDirection = 'read';
  #out: DmaWindow[] = [];
  /** The length of `#out` before this DMA. */
  #before = 0;
  /** Receives the data of lost writes. */
  #sink = new Uint8Array(0);

  constructor(parts: DmaRouterParts) {
    this.#memory = parts.memory;
    this.#iommu = parts.iommu;
    this.#slots = parts.slots;
  }

  /** See Fabric.resolve(). */
  resolve(requester: PciNode, addr: number, length: number, direction: TlpDirection, out: DmaWindow[]): void {
    this.#requester = requester;
    this.#direction = direction;
    this.#out = out;
    this.#before = out.length;
    if (!requester.present) this.#unsupported(addr, 'it is gone');
    if (!(addr >= 0 && addr + length <= Number.MAX_SAFE_INTEGER)) this.#unsupported(addr, 'not an address');
    if (addr === 0 && length > 0) {
      this.#unsupported(addr, 'nothing is at address 0: a pointer that was needed was not set');
    }
    const table = requester.near(direction);
    for (let at = addr, end = addr + length; at < end; ) {
      const i = table.find(at);
      const n = Math.min(end, table.end(i)) - at;
      const route = table.route(i);
      if (route.kind === 'up') this.#enterRootComplex(at, n);
      else if (route.kind === 'bar') this.#deliver(route, at, at - route.base, n);
      else this.#unsupported(at, route.kind === 'refused' ? route.why : 'no route');
      at += n;
    }
  }

  #enterRootComplex(addr: number, length: number): void {
    if (this.#iommu === null) {
      this.#crossRootComplex(addr, addr, length);
      return;
    }
    for (let done = 0; done < length; ) {
      const at = addr + done;
      const write = this.#direction === 'write';
      const translation = this.#iommu.translate(this.#requester.pdev, at, length - done, write);
      if (translation === null) this.#fault('iommu-fault', at, 'not mapped');
      done += translation.length;
      this.#crossRootComplex(at, translation.phys, translation.length);
    }
  }

  #crossRootComplex(addr: number, phys: number, length: number): void {
    const table = this.#rootComplexOf(this.#requester.hostBridge);
    for (let done = 0; done < length; ) {
      const at = phys + done;
      const i = table.find(at);
      const n = Math.min(length - done, table.end(i) - at);
      const route = table.route(i);
      if (route.kind === 'memory') this.#reachDram(addr + done, at, n);
      else if (route.kind === 'bar') this.#deliver(route, addr + done, at - route.base, n);
      else this.#unsupported(addr + done, route.kind === 'refused' ? route.why : 'no route');
      done += n;
    }
  }

  #reachDram(addr: number, phys: number, length: number): void {
    for (let done = 0; done < length; ) {
      const bytes = this.#memory.window(phys + done, length - done);
      if (bytes === null) {
        const why = this.#memory.contains(phys + done)
          ? 'host memory that is not allocated or pinned (any more)'
          : 'neither host memory nor a BAR';
        this.#unsupported(addr + done, why);
      }
      this.#out.push({ bytes, path: 'hostDram' });
      done += bytes.length;
    }
    if (tracing()) this.#trace(addr, length, 'hostDram', null);
  }

  /** `offset` is relative to the start of the BAR. */
  #deliver({ slot, path }: BarRoute, addr: number, offset: number, length: number): void {
    const { owner, memory } = slot;
    if (!owner.present) this.#unsupported(addr, `${owner.pdev.bdf} is gone`);
    const from = offset - slot.memoryOffset;
    if (memory === null || from < 0 || from + length > memory.size) {
      this.#unsupported(addr, `BAR ${slot.bar.index} of ${owner.pdev.bdf} is no memory there`);
    }
    if (tracing()) this.#trace(addr, length, path, owner.pdev);
    if (owner.dropsPeerWrites && owner !== this.#requester && this.#direction === 'write') {
      if (this.#sink.length < length) this.#sink = new Uint8Array(length);
      this.#out.push({ bytes: this.#sink.subarray(0, length), path });
      return;
    }
    for (let done = 0; done < length; ) {
      const bytes = memory.window(from + done, length - done);
      this.#out.push({ bytes, path });
      done += bytes.length;
    }
  }

  #unsupported(addr: number, why: string): never {
    this.#fault('unsupported-request', addr, why);
  }

  #fault(kind: PciFaultKind, addr: number, why: string): never {
    const requester = this.#requester.pdev;
    const direction = this.#direction;
    this.#out.length = this.#before;
    if (tracing())
      trace('fabric', 'fault', { kind, requester: requester.bdf, address: addr, direction, why });
    throw new PciFault(kind, requester, addr, direction, why);
  }

  #trace(address: number, length: number, path: KnownWay, target: PciDev | null): void {
    trace('fabric', 'route', {
      requester: this.#requester.pdev.bdf,
      address,
      length,
      direction: this.#direction,
      path,
      target: target?.bdf ?? null,
    });
  }

  #rootComplexOf(bridge: EmulatedHostBridge): RouteTable {
    let table = this.#rootComplex.get(bridge);
    if (table === undefined) {
      table = rootComplexTable(bridge, this.#slots);
      this.#rootComplex.set(bridge, table);
    }
    return table;
  }
}
