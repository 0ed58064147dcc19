import { trace as publish } from '../base/trace.js';

export { tracing } from '../base/trace.js';

const REAL = { backend: 'native', machine: null };

/** Publish one TraceEvent of this machine. */
export function trace(layer: string, event: string, fields: Record<string, unknown>): void {
  publish(layer, event, { ...REAL, ...fields });
}
