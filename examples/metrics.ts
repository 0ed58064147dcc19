/**
 * Serve the metrics of a system to Prometheus, copy something, and read the metrics over HTTP as Prometheus does.
 *
 *     npm install prom-client
 *     node dist/examples/metrics.js
 */
import { subscribe } from 'node:diagnostics_channel';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { METRICS_CHANNEL, type MetricsEvent, openSystem, prometheusMetrics } from 'p2pdma';
import client from 'prom-client';

const system = await openSystem({ machine: 'switch' });
prometheusMetrics(system, client);

const server = createServer(async (_request, response) => {
  response.setHeader('content-type', client.register.contentType);
  response.end(await client.register.metrics());
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

// The same numbers are also published: one message whenever a stream or target closes.
subscribe(METRICS_CHANNEL, (message) => {
  const { closed, path, metrics } = message as MetricsEvent;
  console.log(`# ${closed} of ${path} closed, ${metrics.path.peerBus} bytes across the bus so far`);
});

await system.pipeline('nvme0n1', 'nvme1n1', { end: 16 * 1024 * 1024 - 1 });
await system.target('nvme9n1').catch(() => {}); // counted under its error code

const { port } = server.address() as AddressInfo;
const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
console.log(text.replaceAll(/^#.*\n/gm, ''));

server.close();
server.closeAllConnections();
await system.close();
