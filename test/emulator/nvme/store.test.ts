import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import * as nvme from '../../../lib/backend/nvme-spec.js';
import {
  FileStore,
  MemoryStore,
  type NamespaceStore,
  STORE_PENDING,
  type StoreIo,
} from '../../../lib/emulator/nvme/store.js';
import { fc } from '../../helpers/random.js';
import { Driver, MIB, pattern, rw, twoDrives } from './harness.js';

const { nvmeCmdRead, nvmeCmdWrite } = nvme;

/** Run one operation of a store to its end. */
function does(bytes: Uint8Array[], start: (io: StoreIo) => number): Promise<number> {
  return new Promise((resolve) => {
    const status = start({ windows: bytes.map((b) => ({ bytes: b })), stored: resolve });
    if (status !== STORE_PENDING) resolve(status);
  });
}

const read = (store: NamespaceStore, at: number, ...bytes: Uint8Array[]) =>
  does(bytes, (io) => store.read(at, total(bytes), io));
const write = (store: NamespaceStore, at: number, ...bytes: Uint8Array[]) =>
  does(bytes, (io) => store.write(at, total(bytes), io));
const compare = (store: NamespaceStore, at: number, ...bytes: Uint8Array[]) =>
  does(bytes, (io) => store.compare(at, total(bytes), io));
const total = (bytes: Uint8Array[]) => bytes.reduce((sum, b) => sum + b.length, 0);

t.test('MemoryStore is a sparse array of bytes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          op: fc.constantFrom('write', 'zero', 'deallocate', 'read'),
          at: fc.integer({ min: 0, max: 8190 }),
          blocks: fc.integer({ min: 1, max: 4500 }),
          cut: fc.integer({ min: 0, max: 4500 }),
        }),
        { maxLength: 12 },
      ),
      async (steps) => {
        const store = new MemoryStore(4 * MIB);
        const model = new Uint8Array(4 * MIB);
        for (const [i, step] of steps.entries()) {
          const at = step.at * 512;
          const length = Math.min(step.blocks * 512, model.length - at);
          const cut = Math.min(step.cut * 512, length);
          if (step.op === 'write') {
            const data = pattern(new Uint8Array(length), i);
            model.set(data, at);
            await write(store, at, data.subarray(0, cut), data.subarray(cut));
          } else if (step.op === 'read') {
            const back = new Uint8Array(length).fill(0xee);
            await read(store, at, back.subarray(0, cut), back.subarray(cut));
            if (Buffer.compare(back, model.subarray(at, at + length)) !== 0) return false;
          } else {
            model.fill(0, at, at + length);
            if (step.op === 'zero') store.writeZeroes(at, length, { windows: [], stored() {} });
            else store.deallocate(at, length);
          }
        }
        const all = new Uint8Array(model.length).fill(0xee);
        await read(store, 0, all);
        return Buffer.compare(all, model) === 0 && (await compare(store, 0, all)) === 0;
      },
    ),
    { numRuns: 40 },
  );
});

t.test('MemoryStore takes memory only for what is written', async (t) => {
  const store = new MemoryStore(2 ** 44);
  t.equal(store.used, 0);
  await read(store, 2 ** 43, new Uint8Array(4096));
  t.equal(store.used, 0);
  await write(store, 2 ** 43, pattern(new Uint8Array(512)));
  t.equal(store.used, MIB);
  store.deallocate(0, 2 ** 44);
  t.equal(store.used, 0);
  t.throws(() => new MemoryStore(1000), { code: 'EINVAL' });
  t.throws(() => new MemoryStore(4096, { blockSize: 520 }), { code: 'EINVAL' });
});

