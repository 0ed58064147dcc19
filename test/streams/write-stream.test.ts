/**
 * Acknowledged means written: what a writer said it wrote is there, for everybody and whatever happens then; nothing else
 * is. On files of this machine, on files of an emulated one, and beside node:fs.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import t, { type Test } from 'tap';
import { openSystem, type System, type WriteStreamOptions } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { loopDevice, skipLoop, skipNative } from '../helpers/native.js';

const folder = fs.mkdtempSync(join(tmpdir(), 'p2pdma-writers-'));
t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
let files = 0;
const fresh = () => join(folder, `f${files++}`);

interface Backend {
  readonly name: string;
  /** Source text of what opens it. */
  readonly options: string;
  open(): Promise<System>;
}

const backends: Backend[] = [
  {
    name: 'emulator',
    options: "{ machine: 'switch' }",
    open: () => openSystem({ machine: 'switch' }),
  },
];
if (skipNative) t.pass('natively', { skip: skipNative });
else {
  for (const engine of ['uring', 'threads'] as const) {
    const opened = await openSystem({ backend: 'native', engine }).catch((error: Error) => error);
    if (opened instanceof Error) {
      t.pass(engine, { skip: opened.message });
      continue;
    }
    await opened.close();
    backends.push({
      name: `native, ${engine}`,
      options: `{ backend: 'native', engine: '${engine}' }`,
      open: () => openSystem({ backend: 'native', engine }),
    });
  }
}

/** Resolves when the write is acknowledged. */
function write(stream: Writable, chunk: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) =>
    stream.write(chunk, (error) => (error ? reject(error) : resolve())),
  );
}

function each(name: string, body: (t: Test, system: System, backend: Backend) => Promise<void>): void {
  for (const backend of backends) {
    t.test(`${backend.name}: ${name}`, async (t) => {
      const system = await backend.open();
      await body(t, system, backend);
      t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
    });
  }
}

each('each acknowledged byte is seen by others at once, and none before it was given', async (t, system) => {
  const file = fresh();
  const writer = system.createWriteStream(file, { flush: false });
  const all = bytesOf(3_000_000, 4);
  let given = 0;
  let longest = 0;
  let looking = true;
  const look = async () => {
    while (looking) {
      const size = fs.existsSync(file) ? fs.statSync(file).size : 0;
      if (size > given) t.fail(`${size} bytes in the file, ${given} were given`);
      longest = Math.max(longest, size);
      await new Promise(setImmediate);
    }
  };
  const looks = look();
  for (const length of [7, 505, 1, 4096, 100_001, 700_003, 512, 3, 1_048_576, 33]) {
    const chunk = all.subarray(given, given + length);
    given += length;
    await write(writer, chunk);
    t.equal(writer.bytesWritten, given);
    t.ok(fs.readFileSync(file).equals(all.subarray(0, given)), `${given} bytes`);
  }
  looking = false;
  await looks;
  t.ok(longest > 0, `the longest that was seen: ${longest}`);
  writer.end();
  await finished(writer);
});

each('destroy() after an acknowledged write loses nothing, and pads nothing', async (t, system) => {
  for (const length of [7, 512, 4097, 600_001]) {
    const file = fresh();
    const writer = system.createWriteStream(file);
    const bytes = bytesOf(length, 5);
    await write(writer, bytes);
    writer.destroy();
    await once(writer, 'close');
    t.ok(fs.readFileSync(file).equals(bytes), `${length} bytes`);
    t.equal(writer.bytesWritten, length);
  }
});

