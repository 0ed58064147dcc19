/** What a reader of this package delivers goes into a pipe by a thread, however full the pipe is. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PipeWriter } from '../../lib/copy/pipe-writer.js';
import { openSystem, receiptOf } from '../../lib/index.js';
import { bytesOf } from '../helpers/copies.js';
import { isNonBlocking } from '../helpers/descriptors.js';
import { skipNative } from '../helpers/native.js';

const MIB = 1024 * 1024;
const folder = t.testdir();
const file = (name: string) => join(folder, name);
const content = bytesOf(3 * MIB + 77, 9);
writeFileSync(file('source'), content);
let fifos = 0;

interface Pipe {
  readonly from: number;
  readonly into: number;
}

/** Both ends of a pipe; reading from an empty one does not wait. */
function pipe(flags = 0): Pipe {
  const path = file(`fifo${fifos++}`);
  spawnSync('mkfifo', [path]);
  const from = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { from, into: openSync(path, constants.O_WRONLY | flags) };
}

function close({ from, into }: Pipe): void {
  closeSync(from);
  closeSync(into);
}

/** What comes out, until there are `bytes` bytes, or until the copy is over and the pipe is empty. */
async function drain(from: number, bytes: number, isOver = () => false): Promise<Buffer> {
  const all = Buffer.alloc(bytes);
  for (let got = 0; got < bytes; ) {
    const over = isOver();
    const some = readNow(from, all.subarray(got));
    if (some === 0) throw new Error('nobody has the other end of the pipe open');
    got += some ?? 0;
    if (some !== null) continue;
    if (over) return all.subarray(0, got);
    await turn();
  }
  return all;
}

/** Null: the pipe is empty. */
function readNow(from: number, into: Uint8Array): number | null {
  try {
    return readSync(from, into);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return null;
    throw error;
  }
}

const failureOf = (copy: Promise<unknown>): Promise<Error | null> =>
  copy.then(
    () => null,
    (error: Error) => error,
  );

async function native(t: Test) {
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  return system;
}

for (const [kind, flags] of [
  ['a pipe', 0],
  ['a pipe that is non-blocking', constants.O_NONBLOCK],
] as const) {
  t.test(`${kind}: all bytes in their order, counted exactly`, { skip: skipNative }, async (t) => {
    const system = await native(t);
    const ends = pipe(flags);
    const writer = new PipeWriter(ends.into, 'the pipe');
    const copy = system.pipeline(file('source'), writer, { highWaterMark: 64 * 1024 });
    t.ok((await drain(ends.from, content.length)).equals(content));
    const { bytes, path, transport } = await copy;
    t.same({ bytes, transport }, { bytes: content.length, transport: 'host-memory' });
    t.ok(path.hostDram >= 2 * content.length, 'read, and written');
    t.equal(isNonBlocking('self', ends.into), flags !== 0, 'its flags are those that it had');
    const again = system.pipeline(file('source'), new PipeWriter(ends.into, 'the pipe'), {
      start: 5,
      end: 9,
    });
    t.ok((await drain(ends.from, 5)).equals(content.subarray(5, 10)), 'it is still open');
    t.equal((await again).bytes, 5);
    close(ends);
  });
}

t.test('a pipe that was spliced, which then is as before Linux 6.4', { skip: skipNative }, async (t) => {
  const system = await native(t);
  const { from, into } = pipe();
  const one = "import os; r, w = os.pipe(); os.write(w, b'x'); os.splice(r, 3, 1)";
  const spliced = spawnSync('python3', ['-c', one], { stdio: ['ignore', 'ignore', 'ignore', into] });
  if (spliced.status !== 0) t.comment('not spliced: there is no python3 of version 3.10 or later');
  else t.equal(String(await drain(from, 1)), 'x');
  const copy = system.pipeline(file('source'), new PipeWriter(into, 'the pipe'));
  t.ok((await drain(from, content.length)).equals(content));
  t.equal((await copy).bytes, content.length);
  t.notOk(isNonBlocking('self', into));
  close({ from, into });
});

t.test('a socket', { skip: skipNative }, async (t) => {
  const system = await native(t);
  const child = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
  // Node makes a socket of each of them.
  const { fd } = (child.stdin as unknown as { _handle: { fd: number } })._handle;
  t.ok(fstatSync(fd).isSocket());
  const came = buffer(child.stdout);
  t.equal((await system.pipeline(file('source'), new PipeWriter(fd, 'the socket'))).bytes, content.length);
  child.stdin.end();
  t.ok((await came).equals(content));
});

t.test('an emulated machine writes through a Socket', async (t) => {
  const system = await openSystem({ backend: 'emulator', machine: 'switch' });
  t.teardown(() => system.close());
  const { from, into } = pipe();
  const copy = system.pipeline(file('source'), new PipeWriter(into, 'the pipe'));
  t.ok((await drain(from, content.length)).equals(content));
  t.equal((await copy).bytes, content.length);
  closeSync(from);
});

t.test('a hole arrives as zeros', { skip: skipNative }, async (t) => {
  const system = await native(t);
  writeFileSync(file('sparse'), 'begin');
  truncateSync(file('sparse'), 2 * MIB);
  const { from, into } = pipe();
  const copy = system.pipeline(file('sparse'), new PipeWriter(into, 'the pipe'), { sparse: true });
  const expected = Buffer.alloc(2 * MIB);
  expected.write('begin');
  t.ok((await drain(from, expected.length)).equals(expected));
  t.equal((await copy).bytes, expected.length);
  close({ from, into });
});

t.test('a pipe that is full: aborted, and stopped', { skip: skipNative }, async (t) => {
  const system = await native(t);
  const { from, into } = pipe();
  const abort = new AbortController();
  const aborted = system.pipeline(file('source'), new PipeWriter(into, 'the pipe'), {
    ...{ signal: abort.signal, highWaterMark: 40 * 1024 },
    onProgress: ({ bytes }) => bytes === 0 || abort.abort(),
  });
  const failed = await failureOf(aborted);
  t.match(failed, { code: 'ABORT_ERR' });
  const had = receiptOf(failed)!.bytes;
  t.ok(had > 0 && had < content.length, `${had} bytes fit`);
  t.equal((await drain(from, content.length, () => true)).length, had, 'as many as the receipt says');
  const stop = new AbortController();
  let over = false;
  const stopped = system
    .pipeline(file('source'), new PipeWriter(into, 'the pipe'), {
      ...{ stop: stop.signal, highWaterMark: 4096, queueDepth: 1 },
      onProgress: ({ bytes }) => bytes === 0 || stop.abort(),
    })
    .finally(() => {
      over = true;
    });
  while (!stop.signal.aborted) await turn();
  const came = await drain(from, content.length, () => over);
  t.ok(came.equals(content.subarray(0, came.length)));
  t.equal((await stopped).bytes, came.length, 'what was read is written');
  close({ from, into });
});

t.test('whoever reads goes in the middle of a chunk', { skip: skipNative }, async (t) => {
  const system = await native(t);
  const { from, into } = pipe();
  let left = false;
  const copy = system.pipeline(file('source'), new PipeWriter(into, 'the pipe'), {
    highWaterMark: 40 * 1024,
    onProgress: ({ bytes }) => {
      if (bytes === 0 || left) return;
      left = true;
      closeSync(from);
    },
  });
  const failed = await failureOf(copy);
  t.match(failed, { code: 'EPIPE', path: 'the pipe', syscall: 'write' });
  const { bytes } = receiptOf(failed)!;
  t.ok(bytes > 0 && bytes < content.length, `${bytes} bytes`);
  closeSync(into);
});
