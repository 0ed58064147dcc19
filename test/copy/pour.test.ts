/** What comes out of a pipe goes to the destinations through slots that are kept, in bursts of any size. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  createWriteStream,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Backend } from '../../lib/backend/backend.js';
import { PipeReader } from '../../lib/copy/pipe-reader.js';
import { openSystem, receiptOf } from '../../lib/index.js';
import { openNative } from '../../lib/native/backend.js';
import { bytesOf } from '../helpers/copies.js';
import { skipNative } from '../helpers/native.js';

const MIB = 1024 * 1024;
const folder = t.testdir();
const file = (name: string) => join(folder, name);
let fifos = 0;

/** A pipe whose other end is not open yet. */
function fifo(): { path: string; from: number } {
  const path = file(`fifo${fifos++}`);
  spawnSync('mkfifo', [path]);
  return { path, from: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) };
}

/** Pieces of odd sizes, with pauses that are longer than a slot waits. */
async function inBursts(path: string, content: Buffer): Promise<void> {
  const into = createWriteStream(path);
  let at = 0;
  for (const bytes of [100, 70_001, 1, 300_000, content.length]) {
    into.write(content.subarray(at, at + bytes));
    at += bytes;
    await sleep(at < content.length ? 150 : 0);
  }
  into.end();
}

t.test(
  'several destinations, from a byte on, through few and small slots',
  { skip: skipNative },
  async (t) => {
    const system = await openSystem({ backend: 'native' });
    t.teardown(() => system.close());
    const content = bytesOf(2 * MIB + 777, 3);
    for (const name of ['a', 'b']) writeFileSync(file(name), Buffer.alloc(1000, 7));
    const { path, from } = fifo();
    const source = new PipeReader(from);
    const written = inBursts(path, content);
    const options = { destinationStart: 1000, flags: 'r+', highWaterMark: 64 * 1024, verify: true } as const;
    const receipt = await system.pipeline(source, [file('a'), file('b')], options);
    await written;
    t.match(receipt, {
      bytes: content.length,
      verified: true,
      transport: 'host-memory',
      reason: /not a p2pdma stream/,
    });
    const expected = Buffer.concat([Buffer.alloc(1000, 7), content]);
    for (const name of ['a', 'b']) t.ok(readFileSync(file(name)).equals(expected), name);
    t.notOk(source.readableDidRead, 'nothing went through the Readable');
    closeSync(from);
  },
);

t.test('a number of bytes at a rate, and nothing beyond it is taken', { skip: skipNative }, async (t) => {
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  const content = bytesOf(30_000, 4);
  const { path, from } = fifo();
  const into = openSync(path, constants.O_WRONLY);
  writeSync(into, content);
  const options = { end: 9_999, bandwidth: 40_000, highWaterMark: 4096 };
  const began = performance.now();
  const receipt = await system.pipeline(new PipeReader(from), file('some'), options);
  t.equal(receipt.bytes, 10_000);
  t.ok(performance.now() - began > 80, 'later than without a limit');
  t.ok(readFileSync(file('some')).equals(content.subarray(0, 10_000)));
  const rest = Buffer.alloc(30_000);
  t.ok(
    rest.subarray(0, readSync(from, rest)).equals(content.subarray(10_000)),
    'the rest is still in the pipe',
  );
  for (const fd of [from, into]) closeSync(fd);
});

t.test('stopped: what came is written, although more may come', { skip: skipNative }, async (t) => {
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  const content = bytesOf(10_000, 5);
  const { path, from } = fifo();
  const into = openSync(path, constants.O_WRONLY);
  writeSync(into, content);
  const stop = new AbortController();
  const copy = system.pipeline(new PipeReader(from), file('stopped'), {
    stop: stop.signal,
    onProgress: ({ bytes }) => bytes === content.length && stop.abort(),
  });
  t.equal((await copy).bytes, content.length);
  t.ok(readFileSync(file('stopped')).equals(content));
  const again = new AbortController();
  const aborted = system.pipeline(new PipeReader(from), file('aborted'), { signal: again.signal });
  setImmediate(() => again.abort());
  await t.rejects(aborted, { code: 'ABORT_ERR' });
  for (const fd of [from, into]) closeSync(fd);
});

for (const more of [0, 1000]) {
  const title = `a destination that somebody else ends fails the copy; ${more} bytes come after it`;
  t.test(title, { skip: skipNative }, async (t) => {
    const system = await openSystem({ backend: 'native' });
    t.teardown(() => system.close());
    const { path, from } = fifo();
    const into = openSync(path, constants.O_WRONLY);
    writeSync(into, bytesOf(10_000, 6));
    const writer = system.createWriteStream(file(`ended${more}`));
    const copy = system.pipeline(new PipeReader(from), writer, {
      onProgress: ({ bytes }) => {
        if (bytes === 0 || writer.writableEnded) return;
        writer.end();
        writeSync(into, bytesOf(more, 7));
      },
    });
    await t.rejects(copy, { code: 'ERR_STREAM_DESTROYED', message: /ended before it had everything/ });
    for (const fd of [from, into]) closeSync(fd);
  });
}

t.test('what cannot be read', { skip: skipNative }, async (t) => {
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  const from = openSync(folder, constants.O_RDONLY);
  const failed = await system.pipeline(new PipeReader(from), file('none')).then(
    () => null,
    (error: Error) => error,
  );
  t.match(failed, { code: 'EISDIR' });
  t.equal(receiptOf(failed), null, 'nothing was done');
  closeSync(from);
});

t.test('one call on a pipe waits for a while only', { skip: skipNative }, async (t) => {
  const backend: Backend = await openNative();
  t.teardown(() => backend.close());
  const move = (op: 'read' | 'write', fd: number, view: Uint8Array) =>
    new Promise((resolve) =>
      backend.movePipe!({ op, fd, view }, (moved, ended) => resolve({ moved, ended })),
    );
  const { path, from } = fifo();
  const into = openSync(path, constants.O_WRONLY);
  const view = Buffer.alloc(2 * MIB);
  t.same(await move('read', from, view), { moved: 0, ended: false });
  writeSync(into, 'abc');
  t.same(await move('read', from, view), { moved: 3, ended: false });
  t.equal(view.toString('latin1', 0, 3), 'abc');
  const full = (await move('write', into, view)) as { moved: number };
  t.ok(full.moved > 0 && full.moved < view.length, `${full.moved} bytes fit`);
  t.same(await move('write', into, view), { moved: 0, ended: false });
  t.same(await move('read', from, view.subarray(0, full.moved)), { moved: full.moved, ended: false });
  closeSync(into);
  t.same(await move('read', from, view), { moved: 0, ended: true });
  t.same(await move('write', from, view), { moved: -9, ended: false });
  closeSync(from);
});
