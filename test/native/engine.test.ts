import { closeSync, constants, fstatSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { EEXIST, ENAMETOOLONG, ENOENT } from '../../lib/base/errno.js';
import { loadAddon, nativeCounters } from '../../lib/native/addon.js';
import { openNative } from '../../lib/native/backend.js';
import {
  acquireEngine,
  type Completer,
  FLAG_THREAD,
  FLAG_URING_CMD,
  LAYOUT,
  NativeEngine,
  OP_NOP,
  OP_PASSTHROUGH,
  OP_READ,
  OP_TRUNCATE,
  OP_WRITE,
} from '../../lib/native/engine.js';
import { child, directIoDir, pattern, skipNative, transfer } from '../helpers/native.js';

const kinds = ['uring', 'threads'] as const;
const BLOCK = 4096;

/** Collects results by token. */
/** A read or write that completes by its number. */
const vectored = (id: number, offset: number, segments: readonly Uint8Array[]) => ({ id, offset, segments });

function collector(count: number) {
  const results = new Map<number, number>();
  let resolve: () => void;
  const all = new Promise<void>((r) => {
    resolve = r;
  });
  const completer: Completer<{ readonly id: number }> = {
    completed({ id }, result) {
      if (results.has(id)) throw new Error(`${id} completed twice`);
      results.set(id, result);
      if (results.size === count) resolve();
    },
  };
  return { results, completer, all };
}

t.test('C++ has the same op codes, flags and records', { skip: skipNative }, async (t) => {
  t.strictSame(loadAddon().layout, LAYOUT);
});

t.test('both engines', { skip: skipNative }, async (t) => {
  const directory = directIoDir(t);

  for (const kind of kinds) {
    t.test(kind, async (t) => {
      const blocks = 3000;
      const file = join(directory, `data-${kind}`);
      const content = pattern(blocks * BLOCK);
      writeFileSync(file, content);

      t.test('a ring of 2 entries, or 32 threads, takes 3000 requests of one turn', async (t) => {
        const engine = new NativeEngine(kind, 'test', 2).retain();
        const fd = openSync(file, 'r');
        const memory = new Uint8Array(blocks * BLOCK);
        const { results, completer, all } = collector(blocks);
        for (let i = 0; i < blocks; i++) {
          const at = ((i * 7) % blocks) * BLOCK;
          const refused = engine.readWrite(
            completer,
            vectored(i, at, [memory.subarray(at, at + BLOCK)]),
            OP_READ,
            0,
            fd,
          );
          if (refused !== 0) t.fail(`refused: ${refused}`);
        }
        t.equal(results.size, 0, 'nothing completes inside submit');
        await all;
        t.ok([...results.values()].every((result) => result === BLOCK));
        t.ok(Buffer.from(memory.buffer).equals(content), 'every request went where it belongs');
        closeSync(fd);
        engine.release();
        t.equal(engine.inFlight, 0);
      });

      t.test('requests with very many segments: the request table is emptied when full', async (t) => {
        const engine = new NativeEngine(kind, 'test').retain();
        const fd = openSync(file, 'r+');
        const { results, completer, all } = collector(100);
        const memory = new Uint8Array(100 * 1000 * 16);
        for (let i = 0; i < 100; i++) {
          const segments = Array.from({ length: 1000 }, (_, s) =>
            memory.subarray((i * 1000 + s) * 16, (i * 1000 + s + 1) * 16),
          );
          engine.readWrite(completer, vectored(i, i * 16_000, segments), OP_READ, 0, fd);
        }
        await all;
        t.ok([...results.values()].every((result) => result === 16_000));
        t.ok(Buffer.from(memory.buffer).equals(Buffer.from(content.buffer, 0, memory.length)));

        const { results: long, completer: one, all: done } = collector(1);
        const many = Array.from({ length: 1500 }, (_, s) => memory.subarray(s, s + 1));
        engine.readWrite(one, vectored(0, 0, many), OP_READ, 0, fd);
        await done;
        t.equal(long.get(0), 1024, 'more than IOV_MAX segments: a short transfer');
        closeSync(fd);
        engine.release();
      });

      t.test('errors and ends come back as the system call says', async (t) => {
        const engine = new NativeEngine(kind, 'test').retain();
        const fd = openSync(file, 'r');
        const { results, completer, all } = collector(5);
        const memory = new Uint8Array(BLOCK);
        engine.readWrite(completer, vectored(0, blocks * BLOCK - 10, [memory]), OP_READ, 0, fd);
        engine.readWrite(completer, vectored(1, blocks * BLOCK + 10, [memory]), OP_READ, 0, fd);
        engine.readWrite(completer, vectored(2, 0, [memory]), OP_WRITE, 0, fd);
        engine.readWrite(completer, vectored(3, 0, [memory]), OP_READ, 0, 1_000_000);
        engine.command(completer, { id: 4 }, { op: OP_TRUNCATE, flags: 0, fd, offset: 5 });
        await all;
        t.equal(results.get(0), 10, 'short at the end');
        t.equal(results.get(1), 0, 'nothing beyond it');
        t.equal(results.get(2), -9, 'EBADF: not open for writing');
        t.equal(results.get(3), -9, 'EBADF: no such fd');
        t.equal(results.get(4), -22, 'EINVAL: truncate on a read-only fd');
        closeSync(fd);
        engine.release();
      });

      t.test('a transfer into memory that is gone is refused at once', async (t) => {
        const engine = new NativeEngine(kind, 'test').retain();
        const { completer } = collector(1);
        const memory = new Uint8Array(BLOCK);
        structuredClone(memory.buffer, { transfer: [memory.buffer] });
        t.equal(engine.readWrite(completer, vectored(0, 0, [memory]), OP_READ, 0, 0), -14);
        t.equal(engine.readWrite(completer, vectored(0, 0, [new Uint8Array(0)]), OP_READ, 0, 0), -14);
        t.equal(engine.inFlight, 0);
        engine.release();
      });

      t.test('a completion that throws is an uncaught exception, and the others still come', async (t) => {
        const { status, stdout } = child(
          `
          const { NativeEngine, OP_NOP } = await import(${JSON.stringify(new URL('../../lib/native/engine.js', import.meta.url).href)});
          const engine = new NativeEngine(argv[0], 'test').retain();
          let seen = 0;
          const completer = { completed(token) {
            if (++seen === 10) { console.log('all'); engine.release(); }
            if (token % 3 === 0) throw new Error('token ' + token);
          } };
          process.on('uncaughtException', (error) => console.log(error.message));
          for (let i = 0; i < 10; i++) engine.command(completer, i, { op: OP_NOP, flags: 0, fd: -1 });
          `,
          [kind],
        );
        t.equal(status, 0);
        t.same(stdout.trim().split('\n').sort(), ['all', 'token 0', 'token 3', 'token 6', 'token 9']);
      });

      t.test(
        'what runs in a completion is ordinary JavaScript: promises and ticks run after it',
        async (t) => {
          const engine = new NativeEngine(kind, 'test').retain();
          const order: string[] = [];
          await new Promise<void>((resolve) => {
            const completer: Completer<null> = {
              completed() {
                process.nextTick(() => order.push('tick'));
                queueMicrotask(() => order.push('microtask'));
                setTimeout(resolve, 1);
                order.push('completed');
              },
            };
            engine.command(completer, null, { op: OP_NOP, flags: 0, fd: -1 });
          });
          t.same(order, ['completed', 'tick', 'microtask']);
          engine.release();
        },
      );

      t.test('released with requests in flight, it closes after the last of them', async (t) => {
        const engine = new NativeEngine(kind, 'test').retain();
        const before = nativeCounters().rings;
        const { results, completer, all } = collector(20);
        for (let i = 0; i < 20; i++) engine.command(completer, { id: i }, { op: OP_NOP, flags: 0, fd: -1 });
        engine.release();
        engine.release();
        await all;
        t.equal(results.size, 20);
        await new Promise((resolve) => setImmediate(resolve));
        t.equal(nativeCounters().rings, kind === 'uring' ? before - 1 : before);
        t.throws(() => engine.command(completer, { id: 0 }, { op: OP_NOP, flags: 0, fd: -1 }), {
          code: 'ERR_TARGET_CLOSED',
        });
      });
    });
  }

  t.test('all requests of one turn go to the kernel in one call, from wherever they were made', async (t) => {
    const backend = await openNative({ engine: 'uring' });
    const file = join(directory, 'data-uring');
    const target = await backend.openTarget(file, {});
    const { buffer } = backend.memory.allocHost(64 * BLOCK);
    const before = nativeCounters();
    const some: Promise<unknown>[] = [];
    const read = (i: number) =>
      some.push(transfer(target, 'read', i * BLOCK, new Uint8Array(buffer, i * BLOCK, BLOCK)));
    await new Promise<void>((resolve) => {
      setImmediate(() => {
        for (let i = 0; i < 20; i++) read(i);
        process.nextTick(() => {
          for (let i = 20; i < 40; i++) read(i);
        });
        Promise.resolve().then(() => {
          for (let i = 40; i < 64; i++) read(i);
          resolve();
        });
      });
    });
    await Promise.all(some);
    t.equal(nativeCounters().submitted - before.submitted, 64);
    t.equal(nativeCounters().enters - before.enters, 1);
    t.ok(nativeCounters().callbacks - before.callbacks <= 64);
    t.ok(
      readFileSync(file)
        .subarray(0, 64 * BLOCK)
        .equals(Buffer.from(buffer)),
    );
    await backend.close();
  });

  /**
   * A worker of the kernel does an fsync, and hands its end back as deferred work of which no completion tells. Left
   * lying, it kept the eventfd silent about the reads that followed.
   */
  t.test('reads after an fsync are told of', async (t) => {
    const backend = await openNative({ engine: 'uring' });
    const target = await backend.openTarget(join(directory, 'data-uring'), { write: true });
    const { buffer } = backend.memory.allocHost(8 * BLOCK);
    for (let round = 0; round < 50; round++) {
      await target.flush();
      await sleep(round % 5);
      const reads = Array.from({ length: 8 }, (_, i) =>
        transfer(target, 'read', i * BLOCK, new Uint8Array(buffer, i * BLOCK, BLOCK)),
      );
      const results = await Promise.all(reads);
      if (results.some(({ result }) => result !== BLOCK)) t.fail(`round ${round}: short`);
    }
    await backend.close();
  });

  /**
   * A worker of the kernel queues its work, and raises the flag that tells of it afterwards. Preempted between the two,
   * it raises the flag over work that is done already, and entering the kernel does not take it down: this went round
   * and round inside C++, at full speed, until the next completion, which with nothing else in flight never came.
   */
  t.test('a flag raised over nothing is looked at once', async (t) => {
    const { status, stdout, stderr } = child(
      `
      import { openSync, readFileSync, readSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      const backend = await openNative({ engine: 'uring' });
      const target = await backend.openTarget(argv[0], {});
      const { buffer } = backend.memory.allocHost(4096);
      const memory = openSync('/proc/self/mem', 'r+');
      // struct io_rings: sq_ring_entries at 24, cq_ring_entries at 28, sq_flags at 36.
      const ring = readFileSync('/proc/self/maps', 'utf8').split('\\n')
        .filter((line) => / 00000000 .*\\[io_uring\\]/.test(line))
        .map((line) => parseInt(line, 16))
        .find((at) => {
          const words = new Uint32Array(10);
          readSync(memory, words, 0, 40, at);
          return words[6] === 512 && words[7] === 2048;
        });
      const raise = \`
        const { writeSync } = require('node:fs');
        const { memory, flags } = require('node:worker_threads').workerData;
        const TASKRUN = Uint32Array.of(4);
        for (const until = Date.now() + 300; Date.now() < until; ) writeSync(memory, TASKRUN, 0, 4, flags);
      \`;
      let raising = true;
      const worker = new Worker(raise, { eval: true, execArgv: [], workerData: { memory, flags: ring + 36 } });
      worker.on('exit', () => { raising = false; });
      while (raising) {
        const { result } = await io(target, 'read', 0, new Uint8Array(buffer));
        if (result !== 4096) throw new Error('short');
      }
      console.log('done');
      await backend.close();
      `,
      [join(directory, 'data-uring')],
      [],
      ['timeout', '-s', 'KILL', '20'],
    );
    t.equal(status, 0, stderr);
    t.equal(stdout, 'done\n');
  });

  t.test('NVMe commands through a ring of their own, or the ioctl where the device has none', async (t) => {
    const engine = new NativeEngine('uring', 'test').retain();
    const addon = loadAddon();
    const before = nativeCounters().rings;
    const command = [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1];
    // /dev/null answers every URING_CMD with 0 (since 6.2); a regular file knows neither that nor NVMe's ioctl.
    const sink = addon.openFile('/dev/null', 2, 0);
    const answer = await engine.call({ op: OP_PASSTHROUGH, flags: FLAG_URING_CMD, fd: sink, words: command });
    t.ok(answer === 0 || answer === -25, `result ${answer}`);
    const rings = nativeCounters().rings;
    t.ok(rings === before || rings === before + 1);
    const file = addon.openFile(join(directory, 'data-uring'), 0, 0);
    t.equal(
      await engine.call({ op: OP_PASSTHROUGH, flags: FLAG_URING_CMD, fd: file, words: command }),
      -25,
      'ENOTTY',
    );
    t.equal(await engine.call({ op: OP_PASSTHROUGH, flags: FLAG_THREAD, fd: file, words: command }), -25);
    t.equal(
      await engine.call({ op: OP_PASSTHROUGH, flags: FLAG_THREAD, fd: file, words: [] }),
      -25,
      'too few words: an empty command',
    );
    for (const fd of [sink, file]) t.equal(addon.closeFd(fd), 0);
    t.equal(addon.closeFd(file), -9, 'only once');
    engine.release();
    t.equal(nativeCounters().rings, before - 1);
  });

  t.test(
    'files we opened are registered with the ring until they are closed; too many are used by fd',
    async (t) => {
      const addon = loadAddon();
      const file = join(directory, 'registered');
      const content = pattern(100 * BLOCK);
      writeFileSync(file, content);
      const engine = new NativeEngine('uring', 'test').retain();
      const fds = Array.from({ length: 100 }, () => addon.openFile(file, constants.O_RDONLY, 0));
      for (const round of [1, 2]) {
        const memory = new Uint8Array(100 * BLOCK);
        const { results, completer, all } = collector(fds.length);
        for (const [i, fd] of fds.entries()) {
          engine.readWrite(
            completer,
            vectored(i, i * BLOCK, [memory.subarray(i * BLOCK, (i + 1) * BLOCK)]),
            OP_READ,
            0,
            fd,
          );
        }
        await all;
        t.ok([...results.values()].every((result) => result === BLOCK));
        t.ok(Buffer.compare(content, memory) === 0, `round ${round}: each read is through its own file`);
        const registered = round === 1 ? 0 : 64;
        t.equal(
          nativeCounters().registeredFiles,
          registered,
          'with the second read, as many as fit the table',
        );
      }

      const [closed, other] = [fds[0]!, fds[1]!];
      addon.closeFd(closed);
      t.equal(nativeCounters().registeredFiles, 63);
      writeFileSync(join(directory, 'successor'), 'x'.repeat(BLOCK));
      const opened: number[] = [];
      do opened.push(addon.openFile(join(directory, 'successor'), constants.O_RDONLY, 0));
      while (opened.at(-1) !== closed && opened.length < 100);
      const again = opened.at(-1)!;
      t.equal(again, closed, 'the number is given out again');
      const memory = new Uint8Array(BLOCK);
      const { results, completer, all } = collector(1);
      engine.readWrite(completer, vectored(0, 0, [memory]), OP_READ, 0, again);
      await all;
      t.equal(results.get(0), BLOCK);
      t.equal(memory[0], 'x'.charCodeAt(0), 'and means the new file');

      for (const fd of [...opened, other, ...fds.slice(2)]) addon.closeFd(fd);
      t.equal(nativeCounters().registeredFiles, 0);
      engine.release();
    },
  );

  t.test('one ring per thread of JavaScript, shared and counted', async (t) => {
    const [one, two] = [await openNative({ engine: 'uring' }), await openNative({ engine: 'uring' })];
    t.equal(nativeCounters().rings, 1);
    await one.close();
    t.equal(nativeCounters().rings, 1);
    const target = await two.openTarget(join(directory, 'data-uring'), {});
    t.equal((await transfer(target, 'read', 0, two.memory.allocBuffer(BLOCK))).result, BLOCK);
    await two.close();
    t.equal(nativeCounters().rings, 0);
    const three = await openNative({ engine: 'uring' });
    t.equal(nativeCounters().rings, 1, 'and can be had again');
    await three.close();
  });

  t.test("'auto' says what it took and why", async (t) => {
    const engine = acquireEngine('auto');
    t.match(engine.kind, /^(uring|threads)$/);
    t.match(engine.reason, engine.kind === 'uring' ? /permitted/ : /io_uring is refused: /);
    t.equal(acquireEngine('auto'), engine);
    const threads = acquireEngine('threads');
    t.equal(threads.kind, 'threads');
    threads.release();
    engine.release();
    engine.release();
  });

  t.test('a malformed request stream does not reach memory it should not', async (t) => {
    const addon = loadAddon();
    const requests = new Float64Array(64);
    const control = new Int32Array(4);
    let completions = 0;
    const id = addon.openEngine(
      { ring: false, entries: 8, loop: true },
      requests,
      new Int32Array(16),
      control,
      (count) => {
        completions += count;
      },
    );
    requests.set([0, OP_NOP, -1, 0, 1000]);
    control[0] = 5;
    addon.take(id);
    t.equal(control[0], 0, 'a record longer than the stream is dropped');
    control[0] = 100_000;
    addon.take(id);
    t.equal(control[0], 0, 'a stream longer than its table too');
    t.equal(completions, 0);
    addon.closeEngine(id);
    addon.closeEngine(id);
    addon.closeEngine(12345);
    addon.wake(12345);
    addon.flush(12345);
    addon.retry(12345);
  });
});

t.test('a file is made by a thread', { skip: skipNative }, async (t) => {
  const folder = t.testdir({ there: 'x' });
  const { O_CREAT, O_EXCL, O_RDWR } = constants;
  for (const kind of kinds) {
    const engine = acquireEngine(kind);
    const { fds, inFlight } = nativeCounters();
    const make = (name: string, mode = 0o600) =>
      engine.open(join(folder, name), O_RDWR | O_CREAT | O_EXCL, mode);
    const names = ['a', 'ä € 😀', 'b'.repeat(255)].map((name) => `${kind[0]}${name}`.slice(0, 255));
    const made = await Promise.all(names.map((name) => make(name)));
    for (const [i, name] of names.entries()) {
      t.ok(made[i]! >= 0, name);
      t.equal(statSync(join(folder, name)).mode & 0o777, 0o600);
      t.equal(fstatSync(made[i]!).ino, statSync(join(folder, name)).ino);
    }
    t.equal(nativeCounters().fds, fds + names.length);
    t.equal(await make('there'), -EEXIST);
    t.equal(await make('none/new'), -ENOENT);
    t.equal(await make('c'.repeat(256)), -ENAMETOOLONG);
    t.equal(await make(`${'d/'.repeat(2048)}e`), -ENAMETOOLONG);
    for (const fd of made) t.equal(loadAddon().closeFd(fd), 0, 'it is the addon’s own');
    t.match(nativeCounters(), { fds, inFlight });
    engine.release();
  }
});

t.test(
  'an environment that ends while a file is made keeps no descriptor',
  { skip: skipNative },
  async (t) => {
    const { stdout, stderr } = child(
      `
    import { readdirSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    const open = () => readdirSync('/proc/self/fd').length;
    const script = "import { workerData } from 'node:worker_threads';" +
      "import(workerData.engine).then(({ acquireEngine }) => {" +
      "  const engine = acquireEngine('auto');" +
      "  for (let i = 0; i < 200; i++) engine.open(workerData.folder + '/' + workerData.round + '-' + i, 0o302, 0o600);" +
      "  setImmediate(() => process.exit());" +
      "});";
    const round = (round) => new Promise((over) => {
      const workerData = { folder: argv[0], engine: argv[1], round };
      new Worker(script, { eval: true, workerData }).on('exit', over);
    });
    await round(0);
    const before = open();
    for (let i = 1; i < 6; i++) await round(i);
    console.log(JSON.stringify({ grown: open() - before, made: readdirSync(argv[0]).length > 0 }));
    `,
      [t.testdir({}), new URL('../../lib/native/engine.js', import.meta.url).href],
    );
    t.equal(stderr, '');
    t.same(JSON.parse(stdout), { grown: 0, made: true });
  },
);
