import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { BlockTarget } from '../../lib/backend/backend.js';
import { nativeCounters } from '../../lib/native/addon.js';
import { openNative } from '../../lib/native/backend.js';
import type { NativeTarget } from '../../lib/native/target.js';
import { fakePciDev } from '../helpers/fake-cmb.js';
import {
  asan,
  countersAtRest,
  directIoDir,
  loopDevice,
  pattern,
  skipLoop,
  skipNative,
  transfer,
} from '../helpers/native.js';
import { fc } from '../helpers/random.js';

const engines = ['uring', 'threads'] as const;
const KiB = 1024;
const MiB = 1024 * KiB;

/** What both a file and a device must do, whatever does the I/O. */
async function conforms(t: Test, open: () => Promise<BlockTarget>, model: Uint8Array) {
  const backend = await openNative();
  const target = await open();
  const block = target.limits.logicalBlockSize;
  const blocks = model.length / block;
  const { buffer } = backend.memory.allocHost(2 * MiB);
  const memory = new Uint8Array(buffer);

  // Random transfers, several at once, each in several segments: the target is what the model is.
  const extent = fc
    .tuple(fc.integer({ min: 0, max: blocks - 1 }), fc.integer({ min: 1, max: 64 }))
    .map(([at, count]) => ({ at: at * block, length: Math.min(count, blocks - at) * block }));
  const step = fc.record({
    op: fc.constantFrom('read' as const, 'write' as const),
    extent,
    cuts: fc.integer({ min: 0, max: 3 }),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      let at = 0;
      for (const { op, extent, cuts, seed } of steps) {
        if (at + extent.length > memory.length) at = 0;
        const view = memory.subarray(at, at + extent.length);
        at += extent.length;
        if (op === 'write') {
          view.set(pattern(extent.length, seed));
          model.set(view, extent.at);
        }
        const io = await transfer(target, op, extent.at, ...cut(view, cuts, block));
        if (io.result !== extent.length) throw new Error(`${op} of ${extent.length}: ${io.result}`);
        if (io.path.hostDram !== extent.length) throw new Error('not booked as host DRAM');
        if (!Buffer.from(view).equals(model.subarray(extent.at, extent.at + extent.length)))
          throw new Error('other bytes');
      }
    }),
    { numRuns: asan ? 10 : 40 },
  );

  // Disjoint transfers all at once.
  const each = Math.floor(blocks / 16) * block;
  const views = Array.from({ length: 16 }, (_, i) =>
    memory.subarray(i * 64 * KiB, i * 64 * KiB + Math.min(each, 64 * KiB)),
  );
  await Promise.all(
    views.map((view, i) => transfer(target, 'write', i * each, fill(view, i, model, i * each))),
  );
  memory.fill(0);
  const ios = await Promise.all(views.map((view, i) => transfer(target, 'read', i * each, view)));
  for (const [i, io] of ios.entries()) {
    t.equal(io.result, views[i]!.length);
    t.ok(Buffer.from(views[i]!).equals(model.subarray(i * each, i * each + views[i]!.length)));
  }
  await target.flush();

  const nothing = await transfer(target, 'read', model.length, memory.subarray(0, block));
  t.equal(nothing.result, 0, 'at the end there is nothing');
  const across = await transfer(target, 'read', model.length - block, memory.subarray(0, 4 * block));
  t.equal(across.result, block, 'across the end it is short');

  if (target.limits.dmaAlignment > 1) {
    // Before 6.18 the kernel refuses such memory itself; since then the driver may take it.
    const odd = await transfer(target, 'read', 0, memory.subarray(1, 1 + block));
    if (odd.result !== -22) {
      t.equal(odd.result, block);
      t.ok(Buffer.from(memory.subarray(1, 1 + block)).equals(model.subarray(0, block)));
    }
    t.equal(
      (await transfer(target, 'read', 1, memory.subarray(0, block))).result,
      -22,
      'misaligned offset: EINVAL',
    );
    t.equal(
      (await transfer(target, 'read', 0, memory.subarray(0, 100))).result,
      -22,
      'misaligned length: EINVAL',
    );
  }
  t.equal((await transfer(target, 'read', -1, memory)).result, -22);
  t.equal((await transfer(target, 'read', 0)).result, -22, 'no segments');

  // Close waits for what is in flight; afterwards nothing is taken.
  const last = transfer(target, 'read', 0, memory.subarray(0, Math.min(model.length, MiB)));
  const closed = target.close();
  t.equal(target.close(), closed, 'close is idempotent');
  await closed;
  t.equal((await last).result, Math.min(model.length, MiB));
  t.equal((await transfer(target, 'read', 0, memory)).result, -9, 'EBADF when closed');
  await t.rejects(target.passthrough({ opcode: 2 }), { code: 'ERR_TARGET_CLOSED' });
  t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
}

