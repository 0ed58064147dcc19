/**
 * The numbers of what a system did and is doing. During a transfer nothing is counted for them beyond what receipts need:
 * streams and targets keep their own sums. These are added up when the metrics are requested, and kept when they close.
 *
 *     reader ─┐                          ┌─ system.metrics()
 *     writer ─┼─ meter(into) ── sum ─────┼─ diagnostics channel `p2pdma:metrics`, when one of them closes
 *     target ─┤   + totals of the closed └─ prometheusMetrics()
 *     handle ─┘
 */

import { channel } from 'node:diagnostics_channel';
import type { Origin, PathBytes } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import type { Receipt } from './receipt.js';

/** The slots that streams currently have in one provider's CMB, or in host memory. @inline */
export interface PoolUse {
  /** PCI address; null: host memory. */
  readonly provider: string | null;
  /** The number of pools. Each stream that has a pool has its own. */
  readonly pools: number;
  /** Bytes mapped for slots. */
  readonly bytes: number;
  /** The number of slots; each holds one chunk. */
  readonly slots: number;
  /** How many of these slots are being filled, waiting, lent or being written. */
  readonly inUse: number;
}

/** The memory of one provider. @inline */
export interface P2pmemUse {
  /** PCI address. */
  readonly provider: string;
  /** Bytes of its CMB that the kernel can allocate (`p2pmem/size`). */
  readonly size: number;
  /** Bytes that are free now (`p2pmem/available`). */
  readonly available: number;
}

/** Numbers since the system was opened, except where “now” is stated. */
export interface Metrics extends Origin {
  /** Bytes delivered by readers, targets and handles, and bytes accepted by writers, targets and handles. */
  readonly bytes: { read: number; write: number };
  /** The number of requests that ended. */
  readonly transfers: { read: number; write: number };
  /** Bytes by the route they took. */
  readonly path: PathBytes;
  /** The number of streams by the transport they had at the end. */
  readonly transports: Record<Receipt['transport'], number>;
  /** The number of failures by code. Each error counts once, no matter how many streams it ended. */
  readonly errors: Record<string, number>;
  /** The number of requests in flight now. */
  inFlight: number;
  /** How many are open now. */
  readonly open: { readers: number; writers: number; targets: number; handles: number };
  /**
   * Slot pools now, one row per provider (null: host memory): the number of pools (each stream that has a pool has its own),
   * the bytes mapped for them, the number of slots (one chunk each), and how many of these slots are being filled, waiting,
   * lent or being written.
   */
  readonly pools: readonly PoolUse[];
  /**
   * Providers now: the bytes of CMB that the kernel can allocate (`p2pmem/size`), and how many of them are free
   * (`p2pmem/available`).
   */
  readonly p2pmem: readonly P2pmemUse[];
}

/** What one stream has moved so far. @inline */
export interface Flow {
  /** PCI address of the function whose CMB is used; null: host memory. */
  readonly provider: string | null;
  /** PCI address of the function that does the DMA of its target; null: not known, or several do. */
  readonly client: string | null;
  /** Bytes by the route they took. */
  readonly path: PathBytes;
}

/** A message on the channel: what closed, and the totals at that moment. */
export interface MetricsEvent extends Origin {
  /** What closed. */
  readonly closed: 'reader' | 'writer' | 'target' | 'handle';
  /** The path on which it was open. */
  readonly path: string;
  /** The system's totals, as `system.metrics()` returns them. */
  readonly metrics: Metrics;
  /** What a stream moved, and whose memory and which function did it; null: a target or handle, which may have used several. */
  readonly flow: Flow | null;
}

/** The diagnostics channel on which a MetricsEvent is published whenever a stream, target or handle closes. */
export const METRICS_CHANNEL = 'p2pdma:metrics';

export const metricsChannel = channel(METRICS_CHANNEL);

/** A stream, target or handle that keeps its own sums. */
export interface Metered {
  readonly metered: MetricsEvent['closed'];
  /** The path on which it is open, or the words for it. */
  readonly meteredPath: string;
  /** What a stream has moved so far, and its target; a target or handle may move each transfer in another way. */
  readonly receipt?: Pick<Receipt, 'provider' | 'path'>;
  readonly attachment?: { readonly target: { readonly client: { readonly bdf: string } | null } | null };
  /** Add what it has done so far, and what it has in flight. */
  meter(into: Metrics): void;
}

/** Null: it is a target or a handle. */
export function flowOf({ receipt, attachment }: Metered): Flow | null {
  if (receipt === undefined) return null;
  const { provider, path } = receipt;
  return { provider, client: attachment?.target?.client?.bdf ?? null, path };
}

export function noMetrics(origin: Origin): Metrics {
  return {
    ...origin,
    bytes: { read: 0, write: 0 },
    transfers: { read: 0, write: 0 },
    path: zeroPath(),
    transports: { 'p2p-bus': 0, 'p2p-host-bridge': 0, 'host-memory': 0 },
    errors: {},
    inFlight: 0,
    open: { readers: 0, writers: 0, targets: 0, handles: 0 },
    pools: [],
    p2pmem: [],
  };
}

/** What a target or a handle has done. */
export class Sums {
  readonly #bytes = { read: 0, write: 0 };
  readonly #transfers = { read: 0, write: 0 };
  readonly #path = zeroPath();
  /** Requests in flight. */
  inFlight = 0;

  /** A request has ended. */
  count(op: 'read' | 'write', bytes: number, path: PathBytes): void {
    this.#transfers[op]++;
    this.#bytes[op] += bytes;
    addPath(this.#path, path);
  }

  addTo(into: Metrics): void {
    into.bytes.read += this.#bytes.read;
    into.bytes.write += this.#bytes.write;
    into.transfers.read += this.#transfers.read;
    into.transfers.write += this.#transfers.write;
    into.inFlight += this.inFlight;
    addPath(into.path, this.#path);
  }
}

export function copyMetrics(from: Metrics): Metrics {
  return structuredClone(from);
}
