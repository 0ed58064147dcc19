import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { IoRequest } from '../../lib/backend/backend.js';
import { EBADF, EINVAL, EIO, ENOSPC } from '../../lib/base/errno.js';
import { TRACE_CHANNEL } from '../../lib/base/trace.js';
import type { EmulatorBackend } from '../../lib/emulator/backend.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import { ManualClock } from '../../lib/emulator/clock.js';
import { parseMachine } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';
import { io, noBytes, pattern, sameBytes } from '../helpers/emulated-io.js';

const NOTHING = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };

async function inFolder(t: Test): Promise<{ backend: EmulatorBackend; dir: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'p2pdma-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return { backend: await openEmulator({ machine: presets['four-drives'] }), dir };
}

t.test('done never runs inside submit, whatever the outcome', async (t) => {
  const backend = await openEmulator({ machine: presets['root-ports'] });
  const b = await backend.openTarget('nvme1n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, 4096);
  const memory = [
    new Uint8Array(4096),
    new Uint8Array(0),
    new Uint8Array(100),
    new Uint8Array(mapping.buffer),
  ];
  for (const segment of memory) {
    let inside = true;
    await new Promise<void>((resolve) => {
      const request: IoRequest = {
        op: 'write',
        offset: 0,
        segments: [segment],
        result: 0,
        path: noBytes(),
        done() {
          t.notOk(inside, `${segment.byteLength} bytes`);
          resolve();
        },
      };
      b.submit(request);
      inside = false;
    });
  }
  await b.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('transfers of one turn go down with one doorbell', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('nvme0n1', {});
  let doorbells = 0;
  const count = (event: unknown) => {
    if ((event as { event: string }).event === 'sq_doorbell') doorbells++;
  };
  subscribe(TRACE_CHANNEL, count);
  await Promise.all(Array.from({ length: 50 }, (_, i) => io(a, 'read', i * 4096, new Uint8Array(4096))));
  unsubscribe(TRACE_CHANNEL, count);
  t.equal(doorbells, 1);
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('at the end of a namespace: what is there, then nothing', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('nvme0n1', { write: true });
  const { size } = a;
  t.equal((await io(a, 'write', size - 4096, new Uint8Array(8192))).result, 4096);
  t.equal((await io(a, 'read', size - 4096, new Uint8Array(8192))).result, 4096);
  t.equal((await io(a, 'read', size, new Uint8Array(4096))).result, 0);
  t.equal((await io(a, 'write', size, new Uint8Array(4096))).result, -ENOSPC);
  t.equal((await io(a, 'read', -4096, new Uint8Array(4096))).result, -EINVAL);
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a target that is closed, or open for reading only', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('nvme0n1', {});
  t.equal((await io(a, 'write', 0, new Uint8Array(4096))).result, -EBADF);
  await t.rejects(a.truncate(0), { code: 'EINVAL' });
  const last = io(a, 'read', 0, new Uint8Array(4096));
  const closing = a.close();
  t.equal(closing, a.close(), 'closing twice is closing once');
  t.equal((await last).result, 4096, 'what is in flight ends first');
  await closing;
  t.equal((await io(a, 'read', 0, new Uint8Array(4096))).result, -EBADF);
  await t.rejects(a.flush(), { code: 'ERR_TARGET_CLOSED' });
  t.same(await backend.close(), NOTHING);
  await t.rejects(backend.openTarget('nvme0n1', {}), { code: 'ERR_STREAM_DESTROYED' });
});

t.test('names: with and without /dev, unknown ones', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const a = await backend.openTarget('/dev/nvme0n1', {});
  t.match(a, { name: 'nvme0n1', path: '/dev/nvme0n1', kind: 'namespace', size: 2 ** 30 });
  await t.rejects(backend.openTarget('nvme7n1', {}), {
    code: 'ENOENT',
    syscall: 'open',
    path: '/dev/nvme7n1',
  });
  await a.close();
  await backend.close();
});

t.test('a read-only namespace is not opened for writing', async (t) => {
  const machine = structuredClone(presets.switch) as unknown as {
    functions: { nvme: { namespaces: { readOnly: boolean }[] } | null }[];
  };
  for (const { nvme } of machine.functions) for (const ns of nvme?.namespaces ?? []) ns.readOnly = true;
  const backend = await openEmulator({ machine: machine as never });
  await t.rejects(backend.openTarget('nvme0n1', { write: true }), { code: 'EROFS' });
  const a = await backend.openTarget('nvme0n1', {});
  t.match(await a.passthrough({ opcode: 1, nsid: 1, cdw12: 0, data: new Uint8Array(512) }), {
    status: 0x020,
  });
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a file keeps its exact length', async (t) => {
  const { backend, dir } = await inFolder(t);
  const path = join(dir, 'new');
  const data = pattern(10_000);
  const padded = new Uint8Array(10_240);
  padded.set(data);
  const file = await backend.openTarget(path, { write: true, create: true });
  t.equal(file.size, 0);
  t.equal((await io(file, 'write', 0, padded)).result, 10_240);
  t.equal(file.size, 10_240);
  await file.truncate(10_000);
  await file.flush();
  t.equal(file.size, 10_000);
  const back = new Uint8Array(10_240);
  t.equal((await io(file, 'read', 0, back)).result, 10_000, 'a short count at the end of the file');
  t.ok(sameBytes(back.subarray(0, 10_000), data));
  t.equal((await io(file, 'read', 10_240, back)).result, 0);
  await file.close();
  t.ok(sameBytes(await readFile(path), data));
  t.same(await backend.close(), NOTHING);
});

t.test('create, exclusive and truncate mean what they mean in open(2)', async (t) => {
  const { backend, dir } = await inFolder(t);
  const path = join(dir, 'file');
  await t.rejects(backend.openTarget(path, {}), { code: 'ENOENT' });
  await t.rejects(backend.openTarget(path, { create: true }), { code: 'ENOENT' }, 'reading creates nothing');
  await (await backend.openTarget(path, { write: true, create: true, exclusive: true })).close();
  await t.rejects(backend.openTarget(path, { write: true, create: true, exclusive: true }), {
    code: 'EEXIST',
  });
  await writeFile(path, 'content');
  await (await backend.openTarget(path, { write: true, create: true })).close();
  t.equal((await stat(path)).size, 7);
  await (await backend.openTarget(path, { write: true, truncate: true })).close();
  t.equal((await stat(path)).size, 0);
  await mkdir(join(dir, 'folder'));
  await t.rejects(backend.openTarget(join(dir, 'folder'), {}), { code: 'EISDIR', syscall: 'open' });
  await t.rejects(backend.openTarget(join(dir, 'folder'), { write: true, create: true }), { code: 'EISDIR' });
  if (process.platform !== 'win32') {
    const server = createServer().listen(join(dir, 'socket'));
    await once(server, 'listening');
    await t.rejects(backend.openTarget(join(dir, 'socket'), {}), { code: 'EINVAL' });
    server.close();
  }
  t.same(await backend.close(), NOTHING);
});

t.test(
  'a file without permission',
  { skip: process.getuid?.() === 0 ? 'root may read everything' : false },
  async (t) => {
    const { backend, dir } = await inFolder(t);
    const path = join(dir, 'secret');
    await writeFile(path, 'x');
    await chmod(path, 0o400);
    await t.rejects(backend.openTarget(path, { write: true }), { code: 'EACCES' });
    t.same(await backend.close(), NOTHING);
  },
);

t.test('what is read lies on the first drive, what is written on the others in turn', async (t) => {
  const { backend, dir } = await inFolder(t);
  const [first, ...others] = backend.controllers.map((c) => c.pdev!);
  await writeFile(join(dir, 'in'), pattern(8192));
  const source = await backend.openTarget(join(dir, 'in'), {});
  const copies = [];
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    copies.push(await backend.openTarget(join(dir, name), { write: true, create: true }));
  }
  const named = await backend.openTarget(join(dir, 'n'), {
    write: true,
    create: true,
    controller: 'nvme0',
  });
  t.equal(source.client, first);
  t.same(
    copies.map((copy) => copy.client?.bdf),
    copies.map((_, i) => others[i % others.length]!.bdf),
  );
  t.equal(named.client, first);
  await t.rejects(backend.openTarget(join(dir, 'in'), { controller: 'nvme9' }), { code: 'ENODEV' });

  const mapping = backend.memory.mmapP2pmem(first!, 8192);
  const view = new Uint8Array(mapping.buffer);
  t.match(await io(source, 'read', 0, view), { result: 8192, path: { internal: 8192, hostDram: 0 } });
  for (const copy of copies) {
    t.match(await io(copy, 'write', 0, view), { result: 8192, path: { peerBus: 8192, hostDram: 0 } });
  }
  t.ok(
    backend.controllers.every((c) => c.namespaces.length === 1),
    'files are no namespaces to list',
  );
  for (const target of [source, ...copies, named]) await target.close();
  mapping.munmap();
  t.ok(sameBytes(await readFile(join(dir, 'b')), pattern(8192)));
  t.same(await backend.close(), NOTHING);
});

t.test('many files at once', async (t) => {
  const { backend, dir } = await inFolder(t);
  const files = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      backend.openTarget(join(dir, `f${i}`), { write: true, create: true }),
    ),
  );
  await Promise.all(files.map((file, i) => io(file, 'write', 0, pattern(4096, i))));
  await Promise.all(files.map((file) => file.close()));
  for (let i = 0; i < 20; i++) t.ok(sameBytes(await readFile(join(dir, `f${i}`)), pattern(4096, i)));
  t.same(await backend.close(), NOTHING);
});

