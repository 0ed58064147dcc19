/**
 * What a writer does with a transfer that fails, on a target that answers as it is told; and writing of ranges on the emulator, where
 * neighbours' bytes must survive.
 */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { EINVAL, ENOSPC, EREMOTEIO } from '../../lib/base/errno.js';
import { EmulatorBackend } from '../../lib/emulator/backend.js';
import { openSystem, type P2pdmaError, type System } from '../../lib/index.js';
import { RangeWriter } from '../../lib/streams/range-writer.js';
import { deferred } from '../../lib/streams/transfer.js';
import { WriteTally } from '../../lib/streams/write-tally.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';

const preset = await openSystem({ machine: 'switch' });
const description = preset.snapshot() as object;
await preset.close();

interface Attempt {
  readonly view: Uint8Array;
  readonly offset: number;
  readonly cmb: boolean;
}

interface Rig {
  readonly system: System;
  readonly writer: RangeWriter;
  readonly tally: WriteTally;
  readonly attempts: Attempt[];
  write(view: Uint8Array, offset?: number): Promise<{ error: P2pdmaError | null; moved: number }>;
}

/** A writer to a namespace whose transfers get `answers` one after the other; after them all of their bytes. */
async function scripted(
  kernel: string,
  answers: number[],
  kind: BlockTarget['kind'] = 'namespace',
): Promise<Rig> {
  const system = await openSystem({ machine: { ...description, kernel } });
  const real = (await system.target('nvme1n1', { write: true })).blockTarget;
  const attempts: Attempt[] = [];
  const target: BlockTarget = Object.create(real, {
    submit: {
      value: (io: IoRequest) => {
        const first = io.segments[0]!;
        const view = io.segments.length === 1 ? first : Buffer.concat(io.segments);
        attempts.push({ view, offset: io.offset, cmb: first.buffer === cmb.buffer.buffer });
        setImmediate(() => {
          io.result = answers.shift() ?? view.length;
          // As a backend does: of this request only.
          io.path.peerBus = Math.max(0, io.result);
          io.done(io);
        });
      },
    },
    size: { value: real.size },
    limits: { value: real.limits },
    kind: { value: kind },
    path: { value: real.path },
  });
  const cmb = system.allocate('nvme0', 16384);
  cmb.buffer.set(bytesOf(16384, 3));
  const tally = new WriteTally(0);
  const writer = new RangeWriter(system.context, target, tally, { queueDepth: 4 });
  const write: Rig['write'] = (view, offset = 0) =>
    new Promise((resolve) =>
      writer.write(view, offset, (error, moved) => resolve({ error: error as P2pdmaError | null, moved })),
    );
  return Object.assign({ system, writer, tally, attempts, write }, { cmb: cmb.buffer });
}

const memory = (rig: Rig) => (rig as Rig & { cmb: Buffer }).cmb.subarray(0, 8192);

async function ends(t: Test, { system }: Rig): Promise<void> {
  t.same(await system.close(), NOTHING_LEFT);
}

for (const [kernel, errno, name] of [
  ['6.12', EREMOTEIO, 'EREMOTEIO'],
  ['6.17', EREMOTEIO, 'EREMOTEIO'],
  ['6.17', EINVAL, 'EINVAL'],
] as const) {
  t.test(`Linux ${kernel} refuses a peer's memory with ${name}: once more, from a copy`, async (t) => {
    const rig = await scripted(kernel, [-errno]);
    const told: string[] = [];
    rig.writer.onRefused = (reason) => told.push(reason);
    t.same(await rig.write(memory(rig)), { error: null, moved: 8192 });
    t.same(
      rig.attempts.map(({ cmb, offset }) => [cmb, offset]),
      [
        [true, 0],
        [false, 0],
      ],
    );
    t.ok(Buffer.from(rig.attempts[1]!.view).equals(memory(rig)), 'the same bytes');
    t.match(told, [new RegExp(`nvme1n1: the kernel refused CMB memory.*\\(${name}\\)`)]);
    t.equal(rig.tally.refusal, told[0]);
    t.match(rig.tally, { hostBytes: 8192, peerBytes: 0, path: { hostDram: 8192 } });
    await ends(t, rig);
  });

  t.test(`Linux ${kernel}, ${name}: the copy is refused too, and that is the end`, async (t) => {
    const rig = await scripted(kernel, [-errno, -errno, -errno]);
    t.match(await rig.write(memory(rig)), { error: { code: name }, moved: 0 });
    t.equal(rig.attempts.length, 2);
    await ends(t, rig);
  });

  t.test(`Linux ${kernel}, ${name}: not where peer-to-peer is required`, async (t) => {
    const rig = await scripted(kernel, [-errno]);
    rig.writer.requireP2p = true;
    t.match(await rig.write(memory(rig)), { error: { code: 'ERR_P2P_REQUIRED' } });
    t.equal(rig.attempts.length, 1);
    await ends(t, rig);
  });
}

