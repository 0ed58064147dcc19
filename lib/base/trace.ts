import { channel } from 'node:diagnostics_channel';

/**
 * One crossing from a layer of the stack into the next, published on the
 * diagnostics channel `p2pdma:trace`.
 *
 * `layer` is the module's file name (`'bio'`, `'dma-direct'`, `'fabric'`, …) and
 * `event` what it did, in the kernel's word where it has one.
 */
export interface TraceEvent {
  /** The module that says it. */
  readonly layer: string;
  /** What it did. */
  readonly event: string;
  /** Monotonic time in µs. */
  readonly time: number;
  /** What it was done to: numbers, names, addresses, as that layer has them. */
  readonly [field: string]: unknown;
}

/** The diagnostics channel on which each TraceEvent is published. */
export const TRACE_CHANNEL = 'p2pdma:trace';

const traceChannel = channel(TRACE_CHANNEL);

/**
 * Is anybody listening? Ask before building the fields, so that tracing costs one
 * property read when nobody is:
 *
 *     if (tracing()) trace('bio', 'submit', { sector, bytes });
 */
export function tracing(): boolean {
  return traceChannel.hasSubscribers;
}

/** Publish one layer crossing. */
export function trace(layer: string, event: string, fields: Record<string, unknown>): void {
  traceChannel.publish({ layer, event, time: performance.now() * 1000, ...fields });
}
