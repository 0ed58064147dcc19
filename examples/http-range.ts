/**
 * An HTTP server that answers Range requests with exactly the requested bytes of a namespace, using `start` and `end`.
 *
 *     node dist/examples/http-range.js           sends one request to itself, then exits
 *     node dist/examples/http-range.js 8080      serves until it is interrupted
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { openSystem, Pace } from 'p2pdma';

const system = await openSystem({ machine: 'switch' });
const disk = await system.target('nvme0n1', { write: true });
const text = system.allocate(null, 4096);
text.buffer.write('The quick brown fox jumps over the lazy dog. '.repeat(90));
await disk.write(text.buffer, 0);

// The limit for all clients together, however many there are.
const bandwidth = new Pace(100 * 1024 * 1024);

const server = createServer(async (request, response) => {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range === null ? 0 : Number(range[1]);
  const end = Math.min(range?.[2] ? Number(range[2]) : Number.POSITIVE_INFINITY, disk.size - 1);
  if (start > end) {
    response.writeHead(416, { 'content-range': `bytes */${disk.size}` }).end();
    return;
  }
  response.writeHead(range === null ? 200 : 206, {
    'accept-ranges': 'bytes',
    'content-length': end - start + 1,
    ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${disk.size}` }),
  });
  // A client that goes away destroys the response, and pipeline() then destroys the reader.
  await pipeline(disk.createReadStream({ start, end, bandwidth, highWaterMark: 64 * 1024 }), response).catch(
    () => {},
  );
});

const port = Number(process.argv[2] ?? 0);
server.listen(port, '127.0.0.1', async () => {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  if (port !== 0) {
    console.log(`serving ${disk.name} at ${url}`);
    return;
  }
  const answer = await fetch(url, { headers: { range: 'bytes=4-18' } });
  console.log(answer.status, answer.headers.get('content-range'));
  console.log(await answer.text());
  server.closeAllConnections();
  server.close();
  await system.close();
});