t.test('an older kernel’s EINVAL says nothing about the memory', async (t) => {
  const rig = await scripted('6.12', [-EINVAL]);
  t.match(await rig.write(memory(rig)), { error: { code: 'EINVAL' } });
  t.equal(rig.attempts.length, 1);
  await ends(t, rig);
});

t.test(
  "EREMOTEIO from host memory is the drive's own error: not repeated, and peers are not blamed",
  async (t) => {
    const rig = await scripted('6.12', [-EREMOTEIO]);
    const host = rig.system.allocate(null, 8192);
    const { error } = await rig.write(host.buffer);
    t.match(error, { code: 'EREMOTEIO', hint: /critical target error/ });
    t.equal(rig.attempts.length, 1);
    t.equal(rig.tally.refusal, null);
    host.free();
    await ends(t, rig);
  },
);

t.test('a short write counts its part, and the rest has the error', async (t) => {
  const rig = await scripted('6.12', [4096, -ENOSPC]);
  t.match(await rig.write(memory(rig)), { error: { code: 'ENOSPC' }, moved: 4096 });
  t.equal(rig.tally.written.at, 4096);
  t.equal(rig.tally.path.peerBus, 4096, 'how the part went is counted too');
  t.same(
    rig.attempts.map(({ offset }) => offset),
    [0, 4096],
  );
  await ends(t, rig);
});

t.test('chunks of a stream go to a file in one call, and on from where a short count ends', async (t) => {
  const rig = await scripted('6.12', [700, 1], 'file');
  const bytes = bytesOf(3000, 8);
  const chunks = [0, 500, 0, 1200, 1300].map((length, i, all) => {
    const at = all.slice(0, i).reduce((sum, n) => sum + n, 0);
    return bytes.subarray(at, at + length);
  });
  const moved = await new Promise((resolve) => rig.writer.gather(chunks, 77, null, (_, n) => resolve(n)));
  t.equal(moved, 3000);
  t.same(
    rig.attempts.map(({ offset, view }) => [offset, view.length]),
    [
      [77, 3000],
      [777, 2300],
      [778, 2299],
    ],
  );
  for (const { offset, view } of rig.attempts)
    t.ok(bytes.subarray(offset - 77).equals(view), `from ${offset}`);
  await ends(t, rig);
});

t.test('nothing is begun after stop()', async (t) => {
  const rig = await scripted('6.12', []);
  rig.writer.stop();
  t.match(await rig.write(memory(rig)), { error: { code: 'ERR_STREAM_DESTROYED' }, moved: 0 });
  t.match(await rig.write(memory(rig).subarray(0, 100), 7), { error: { code: 'ERR_STREAM_DESTROYED' } });
  t.equal(rig.attempts.length, 0);
  await ends(t, rig);
});

