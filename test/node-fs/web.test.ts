/**
 * Streams of this package as web streams, through Node's own `toWeb()`: backpressure, cancel, abort and errors; and the web
 * streams of handles, over real files and devices.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import type { ReadableStreamBYOBReader } from 'node:stream/web';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { directIoDir, loopDevice, skipLoop, skipNative } from '../helpers/native.js';

const LONG = bytesOf(3_000_001, 11);

/** Everything, into buffers of its own: of `size` bytes, each of which begins 3 bytes into its memory. */
async function intoOwnBuffers(reader: ReadableStreamBYOBReader, size: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let memory = new ArrayBuffer(size + 3);
  for (;;) {
    const { value, done } = await reader.read(new Uint8Array(memory, 3, size));
    if (done) return Buffer.concat(pieces);
    if (value.byteOffset !== 3) throw new Error(`the bytes are at ${value.byteOffset}`);
    pieces.push(Buffer.copyBytesFrom(value));
    memory = value.buffer as ArrayBuffer;
  }
}

t.test('a reader: what is not asked for stays on the drive, and cancel closes', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('nvme0n1', { highWaterMark: 64 * 1024 });
  const web = Readable.toWeb(reader).getReader();
  t.equal((await web.read()).value.length, 64 * 1024);
  t.ok(reader.bytesRead < 16 * 1024 * 1024, 'it did not read on');
  const closed = new Promise((resolve) => reader.once('close', resolve));
  await web.cancel();
  await closed;
  const missing = Readable.toWeb(system.createReadStream('no-such-drive')).getReader();
  await t.rejects(missing.read(), { code: 'ENOENT' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a writer: close makes it durable, abort destroys it with the reason', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const writer = system.createWriteStream('nvme1n1', { start: 100 });
  const web = Writable.toWeb(writer).getWriter();
  for (let i = 0; i < 20; i++) await web.write(new Uint8Array(50_000).fill(i));
  await web.close();
  t.equal(writer.bytesWritten, 1_000_000);

  const aborted = system.createWriteStream('nvme1n1');
  const other = Writable.toWeb(aborted).getWriter();
  const rejected = t.rejects(other.closed, { message: 'stop' });
  await other.write(new Uint8Array(5000));
  await other.abort(new Error('stop'));
  await rejected;
  t.match(aborted.errored, { message: 'stop' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test(
  'natively, a byte reader of a file gets all of it in its own buffers',
  { skip: skipNative },
  async (t) => {
    const path = join(directIoDir(t), 'file');
    fs.writeFileSync(path, LONG);
    const system = await openSystem({ backend: 'native' });
    for (const size of [1000, 4096, 777_777, 4_000_000]) {
      const handle = await system.open(path);
      const reader = handle.readableWebStream({ autoClose: true }).getReader({ mode: 'byob' });
      const got = await intoOwnBuffers(reader, size);
      t.ok(got.equals(LONG), `buffers of ${size} bytes`);
      await handle.close();
    }
    t.same(await system.close(), NOTHING_LEFT);
  },
);

t.test('natively, a byte reader of a device ends where the device ends', { skip: skipLoop }, async (t) => {
  const path = loopDevice(t, 2 * 1024 * 1024);
  fs.writeFileSync(path, LONG.subarray(0, 2 * 1024 * 1024));
  const system = await openSystem({ backend: 'native' });
  const handle = await system.open(path);
  await handle.read(Buffer.alloc(100), 0, 100, null);
  const reader = handle.readableWebStream().getReader({ mode: 'byob' });
  const got = await intoOwnBuffers(reader, 50_001);
  t.ok(got.equals(LONG.subarray(100, 2 * 1024 * 1024)), 'from where the handle stands');
  await handle.close();
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('natively, a web stream of a handle into one of a writer', { skip: skipNative }, async (t) => {
  const folder = directIoDir(t);
  fs.writeFileSync(join(folder, 'from'), LONG);
  const system = await openSystem({ backend: 'native' });
  const handle = await system.open(join(folder, 'from'));
  const writer = system.createWriteStream(join(folder, 'to'));
  await handle.readableWebStream({ autoClose: true }).pipeTo(Writable.toWeb(writer));
  t.ok(fs.readFileSync(join(folder, 'to')).equals(LONG));
  t.equal(handle.fd, -1, 'autoClose closed it');
  t.same(await system.close(), NOTHING_LEFT);
});
