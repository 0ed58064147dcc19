/**
 * `system.open()` beside `open()` of node:fs/promises, on files; and beside a model, on a drive and a file at any offset.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EIO } from '../../lib/base/errno.js';
import { errnoError } from '../../lib/base/errors.js';
import { openSystem, type P2pFileHandle, type System } from '../../lib/index.js';
import { BlockFile } from '../../lib/streams/handle-file.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { fc } from '../helpers/random.js';

t.setTimeout(300_000);

// biome-ignore lint/suspicious/noExplicitAny: both kinds of handle, and wrong arguments
type Any = any;
type Open = (path: string, flags?: Any, mode?: Any) => Promise<Any>;

async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return await run();
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    return code?.startsWith('ERR_') ? code : { code, syscall };
  }
}

const TEXT = 'the quick brown fox jumps over the lazy dog';

/** Each is given a function like open() and a file that holds TEXT, and returns what it saw as plain data. */
const behaviours: Record<string, (open: Open, path: string) => Promise<unknown>> = {
  'read(buffer, offset, length, position)': async (open, path) => {
    await using handle = await open(path);
    const buffer = Buffer.alloc(10, '.');
    const { bytesRead, buffer: same } = await handle.read(buffer, 2, 5, 4);
    return [bytesRead, same === buffer, String(buffer)];
  },
  'read(buffer, options) and read(options)': async (open, path) => {
    await using handle = await open(path);
    const buffer = Buffer.alloc(8, '.');
    await handle.read(buffer, { offset: 1, length: 3, position: 10 });
    const { bytesRead, buffer: other } = await handle.read({ buffer: Buffer.alloc(4), position: 4 });
    return [String(buffer), bytesRead, String(other)];
  },
  'read() without arguments': async (open, path) => {
    await using handle = await open(path);
    const { bytesRead, buffer } = await handle.read();
    return [bytesRead, buffer.length, String(buffer.subarray(0, bytesRead))];
  },
  'read() where it stands, several at once': async (open, path) => {
    await using handle = await open(path);
    const all = await Promise.all(
      [3, 4, 5].map((length) => handle.read(Buffer.alloc(length), 0, length, null)),
    );
    return all.map(({ buffer }) => String(buffer)).toSorted();
  },
  'read() at a position does not move it': async (open, path) => {
    await using handle = await open(path);
    await handle.read(Buffer.alloc(4), 0, 4, 20);
    const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, -1);
    return String(buffer);
  },
  'read() with a bigint': async (open, path) => {
    await using handle = await open(path);
    return String((await handle.read(Buffer.alloc(5), 0, 5, 4n)).buffer);
  },
  'read() beyond the end': async (open, path) => {
    await using handle = await open(path);
    return [
      (await handle.read(Buffer.alloc(5), 0, 5, 1000)).bytesRead,
      (await handle.read(Buffer.alloc(9), 0, 9, 40)).bytesRead,
    ];
  },
  'read() into a Uint16Array and a DataView': async (open, path) => {
    await using handle = await open(path);
    const words = new Uint16Array(4);
    const view = new DataView(new ArrayBuffer(6), 1, 4);
    const seen = [
      (await handle.read(words, 0, 4, 0)).bytesRead,
      (await handle.read(view, 0, 4, 4)).bytesRead,
    ];
    return [seen, Buffer.from(words.buffer).toString('latin1'), Buffer.from(view.buffer).toString('latin1')];
  },
  'wrong arguments of read()': async (open, path) => {
    await using handle = await open(path);
    const buffer = Buffer.alloc(10);
    return Promise.all(
      [[buffer, -1], [buffer, 0, 11], [buffer, 11], [buffer, 5, 6], [buffer, '1'], [Buffer.alloc(0)]].map(
        (args) => outcome(() => handle.read(...args).then(() => 'read')),
      ),
    );
  },
  'wrong positions of read()': async (open, path) => {
    await using handle = await open(path);
    const buffer = Buffer.alloc(10);
    const positions = [-2, 'x', 0.5, {}];
    return Promise.all(positions.map((p) => outcome(() => handle.read(buffer, 0, 1, p).then(() => 'read'))));
  },
  'readv()': async (open, path) => {
    await using handle = await open(path);
    const buffers = [Buffer.alloc(3), new Uint8Array(6)];
    const { bytesRead, buffers: same } = await handle.readv(buffers, 4);
    const more = await handle.readv([Buffer.alloc(100)]);
    return [bytesRead, same === buffers, buffers.map(String), more.bytesRead];
  },
  'write(buffer, …)': async (open, path) => {
    await using handle = await open(path, 'r+');
    const seen = [
      await handle.write(Buffer.from('QUICK'), 0, 5, 4),
      await handle.write(Buffer.from('xxTHExx'), 2, 3),
    ];
    await handle.write(Buffer.from('END'), { position: 50 });
    return [seen.map(({ bytesWritten }) => bytesWritten), fs.readFileSync(path, 'latin1')];
  },
  'write(text, position, encoding)': async (open, path) => {
    await using handle = await open(path, 'r+');
    const { bytesWritten, buffer } = await handle.write('é', 4, 'latin1');
    const second = await handle.write('€');
    return [bytesWritten, buffer, second.bytesWritten, fs.readFileSync(path, 'latin1')];
  },
  'writev()': async (open, path) => {
    await using handle = await open(path, 'r+');
    const { bytesWritten } = await handle.writev([Buffer.from('ab'), new Uint8Array([99, 100])], 10);
    return [bytesWritten, fs.readFileSync(path, 'latin1')];
  },
  'readFile(), from where it stands': async (open, path) => {
    await using handle = await open(path);
    await handle.read(Buffer.alloc(4), 0, 4, null);
    return [
      String(await handle.readFile()),
      await handle.readFile('utf8'),
      await handle.readFile({ encoding: 'hex' }),
    ];
  },
  'writeFile() and appendFile(), from where it stands': async (open, path) => {
    await using handle = await open(path, 'w+');
    await handle.writeFile('one ');
    await handle.appendFile(Buffer.from('two '));
    await handle.writeFile(['th', 'ree']);
    return fs.readFileSync(path, 'latin1');
  },
  'stat(), truncate()': async (open, path) => {
    await using handle = await open(path, 'r+');
    const before = (await handle.stat()).size;
    await handle.truncate(7);
    const { size } = await handle.stat();
    await handle.truncate();
    return [before, size, (await handle.stat()).size, (await handle.stat()).isFile()];
  },
  'sync(), datasync()': async (open, path) => {
    await using handle = await open(path, 'r+');
    return [await handle.sync(), await handle.datasync()];
  },
  'createReadStream()': async (open, path) => {
    const handle = await open(path);
    const stream = handle.createReadStream({ start: 4, end: 8 });
    const text = String(Buffer.concat(await stream.toArray()));
    while (handle.fd !== -1) await new Promise(setImmediate);
    return text;
  },
  'createReadStream() from where it stands, autoClose: false': async (open, path) => {
    await using handle = await open(path);
    await handle.read(Buffer.alloc(4), 0, 4, null);
    const text = String(Buffer.concat(await handle.createReadStream({ autoClose: false }).toArray()));
    return [text, handle.fd >= 0];
  },
  'createWriteStream()': async (open, path) => {
    const handle = await open(path, 'r+');
    await new Promise((resolve) => handle.createWriteStream({ start: 4 }).end('QUICK', resolve));
    return fs.readFileSync(path, 'latin1');
  },
  'close() under a stream that reads': async (open, path) => {
    fs.writeFileSync(path, Buffer.alloc(4 * 1024 * 1024, 1));
    const handle = await open(path);
    const stream = handle.createReadStream({ highWaterMark: 4096 });
    const seen: unknown[] = [];
    for (const event of ['error', 'end', 'close']) stream.on(event, () => seen.push(event));
    await new Promise((resolve) => stream.once('data', resolve));
    await handle.close();
    while (!stream.closed) await new Promise(setImmediate);
    return [seen, handle.fd];
  },
  'close() under a stream that writes': async (open, path) => {
    const seen: unknown[] = [];
    for (const autoClose of [true, false]) {
      const handle = await open(path, 'w');
      const stream = handle.createWriteStream({ autoClose });
      for (const event of ['error', 'finish', 'close']) stream.on(event, () => seen.push(event));
      stream.write(Buffer.alloc(300_001, 1));
      await handle.close();
      while (!stream.closed) await new Promise(setImmediate);
      seen.push(handle.fd, stream.bytesWritten, fs.statSync(path).size);
    }
    return seen;
  },
  'lengths for truncate()': async (open, path) => {
    await using handle = await open(path, 'r+');
    const lengths = [Number.NaN, 1.5, '5', null, {}, -3, undefined];
    return Promise.all(lengths.map((length) => outcome(() => handle.truncate(length))));
  },
  'what writeFile() takes': async (open, path) => {
    await using handle = await open(path, 'w+');
    await handle.writeFile(new DataView(new ArrayBuffer(3)));
    await handle.writeFile([new Uint16Array(2), 'x']);
    const wrong = await Promise.all([5, null, {}].map((data) => outcome(() => handle.writeFile(data))));
    return [fs.readFileSync(path, 'latin1'), wrong];
  },
  'encodings that there are not': async (open, path) => {
    await using handle = await open(path, 'r+');
    return [
      await outcome(() => handle.writeFile('x', 'none')),
      await outcome(() => handle.readFile({ encoding: 'none' })),
    ];
  },
  'readFile() and writeFile() with a signal': async (open, path) => {
    await using handle = await open(path, 'r+');
    const stopped = { signal: AbortSignal.abort() };
    const { signal } = new AbortController();
    return [
      await outcome(() => handle.readFile(stopped)),
      await outcome(() => handle.writeFile('x', stopped)),
      await outcome(() => handle.readFile({ signal: 5 })),
      await outcome(() => handle.writeFile('X', { signal })),
      fs.readFileSync(path, 'latin1'),
    ];
  },
  'readLines()': async (open, path) => {
    fs.writeFileSync(path, 'a\nb\r\nc');
    const handle = await open(path);
    const lines = [];
    for await (const line of handle.readLines()) lines.push(line);
    return lines;
  },
  'fd, close(), and what is closed': async (open, path) => {
    const handle = await open(path);
    const seen = [typeof handle.fd, fs.fstatSync(handle.fd).size];
    await handle.close();
    return [
      ...seen,
      handle.fd,
      await outcome(() => handle.read(Buffer.alloc(1))),
      await outcome(() => handle.close()),
    ];
  },
  'writing what is open for reading': async (open, path) => {
    await using handle = await open(path);
    return outcome(() => handle.write('x'));
  },
  'flags and mode': async (open, path) => {
    await using handle = await open(`${path}-new`, 'wx', 0o640);
    await handle.write('x');
    return [
      (fs.statSync(`${path}-new`).mode & 0o777).toString(8),
      await outcome(() => open(`${path}-new`, 'wx')),
    ];
  },
  'what is not there': async (open, path) => [
    await outcome(() => open(`${path}-none`)),
    await outcome(() => open(`${path}-none`, 'r+')),
    await outcome(() => open(`${path}/below`)),
  ],
};

