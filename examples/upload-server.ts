/**
 * An HTTP server to which clients upload in parts and resume after a break, in the manner of tus (https://tus.io): POST makes
 * room in a namespace, PATCH writes from `Upload-Offset` on, HEAD says how much is there. The offset counts durable bytes only.
 *
 *     node dist/examples/upload-server.js           uploads to itself, breaks off, resumes and compares, then exits
 *     node dist/examples/upload-server.js 8080      serves until it is interrupted
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';
import { openSystem } from 'p2pdma';

interface Upload {
  /** Its first byte in the namespace. */
  readonly start: number;
  readonly length: number;
  /** Bytes that are there and durable. */
  offset: number;
  /** Settles when the last PATCH has ended: the next one, and HEAD, wait for it. */
  turn: Promise<unknown>;
}

const system = await openSystem({ machine: 'switch' });
const disk = await system.target('nvme0n1');
const uploads = new Map<string, Upload>();
let free = 0;

/** A number of bytes in a header; null: it is missing, or no such number. */
function bytesIn(request: IncomingMessage, header: string): number | null {
  const text = request.headers[header];
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

function create(request: IncomingMessage): [number, Record<string, string | number>?] {
  const length = bytesIn(request, 'upload-length');
  if (length === null) return [400];
  if (length > disk.size - free) return [413];
  const path = `/uploads/${uploads.size + 1}`;
  uploads.set(path, { start: free, length, offset: 0, turn: Promise.resolve() });
  free += Math.ceil(length / 4096) * 4096;
  return [201, { location: path }];
}

/** The body as far as it comes: a client that goes away ends it, and what it had sent counts. */
async function* arriving(request: IncomingMessage): AsyncGenerator<Buffer> {
  try {
    yield* request;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  }
}

async function append(upload: Upload, request: IncomingMessage): Promise<number> {
  const length = bytesIn(request, 'content-length');
  if (length === null) return 411;
  if (bytesIn(request, 'upload-offset') !== upload.offset) return 409;
  if (length > upload.length - upload.offset) return 413;
  // Any offset will do, also inside a block. `flush` makes the bytes durable before the stream finishes.
  const start = upload.start + upload.offset;
  const writer = system.createWriteStream('nvme0n1', { start, flags: 'r+', flush: true });
  await pipeline(Readable.from(arriving(request)), writer);
  upload.offset += writer.bytesWritten;
  return 204;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const reply = (status: number, headers: Record<string, string | number> = {}) =>
    void response.writeHead(status, { 'tus-resumable': '1.0.0', ...headers }).end();
  if (request.method === 'POST' && request.url === '/uploads') return reply(...create(request));
  const upload = uploads.get(request.url ?? '');
  if (upload === undefined) return reply(404);
  if (request.method === 'PATCH') {
    const appended = upload.turn.then(() => append(upload, request));
    upload.turn = appended.catch(() => {});
    return reply(await appended, { 'upload-offset': upload.offset });
  }
  if (request.method !== 'HEAD') return reply(405, { allow: 'HEAD, PATCH' });
  await upload.turn;
  reply(200, { 'upload-offset': upload.offset, 'upload-length': upload.length, 'cache-control': 'no-store' });
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: Error) => {
    console.error(error.message);
    // A part that failed has not moved the offset: the client sends it again.
    if (!response.headersSent) response.writeHead(500);
    response.end();
  });
});

/** The client: sends some of the bytes and goes away, asks how far it came, sends the rest. */
async function uploadWithBreak(origin: string, data: Buffer): Promise<void> {
  const headers = { 'upload-length': String(data.length) };
  const created = await fetch(`${origin}/uploads`, { method: 'POST', headers });
  const url = origin + created.headers.get('location');
  console.log(`POST ${created.status}: ${url.slice(origin.length)}`);

  const cut = request(url, {
    method: 'PATCH',
    headers: { 'upload-offset': 0, 'content-length': data.length },
  });
  cut.on('error', () => {});
  cut.write(data.subarray(0, data.length / 3));
  await setTimeout(300);
  cut.destroy();

  const head = await fetch(url, { method: 'HEAD' });
  const offset = Number(head.headers.get('upload-offset'));
  console.log(`broken off; HEAD ${head.status}: ${offset} of ${data.length} bytes are there`);
  const rest = { method: 'PATCH', headers: { 'upload-offset': String(offset) } };
  const wrong = await fetch(url, { method: 'PATCH', headers: { 'upload-offset': '1' }, body: 'late' });
  console.log(`PATCH at a wrong offset: ${wrong.status}`);
  const resumed = await fetch(url, { ...rest, body: new Uint8Array(data.subarray(offset)) });
  console.log(`PATCH ${resumed.status}: ${resumed.headers.get('upload-offset')} bytes are there`);
}

async function sha256Of(chunks: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
}

const port = Number(process.argv[2] ?? 0);
server.listen(port, '127.0.0.1', async () => {
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  if (port !== 0) {
    console.log(`uploads to ${disk.name}: POST ${origin}/uploads`);
    return;
  }
  const data = randomBytes(3_000_001);
  await uploadWithBreak(origin, data);
  const stored = system.createReadStream('nvme0n1', { start: 0, end: data.length - 1 });
  const same = (await sha256Of(stored)) === (await sha256Of([data]));
  console.log(`in ${disk.name}: ${same ? 'identical' : 'different'}`);
  server.closeAllConnections();
  server.close();
  await system.close();
});
