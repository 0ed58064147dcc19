import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addonUrl, child, directIoDir, nativeBackendUrl, skipNative } from '../helpers/native.js';

const engines = ['uring', 'threads'] as const;

t.test('the end of an environment with I/O in flight', { skip: skipNative }, async (t) => {
  const directory = directIoDir(t);
  const file = join(directory, 'data');
  writeFileSync(file, Buffer.alloc(32 << 20, 7));

  for (const engine of engines) {
    t.test(`process.exit, ${engine}: quiet and with the code asked for`, async (t) => {
      const { status, signal, stderr } = child(
        `
        const backend = await openNative({ engine: argv[1] });
        const target = await backend.openTarget(argv[0], { write: true });
        const { buffer } = backend.memory.allocHost(32 << 20);
        for (let i = 0; i < 32; i++) {
          const view = new Uint8Array(buffer, i << 20, 1 << 20);
          target.submit(request(i % 2 ? 'read' : 'write', i << 20, [view], () => {}));
        }
        setImmediate(() => setImmediate(() => process.exit(nativeCounters().inFlight > 0 ? 42 : 43)));
        `,
        [file, engine],
      );
      t.equal(signal, null);
      t.ok(status === 42 || status === 43, `status ${status}`);
      t.equal(stderr, '');
    });

    t.test(`process.exit before anything was submitted, ${engine}`, async (t) => {
      const { status, stderr } = child(
        `
        const backend = await openNative({ engine: argv[1] });
        const target = await backend.openTarget(argv[0], {});
        target.submit(request('read', 0, [backend.memory.allocBuffer(65536)], () => {}));
        process.exit(42);
        `,
        [file, engine],
      );
      t.equal(status, 42);
      t.equal(stderr, '');
    });

    t.test(`an uncaught error with I/O in flight, ${engine}: no more than that error`, async (t) => {
      const { status, signal, stderr } = child(
        `
        const backend = await openNative({ engine: argv[1] });
        const target = await backend.openTarget(argv[0], {});
        const { buffer } = backend.memory.allocHost(16 << 20);
        target.submit(request('read', 0, [new Uint8Array(buffer)], () => {}));
        setImmediate(() => { throw new Error('on purpose'); });
        `,
        [file, engine],
      );
      t.equal(signal, null);
      t.equal(status, 1);
      t.match(stderr, /on purpose/);
    });

    t.test(`worker.terminate, ${engine}: many times, then the process is still well`, async (t) => {
      const { status, signal, stdout, stderr } = child(
        `
        import { Worker } from 'node:worker_threads';
        const code = \`
          import { workerData, parentPort } from 'node:worker_threads';
          const { openNative } = await import(workerData.backend);
          const backend = await openNative({ engine: workerData.engine });
          const target = await backend.openTarget(workerData.file, { write: true });
          const { buffer } = backend.memory.allocHost(8 << 20);
          const kept = backend.memory.allocBuffer(8 << 20);
          const go = (io) => target.submit(io);
          for (let i = 0; i < 16; i++) {
            const memory = i % 2 ? new Uint8Array(buffer) : kept;
            const view = memory.subarray((i >> 1) << 20, ((i >> 1) + 1) << 20);
            go({ op: i % 3 ? 'read' : 'write', offset: i << 20, segments: [view], result: 0, done: go,
              path: { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 } });
          }
          parentPort.postMessage('running');
        \`;
        const { readdirSync, readlinkSync } = await import('node:fs');
        const open = () => readdirSync('/proc/self/fd').map((fd) => {
          try { return readlinkSync('/proc/self/fd/' + fd); } catch { return ''; }
        });
        // Newer Node has rings of its own, from the start.
        const rings = () => open().filter((link) => /io_uring/.test(link)).length;
        const before = rings();
        for (let round = 0; round < 8; round++) {
          const workers = [0, 1].map(() => new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)), {
            workerData: { backend: argv[2], file: argv[0], engine: argv[1] } }));
          await Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
            worker.once('error', reject);
            worker.once('message', () => setTimeout(resolve, round * 3));
          })));
          const codes = await Promise.all(workers.map((worker) => worker.terminate()));
          if (codes.some((code) => code !== 1)) throw new Error('codes ' + codes);
        }
        console.log(JSON.stringify({ rings: rings() - before, files: open().filter((link) => link === argv[0]) }));
        `,
        [file, engine, nativeBackendUrl],
      );
      t.equal(stderr, '');
      t.equal(signal, null);
      t.equal(status, 0);
      t.same(JSON.parse(stdout), { rings: 0, files: [] });
    });
  }

  t.test('nothing in flight: an open backend does not keep the process alive', async (t) => {
    const { status, stderr } = child(
      `
      const backend = await openNative();
      const target = await backend.openTarget(argv[0], {});
      const got = await io(target, 'read', 0, backend.memory.allocBuffer(4096));
      process.exitCode = got.result === 4096 ? 42 : 1;
      `,
      [file],
    );
    t.equal(status, 42);
    t.equal(stderr, '');
  });

  t.test('something in flight: the process lives until it is done', async (t) => {
    const { stdout } = child(
      `
      const backend = await openNative();
      const target = await backend.openTarget(argv[0], {});
      io(target, 'read', 0, backend.memory.allocBuffer(1 << 20)).then(({ result }) => console.log(result));
      `,
      [file],
    );
    t.equal(stdout.trim(), String(1 << 20));
  });

  t.test('forgotten targets and memory are collected: no fd, mapping or ring is left', async (t) => {
    const { status, stdout, stderr } = child(
      `
      const backend = await openNative();
      const settle = async () => {
        for (let i = 0; i < 20; i++) {
          globalThis.gc();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      // A function of its own: the module's frame would hold on to the last round.
      const forget = async (i) => {
        const target = await backend.openTarget(argv[0], { write: i % 2 === 0 });
        const { buffer } = backend.memory.allocHost(1 << 20);
        // Half of them are forgotten with a transfer in flight.
        const reading = io(target, 'read', 0, new Uint8Array(buffer));
        if (i % 4 < 2) await reading;
      };
      for (let i = 0; i < 50; i++) await forget(i);
      await settle();
      const before = nativeCounters();
      const report = await backend.close();
      await settle();
      console.log(JSON.stringify({ before, report, after: nativeCounters() }));
      `,
      [file],
      ['--expose-gc'],
    );
    t.equal(stderr, '');
    t.equal(status, 0);
    const { before, report, after } = JSON.parse(stdout);
    t.match(before, { fds: 0, mappings: 0, inFlight: 0, rings: 1 });
    t.same(report, { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    t.match(after, { fds: 0, mappings: 0, mappedBytes: 0, inFlight: 0, rings: 0, threads: 0 });
  });

  t.test('a view of memory that was given back throws nothing and holds nothing', async (t) => {
    const { status, stderr } = child(
      `
      const backend = await openNative();
      const mapping = backend.memory.allocHost(4 << 20);
      const view = new Uint8Array(mapping.buffer);
      mapping.munmap();
      mapping.munmap();
      if (view.byteLength !== 0 || view[0] !== undefined) throw new Error('not detached');
      await backend.close();
      `,
    );
    t.equal(status, 0, stderr);
  });
});

t.test(
  'the addon loads in several workers at once, each with its own ring',
  { skip: skipNative },
  async (t) => {
    const { status, stdout, stderr } = child(
      `
    import { Worker } from 'node:worker_threads';
    const code = \`
      import { workerData, parentPort } from 'node:worker_threads';
      const { openNative } = await import(workerData.backend);
      const { nativeCounters } = await import(workerData.addon);
      const backend = await openNative();
      const { fds, rings, mappings } = nativeCounters();
      backend.memory.allocHost(4096);
      parentPort.postMessage({ fds, rings, mappings });
      await backend.close();
    \`;
    const url = new URL('data:text/javascript,' + encodeURIComponent(code));
    const workerData = { backend: argv[0], addon: argv[1] };
    const said = await Promise.all([1, 2, 3, 4].map(() => new Promise((resolve, reject) => {
      const worker = new Worker(url, { workerData });
      let message;
      worker.once('message', (value) => { message = value; });
      worker.once('error', reject);
      worker.once('exit', (code) => resolve({ code, ...message }));
    })));
    console.log(JSON.stringify(said));
    `,
      [nativeBackendUrl, addonUrl],
    );
    t.equal(status, 0, stderr);
    for (const worker of JSON.parse(stdout)) t.match(worker, { code: 0, fds: 0, mappings: 0 });
  },
);