t.test('a raw image', async (t) => {
  const dir = t.testdir({});
  const file = path.join(dir, 'image');
  await t.rejects(FileStore.open(file), { code: 'ENOENT' });
  await t.rejects(FileStore.open(dir, { readOnly: true }), { code: 'EISDIR' });
  const store: NamespaceStore = await FileStore.open(file, { create: true, size: MIB });
  t.equal(store.size, MIB);
  t.equal(fs.statSync(file).size, MIB, 'made as long as asked');
  const data = pattern(new Uint8Array(8192));
  t.equal(await write(store, 4096, data.subarray(0, 100), data.subarray(100, 5000), data.subarray(5000)), 0);
  t.equal(await does([], (io) => store.flush(io)), 0);
  t.same(new Uint8Array(fs.readFileSync(file).subarray(4096, 12288)), data);
  const back = new Uint8Array(8192);
  t.equal(await read(store, 4096, back.subarray(0, 1), back.subarray(1)), 0);
  t.same(back, data);
  t.equal(await compare(store, 4096, back), 0);
  back[8191]! ^= 1;
  t.equal(await compare(store, 4096, back), nvme.NVME_SC_COMPARE_FAILED);
  t.equal(await does([], (io) => store.writeZeroes(4096, 512, io)), 0);
  await read(store, 4096, back);
  t.ok(back.subarray(0, 512).every((b) => b === 0));
  t.same(back.subarray(512, 1024), data.subarray(512, 1024));

  const half = await FileStore.open(file, { size: MIB / 2, readOnly: true });
  t.equal(half.size, MIB / 2, 'a description may use less than all of a file');
  await half.close();

  fs.truncateSync(file, 512);
  t.equal(await read(store, 0, back), nvme.NVME_SC_READ_ERROR, 'blocks that the image lost are damaged');
  await store.close();
  await store.close();
});

t.test('more windows than one readv takes', async (t) => {
  const store = await FileStore.open(path.join(t.testdir({}), 'image'), { create: true, size: MIB });
  const data = pattern(new Uint8Array(3000 * 100));
  const cuts = Array.from({ length: 3000 }, (_, i) => data.subarray(i * 100, i * 100 + 100));
  t.equal(await write(store, 0, ...cuts), 0);
  const back = new Uint8Array(data.length);
  t.equal(await read(store, 0, ...cuts.map((_, i) => back.subarray(i * 100, i * 100 + 100))), 0);
  t.same(back, data);
  await store.close();
});

t.test('a file on the drive has an exact length', async (t) => {
  const file = path.join(t.testdir({ file: 'hello' }), 'file');
  const store = await FileStore.open(file, { kind: 'file' });
  t.equal(store.length, 5);
  const block = new Uint8Array(1024).fill(0xee);
  t.equal(await read(store, 0, block.subarray(0, 512), block.subarray(512)), 0);
  t.equal(Buffer.from(block.subarray(0, 6)).toString(), 'hello\0', 'zeros past the end');
  t.ok(block.subarray(5).every((b) => b === 0));
  block.fill(7);
  t.equal(await write(store, 512, block), 0);
  t.equal(store.length, 1536);
  await store.truncate(1000);
  t.equal(store.length, 1000);
  t.equal(fs.statSync(file).size, 1000);
  await store.close();
  await t.rejects(FileStore.open(file, { create: true, exclusive: true }), { code: 'EEXIST' });
  const again = await FileStore.open(file, { kind: 'file', truncate: true });
  t.equal(again.length, 0);
  await again.close();
});

t.test('what the host refuses becomes a status', async (t) => {
  const dir = t.testdir({ file: 'x'.repeat(512) });
  const file = path.join(dir, 'file');
  const readOnly = await FileStore.open(file, { readOnly: true });
  t.ok(readOnly.readOnly);
  t.equal(await write(readOnly, 0, new Uint8Array(512)), nvme.NVME_SC_INTERNAL, 'EBADF');
  await readOnly.close();
  if (fs.existsSync('/dev/full')) {
    const full = await FileStore.open('/dev/full', { kind: 'file' });
    t.equal(await write(full, 0, new Uint8Array(512)), nvme.NVME_SC_CAP_EXCEEDED, 'ENOSPC');
    await full.close();
  }
});

