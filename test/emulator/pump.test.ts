/** A pump of the emulator, by itself: the requests that it makes, and what ends it. */
import t, { type Test } from 'tap';
import type { BlockTarget, PumpProgress } from '../../lib/backend/backend.js';
import { ENOSPC } from '../../lib/base/errno.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import { presets } from '../../lib/machine/presets.js';
import { io, pattern } from '../helpers/emulated-io.js';

const KiB = 1024;
const CHUNK = 16 * KiB;
const SLOTS = 6;

/** Three drives; the memory is in the first one's CMB. */
async function ground(t: Test) {
  const backend = await openEmulator({ machine: presets['four-drives'] });
  const mapping = backend.memory.mmapP2pmem(backend.controllers[0]!.pdev!, SLOTS * CHUNK);
  const open = (name: string) => backend.openTarget(name, { write: true });
  const [source, a, b] = [await open('nvme0n1'), await open('nvme1n1'), await open('nvme2n1')] as const;
  t.teardown(async () => {
    mapping.munmap();
    await backend.close();
  });
  const slots = Array.from({ length: SLOTS }, (_, i) => new Uint8Array(mapping.buffer, i * CHUNK, CHUNK));
  return { backend, source, a, b, slots };
}

const at = (target: BlockTarget, offset = 0) => ({ target, offset });

async function write(target: BlockTarget, bytes: number, seed: number): Promise<Uint8Array> {
  const model = pattern(bytes, seed);
  await io(target, 'write', 0, model);
  return model;
}

async function read(target: BlockTarget, offset: number, bytes: number): Promise<Buffer> {
  const view = Buffer.alloc(bytes);
  await io(target, 'read', offset, view);
  return view;
}

t.test('a range reaches every destination, at its own offset, peer to peer', async (t) => {
  const { backend, source, a, b, slots } = await ground(t);
  const model = await write(source, 50 * CHUNK, 1);
  const before = await write(a, 60 * CHUNK, 2);
  const length = 48 * CHUNK + 4 * KiB;
  const run = backend.pump({
    source: at(source, 4 * KiB),
    destinations: [at(a, 8 * KiB), at(b)],
    ...{ length, chunk: CHUNK, depth: 3, slots },
  });
  t.ok(run, 'it does not decline');
  t.equal(await run!.over, null, 'nothing failed');
  const wanted = model.subarray(4 * KiB, 4 * KiB + length);
  t.ok((await read(b, 0, length)).equals(wanted), 'the second destination');
  before.set(wanted, 8 * KiB);
  t.ok((await read(a, 0, 60 * CHUNK)).equals(before), 'the first, and not a byte beside it');
  const told = run!.progress();
  t.match(told, { moved: length, source: { transfers: 49, bytes: length, inFlight: 0 } });
  t.match(told.source.path, { internal: length, hostDram: 0 });
  for (const { path, ...account } of told.destinations) {
    t.match(account, { transfers: 49, bytes: length, inFlight: 0 });
    t.match(path, { internal: 0, hostDram: 0 });
  }
  t.equal(run!.progress().moved, 0, 'what was told is not told again');
});

t.test('no end has more in flight than the depth, and each gets its chunks in order', async (t) => {
  const { backend, source, a, b, slots } = await ground(t);
  const model = await write(source, 40 * CHUNK, 3);
  for (const depth of [1, 2]) {
    const most = new Map<BlockTarget, number>();
    const offsets = new Map<BlockTarget, number[]>();
    for (const target of [source, a, b]) {
      const submit = target.submit.bind(target);
      offsets.set(target, []);
      target.submit = (request) => {
        offsets.get(target)!.push(request.offset);
        submit(request);
      };
    }
    const run = backend.pump({
      ...{ source: at(source), destinations: [at(a), at(b)] },
      ...{ length: 40 * CHUNK, chunk: CHUNK, depth, slots },
    })!;
    let over = false;
    run.over.then(() => {
      over = true;
    });
    while (!over) {
      const { source: from, destinations } = run.progress();
      for (const [i, { inFlight }] of [from, ...destinations].entries()) {
        const target = [source, a, b][i]!;
        most.set(target, Math.max(most.get(target) ?? 0, inFlight));
      }
      await new Promise(setImmediate);
    }
    t.equal(await run.over, null);
    const inOrder = Array.from({ length: 40 }, (_, i) => i * CHUNK);
    for (const target of [source, a, b]) {
      t.equal(most.get(target), depth, `${target.path}: at most ${depth}`);
      t.same(offsets.get(target), inOrder);
      Reflect.deleteProperty(target, 'submit');
    }
    for (const target of [a, b]) t.ok((await read(target, 0, 40 * CHUNK)).equals(model), target.path);
  }
});

