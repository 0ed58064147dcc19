import type { Origin, PathBytes } from '../backend/backend.js';
import type { Bdf } from '../backend/topology.js';

/**
 * How data travels. `p2p-bus`: directly through a PCIe switch (or inside one drive); `p2p-host-bridge`:
 * peer to peer, but through the root complex; `host-memory`: into host DRAM and out again.
 * @inline
 */
export type Transport = 'p2p-bus' | 'p2p-host-bridge' | 'host-memory';

/** What one stream or copy did: the answer to “did the data really go peer to peer?”. */
export interface Receipt {
  /** Bytes of data delivered, without the padding to whole blocks. */
  bytes: number;
  /** The time from the first I/O to the last, in seconds. */
  seconds: number;
  /** Whether a real kernel or the emulator did the I/O; null: the stream is not open yet. */
  backend: Origin['backend'] | null;
  /** The name of the emulated machine; null: the machine is real, or the stream is not open yet. */
  machine: string | null;
  /** BDF of the function whose CMB was used, or null. */
  provider: Bdf | null;
  /**
   * The route of the data; if there were several, the least direct one. `p2p-bus`: directly through a PCIe switch (or inside
   * one drive); `p2p-host-bridge`: peer to peer, but through the root complex; `host-memory`: into host DRAM and out again.
   */
  transport: Transport;
  /** Why this transport, in words. */
  reason: string;
  /** Why a successful transfer does not prove the route; null: it does. */
  unproven: string | null;
  /**
   * Bytes by the route of their DMA. Copying N bytes A→B through A's CMB gives internal N, peerBus N. If success does not
   * prove the route of a file, its bytes are counted in `unproven` instead. `hostDram` then contains only the bytes that are
   * known to have used host DRAM; there may have been more.
   */
  path: PathBytes;
  /** True: the destination was read back through host memory and is identical. False: verification was not requested. */
  verified: boolean;
  /** `sha256:<hex>` of the verified bytes, or null. */
  digest: string | null;
  /** With a journal: how many bytes were already copied earlier. They are not counted in `bytes`. */
  resumedFrom?: number;
}

/** The receipt of one end of a copy: it covers only its own half of the route. `began` and `ended` are in ms; 0: not yet. */
export function endReceipt(end: {
  readonly bytes: number;
  readonly began: number;
  readonly ended: number;
  readonly origin: Origin | undefined;
  readonly route: { readonly provider: { readonly bdf: Bdf } | null; readonly unproven: string | null };
  readonly transport: Transport;
  readonly reason: string;
  readonly path: PathBytes;
}): Receipt {
  const { bytes, began, ended, origin, route, transport, reason, path } = end;
  return {
    bytes,
    seconds: began === 0 ? 0 : ((ended || performance.now()) - began) / 1000,
    backend: origin?.backend ?? null,
    machine: origin?.machine ?? null,
    provider: transport === 'host-memory' ? null : (route.provider?.bdf ?? null),
    transport,
    reason,
    unproven: route.unproven,
    path: { ...path },
    verified: false,
    digest: null,
  };
}

const rank: Record<Transport, number> = { 'p2p-bus': 0, 'p2p-host-bridge': 1, 'host-memory': 2 };

/** The less direct of two transports. */
export function worse(a: Transport, b: Transport): Transport {
  return rank[a] >= rank[b] ? a : b;
}

const receipts = new WeakMap<object, Receipt>();

/** Attach a receipt to the error that ended a copy, so that the caller can get it with `receiptOf`. */
export function withReceipt<T>(error: T, receipt: Receipt): T {
  if (typeof error === 'object' && error !== null && receipt.bytes > 0) receipts.set(error, receipt);
  return error;
}

/** What a copy had done when it ended with this error, as far as is known; null: nothing. */
export function receiptOf(error: unknown): Receipt | null {
  return typeof error === 'object' && error !== null ? (receipts.get(error) ?? null) : null;
}
