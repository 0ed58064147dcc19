import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { PciDev } from '../../lib/backend/topology.js';
import { isPciP2pdmaView, pgmapOf } from '../../lib/kernel/memremap.js';
import { nativeCounters } from '../../lib/native/addon.js';
import { openNative } from '../../lib/native/backend.js';
import { memoryOf, NativeMemory } from '../../lib/native/memory.js';
import type { Sysfs } from '../../lib/native/sysfs/machine.js';
import { fakePciDev } from '../helpers/fake-cmb.js';
import { directIoDir, skipNative, transfer } from '../helpers/native.js';

const MiB = 1 << 20;

/** A provider whose `p2pmem/allocate` is a file on tmpfs: it maps as a CMB does, shared and from offset 0. */
function fakeProvider(t: { teardown(fn: () => void): void }, published = true) {
  const directory = mkdtempSync('/dev/shm/p2pdma-');
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'p2pmem'));
  const door = join(directory, 'p2pmem/allocate');
  writeFileSync(door, '');
  truncateSync(door, 4 * MiB);
  const p2pmem = { size: 4 * MiB, available: 4 * MiB, published };
  const pdev: PciDev = { ...fakePciDev(), p2pmem };
  const sysfs = {
    live: false,
    controllers: [],
    directory: () => directory,
    p2pmem: () => p2pmem,
  } as unknown as Sysfs;
  return { pdev, sysfs, door };
}

t.test('host memory', { skip: skipNative }, async (t) => {
  const backend = await openNative();
  const before = nativeCounters();

  t.test('is zeroed, page-aligned, exactly as long as asked, and counted', async (t) => {
    for (const bytes of [1, 4096, 4097, 2 * MiB, 5 * MiB + 3]) {
      const mapping = backend.memory.allocHost(bytes);
      t.equal(mapping.buffer.byteLength, bytes);
      t.equal(mapping.provider, null);
      const view = new Uint8Array(mapping.buffer);
      t.equal(memoryOf(view).address % 4096, 0);
      t.ok(view.every((byte) => byte === 0));
      view.fill(1);
      t.equal(pgmapOf(view), null);
      t.equal(nativeCounters().mappings, before.mappings + 1);
      mapping.munmap();
      t.equal(mapping.buffer.byteLength, 0, 'detached');
      t.equal(memoryOf(view).errno, -14, 'EFAULT from then on');
      t.equal(nativeCounters().mappings, before.mappings);
      t.equal(nativeCounters().mappedBytes, before.mappedBytes);
      mapping.munmap();
    }
  });

  t.test('large allocations sit on huge-page boundaries', async (t) => {
    const mapping = backend.memory.allocHost(8 * MiB);
    t.equal(memoryOf(new Uint8Array(mapping.buffer)).address % (2 * MiB), 0);
    mapping.munmap();
  });

  t.test('what cannot be allocated is ENOMEM with what to do; nonsense is a range error', async (t) => {
    t.throws(() => backend.memory.allocHost(2 ** 50), {
      code: 'ENOMEM',
      syscall: 'mmap',
      hint: /highWaterMark/,
    });
    for (const bytes of [0, -1, 0.5, Number.NaN, Infinity]) {
      t.throws(() => backend.memory.allocHost(bytes), { code: 'ERR_OUT_OF_RANGE' });
    }
    t.equal(nativeCounters().mappings, before.mappings);
  });

  t.test('allocBuffer: garbage-collected, aligned, exactly as long as asked', async (t) => {
    for (const bytes of [1, 512, 4096, 100_000, MiB]) {
      const view = backend.memory.allocBuffer(bytes);
      t.equal(view.byteLength, bytes);
      t.equal((memoryOf(view).address + view.byteOffset) % 4096, 0);
    }
    t.equal(nativeCounters().mappings, before.mappings);
  });

  t.test('munmap with a transfer in flight: detached at once, unmapped after it', async (t) => {
    const file = join(directIoDir(t), 'data');
    writeFileSync(file, Buffer.alloc(4 * MiB, 5));
    for (const engine of ['uring', 'threads'] as const) {
      const target = await backend.openTarget(file, { engine });
      for (const turns of [0, 1]) {
        const mapping = backend.memory.allocHost(4 * MiB);
        const view = new Uint8Array(mapping.buffer);
        const reading = transfer(target, 'read', 0, view);
        for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
        mapping.munmap();
        // Whatever comes to lie at the same place must not be read into.
        const next = backend.memory.allocHost(4 * MiB);
        t.equal(view.byteLength, 0);
        const { result } = await reading;
        t.equal(result, 4 * MiB, `${engine}, after ${turns} turns`);
        t.ok(
          new Uint8Array(next.buffer).every((byte) => byte === 0),
          'the next mapping is untouched',
        );
        next.munmap();
        t.equal(nativeCounters().mappings, before.mappings);
      }
      await target.close();
    }
  });

  t.test('memory does not move to another thread: it is refused, or copied, but stays here', async (t) => {
    const mapping = backend.memory.allocHost(4096);
    try {
      structuredClone(mapping.buffer, { transfer: [mapping.buffer] });
    } catch (error) {
      t.equal((error as Error).name, 'DataCloneError');
    }
    t.equal(mapping.buffer.byteLength, 4096);
    mapping.munmap();
    t.equal(nativeCounters().mappings, before.mappings);
  });

  t.teardown(() => backend.close());
});