type Test = Pick<typeof t, 'equal' | 'ok' | 'same' | 'rejects'>;

function cut(view: Uint8Array, cuts: number, block: number): Uint8Array[] {
  const blocks = view.length / block;
  const out: Uint8Array[] = [];
  let from = 0;
  for (let i = 1; i <= cuts && from < blocks; i++) {
    const to = Math.max(from + 1, Math.floor((blocks * i) / (cuts + 1)));
    out.push(view.subarray(from * block, to * block));
    from = to;
  }
  if (from < blocks) out.push(view.subarray(from * block));
  return out;
}

function fill(view: Uint8Array, seed: number, model: Uint8Array, at: number): Uint8Array {
  view.set(pattern(view.length, seed + 1000));
  model.set(view, at);
  return view;
}

t.test('conformance', { skip: skipNative }, async (t) => {
  for (const engine of engines) {
    t.test(`a file with O_DIRECT, ${engine}`, async (t) => {
      const backend = await openNative();
      const file = join(directIoDir(t), 'data');
      const model = pattern(4 * MiB, 3);
      writeFileSync(file, model);
      await conforms(t, () => backend.openTarget(file, { write: true, engine }), model);
      t.ok(readFileSync(file).equals(model));
      await backend.close();
    });

    t.test(`a file on tmpfs, buffered, ${engine}`, async (t) => {
      const backend = await openNative();
      const file = join('/dev/shm', `p2pdma-${process.pid}`);
      t.teardown(() => execFileSync('rm', ['-f', file]));
      const model = pattern(64 * KiB, 3);
      writeFileSync(file, model);
      const open = () => backend.openTarget(file, { write: true, engine });
      const target = await open();
      t.match((target as NativeTarget).buffered, /tmpfs/);
      t.match(target.noP2pReason, /tmpfs, which keeps files in memory/);
      t.equal(target.limits.logicalBlockSize, 1);
      await target.close();
      await conforms(t, open, model);
      t.ok(readFileSync(file).equals(model));
      await backend.close();
    });

    for (const sector of [512, 4096]) {
      t.test(`a loop device of ${sector}-byte blocks, ${engine}`, { skip: skipLoop }, async (t) => {
        const device = loopDevice(t, 4 * MiB, sector);
        const backend = await openNative({ engine });
        const target = await backend.openTarget(device, {});
        t.match(target, {
          kind: 'block',
          size: 4 * MiB,
          path: device,
          name: device.slice(5),
          client: null,
          engine,
        });
        t.equal(target.limits.logicalBlockSize, sector);
        t.match(target.noP2pReason, /does not take peer-to-peer memory/);
        await target.close();
        await conforms(t, () => backend.openTarget(device, { write: true }), new Uint8Array(4 * MiB));
        await backend.close();
      });
    }
  }
});