/** Before these versions, Node reads where the file stands if a position is a bigint or none at all. */
const LATER: Readonly<Record<string, number>> = {
  'read() with a bigint': 26,
  'wrong positions of read()': 26,
};
const major = Number.parseInt(process.versions.node, 10);

async function compare(t: Test, name: string, system: System): Promise<void> {
  const folder = t.testdir({});
  let number = 0;
  for (const [what, run] of Object.entries(behaviours)) {
    if (what in LATER && major < LATER[what]!) continue;
    const seen = [];
    for (const each of [open as Open, system.open.bind(system) as Open]) {
      const path = join(folder, String(++number));
      fs.writeFileSync(path, TEXT);
      seen.push(JSON.parse(JSON.stringify((await run(each, path)) ?? null)));
    }
    t.same(seen[1], seen[0], `${name}: ${what}`);
  }
  t.same(await system.close(), NOTHING_LEFT);
}

t.test('emulated', async (t) => compare(t, 'emulated', await openSystem({ machine: 'switch' })));
const native = await openSystem().catch(() => null);
t.test('native', { skip: native === null && 'no native backend' }, (t) => compare(t, 'native', native!));

/** The same reads and writes, some of them at once where they do not touch, on a handle and on a Buffer. */
async function likeAModel(t: Test, handle: P2pFileHandle, size: number): Promise<void> {
  const model = Buffer.alloc(size);
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          at: fc.integer({ min: 0, max: size - 1 }),
          length: fc.oneof(fc.integer({ min: 0, max: 700 }), fc.integer({ min: 0, max: 20_000 })),
          within: fc.integer({ min: 0, max: 9 }),
          seed: fc.integer({ min: 1, max: 1000 }),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      async (ops) => {
        // Neighbours in one block, written at once: none may lose what another wrote.
        const parts = ops.map(({ at, length, within, seed }) => ({
          at,
          bytes: bytesOf(Math.min(length, size - at) + within, seed).subarray(within),
        }));
        const apart = parts.filter((one, i) =>
          parts
            .slice(0, i)
            .every((o) => one.at + one.bytes.length <= o.at || o.at + o.bytes.length <= one.at),
        );
        await Promise.all(apart.map(({ at, bytes }) => handle.write(bytes, 0, bytes.length, at)));
        for (const { at, bytes } of apart) model.set(bytes, at);
        for (const { at, length: asked } of ops) {
          const length = Math.min(asked, size - at);
          const buffer = Buffer.alloc(length + 1, 0xee);
          const { bytesRead } = await handle.read(buffer, 1, length, at);
          const wanted = model.subarray(at, at + length);
          t.ok(
            bytesRead === wanted.length && buffer.subarray(1, 1 + bytesRead).equals(wanted),
            `${length} at ${at}`,
          );
        }
      },
    ),
    { numRuns: 40 },
  );
}