async function overFile(dir: string): Promise<{ d: Driver; store: FileStore }> {
  const store = await FileStore.open(path.join(dir, 'image'), { create: true, size: 16 * MIB });
  const { a } = twoDrives({ stores: new Map([[1, store]]) });
  return { d: a.start(), store };
}

t.test('a controller over an image', async (t) => {
  const { d } = await overFile(t.testdir({}));
  const memory = d.alloc(8192);
  pattern(memory.bytes);
  const io = (command: ReturnType<typeof rw>) => d.finish(d.submit(1, { nsid: 1, ...command }));
  const prps = { prp1: memory.phys + 512, prp2: memory.phys + 4096 };
  const written = await io(rw(nvmeCmdWrite, 5, 8, prps));
  t.equal(written.status, 0);
  t.equal(d.path(written.cid).hostDram, 4096);
  const data = memory.bytes.slice(512, 4608);
  memory.bytes.fill(0);
  t.equal((await io(rw(nvmeCmdRead, 5, 8, prps))).status, 0);
  t.same(memory.bytes.subarray(512, 4608), data);
  t.equal((await io({ opcode: nvme.nvmeCmdFlush })).status, 0);
  const fua = rw(nvmeCmdWrite, 5, 8, prps);
  fua.cdw12! += nvme.NVME_RW_FUA;
  const durable = await io(fua);
  t.equal(durable.status, 0);
  t.equal(d.path(durable.cid).hostDram, 4096, 'counted once');
  d.admin({ opcode: nvme.nvmeAdminSetFeatures, cdw10: nvme.NVME_FEAT_VOLATILE_WC, cdw11: 0 });
  t.equal((await io(rw(nvmeCmdWrite, 5, 8, prps))).status, 0);
  t.equal((await io(rw(nvmeCmdRead, 2 ** 30, 8, prps))).status, nvme.NVME_SC_LBA_RANGE);
  await closed(d);
});

async function closed(d: Driver): Promise<void> {
  let done = false;
  const closing = d.ctrl.close().then(() => {
    done = true;
  });
  while (!done) {
    d.clock.settle();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await closing;
}

t.test('reset and removal wait until the medium touches no memory any more', async (t) => {
  for (const how of ['reset', 'remove'] as const) {
    const { d } = await overFile(t.testdir({}));
    const memory = d.alloc(4096);
    let removed = false;
    d.ctrl.onRemove(() => {
      removed = true;
    });
    const cids = Array.from({ length: 8 }, (_, i) =>
      d.put(1, rw(nvmeCmdRead, i, 8, { nsid: 1, prp1: memory.phys })),
    );
    d.ring(1);
    d.clock.turn();
    t.equal(d.ctrl.outstanding, 8);
    t.equal(d.ctrl.abort(1, cids[0]!), false, 'what the medium has cannot be aborted');
    if (how === 'reset') d.write(nvme.NVME_REG_CC, Driver.CC);
    else d.ctrl.remove();
    d.clock.settle();
    const over = () => (how === 'reset' ? d.read(nvme.NVME_REG_CSTS) === 0 : removed);
    t.notOk(over(), `${how}: not yet`);
    for (const until = Date.now() + 20_000; Date.now() < until && !over(); ) {
      await new Promise((resolve) => setImmediate(resolve));
      d.clock.settle();
    }
    t.ok(over(), `${how}: at last`);
    t.same(d.arrived, []);
    await closed(d);
  }
});

t.test('deleting a queue waits for what the medium still does', async (t) => {
  const { d } = await overFile(t.testdir({}));
  const memory = d.alloc(4096);
  const cid = d.submit(1, rw(nvmeCmdRead, 0, 8, { nsid: 1, prp1: memory.phys }));
  d.clock.turn();
  const deletion = d.submit(0, { opcode: nvme.nvmeAdminDeleteSq, cdw10: 1 });
  d.clock.settle();
  t.equal(d.take(deletion), null);
  t.equal((await d.finish(deletion)).status, 0);
  t.equal(d.take(cid)?.status, 0);
  await closed(d);
});
