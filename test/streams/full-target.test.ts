/** A target that is full: the error names the first byte that is missing, however many transfers were under way. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import t, { type Test } from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { EIO, ENOSPC } from '../../lib/base/errno.js';
import { openSystem, type P2pdmaError, receiptOf, type System } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { skipNative } from '../helpers/native.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * Writes to `name` that reach beyond `room` bytes are answered with `errno` once `depth` of them wait, the last one first;
 * what lies before is written later still.
 */
function fill(system: System, name: string, room: number, errno: number, depth: number): void {
  const { backend } = system.context;
  const { openTarget } = backend;
  backend.openTarget = async (path, options) => {
    const real = await openTarget.call(backend, path, options);
    return path.endsWith(name) ? fullTarget(real, { room, errno, depth }) : real;
  };
}

interface Full {
  readonly room: number;
  readonly errno: number;
  readonly depth: number;
}

function fullTarget(real: BlockTarget, { room, errno, depth }: Full): BlockTarget {
  const waiting: IoRequest[] = [];
  const answer = () => {
    for (const io of waiting.splice(0).reverse()) {
      io.result = errno;
      io.done(io);
    }
  };
  const submit = (io: IoRequest) => {
    const bytes = io.segments.reduce((sum, { length }) => sum + length, 0);
    if (io.op === 'read') return real.submit(io);
    if (io.offset + bytes <= room) return void setTimeout(() => real.submit(io), 5);
    waiting.push(io);
    if (waiting.length === depth) setImmediate(answer);
    else if (waiting.length === 1) setTimeout(answer, 200);
  };
  return new Proxy(real, {
    get(target, key) {
      if (key === 'submit') return submit;
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

async function failed(copy: Promise<unknown>): Promise<P2pdmaError> {
  return copy.then(
    () => Promise.reject(new Error('it did not fail')),
    (error) => error as P2pdmaError,
  );
}

for (const machine of ['switch', 'no-cmb']) {
  for (const room of [0, 192 * KIB, 300 * KIB]) {
    t.test(`${machine}: a copy to what has room for ${room} bytes`, async (t) => {
      const system = await openSystem({ machine });
      fill(system, 'nvme1n1', room, -ENOSPC, 4);
      const copy = { highWaterMark: 64 * KIB, queueDepth: 4, end: 2 * MIB - 1 };
      const error = await failed(system.pipeline('nvme0n1', 'nvme1n1', copy));
      const missing = room - (room % (64 * KIB));
      t.match(error, { code: 'ENOSPC', syscall: 'write', path: /nvme1n1$/, offset: missing });
      t.match(error.message, new RegExp(`at offset ${missing}$`), 'the message says the same');
      t.equal(receiptOf(error)?.bytes ?? 0, missing, 'and the receipt');
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
}

t.test('from a first byte on', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  fill(system, 'nvme1n1', 2 * MIB, -ENOSPC, 4);
  const copy = { highWaterMark: 64 * KIB, queueDepth: 4, destinationStart: MIB, end: 4 * MIB - 1 };
  const error = await failed(system.pipeline('nvme0n1', 'nvme1n1', copy));
  t.match(error, { code: 'ENOSPC', offset: 2 * MIB });
  t.equal(receiptOf(error)!.bytes, MIB);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('an error of the drive keeps the place of the transfer that failed', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  fill(system, 'nvme1n1', 192 * KIB, -EIO, 4);
  const copy = { highWaterMark: 64 * KIB, queueDepth: 4, end: 2 * MIB - 1 };
  const error = await failed(system.pipeline('nvme0n1', 'nvme1n1', copy));
  t.match(error, { code: 'EIO', syscall: 'write' });
  t.ok(error.offset! >= 192 * KIB, `${error.offset}`);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a write stream that others write to', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  fill(system, 'nvme1n1', 192 * KIB, -ENOSPC, 4);
  for (const memory of ['host', 'cmb'] as const) {
    const to = system.createWriteStream('nvme1n1', { memory, highWaterMark: 64 * KIB, queueDepth: 4 });
    to.end(bytesOf(MIB, 3));
    const error = await failed(finished(to));
    t.match(error, { code: 'ENOSPC', offset: 192 * KIB }, memory);
    t.equal(to.bytesWritten, 192 * KIB, memory);
  }
  t.same(await system.close(), NOTHING_LEFT);
});

const ROOM = 3 * MIB;

/** A file system of its own with little room; null: this user may not mount one. */
function smallFileSystem(t: Test, folder: string): string | null {
  const at = join(folder, 'small');
  mkdirSync(at, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${ROOM}`, 'p2pdma-full', at]).status !== 0) return null;
  t.teardown(() => spawnSync('umount', [at]));
  return at;
}

t.test('a file on a real file system that is full', { skip: skipNative }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-full-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const small = smallFileSystem(t, folder);
  if (small === null) return t.pass('mounted', { skip: 'this user may not mount a small file system' });
  const from = join(folder, 'source');
  writeFileSync(from, bytesOf(8 * MIB, 5));
  const system = await openSystem({ backend: 'native' });
  for (const queueDepth of [1, 4, 16]) {
    for (const P2PDMA_PUMP of ['1', '0']) {
      const to = join(small, `${queueDepth}-${P2PDMA_PUMP}`);
      process.env.P2PDMA_PUMP = P2PDMA_PUMP;
      const error = await failed(system.pipeline(from, to, { highWaterMark: 64 * KIB, queueDepth }));
      const what = `${queueDepth} in flight, ${P2PDMA_PUMP === '1' ? 'in bulk' : 'chunk by chunk'}`;
      const { bytes } = receiptOf(error)!;
      t.match(error, { code: 'ENOSPC', syscall: 'write', path: to, offset: bytes }, what);
      t.ok(bytes > 0 && bytes <= ROOM, `${bytes}`);
      t.ok(statSync(to).size >= bytes);
      rmSync(to);
    }
    const to = join(small, `stream-${queueDepth}`);
    const stream = system.createWriteStream(to, { queueDepth });
    stream.end(bytesOf(8 * MIB, 6));
    const error = await failed(finished(stream));
    t.match(error, { code: 'ENOSPC', offset: stream.bytesWritten }, 'a write stream');
    rmSync(to);
  }
  delete process.env.P2PDMA_PUMP;
  t.same(await system.close(), NOTHING_LEFT);
});