each('whatever ends the process, what was acknowledged is in the file', async (t, _system, { options }) => {
  const lib = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href);
  const ends = {
    exit: 'process.exit(0)',
    throw: "setImmediate(() => { throw new Error('stop'); })",
    SIGKILL: "process.kill(process.pid, 'SIGKILL')",
    'no more work': '',
  };
  const run = async ([how, code]: [string, string]) => {
    const file = fresh();
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { openSystem } from ${lib};
         const system = await openSystem(${options});
         const writer = system.createWriteStream(${JSON.stringify(file)});
         for (let i = 0; i < 100; i++) await new Promise((r, j) => writer.write('line ' + i + '\\n', (e) => e ? j(e) : r()));
         await new Promise((r) => writer.write(Buffer.alloc(300001, 1), r));
         ${code}`,
      ],
      { stdio: 'ignore' },
    );
    await once(child, 'exit');
    t.equal(fs.statSync(file).size, 790 + 300_001, how);
  };
  await Promise.all(Object.entries(ends).map(run));
});

each('many small writes, awaited by nobody, are all there in their order', async (t, system) => {
  const file = fresh();
  const writer = system.createWriteStream(file, { flush: false });
  let expected = '';
  let acknowledged = 0;
  for (let i = 0; i < 5000; i++) {
    writer.write(`line ${i}\n`, (error) => {
      if (!error) acknowledged++;
    });
    expected += `line ${i}\n`;
  }
  writer.end();
  await finished(writer);
  t.equal(fs.readFileSync(file, 'latin1'), expected);
  t.equal(acknowledged, 5000);
  t.equal(writer.bytesWritten, expected.length);
});

each('two writers and an outsider in one block: each byte is its last writer’s', async (t, system) => {
  const file = fresh();
  const before = bytesOf(40_000, 6);
  fs.writeFileSync(file, before);
  const cuts = [13, 700, 5000, 5001, 12_288, 30_001, 39_999];
  const writers = cuts.slice(1).map((end, i) => {
    const start = cuts[i]!;
    const stream = system.createWriteStream(file, { flags: 'r+', start, flush: i % 2 === 0 });
    return { stream, start, bytes: bytesOf(end - start, 30 + i) };
  });
  for (const { stream, bytes } of writers) stream.write(bytes.subarray(0, bytes.length >> 1));
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, 'OUTSIDE', 0);
  fs.writeSync(fd, '!', 39_999);
  fs.closeSync(fd);
  for (const { stream, bytes } of writers) stream.end(bytes.subarray(bytes.length >> 1));
  await Promise.all(writers.map(({ stream }) => finished(stream)));
  before.write('OUTSIDE', 0);
  before.write('!', 39_999);
  for (const { start, bytes } of writers) bytes.copy(before, start);
  t.ok(fs.readFileSync(file).equals(before));
});

each(
  'a full disk: bytesWritten and callbacks say what is in the file, as in node:fs',
  async (t, system, { name }) => {
    const disk = fs.mkdtempSync(join(folder, 'disk-'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk], { encoding: 'utf8' });
    if (mounted.status !== 0) return void t.pass('a full disk', { skip: `mount: ${mounted.stderr}` });
    try {
      for (const chunk of [1024, 5000, 400_000]) {
        const rows = [];
        for (const create of [fs.createWriteStream, system.createWriteStream.bind(system)]) {
          const file = join(disk, 'f');
          const writer = create(file, {}) as fs.WriteStream;
          const closed = new Promise<void>((resolve) => writer.on('close', () => resolve()));
          const codes: string[] = [];
          writer.on('error', ({ code }: NodeJS.ErrnoException) => codes.push(code ?? ''));
          let kept = 0;
          while (!writer.destroyed) {
            await write(writer, Buffer.alloc(chunk, 1)).then(
              () => {
                kept++;
              },
              ({ code }) => codes.push(code),
            );
          }
          await closed;
          const { size } = fs.statSync(file);
          fs.unlinkSync(file);
          rows.push({ kept, codes, written: writer.bytesWritten, size });
        }
        const [theirs, ours] = rows as [(typeof rows)[0], (typeof rows)[0]];
        t.equal(ours.kept, theirs.kept, `chunks of ${chunk}: as many acknowledged`);
        t.same(ours.codes, theirs.codes);
        // A command that fails says nothing of its parts, so the emulated drive's count is of whole commands.
        if (name === 'emulator') t.ok(ours.written <= ours.size && ours.written >= ours.kept * chunk);
        else t.equal(ours.written, ours.size, 'bytesWritten is what the file has');
        t.equal(ours.size, theirs.size);
      }
    } finally {
      spawnSync('umount', [disk]);
    }
  },
);

each('memory is left alone once a write is acknowledged', async (t, system) => {
  const file = fresh();
  const writer = system.createWriteStream(file, { highWaterMark: 16_384, flush: false });
  const memory = system.allocate(null, 65_536);
  const odd = Buffer.alloc(5001);
  const expected: Buffer[] = [];
  for (let i = 0; i < 40; i++) {
    for (const chunk of [memory.buffer, odd]) {
      chunk.fill(i + 1);
      expected.push(Buffer.from(chunk));
      await write(writer, chunk);
      chunk.fill(0xee);
    }
  }
  writer.end();
  await finished(writer);
  memory.free();
  t.ok(fs.readFileSync(file).equals(Buffer.concat(expected)));
});

each('an idle writer holds no memory', async (t, system) => {
  const writers = [];
  for (let i = 0; i < 100; i++) writers.push(system.createWriteStream(fresh(), { flush: false }));
  await Promise.all(writers.map((writer) => write(writer, bytesOf(400_000, i8()))));
  t.same(system.metrics().pools, []);
  for (const writer of writers) writer.end();
  await Promise.all(writers.map((writer) => finished(writer)));
});

each('an idle reader holds no memory', async (t, system) => {
  const file = fresh();
  fs.writeFileSync(file, bytesOf(1_000_000, 1));
  const from = system.backend === 'native' ? file : 'nvme0n1';
  const before = process.memoryUsage().arrayBuffers;
  const readers = [];
  for (let i = 0; i < 100; i++) readers.push(system.createReadStream(from));
  await Promise.all(readers.map((reader) => once(reader, 'open')));
  t.same(system.metrics().pools, []);
  const taken = process.memoryUsage().arrayBuffers - before;
  t.ok(taken < 16 * 1024 * 1024, `${taken} bytes for 100 readers`);
  for (const reader of readers) reader.destroy();
  await Promise.all(readers.map((reader) => once(reader, 'close')));
});

let seed = 0;
const i8 = () => seed++ % 256;

each('close(callback) ends it and closes it', async (t, system) => {
  for (const options of [{}, { autoClose: false }] as WriteStreamOptions[]) {
    const file = fresh();
    const writer = system.createWriteStream(file, options);
    writer.write('the last words');
    await new Promise<void>((resolve) => writer.close(() => resolve()));
    t.equal(writer.closed, true);
    t.equal(writer.writableFinished, true);
    t.equal(fs.readFileSync(file, 'utf8'), 'the last words');
    await new Promise<void>((resolve) => writer.close(() => resolve()));
    t.pass('closed already: called all the same');
  }
});

each('a file whose name is gone, or somebody else’s by now', async (t, system) => {
  const file = fresh();
  const writer = system.createWriteStream(file, { flush: false });
  await once(writer, 'open');
  const fd = fs.openSync(file, 'r');
  fs.unlinkSync(file);
  fs.writeFileSync(file, 'another');
  await write(writer, 'small');
  await write(writer, bytesOf(700_000, 3));
  t.equal(fs.fstatSync(fd).size, 700_005);
  fs.closeSync(fd);
  t.equal(fs.readFileSync(file, 'utf8'), 'another');
  writer.end();
  await finished(writer);
});

each('events and callbacks run in the context in which the stream was made', async (t, system) => {
  const storage = new AsyncLocalStorage<string>();
  const seen: string[] = [];
  const one = (id: string) =>
    storage.run(id, async () => {
      const writer = system.createWriteStream(fresh(), { highWaterMark: 1024 });
      const note = (what: string) => () => {
        if (storage.getStore() !== id) seen.push(`${what} of ${id} in ${storage.getStore()}`);
      };
      for (const event of ['open', 'ready', 'drain', 'finish', 'close']) writer.on(event, note(event));
      const closed = once(writer, 'close');
      for (let i = 0; i < 5; i++) {
        // Written in a context of somebody else's.
        storage.run('caller', () => writer.write(bytesOf(2000 + 200_000 * (i % 2)), note('callback')));
        await once(writer, 'drain');
      }
      storage.run('caller', () => writer.end());
      await closed;
    });
  await Promise.all(['a', 'b', 'c'].map(one));
  t.same(seen, []);
});

t.test('native: parts of blocks of a loop device, by writers side by side', async (t) => {
  if (skipLoop) return void t.pass('loop device', { skip: skipLoop });
  const device = loopDevice(t, 1024 * 1024);
  const system = await openSystem({ backend: 'native' });
  const expected = Buffer.alloc(65_536);
  let at = 77;
  const writers = [100, 700, 13, 512, 2048, 1, 333, 20_000, 50].map((length, i) => {
    const bytes = bytesOf(length, 50 + i);
    bytes.copy(expected, at);
    const writer = system.createWriteStream(device, { start: at, force: true, flush: false });
    at += length;
    writer.end(bytes);
    return finished(writer);
  });
  await Promise.all(writers);
  const fd = fs.openSync(device, 'r');
  const got = Buffer.alloc(expected.length);
  fs.readSync(fd, got, 0, got.length, 0);
  fs.closeSync(fd);
  t.ok(got.equals(expected));
  t.same(await system.close(), NOTHING_LEFT);
});

t.test(
  'destroyed before it is open, a stream says nothing of the system that closed meanwhile',
  async (t) => {
    for (const kind of ['reader', 'writer'] as const) {
      const system = await openSystem({ machine: 'switch' });
      const { backend } = system.context;
      const open = backend.openTarget.bind(backend);
      let go = () => {};
      const gate = new Promise<void>((resolve) => {
        go = resolve;
      });
      backend.openTarget = async (name, options) => {
        const target = await open(name, options);
        await gate;
        return target;
      };
      const stream =
        kind === 'reader' ? system.createReadStream('nvme0n1') : system.createWriteStream('nvme0n1');
      const errors: Error[] = [];
      stream.on('error', (error) => errors.push(error));
      const closed = new Promise((resolve) => stream.once('close', resolve));
      await new Promise(setImmediate);
      stream.destroy();
      const closing = system.close();
      go();
      t.same(await closing, NOTHING_LEFT, kind);
      await closed;
      t.same(errors, [], kind);
    }
  },
);
