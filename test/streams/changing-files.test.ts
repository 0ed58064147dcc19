/**
 * Files that somebody else changes while they are read: what is delivered is what was read, here as in node:fs. All of it
 * with poisoned memory, in which a byte that nobody read is 0xdb.
 */
import { execFile } from 'node:child_process';
import fs, { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { NOTHING_LEFT } from '../helpers/copies.js';

process.env.P2PDMA_POISON = '1';
const { openSystem, P2pdmaError } = await import('../../lib/index.js');
type System = import('../../lib/index.js').System;

const MIB = 1024 * 1024;
const SIZE = 12 * MIB;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-changing-'));
const file = join(folder, 'source');
const to = join(folder, 'to');
t.teardown(() => rmSync(folder, { recursive: true }));

const fresh = (size = SIZE) => writeFileSync(file, Buffer.alloc(size, 1));
const foreign = (bytes: Buffer) => bytes.length - bytes.filter((byte) => byte === 1).length;

/** Read it all; after the first chunk, `change` it. */
async function read(stream: AsyncIterable<Buffer>, change: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) {
    if (chunks.length === 0) change();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function failure(promise: Promise<unknown>): Promise<InstanceType<typeof P2pdmaError>> {
  const error = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  if (error instanceof P2pdmaError) return error;
  throw error ?? new Error('it did not fail');
}

async function onEach(body: (t: Test, system: System) => Promise<void>, t: Test): Promise<void> {
  for (const options of [{ backend: 'native' }, { machine: 'switch' }] as const) {
    const name = 'machine' in options ? 'emulator' : 'native';
    await t.test(name, async (t) => {
      const system = await openSystem(options).catch((error: Error) => error);
      if (system instanceof Error) return void t.pass(name, { skip: system.message });
      await body(t, system);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
}

t.test('a file that is cut short ends where it ends now', (t) =>
  onEach(async (t, system) => {
    for (const [length, highWaterMark] of [
      [5 * MIB, 65536],
      [5 * MIB + 333, MIB],
      [4096, 65536],
      [0, 65536],
    ] as const) {
      fresh();
      const cut = () => truncateSync(file, length);
      const bytes = await read(system.createReadStream(file, { highWaterMark }), cut);
      t.equal(foreign(bytes), 0, `cut to ${length}: every byte is the file's`);
      t.ok(bytes.length >= length && bytes.length < SIZE, `cut to ${length}: ${bytes.length} bytes`);
    }
  }, t),
);

t.test('a file that grows is read on, unless an end was asked for', (t) =>
  onEach(async (t, system) => {
    for (const size of [200_000, 16384 * 20]) {
      const grow = () => fs.appendFileSync(file, Buffer.alloc(300_001, 1));
      fresh(size);
      const bytes = await read(system.createReadStream(file, { highWaterMark: 16384, queueDepth: 2 }), grow);
      t.equal(bytes.length, size + 300_001, `${size} and what was appended`);
      t.equal(foreign(bytes), 0);
      fresh(size);
      const asked = await read(system.createReadStream(file, { end: size + 9, highWaterMark: 512 }), grow);
      t.ok(asked.length === size + 10 || asked.length === size, `not beyond the end: ${asked.length}`);
    }
  }, t),
);

t.test('a file of another length than it says is read as the kernel gives it', async (t) => {
  const attribute = '/sys/kernel/mm/transparent_hugepage/enabled';
  if (!fs.existsSync(attribute)) return void t.pass('sysfs', { skip: `${attribute} is not there` });
  t.equal(statSync(attribute).size, 4096, 'it says a page');
  const system = await openSystem({ backend: 'native' }).catch((error: Error) => error);
  if (system instanceof Error) return void t.pass('sysfs', { skip: system.message });
  const bytes = Buffer.concat(await system.createReadStream(attribute).toArray());
  t.equal(bytes.toString(), readFileSync(attribute, 'utf8'));
  await t.rejects(system.pipeline(attribute, to), {
    code: 'ERR_SHORT_TRANSFER',
    message: /but it reports 4096 bytes/,
    hint: /The length that it reports is not that of its contents: copy it with cat/,
  });
  t.equal(readFileSync(to, 'utf8'), readFileSync(attribute, 'utf8'), 'copied, and not padded');
  await system.close();
});

t.test('a copy whose source is cut short fails with the offset, and holds only what was read', (t) =>
  onEach(async (t, system) => {
    fresh();
    const error = await failure(
      system.pipeline(file, to, {
        highWaterMark: 65536,
        bandwidth: 20 * MIB,
        verify: true,
        onProgress: ({ bytes }) => {
          if (bytes > MIB && statSync(file).size === SIZE) truncateSync(file, 7 * MIB + 5);
        },
      }),
    );
    t.match(error, { code: 'ERR_SHORT_TRANSFER', path: file, syscall: 'read' });
    t.match(error.message, /ended at byte \d+/);
    t.notMatch(error.message, /route|differs/, 'nobody else is blamed');
    const copied = readFileSync(to);
    t.equal(copied.length, error.offset, 'the copy ends at the offset that the error names');
    t.equal(foreign(copied), 0);
  }, t),
);

t.test('the command: exit code 1', async (t) => {
  fresh();
  rmSync(to, { force: true });
  const command = new URL('../../lib/cli/main.js', import.meta.url).pathname;
  const run = promisify(execFile)(process.execPath, [
    command,
    'copy',
    file,
    to,
    '--bwlimit',
    '16m',
    '--quiet',
  ]);
  const watch = setInterval(() => {
    if ((fs.statSync(to, { throwIfNoEntry: false })?.size ?? 0) > MIB) truncateSync(file, 7 * MIB);
  }, 20);
  const { code, stderr } = await run.then(
    () => ({ code: 0, stderr: '' }),
    (error: { code: number; stderr: string }) => error,
  );
  clearInterval(watch);
  if (/ERR_BACKEND_UNAVAILABLE/.test(stderr)) return void t.pass('command', { skip: stderr });
  t.equal(code, 1, stderr);
  t.match(stderr, /ERR_SHORT_TRANSFER/);
  t.equal(foreign(readFileSync(to)), 0);
});

t.test('a file that changes in the turn in which it was opened is read as it is then', (t) =>
  onEach(async (t, system) => {
    const changes: Record<string, () => void> = {
      'it grows': () => fs.appendFileSync(file, Buffer.alloc(300_001, 1)),
      'it grows by one byte': () => fs.appendFileSync(file, Buffer.alloc(1, 1)),
      'it is cut short': () => truncateSync(file, 1000),
      'it is emptied': () => truncateSync(file, 0),
    };
    for (const size of [0, 5000, 65536, 300_000]) {
      for (const [what, change] of Object.entries(changes)) {
        for (const way of ['await', 'pipe'] as const) {
          fresh(size);
          const stream = system.createReadStream(file).once('open', change);
          if (way === 'await') fs.writeFileSync(to, await read(stream, () => {}));
          else await pipeline(stream, system.createWriteStream(to, { flush: false }));
          const words = `${size} bytes, ${what}, ${way}`;
          t.ok(readFileSync(to).equals(readFileSync(file)), words);
          t.equal(stream.bytesRead, statSync(file).size, words);
        }
      }
    }
  }, t),
);

t.test('a target that changes in the turn in which it was opened is copied as it is then', (t) =>
  onEach(async (t, system) => {
    for (const [before, after] of [
      [0, 200_000],
      [10, 200_000],
      [65536, 10],
      [300_000, 0],
    ] as const) {
      for (const way of ['copy', 'pipe'] as const) {
        // From the second one on, the filesystem is known.
        for (let round = 0; round < 2; round++) {
          fresh(before);
          fs.writeFileSync(to, 'previous');
          const source = await system.target(file);
          fresh(after);
          const reads = system.metrics().transfers.read;
          if (way === 'copy') await system.pipeline(source, to, { flush: false });
          else await pipeline(source.createReadStream(), system.createWriteStream(to, { flush: false }));
          const words = `${way}: ${before} bytes, then ${after}`;
          t.ok(readFileSync(to).equals(readFileSync(file)), words);
          t.ok(system.metrics().transfers.read - reads < 20, `${words}: not in small pieces`);
          await source.close();
        }
      }
    }
  }, t),
);
