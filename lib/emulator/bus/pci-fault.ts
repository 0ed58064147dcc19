import type { PciDev } from '../../backend/topology.js';
import { hexNumber } from '../../base/words.js';

/** The requester's: `write` puts data into memory, `read` takes it out. */
export type TlpDirection = 'read' | 'write';

/** Why a TLP reached nothing. */
export type PciFaultKind =
  /** No one claims the address, or the way to it is closed. */
  | 'unsupported-request'
  /** The IOMMU has no mapping of it for this function, or not for this direction. */
  | 'iommu-fault';

/** A TLP that got nowhere. */
export class PciFault extends Error {
  override readonly name = 'PciFault';
  readonly kind: PciFaultKind;
  readonly requester: PciDev;
  readonly address: number;
  readonly direction: TlpDirection;

  constructor(kind: PciFaultKind, requester: PciDev, address: number, direction: TlpDirection, why: string) {
    super(`${kind}: ${direction} by ${requester.bdf} at ${hexNumber(address)}: ${why}`);
    this.kind = kind;
    this.requester = requester;
    this.address = address;
    this.direction = direction;
  }
}