t.test('stopped at any moment, it says how far it came', async (t) => {
  const { backend, source, a, slots } = await ground(t);
  const model = await write(source, 64 * CHUNK, 4);
  for (let round = 0; round < 12; round++) {
    const before = await write(a, 64 * CHUNK, 5 + round);
    const run = backend.pump({
      ...{ source: at(source), destinations: [at(a)] },
      ...{ length: 64 * CHUNK, chunk: CHUNK, depth: 4, slots },
    })!;
    const told: PumpProgress[] = [];
    for (let i = round; i > 0; i--) {
      told.push(run.progress());
      await new Promise(setImmediate);
    }
    run.stop();
    t.equal(await run.over, null);
    told.push(run.progress());
    const moved = told.reduce((all, part) => all + part.moved, 0);
    const reads = told.reduce((all, part) => all + part.source.transfers, 0);
    t.equal(moved, reads * CHUNK, 'what was read was written, in whole chunks');
    before.set(model.subarray(0, moved));
    t.ok((await read(a, 0, 64 * CHUNK)).equals(before), `${moved} bytes, and not one more`);
  }
});

t.test('the failure nearest to the beginning is told', async (t) => {
  const { backend, source, a, b, slots } = await ground(t);
  const model = await write(source, 32 * CHUNK, 6);
  const run = backend.pump({
    ...{ source: at(source), destinations: [at(a), at(b, b.size - 12 * CHUNK)] },
    ...{ length: 32 * CHUNK, chunk: CHUNK, depth: 4, slots },
  })!;
  t.same(await run.over, { destination: 1, at: 12 * CHUNK, result: -ENOSPC });
  t.equal(run.progress().moved, 12 * CHUNK);
  t.ok((await read(b, b.size - 12 * CHUNK, 12 * CHUNK)).equals(model.subarray(0, 12 * CHUNK)));
});

t.test('what comes before a failure is written everywhere, and nothing is read after it', async (t) => {
  for (const depth of [1, 4, SLOTS]) {
    for (const [namespace, op] of [
      ['nvme0n1', 'read'],
      ['nvme2n1', 'write'],
    ] as const) {
      const { backend, source, a, b, slots } = await ground(t);
      const model = await write(source, 32 * CHUNK, 7);
      const lba = (20 * CHUNK) / source.limits.logicalBlockSize;
      backend.inject({ kind: 'media-error', namespace, lba, op });
      const run = backend.pump({
        ...{ source: at(source), destinations: [at(a), at(b)] },
        ...{ length: 32 * CHUNK, chunk: CHUNK, depth, slots },
      })!;
      const destination = op === 'read' ? null : 1;
      t.match(await run.over, { destination, at: 20 * CHUNK }, `${op}, depth ${depth}`);
      const { moved, source: from } = run.progress();
      t.equal(moved, 20 * CHUNK, 'all that comes before');
      t.ok(from.transfers <= 20 + SLOTS, `${from.transfers} reads`);
      for (const target of [a, b]) {
        t.ok((await read(target, 0, 20 * CHUNK)).equals(model.subarray(0, 20 * CHUNK)), target.path);
      }
    }
  }
});

t.test('it declines targets that are not of this kind, and a pump without memory', async (t) => {
  const { backend, source, a, slots } = await ground(t);
  const plan = { length: 4 * CHUNK, chunk: CHUNK, depth: 2, slots };
  const foreign = Object.create(a) as BlockTarget;
  Object.setPrototypeOf(foreign, {});
  t.equal(backend.pump({ source: at(source), destinations: [at(foreign)], ...plan }), null);
  t.equal(backend.pump({ source: at(source), destinations: [at(a)], ...plan, slots: [] }), null);
});
