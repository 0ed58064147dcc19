import { AsyncLocalStorage } from 'node:async_hooks';
import { channel } from 'node:diagnostics_channel';

/**
 * One call from a layer of the stack into the next, published on the diagnostics channel `p2pdma:trace`.
 *
 * `layer` is the module's file name (`'bio'`, `'dma-direct'`, `'fabric'`, …) and `event` is what it did, in the kernel's term
 * where there is one.
 */
export interface TraceEvent {
  /** The module that published it. */
  readonly layer: string;
  /** What it did. */
  readonly event: string;
  /** Monotonic time in µs. */
  readonly time: number;
  /** Which backend it comes from: a real kernel or the emulator. Null: not known. */
  readonly backend: 'native' | 'emulator' | null;
  /** The emulated machine’s name; null: the machine is real, or not known. */
  readonly machine: string | null;
  /** Further fields that depend on the layer: numbers, names, addresses. */
  readonly [field: string]: unknown;
}

/** The diagnostics channel on which every TraceEvent is published. */
export const TRACE_CHANNEL = 'p2pdma:trace';

const traceChannel = channel(TRACE_CHANNEL);

/**
 * Does the channel have subscribers? Check this before building the fields, so that tracing
 * costs one property read when there are none:
 *
 *     if (tracing()) trace('bio', 'submit', { sector, bytes });
 */
export function tracing(): boolean {
  return traceChannel.hasSubscribers;
}

/** The backend and machine that events belong to. */
export type TraceOrigin = Pick<TraceEvent, 'backend' | 'machine'>;

const NOT_KNOWN: TraceOrigin = { backend: null, machine: null };
const origin = new AsyncLocalStorage<TraceOrigin>();

/**
 * Run `work`; events that it publishes, also later in its asynchronous continuations, are attributed to `whose`. The layers
 * that mirror the kernel do not know which machine they run on, but their caller does.
 */
export function tracedAs<T>(whose: TraceOrigin, work: () => T): T {
  return tracing() ? origin.run(whose, work) : work();
}

/** Publish one TraceEvent. */
export function trace(layer: string, event: string, fields: Record<string, unknown>): void {
  traceChannel.publish({
    layer,
    event,
    time: performance.now() * 1000,
    ...(origin.getStore() ?? NOT_KNOWN),
    ...fields,
  });
}
