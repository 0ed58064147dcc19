/**
 * Trace one chunk of 64 KiB down through the layers and back.
 *
 *     node dist/examples/trace.js
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { openSystem, TRACE_CHANNEL, type TraceEvent } from 'p2pdma';

const system = await openSystem({ machine: 'switch' });
const events: TraceEvent[] = [];
const keep = (event: unknown) => events.push(event as TraceEvent);
subscribe(TRACE_CHANNEL, keep);
await system.pipeline('nvme0n1', 'nvme1n1', { end: 65535, highWaterMark: 65536 });
unsubscribe(TRACE_CHANNEL, keep);

const first = events[0]?.time ?? 0;
for (const { layer, event, time, ...fields } of events) {
  console.log(
    `${(time - first).toFixed(0).padStart(7)} µs  ${layer.padEnd(14)} ${event.padEnd(18)} ${JSON.stringify(fields)}`,
  );
}
await system.close();