t.test('a drive, at any offset', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const target = await system.target('nvme0n1');
  const { size } = target;
  await target.close();
  const handle = await system.open('nvme0n1', 'r+');
  await likeAModel(t, handle, 256 * 1024);
  t.equal((await handle.read(Buffer.alloc(10), 0, 10, size - 3)).bytesRead, 3, 'the end of the drive');
  await t.rejects(handle.write('four', size - 3), { code: 'ENOSPC', syscall: 'write' });
  await t.rejects(handle.stat(), { code: 'EOPNOTSUPP', syscall: 'fstat' });
  t.equal(handle.fd, -1);
  t.same(await system.close(), NOTHING_LEFT, 'closing the system closes the handle');
});

t.test('a file, at any offset', { skip: native === null && 'no native backend' }, async (t) => {
  const path = join(t.testdir({}), 'file');
  fs.writeFileSync(path, Buffer.alloc(256 * 1024));
  const system = await openSystem();
  await likeAModel(t, await system.open(path, 'r+'), 256 * 1024);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what a close(2) that fails says', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { close } = BlockFile.prototype;
  t.teardown(() => {
    BlockFile.prototype.close = close;
  });
  BlockFile.prototype.close = async function () {
    await close.call(this);
    throw errnoError(-EIO, 'close', this.target.path);
  };
  const handle = await system.open('nvme0n1', 'r+');
  await t.rejects(handle.createReadStream({ end: 9 }).toArray(), { code: 'EIO', syscall: 'close' });
  await t.rejects(handle.close(), { code: 'EIO' });
  const open = await system.open('nvme0n1', 'r+');
  await t.rejects(system.close(), { code: 'EIO' }, 'told by who closes it');
  t.equal(open.fd, -1);
});

t.test('a stream that ended and stays open', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const handle = await system.open('nvme0n1', 'r+');
  const reader = handle.createReadStream({ end: 9, autoClose: false });
  await reader.toArray();
  const writer = handle.createWriteStream({ autoClose: false });
  await new Promise<void>((resolve) => writer.end('x', () => resolve()));
  t.equal((await handle.read(Buffer.alloc(1), 0, 1, 0)).bytesRead, 1);
  await handle.close();
  t.same([reader.destroyed, writer.destroyed], [true, true], 'does not keep close() waiting');
  await t.rejects(handle.createReadStream().toArray(), { code: 'EBADF', syscall: 'open' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what only node:fs can open', async (t) => {
  const path = join(t.testdir({ file: '' }), 'file');
  await using system = await openSystem({ machine: 'switch' });
  await t.rejects(system.open(path, 'a'), { code: 'EINVAL', hint: /node:fs\/promises/ });
  await t.rejects(system.open(Buffer.from([0xff])), { code: 'ERR_INVALID_ARG_VALUE' });
  if (process.platform === 'linux') await t.rejects(system.open('/dev/null'), { code: 'EINVAL' });
});