t.test('an I/O keeps its memory although it is unmapped meanwhile', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const provider = backend.controllers[0]!.pdev!;
  const a = await backend.openTarget('nvme0n1', { write: true });
  const before = backend.memory.available(provider);
  for (const mapping of [backend.memory.mmapP2pmem(provider, 4096), backend.memory.allocHost(4096)]) {
    const read = io(a, 'read', 0, new Uint8Array(mapping.buffer));
    mapping.munmap();
    t.equal(mapping.buffer.byteLength, 4096, 'still pinned');
    t.equal((await read).result, 4096);
    t.equal(mapping.buffer.byteLength, 0, 'gone with the last pin');
  }
  t.equal(backend.memory.available(provider), before);
  await a.close();
  t.same(await backend.close(), NOTHING);
});

t.test('a snapshot is a machine that runs', async (t) => {
  for (const machine of Object.values(presets)) {
    const backend = await openEmulator({ machine });
    const snapshot = backend.snapshot();
    t.same(parseMachine(JSON.parse(JSON.stringify(snapshot))), snapshot, machine.name);
    t.same(await backend.close(), NOTHING);
  }
});

t.test('an exhausted pool', async (t) => {
  const backend = await openEmulator({
    machine: {
      ...presets.switch,
      faults: [{ kind: 'pool-exhausted', controller: 'nvme0', available: 8192 }],
    },
  });
  const provider = backend.controllers[0]!.pdev!;
  t.equal(backend.memory.available(provider), 8192);
  const mapping = backend.memory.mmapP2pmem(provider, 8192);
  t.throws(() => backend.memory.mmapP2pmem(provider, 4096), { code: 'ENOMEM', hint: /0 bytes are free/ });
  mapping.munmap();
  backend.inject({ kind: 'pool-exhausted', controller: 'nvme1', available: 0 });
  t.equal(backend.memory.available(backend.controllers[1]!.pdev!), 0);
  t.same(await backend.close(), NOTHING);
});

