/**
 * Watch one 64 KiB chunk go down through the layers and back.
 *
 *     node dist/examples/trace.js
 */
import { openSystem } from 'p2pdma';

const system = await openSystem({ machine: 'switch' });
const events: { layer: string; event: string; time: number }[] = [];
const trace = system.trace();
trace.on('data', (event) => events.push(event));

await system.pipeline('nvme0n1', 'nvme1n1', { end: 65535, highWaterMark: 65536 });
await new Promise(setImmediate);
trace.destroy();

const first = events[0]?.time ?? 0;
for (const { layer, event, time, ...fields } of events) {
  console.log(
    `${(time - first).toFixed(0).padStart(7)} µs  ${layer.padEnd(14)} ${event.padEnd(18)} ${JSON.stringify(fields)}`,
  );
}
await system.close();