t.test('CMB memory', { skip: skipNative }, async (t) => {
  t.test('maps shared from offset 0 and is known for what it is, by any view', async (t) => {
    const { pdev, sysfs } = fakeProvider(t);
    const memory = new NativeMemory(sysfs);
    const one = memory.mmapP2pmem(pdev, 5000);
    t.equal(one.bytes, 8192, 'rounded up to pages');
    t.equal(one.buffer.byteLength, 8192);
    t.equal(one.provider, pdev);
    const view = Buffer.from(one.buffer, 4096, 100).subarray(10, 20);
    t.equal(pgmapOf(view)?.provider, pdev);
    t.ok(isPciP2pdmaView(view));
    t.equal(memoryOf(view).provider, pdev);
    new Uint8Array(one.buffer)[0] = 77;
    const two = memory.mmapP2pmem(pdev, 4096);
    t.equal(new Uint8Array(two.buffer)[0], 77, 'shared, not private');
    t.equal(pgmapOf(new Uint8Array(two.buffer)), pgmapOf(view), 'one pagemap per provider');
    t.same(memory.held, { mappings: 2, p2pmem: 12288 });
    one.munmap();
    t.notOk(isPciP2pdmaView(view));
    memory.close();
    t.same(memory.held, { mappings: 0, p2pmem: 0 });
    t.equal(nativeCounters().mappings, 0);
  });

  t.test('unpublished memory is refused, although the kernel would give it', async (t) => {
    const { pdev, sysfs } = fakeProvider(t, false);
    t.throws(() => new NativeMemory(sysfs).mmapP2pmem(pdev, 4096), { code: 'ENODEV', hint: /not published/ });
  });

  t.test('no p2pmem: ENODEV that says what it takes', async (t) => {
    const { pdev, sysfs, door } = fakeProvider(t);
    rmSync(door);
    const memory = new NativeMemory({ ...sysfs, p2pmem: () => null });
    t.throws(() => memory.mmapP2pmem(pdev, 4096), {
      code: 'ENODEV',
      path: door,
      hint: /0000:03:00\.0 provides no peer-to-peer memory.*CONFIG_PCI_P2PDMA/,
    });
    const gone = new NativeMemory({ ...sysfs, directory: () => null, p2pmem: () => null });
    t.throws(() => gone.mmapP2pmem(pdev, 4096), { code: 'ENODEV', hint: /no PCI function 0000:03:00\.0/ });
    t.equal(nativeCounters().mappings, 0);
  });

  t.test('a door that cannot be mapped: the kernel says why', async (t) => {
    const { pdev, sysfs, door } = fakeProvider(t);
    rmSync(door);
    symlinkSync('/dev/null', door);
    t.throws(() => new NativeMemory(sysfs).mmapP2pmem(pdev, 2 ** 50), { code: 'ENOMEM', path: door });
    rmSync(door);
    mkdirSync(door);
    t.throws(() => new NativeMemory(sysfs).mmapP2pmem(pdev, 4096), { code: 'EISDIR', syscall: 'open' });
    t.equal(nativeCounters().mappings, 0);
  });

  const notRoot = process.getuid?.() === 0 ? false : 'needs root, to become somebody else';
  t.test('a closed door: EACCES names the file, its group and mode', { skip: notRoot }, async (t) => {
    const { pdev, sysfs, door } = fakeProvider(t);
    chmodSync(join(door, '../..'), 0o755);
    chmodSync(door, 0o600);
    const memory = new NativeMemory(sysfs);
    process.seteuid!(65534);
    try {
      t.throws(() => memory.mmapP2pmem(pdev, 4096), {
        code: 'EACCES',
        path: door,
        hint: /root:root with mode 0600.*udev rule/,
      });
    } finally {
      process.seteuid!(0);
    }
  });
});

t.test('a runtime that refuses external ArrayBuffers', { skip: skipNative }, async (t) => {
  const file = join(directIoDir(t), 'data');
  writeFileSync(file, Buffer.alloc(256 * 1024, 9));
  process.env.P2PDMA_NO_EXTERNAL_BUFFERS = '1';
  t.teardown(() => {
    delete process.env.P2PDMA_NO_EXTERNAL_BUFFERS;
  });
  const { pdev, sysfs } = fakeProvider(t);
  t.throws(() => new NativeMemory(sysfs).mmapP2pmem(pdev, 4096), {
    code: 'ERR_BACKEND_UNAVAILABLE',
    message: /refuses external ArrayBuffers \(napi_no_external_buffers_allowed\)/,
  });
  const backend = await openNative();
  t.match((backend as { noExternalBuffers: string }).noExternalBuffers, /refuses external/);
  const mapping = backend.memory.allocHost(128 * 1024);
  t.equal(mapping.buffer.byteLength, 128 * 1024);
  const view = new Uint8Array(mapping.buffer);
  t.equal(memoryOf(view).address % 4096, 0, 'fit for O_DIRECT all the same');
  const target = await backend.openTarget(file, {});
  t.equal((await transfer(target, 'read', 0, view)).result, 128 * 1024);
  t.ok(view.every((byte) => byte === 9));
  mapping.munmap();
  mapping.munmap();
  t.equal(view.byteLength, 0);
  await backend.close();
});