t.test('parts of one block of a namespace, by many writers at once: each byte is its writer’s', async (t) => {
  const system = await openSystem({ machine: { ...description, latency: { readUs: 200, writeUs: 200 } } });
  const before = bytesOf(16384, 9);
  await poke(system, 'nvme1n1', 0, before);
  // Side by side, at boundaries that are none of the blocks'; one writes whole blocks beside them.
  const lengths = [100, 700, 13, 512, 2048, 1, 333, 4096, 50];
  let at = 77;
  const writers = [];
  for (const [i, length] of lengths.entries()) {
    const writer = system.createWriteStream('nvme1n1', { start: at, force: true, flush: false });
    const bytes = bytesOf(length, 20 + i);
    bytes.copy(before, at);
    writer.write(bytes.subarray(0, length >> 1));
    writer.end(bytes.subarray(length >> 1));
    writers.push(once(writer, 'close'));
    at += length;
  }
  await Promise.all(writers);
  t.ok((await peek(system, 'nvme1n1', 0, 16384)).equals(before), 'every byte is its last writer’s');
  t.same(await system.close(), NOTHING_LEFT);
});

/** A writer to nvme1n1, and memory of nvme0, whose removal takes the memory away. */
async function removable() {
  const system = await openSystem({ machine: 'four-drives' });
  const { backend } = system.context;
  if (!(backend instanceof EmulatorBackend)) throw new Error('not emulated');
  const target = (await system.target('nvme1n1', { write: true })).blockTarget;
  const options = { queueDepth: 4, highWaterMark: 4096 };
  const writer = new RangeWriter(system.context, target, new WriteTally(0), options);
  const ends: Promise<string>[] = [];
  const ended = () => {
    const { promise, resolve } = deferred<string>();
    ends.push(promise);
    return (error: Error | null) => resolve(error === null ? 'written' : (error as P2pdmaError).code);
  };
  const provider = backend.topology.functions.find(({ bdf }) => bdf === '0000:03:00.0');
  return { system, writer, ends, ended, provider: provider!, remove: () => backend.remove('nvme0') };
}

for (const steps of [0, 1, 2, 3, 4, 6, 8]) {
  t.test(`parts of a block whose CMB goes away ${steps} turns later: each write ends`, async (t) => {
    const { system, writer, ends, ended, remove } = await removable();
    const cmb = system.allocate('nvme0', 4096).buffer;
    for (let part = 0; part < 5; part++) {
      writer.write(cmb.subarray(part * 10, part * 10 + 10), part * 10, ended());
    }
    for (let step = 0; step < steps; step++) await new Promise(setImmediate);
    remove();
    for (const end of await Promise.all(ends)) t.match(end, /^(written|EFAULT|EIO)$/);
    writer.write(Buffer.from('later'), 0, ended());
    t.equal(await ends.at(-1), 'written', 'what comes after them has its turn');
    t.same(await system.close(), NOTHING_LEFT);
  });

  t.test(`data that is copied into a CMB which goes away ${steps} turns later: the write ends`, async (t) => {
    const { system, writer, ends, ended, provider, remove } = await removable();
    for (let part = 0; part < 3; part++) {
      writer.gather([Buffer.alloc(65536, 7)], part * 65536, provider, ended());
    }
    for (let step = 0; step < steps; step++) await new Promise(setImmediate);
    remove();
    for (const end of await Promise.all(ends)) t.match(end, /^(written|EFAULT|EIO)$/);
    t.same(await system.close(), NOTHING_LEFT);
  });
}

t.test('memory that is gone before it is its turn: EFAULT, and nothing is written for it', async (t) => {
  const rig = await scripted('6.12', []);
  const gone = (view: Uint8Array) => structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  // At odd addresses, so that it is copied into the one slot that there is: the second waits for it.
  const [first, second] = [new Uint8Array(516).subarray(1, 513), new Uint8Array(516).subarray(1, 513)];
  first.fill(1);
  second.fill(2);
  const writes = [rig.write(first, 0), rig.write(second, 512)];
  gone(second);
  const [one, two] = await Promise.all(writes);
  t.match(one, { error: null, moved: 512 });
  t.match(two, { error: { code: 'EFAULT' }, moved: 0 });
  t.same(
    rig.attempts.map(({ offset }) => offset),
    [0],
  );

  const late = new Uint8Array(512);
  gone(late);
  const written = deferred<{ error: Error | null; moved: number }>();
  rig.writer.write(late, 1024, (error, moved) => written.resolve({ error, moved }), 512);
  t.match(await written.promise, { error: { code: 'EFAULT' }, moved: 0 });
  t.equal(rig.attempts.length, 1);
  await rig.system.close();
});
