import { AsyncLocalStorage } from 'node:async_hooks';
import { channel } from 'node:diagnostics_channel';

/**
 * One crossing from a layer of the stack into the next, published on the
 * diagnostics channel `p2pdma:trace`.
 *
 * `layer` is the module's file name (`'bio'`, `'dma-direct'`, `'fabric'`, …) and
 * `event` what it did, in the kernel's word where it has one.
 */
export interface TraceEvent {
  /** The module that published it. */
  readonly layer: string;
  /** What it did. */
  readonly event: string;
  /** Monotonic time in µs. */
  readonly time: number;
  /** Whether a real kernel is behind it. Null: not known. */
  readonly backend: 'native' | 'emulator' | null;
  /** The emulated machine’s name; null: a real one, or not known. */
  readonly machine: string | null;
  /** Further fields: numbers, names, addresses, as the layer has them. */
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

/** Whose events they are. */
export type TraceOrigin = Pick<TraceEvent, 'backend' | 'machine'>;

const NOT_KNOWN: TraceOrigin = { backend: null, machine: null };
const origin = new AsyncLocalStorage<TraceOrigin>();

/**
 * Run `work`; what is traced in it, and in what it sets going, is said to be `whose`. The layers that mirror the kernel do
 * not know which machine they run on; whoever enters them does.
 */
export function tracedAs<T>(whose: TraceOrigin, work: () => T): T {
  return tracing() ? origin.run(whose, work) : work();
}

/** Publish one layer crossing. */
export function trace(layer: string, event: string, fields: Record<string, unknown>): void {
  traceChannel.publish({
    layer,
    event,
    time: performance.now() * 1000,
    ...(origin.getStore() ?? NOT_KNOWN),
    ...fields,
  });
}
