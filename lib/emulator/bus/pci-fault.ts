import type { PciDev } from '../../backend/topology.js';
import { hexNumber } from '../../base/words.js';

/** The direction from the requester's point of view: `write` puts data into memory, `read` takes data out of it. */
export type TlpDirection = 'read' | 'write';

/** The reason why a TLP did not reach any memory. */
export type PciFaultKind =
  /** No function claims the address, or the route to it is blocked. */
  | 'unsupported-request'
  /** The IOMMU has no mapping of the address for this function, or not for this direction. */
  | 'iommu-fault';

/** A TLP that did not reach any memory. */
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