t.test('peer writes that are lost look like success', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const provider = backend.controllers[0]!.pdev!;
  backend.inject({ kind: 'drop-peer-writes', function: provider.bdf });
  const b = await backend.openTarget('nvme1n1', { write: true });
  const mapping = backend.memory.mmapP2pmem(provider, 4096);
  const view = new Uint8Array(mapping.buffer).fill(0xa5);
  t.match(await io(b, 'read', 0, view), { result: 4096 });
  t.equal(view[0], 0xa5, 'the poison is still there');
  await b.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('a drive that is gone has no end for a file on it', async (t) => {
  const { backend, dir } = await inFolder(t);
  await writeFile(join(dir, 'file'), Buffer.alloc(5000, 7));
  const file = await backend.openTarget(join(dir, 'file'), { write: true, controller: 'nvme1' });
  const device = await backend.openTarget('nvme1n1', {});
  backend.remove('nvme1');
  await new Promise(setImmediate);
  const mapping = backend.memory.allocHost(8192);
  const { buffer } = mapping;
  t.match(
    await io(file, 'read', 0, new Uint8Array(buffer)),
    { result: -EIO },
    'not an early end of the file',
  );
  t.match(await io(file, 'write', 0, new Uint8Array(buffer)), { result: -EIO });
  t.match(await io(file, 'read', 8192, new Uint8Array(buffer)), { result: 0 }, 'behind the end of the file');
  t.match(await io(device, 'read', 0, new Uint8Array(buffer)), { result: 0 }, 'the device itself has none');
  await file.close();
  await device.close();
  mapping.munmap();
  t.same(await backend.close(), NOTHING);
});

t.test('a callback that throws does not hold up the others', async (t) => {
  const clock = new ManualClock();
  const opening = openEmulator({ machine: presets.switch, clock });
  for (let i = 0; i < 50; i++) await clock.advanceAsync(1);
  const backend = await opening;
  const a = await backend.openTarget('nvme0n1', {});
  const results: number[] = [];
  for (let i = 0; i < 10; i++) {
    a.submit({
      op: 'read',
      offset: i * 4096,
      segments: [new Uint8Array(4096)],
      result: 0,
      path: noBytes(),
      done({ result }) {
        results.push(result);
        if (i % 3 === 0) throw new Error(`callback ${i}`);
      },
    });
  }
  let thrown = 0;
  for (let i = 0; i < 20; i++) {
    try {
      clock.turn();
    } catch {
      thrown++;
    }
  }
  t.equal(thrown, 4);
  t.same(results, new Array(10).fill(4096));
  const closing = a.close().then(() => backend.close());
  for (let i = 0; i < 100; i++) await clock.advanceAsync(1);
  t.same(await closing, NOTHING);
});
