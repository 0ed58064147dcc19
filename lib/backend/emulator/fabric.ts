import type { PathBytes } from '../backend.js';
import type { BusMonitor } from '../hardware.js';
import type { PciDev } from '../topology.js';
import type { DeviceMemory } from './device-memory.js';
import type { EmulatedHostMemory } from './host-memory.js';
import type { EmulatedIommu } from './iommu.js';
import type { EmulatedTopology } from './topology.js';

export type TlpDirection = 'read' | 'write';

/** Why a TLP reached nothing. */
export type PciFaultKind =
  /** No one claims the address, or the way to it is closed. */
  | 'unsupported-request'
  /** The IOMMU has no mapping of it for this function, or not for this direction. */
  | 'iommu-fault';

/** A TLP that got nowhere. `direction` is the requester's: `write` writes to memory. */
export class PciFault extends Error {
  override readonly name = 'PciFault';
  readonly kind: PciFaultKind;
  readonly requester: PciDev;
  readonly address: number;
  readonly direction: TlpDirection;

  constructor(kind: PciFaultKind, requester: PciDev, address: number, direction: TlpDirection, why: string) {
    super(`${kind}: ${direction} by ${requester.bdf} at 0x${address.toString(16)}: ${why}`);
    this.kind = kind;
    this.requester = requester;
    this.address = address;
    this.direction = direction;
  }
}

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

/** All the wires of a machine. */
export declare class Fabric implements BusMonitor {
  readonly topology: EmulatedTopology;
  readonly memory: EmulatedHostMemory;
  readonly iommu: EmulatedIommu | null;
  /** Bytes by path of everything that was accounted since the beginning. */
  readonly totals: PathBytes;
  constructor(parts: FabricParts);
  /**
   * What a DMA of `length` bytes at bus address `addr` by `requester` reaches: consecutive windows, in order.
   * They replace what `out` holds from index `at` on (objects in `out` are reused), so that a data pointer of
   * several pieces is gathered with `n = resolve(…, out, n)`. Returns the new length of `out`.
   *
   * `direction` is the device's: 'write' puts data into memory (an NVMe read), 'read' takes data out of it.
   * @throws PciFault
   */
  resolve(
    requester: PciDev,
    addr: number,
    length: number,
    direction: TlpDirection,
    out: DmaWindow[],
    at?: number,
  ): number;
  /** Count bytes that really moved for command `cid` of queue `qid`. */
  account(requester: PciDev, qid: number, cid: number, path: keyof PathBytes, bytes: number): void;
  take(dev: PciDev, qid: number, cid: number, into: PathBytes): void;
  /** `memory` answers DMA to this BAR from `offset` of the BAR on. */
  registerBar(pdev: PciDev, bar: number, memory: DeviceMemory, offset?: number): void;
  /** The function is gone: nothing it owned answers any more, and it sends nothing. */
  remove(pdev: PciDev): void;
}