t.test('opening', { skip: skipNative }, async (t) => {
  const backend = await openNative();
  t.teardown(() => backend.close());
  const directory = directIoDir(t);
  const file = join(directory, 'data');
  writeFileSync(file, pattern(10_000));
  const fds = nativeCounters().fds;
  const refused = async (
    path: string,
    options: object,
    error: { code?: string; [field: string]: unknown },
  ) => {
    await t.rejects(backend.openTarget(path, options), error as { code: string });
    t.equal(nativeCounters().fds, fds, 'no fd is left');
  };

  t.test('what is not there, no file, not ours, or the wrong thing altogether', async () => {
    await refused(
      join(directory, 'none'),
      {},
      { code: 'ENOENT', syscall: 'open', path: join(directory, 'none') },
    );
    await refused(join(directory, 'none'), { write: true }, { code: 'ENOENT', hint: /create/ });
    await refused('nvme77n1', {}, { code: 'ENOENT' });
    await refused('/dev/nvme77n1', { write: true }, { code: 'ENOENT' });
    await refused(directory, {}, { code: 'EISDIR' });
    await refused(directory, { write: true, create: true }, { code: 'EISDIR' });
    await refused('/dev/null', {}, { code: 'EINVAL', hint: /regular file/ });
    await refused(join(file, 'x'), {}, { code: 'ENOTDIR' });
    await refused(`${directory}/a\0b`, {}, {});
    const fifo = join(directory, 'fifo');
    if (spawnSync('mkfifo', [fifo]).status === 0) {
      await refused(fifo, {}, { code: 'EINVAL', hint: /regular file/ });
      await refused(fifo, { write: true }, { code: 'EINVAL' });
    }
    await refused(file, { engine: 'passthrough' }, { code: 'ENOTTY', message: /needs an NVMe namespace/ });
    await refused(file, { write: true, create: true, exclusive: true }, { code: 'EEXIST' });
  });

  t.test('creating: only with create, with truncate from length 0, else what is there stays', async (t) => {
    const path = join(directory, 'new');
    const made = await backend.openTarget(path, { write: true, create: true });
    t.equal(made.kind, 'file');
    t.equal(made.size, 0);
    t.equal((await transfer(made, 'write', 0, backend.memory.allocBuffer(4096).fill(3))).result, 4096);
    t.equal(made.size, 4096, 'size is that of now');
    await made.truncate(1000);
    t.equal(made.size, 1000);
    await t.rejects(made.truncate(-1), { code: 'ERR_OUT_OF_RANGE' });
    await made.close();
    t.equal(statSync(path).mode & 0o111, 0);
    const again = await backend.openTarget(path, { write: true, create: true });
    t.equal(again.size, 1000);
    await again.close();
    const empty = await backend.openTarget(path, { write: true, create: true, truncate: true });
    t.equal(empty.size, 0);
    await empty.close();
  });

  t.test('a target opened for reading takes no write, and flushing it is nothing', async (t) => {
    const target = await backend.openTarget(file, {});
    t.equal((await transfer(target, 'write', 0, backend.memory.allocBuffer(4096))).result, -9);
    await target.flush();
    await t.rejects(target.truncate(0), { code: 'EINVAL', syscall: 'ftruncate' });
    t.equal(statSync(file).size, 10_000);
    await target.close();
    await t.rejects(target.truncate(0), { code: 'ERR_TARGET_CLOSED' });
  });

  t.test(
    'a file that may not be read by others says whose it is',
    { skip: process.getuid?.() !== 0 && 'needs root' },
    async (t) => {
      chmodSync(directory, 0o755);
      chmodSync(file, 0o600);
      process.seteuid!(65534);
      try {
        await t.rejects(backend.openTarget(file, {}), { code: 'EACCES', hint: /root:root with mode 0600/ });
      } finally {
        process.seteuid!(0);
      }
    },
  );

  t.test('relative paths and names with spaces', async (t) => {
    const inner = join(directory, 'a dir');
    mkdirSync(inner);
    const before = process.cwd();
    process.chdir(inner);
    try {
      const target = await backend.openTarget('a file', { write: true, create: true });
      await target.close();
      t.ok(existsSync(join(inner, 'a file')));
    } finally {
      process.chdir(before);
    }
  });

  t.test('devices: written exclusively, unless forced', { skip: skipLoop }, async (t) => {
    const device = loopDevice(t, MiB);
    const reader = await backend.openTarget(device, {});
    const writer = await backend.openTarget(device, { write: true });
    await t.rejects(backend.openTarget(device, { write: true }), { code: 'EBUSY', hint: /force/ });
    const forced = await backend.openTarget(device, { write: true, force: true });
    for (const target of [reader, forced]) await target.close();
    await writer.close();
    const after = await backend.openTarget(device, { write: true });
    await t.rejects(after.truncate(5), { code: 'EINVAL', hint: /Only files/ });
    await t.rejects(after.passthrough({ opcode: 2 }), { code: 'ENOTTY' });
    await after.close();
    t.equal(nativeCounters().fds, fds);
  });

  t.test('a mounted device is EBUSY, with who mounts it', { skip: skipLoop }, async (t) => {
    const device = loopDevice(t, 16 * MiB);
    const point = join(directory, 'mount');
    mkdirSync(point);
    if (spawnSync('mkfs.ext4', ['-q', device]).status !== 0) {
      t.comment('skipped: no mkfs.ext4');
      return;
    }
    if (spawnSync('mount', [device, point]).status !== 0) {
      t.comment('skipped: may not mount');
      return;
    }
    try {
      await t.rejects(backend.openTarget(device, { write: true }), { code: 'EBUSY', hint: /mount/ });
      const looking = await backend.openTarget(device, {});
      await looking.close();

      // And while it is mounted: a filesystem that fills up.
      const small = await backend.openTarget(join(point, 'file'), { write: true, create: true });
      const { buffer } = backend.memory.allocHost(MiB);
      let result = MiB;
      let at = 0;
      for (; result > 0 && at < 64 * MiB; at += result) {
        result = (await transfer(small, 'write', at, new Uint8Array(buffer))).result;
      }
      t.equal(result, -28, 'ENOSPC');
      await small.close();
    } finally {
      execFileSync('umount', [point]);
    }
  });

  t.test(
    'a device shrinks under way: the end is short, then EIO or nothing, never made-up bytes',
    { skip: skipLoop },
    async (t) => {
      const device = loopDevice(t, 2 * MiB);
      const target = await backend.openTarget(device, {});
      const image = execFileSync('losetup', ['-n', '-O', 'BACK-FILE', device], { encoding: 'utf8' }).trim();
      truncateSync(image, MiB);
      spawnSync('losetup', ['-c', device]);
      const io = await transfer(target, 'read', MiB, backend.memory.allocBuffer(MiB));
      t.ok(io.result <= 0, `result ${io.result}`);
      await target.close();
    },
  );
});

