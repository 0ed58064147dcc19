/**
 * Whoever holds an end of a copy may destroy it: the copy fails then, and neither waits for ever (a reader that was
 * destroyed without an error) nor says that it is complete (a writer that was destroyed once its last byte was sent).
 */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';

const SIZE = 1024 * 1024;
const described = await (async () => {
  const system = await openSystem({ machine: 'switch' });
  const description = system.snapshot();
  await system.close();
  return description;
})();
/** Slow enough to be disturbed. */
const machine = { ...described, latency: { readUs: 2000, writeUs: 20_000 } };

t.test('a reader that is destroyed without an error', async (t) => {
  const system = await openSystem({ machine });
  const reader = system.createReadStream('nvme0n1', { end: SIZE - 1, highWaterMark: 65_536 });
  const copy = system.pipeline(reader, 'nvme1n1');
  reader.once('ready', () => setTimeout(() => reader.destroy(), 30));
  await t.rejects(copy, { code: 'ERR_STREAM_PREMATURE_CLOSE' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a writer that fails while the reader is still being opened', async (t) => {
  const system = await openSystem({ machine });
  const slow = await openSystem({ machine: { ...described, latency: { readUs: 50_000, writeUs: 0 } } });
  const file = join(t.testdir({ file: 'content' }), 'file');
  const writer = system.createWriteStream(`${file}.missing`, { flags: 'r+' });
  // Its drive scans for the file's namespace, which takes longer than finding no file.
  const copy = slow.pipeline(slow.createReadStream(file), writer);
  await t.rejects(copy, { code: 'ENOENT' });
  for (const one of [system, slow]) t.same(await one.close(), NOTHING_LEFT);
});

t.test('a foreign source that is destroyed without an error', async (t) => {
  const system = await openSystem({ machine });
  const source = Readable.from(
    (async function* () {
      for (;;) {
        yield bytesOf(4096);
        await turn();
      }
    })(),
  );
  const copy = system.pipeline(source, 'nvme1n1');
  setTimeout(() => source.destroy(), 50);
  await t.rejects(copy, { code: 'ERR_STREAM_PREMATURE_CLOSE' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a writer that is destroyed when all was sent, and not yet written', async (t) => {
  const system = await openSystem({ machine });
  await poke(system, 'nvme0n1', 0, bytesOf(SIZE));
  for (const memory of ['auto', 'host'] as const) {
    const reader = system.createReadStream('nvme0n1', { end: SIZE - 1, highWaterMark: 65_536, memory });
    const writer = system.createWriteStream('nvme1n1', { queueDepth: 64 });
    reader.once('end', () => setImmediate(() => writer.destroy()));
    let finished = false;
    writer.once('finish', () => {
      finished = true;
    });
    await t.rejects(system.pipeline(reader, writer), { code: /^ERR_STREAM_(DESTROYED|PREMATURE_CLOSE)$/ });
    t.notOk(finished, 'it was destroyed before it had finished');
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a foreign destination that is destroyed while it finishes', async (t) => {
  const system = await openSystem({ machine });
  const destination = new Writable({
    write: (_chunk, _encoding, done) => done(),
    final() {
      this.destroy();
    },
  });
  await t.rejects(system.pipeline('nvme0n1', destination, { end: SIZE - 1 }), {
    code: 'ERR_STREAM_DESTROYED',
    message: /'Writable' was closed/,
  });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('streams that were used to their end before', async (t) => {
  const system = await openSystem({ machine });
  const file = join(t.testdir(), 'used');
  for (const autoDestroy of [true, false]) {
    const destination = new PassThrough({ autoDestroy });
    destination.resume().end('before');
    await finished(destination);
    await turn();
    await t.rejects(system.pipeline('nvme0n1', destination, { end: 65_535 }), {
      code: 'ERR_STREAM_DESTROYED',
      message: /'PassThrough' was used to its end/,
      hint: /a new one/,
    });
    const source = Readable.from(['before'], { autoDestroy });
    await source.toArray();
    await t.rejects(system.pipeline(source, 'nvme1n1'), {
      code: 'ERR_STREAM_DESTROYED',
      message: /'Readable' was used to its end/,
    });
  }
  const foreign = createWriteStream(file);
  foreign.end('before');
  await once(foreign, 'close');
  await t.rejects(system.pipeline('nvme0n1', foreign, { end: 65_535 }), {
    message: /used' was used to its end/,
  });
  const reader = system.createReadStream('nvme0n1', { end: 4095 });
  reader.resume();
  await once(reader, 'close');
  await t.rejects(system.pipeline(reader, 'nvme1n1'), { code: 'ERR_STREAM_DESTROYED' });
  t.same(await peek(system, 'nvme1n1', 0, 4096), Buffer.alloc(4096), 'and nothing was written');
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what is stopped early is complete, whatever the source is', async (t) => {
  const system = await openSystem({ machine });
  const stop = new AbortController();
  const source = Readable.from(
    (async function* () {
      for (;;) {
        yield bytesOf(4096);
        await turn();
      }
    })(),
  );
  const copy = system.pipeline(source, 'nvme1n1', { stop: stop.signal });
  setTimeout(() => stop.abort(), 50);
  const { bytes } = await copy;
  const whole = Buffer.concat(Array.from({ length: Math.ceil(bytes / 4096) }, () => bytesOf(4096)));
  t.ok((await peek(system, 'nvme1n1', 0, bytes)).equals(whole.subarray(0, bytes)), `${bytes} bytes`);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('who listens to the source as well takes nothing from the copy', async (t) => {
  const system = await openSystem({ machine });
  await poke(system, 'nvme0n1', 0, bytesOf(SIZE));
  for (const when of ['before', 'after'] as const) {
    const reader = system.createReadStream('nvme0n1', { end: 200_000 });
    const heard: Buffer[] = [];
    const listen = () => reader.on('data', (chunk) => heard.push(Buffer.from(chunk)));
    if (when === 'before') listen();
    const copy = system.pipeline(reader, 'nvme1n1');
    if (when === 'after') listen();
    t.match(await copy, { bytes: 200_001 }, when);
    const whole = bytesOf(SIZE).subarray(0, 200_001);
    t.ok((await peek(system, 'nvme1n1', 0, 200_001)).equals(whole), `all of it was written, ${when}`);
    t.ok(Buffer.concat(heard).equals(whole), `and all of it was heard, ${when}`);
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what others had taken before is missing, and the copy says so', async (t) => {
  const system = await openSystem({ machine });
  const reader = system.createReadStream('nvme0n1', { end: 200_000, highWaterMark: 65_536 });
  let taken: Buffer | null = null;
  while (taken === null) {
    await once(reader, 'readable');
    taken = reader.read();
  }
  await t.rejects(system.pipeline(reader, 'nvme1n1'), {
    code: 'ERR_SHORT_TRANSFER',
    syscall: 'write',
    offset: 200_001 - taken.length,
  });
  t.same(await system.close(), NOTHING_LEFT);
});
