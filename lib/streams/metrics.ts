/**
 * What a system did and is doing, in numbers. Nothing is counted for it on the way of a transfer beyond what receipts
 * need: streams and targets keep their own sums, which are added up when somebody asks, and kept when they close.
 *
 *     reader ─┐                          ┌─ system.metrics()
 *     writer ─┼─ meter(into) ── sum ─────┼─ diagnostics channel `p2pdma:metrics`, when one of them closes
 *     target ─┘   + totals of the closed └─ prometheusMetrics()
 */

import { channel } from 'node:diagnostics_channel';
import type { Origin, PathBytes } from '../backend/backend.js';
import { zeroPath } from '../backend/path-bytes.js';
import type { Receipt } from './receipt.js';

/** The slots that streams have of one provider's CMB, or of host memory, now. @inline */
export interface PoolUse {
  /** PCI address; null: host memory. */
  readonly provider: string | null;
  /** Pools, one per stream that has one. */
  readonly pools: number;
  /** Mapped for slots. */
  readonly bytes: number;
  /** Chunks that fit in. */
  readonly slots: number;
  /** Of these, filling, waiting, lent or being written. */
  readonly inUse: number;
}

/** One provider's memory. @inline */
export interface P2pmemUse {
  /** PCI address. */
  readonly provider: string;
  /** Bytes of its CMB that the kernel hands out (`p2pmem/size`). */
  readonly size: number;
  /** Bytes that nobody has now (`p2pmem/available`). */
  readonly available: number;
}

/** Numbers since the system was opened, except those that say “now”. */
export interface Metrics extends Origin {
  /** Delivered by readers and `Target.read`; accepted by writers and `Target.write`. */
  readonly bytes: { read: number; write: number };
  /** Requests that ended. */
  readonly transfers: { read: number; write: number };
  /** Bytes by the route that they took. */
  readonly path: PathBytes;
  /** Streams by the transport they had in the end. */
  readonly transports: Record<Receipt['transport'], number>;
  /** Failures by code; each error counts once, however many streams it ended. */
  readonly errors: Record<string, number>;
  /** Requests in flight now. */
  inFlight: number;
  /** Open now. */
  readonly open: { readers: number; writers: number; targets: number };
  /**
   * Slot pools now, one row per provider (null: host memory): how many pools (one per stream that has one), the bytes mapped
   * for them, how many slots (chunks) that makes, and how many of these are filling, waiting, lent or being written.
   */
  readonly pools: readonly PoolUse[];
  /** Providers now: the bytes of CMB that the kernel hands out (`p2pmem/size`), and how many nobody has (`p2pmem/available`). */
  readonly p2pmem: readonly P2pmemUse[];
}

/** What the channel carries: what closed, and the totals at that moment. */
export interface MetricsEvent extends Origin {
  /** What closed. */
  readonly closed: 'reader' | 'writer' | 'target';
  /** What it was open on. */
  readonly path: string;
  /** The system's totals, as `system.metrics()` returns them. */
  readonly metrics: Metrics;
}

/** The diagnostics channel on which a MetricsEvent is published whenever a stream or target closes. */
export const METRICS_CHANNEL = 'p2pdma:metrics';

export const metricsChannel = channel(METRICS_CHANNEL);

/** Streams and targets: they know their own sums. */
export interface Metered {
  readonly metered: MetricsEvent['closed'];
  readonly path: string;
  /** Add what it did so far, and what it has in flight. */
  meter(into: Metrics): void;
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
    open: { readers: 0, writers: 0, targets: 0 },
    pools: [],
    p2pmem: [],
  };
}

export function copyMetrics(from: Metrics): Metrics {
  return structuredClone(from);
}