t.test('holes', { skip: skipNative }, async (t) => {
  const backend = await openNative();
  t.teardown(() => backend.close());
  const file = join(directIoDir(t), 'sparse');
  writeFileSync(file, '');
  const target = (await backend.openTarget(file, { write: true })) as NativeTarget;
  await target.truncate(8 * MiB);
  const { buffer } = backend.memory.allocHost(MiB);
  await transfer(target, 'write', 2 * MiB, new Uint8Array(buffer).fill(1));
  await transfer(target, 'write', 5 * MiB, new Uint8Array(buffer));
  t.equal(target.seekData(0), 2 * MiB);
  t.equal(target.seekHole(2 * MiB), 3 * MiB);
  t.equal(target.seekData(3 * MiB), 5 * MiB);
  t.equal(target.seekHole(5 * MiB), 6 * MiB);
  t.equal(target.seekData(6 * MiB), 8 * MiB, 'no more data: the size');
  t.equal(target.seekHole(6 * MiB), 6 * MiB);
  await target.punchHole(2 * MiB, 512 * KiB);
  t.equal(target.seekData(0), 2 * MiB + 512 * KiB);
  t.equal((await transfer(target, 'read', 2 * MiB, new Uint8Array(buffer))).result, MiB);
  t.ok(new Uint8Array(buffer, 0, 512 * KiB).every((byte) => byte === 0));
  t.ok(new Uint8Array(buffer, 512 * KiB).every((byte) => byte === 1));
  await t.rejects(target.punchHole(0, 0), { code: 'EINVAL', syscall: 'fallocate' });
  await target.close();
  t.throws(() => target.seekData(0), { code: 'ERR_TARGET_CLOSED' });
});

t.test('a captured tree can be explained, not used', async (t) => {
  const directory = directIoDir(t);
  mkdirSync(join(directory, 'sys'));
  const backend = await openNative({ root: directory });
  t.equal(backend.engine, null);
  t.same(backend.topology.functions, []);
  await t.rejects(backend.openTarget('nvme0n1', {}), {
    code: 'ERR_BACKEND_UNAVAILABLE',
    message: /captured tree/,
  });
  t.throws(() => backend.memory.allocHost(4096), { code: 'ERR_BACKEND_UNAVAILABLE' });
  t.throws(() => backend.memory.allocBuffer(4096), { code: 'ERR_BACKEND_UNAVAILABLE' });
  t.throws(() => backend.memory.mmapP2pmem(fakePciDev(), 4096), { code: 'ERR_BACKEND_UNAVAILABLE' });
  t.equal(backend.memory.available(fakePciDev()), 0);
  t.same(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
});

t.test(
  'two systems at once, closed in any order, with targets left open',
  { skip: skipNative },
  async (t) => {
    const file = join(directIoDir(t), 'data');
    writeFileSync(file, pattern(MiB));
    const [one, two] = [await openNative(), await openNative({ engine: 'threads' })];
    const reads = [];
    const buffers = [];
    for (const backend of [one, two, one]) {
      const target = await backend.openTarget(file, {});
      const { buffer } = backend.memory.allocHost(64 * KiB);
      buffers.push(buffer);
      reads.push(transfer(target, 'read', 0, new Uint8Array(buffer)));
    }
    const reports = await Promise.all([two.close(), one.close()]);
    for (const report of reports) t.same(report, { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 });
    for (const io of await Promise.all(reads)) t.equal(io.result, 64 * KiB);
    await t.rejects(one.openTarget(file, {}), { code: 'ERR_TARGET_CLOSED' });
    for (const buffer of buffers) t.equal(buffer.byteLength, 0, 'detached');
    const counters = await countersAtRest();
    t.match(counters, { fds: 0, mappings: 0, rings: 0, registeredFiles: 0, threads: 0, inFlight: 0 });
  },
);

t.test('a mistyped device name is one for every engine', { skip: skipNative }, async (t) => {
  const backend = await openNative();
  for (const engine of ['auto', 'threads', 'passthrough'] as const) {
    for (const name of ['nvme77n1', '/dev/nvme77n1']) {
      await t.rejects(backend.openTarget(name, { engine }), { code: 'ENOENT' }, `${name}, ${engine}`);
    }
  }
  await backend.close();
});
