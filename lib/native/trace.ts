import { trace as publish } from '../base/trace.js';

export { tracing } from '../base/trace.js';

const REAL = { backend: 'native', machine: null };

/** Publish one layer crossing of this machine's. */
export function trace(layer: string, event: string, fields: Record<string, unknown>): void {
  publish(layer, event, { ...REAL, ...fields });
}
