/** Streams of this package as web streams, through Node's own `toWeb()`: backpressure, cancel, abort and errors. */
import { Readable, Writable } from 'node:stream';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { NOTHING_LEFT } from '../helpers/copies.js';

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
