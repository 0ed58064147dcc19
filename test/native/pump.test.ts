/** A pump on the engine, by itself: whole chunks move in C++, and the first answer that is not plain ends it. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  type BlockTarget,
  PAGE_SIZE,
  type PumpFailure,
  type PumpProgress,
} from '../../lib/backend/backend.js';
import { ENOSPC } from '../../lib/base/errno.js';
import { nativeCounters } from '../../lib/native/addon.js';
import { type NativeBackend, openNative } from '../../lib/native/backend.js';
import { asan, directIoDir, loopDevice, pattern, skipLoop, skipNative, transfer } from '../helpers/native.js';
import { random } from '../helpers/random.js';

const KiB = 1024;
const CHUNK = 16 * KiB;
const engines = ['uring', 'threads'] as const;

interface Ground {
  readonly backend: NativeBackend;
  readonly folder: string;
  readonly slots: Uint8Array[];
  /** A file of so many bytes, and what is in it. */
  file(
    name: string,
    bytes: number,
    seed?: number,
  ): Promise<{ target: BlockTarget; model: Uint8Array; path: string }>;
}

async function ground(
  t: Test,
  engine: (typeof engines)[number],
  { slots = 6, chunk = CHUNK } = {},
): Promise<Ground> {
  const backend = (await openNative({ engine })) as NativeBackend;
  const folder = directIoDir(t);
  const mapping = backend.memory.allocHost(slots * chunk);
  const opened: BlockTarget[] = [];
  t.teardown(async () => {
    for (const target of opened) await target.close();
    mapping.munmap();
    await backend.close();
  });
  return {
    backend,
    folder,
    slots: Array.from({ length: slots }, (_, i) => new Uint8Array(mapping.buffer, i * chunk, chunk)),
    file: async (name, bytes, seed = 1) => {
      const path = join(folder, name);
      const model = pattern(bytes, seed);
      writeFileSync(path, model);
      const target = await backend.openTarget(path, { write: true });
      opened.push(target);
      return { target, model, path };
    },
  };
}

const at = (target: BlockTarget, offset = 0) => ({ target, offset });

/** All that it did, in sum. */
function sum(parts: readonly PumpProgress[]) {
  const moved = parts.reduce((all, part) => all + part.moved, 0);
  const reads = parts.reduce((all, { source }) => all + source.transfers, 0);
  const written = parts.reduce((all, { destinations }) => all + destinations[0]!.bytes, 0);
  return { moved, reads, written, inFlight: parts.at(-1)!.source.inFlight };
}

for (const engine of engines) {
  t.test(
    `${engine}: a range reaches every destination, at its own offset`,
    { skip: skipNative },
    async (t) => {
      const { file, backend, slots } = await ground(t, engine);
      const source = await file('source', 50 * CHUNK + 8 * KiB, 1);
      const a = await file('a', 60 * CHUNK, 2);
      const b = await file('b', 60 * CHUNK, 3);
      const length = 48 * CHUNK + 4 * KiB;
      const before = nativeCounters();
      const run = backend.pump({
        source: at(source.target, 4 * KiB),
        destinations: [at(a.target, 8 * KiB), at(b.target)],
        ...{ length, chunk: CHUNK, depth: 3, slots },
      });
      t.ok(run, 'it does not decline');
      t.equal(await run!.over, null, 'nothing failed');
      const wanted = source.model.subarray(4 * KiB, 4 * KiB + length);
      t.ok(
        readFileSync(a.path)
          .subarray(8 * KiB, 8 * KiB + length)
          .equals(wanted),
        'the first destination',
      );
      t.ok(readFileSync(b.path).subarray(0, length).equals(wanted), 'the second destination');
      a.model.set(wanted, 8 * KiB);
      t.ok(readFileSync(a.path).equals(a.model), 'and not a byte beside it');
      const told = run!.progress();
      t.match(told, { moved: length, source: { transfers: 49, bytes: length, inFlight: 0 } });
      t.match(told.destinations, [
        { transfers: 49, bytes: length, inFlight: 0, path: { hostDram: length } },
        { transfers: 49, bytes: length, inFlight: 0 },
      ]);
      t.equal(run!.progress().moved, 0, 'what was told is not told again');
      const { callbacks, inFlight } = nativeCounters();
      t.equal(inFlight, before.inFlight);
      t.equal(callbacks - before.callbacks, 1, 'JavaScript was called once');
    },
  );

  t.test(`${engine}: no end has more in flight than the depth`, { skip: skipNative }, async (t) => {
    const { file, backend, slots } = await ground(t, engine);
    const source = await file('source', 200 * CHUNK, 6);
    const a = await file('a', 200 * CHUNK, 7);
    const b = await file('b', 200 * CHUNK, 8);
    for (const depth of [1, 2]) {
      // A copy may be over before this thread is given the processor again: what is looked at then says nothing.
      let most = 0;
      for (let copies = 0; most === 0 && copies < 200; copies++) {
        const run = backend.pump({
          ...{ source: at(source.target), destinations: [at(a.target), at(b.target)] },
          ...{ length: 200 * CHUNK, chunk: CHUNK, depth, slots },
        })!;
        let over = false;
        run.over.then(() => (over = true));
        while (!over) {
          const { source, destinations } = run.progress();
          most = Math.max(most, source.inFlight, ...destinations.map(({ inFlight }) => inFlight));
          await new Promise(setImmediate);
        }
        for (const { path } of [a, b]) t.ok(readFileSync(path).equals(source.model), path);
      }
      t.ok(most > 0 && most <= depth, `depth ${depth}: at most ${most}`);
    }
  });

  t.test(`${engine}: stopped at any moment, it says how far it came`, { skip: skipNative }, async (t) => {
    const { file, backend, slots } = await ground(t, engine);
    const source = await file('source', 64 * CHUNK, 4);
    for (let round = 0; round < 20; round++) {
      const to = await file(`to${round}`, 64 * CHUNK, 5);
      const run = backend.pump({
        ...{ source: at(source.target), destinations: [at(to.target)] },
        ...{ length: 64 * CHUNK, chunk: CHUNK, depth: 4, slots },
      })!;
      const told: PumpProgress[] = [];
      for (let i = round === 0 ? 0 : 1 + Math.floor(random() * 8); i > 0; i--) {
        told.push(run.progress());
        await new Promise(setImmediate);
      }
      run.stop();
      t.equal(await run.over, null);
      told.push(run.progress());
      const { moved, reads, written, inFlight } = sum(told);
      t.equal(inFlight, 0);
      t.equal(moved % CHUNK, 0, 'whole chunks');
      t.equal(moved, reads * CHUNK, 'what was read was written');
      t.equal(moved, written);
      to.model.set(source.model.subarray(0, moved));
      t.ok(readFileSync(to.path).equals(to.model), `${moved} bytes, and not one more`);
      if (round === 0) t.equal(moved, 0, 'stopped before the engine has seen it');
    }
  });

  t.test(`${engine}: a source that is cut short ends it there`, { skip: skipNative }, async (t) => {
    const { file, backend, slots } = await ground(t, engine);
    const source = await file('source', 32 * CHUNK, 6);
    const to = await file('to', 32 * CHUNK, 7);
    truncateSync(source.path, 20 * CHUNK + 4 * KiB);
    const run = backend.pump({
      ...{ source: at(source.target), destinations: [at(to.target)] },
      ...{ length: 32 * CHUNK, chunk: CHUNK, depth: 4, slots },
    })!;
    const failure: PumpFailure | null = await run.over;
    t.match(failure, { destination: null, at: 20 * CHUNK, result: 4 * KiB }, 'the first that is short');
    t.equal(run.progress().moved, 20 * CHUNK);
    to.model.set(source.model.subarray(0, 20 * CHUNK));
    t.ok(readFileSync(to.path).equals(to.model), 'nothing that was not read was written');
  });

  t.test(`${engine}: the failure nearest to the beginning is told`, { skip: skipLoop }, async (t) => {
    const { file, backend, slots } = await ground(t, engine);
    const source = await file('source', 32 * CHUNK, 8);
    const device = await backend.openTarget(loopDevice(t, 16 * CHUNK), { write: true });
    const other = await file('other', 32 * CHUNK, 9);
    const run = backend.pump({
      ...{ source: at(source.target), destinations: [at(other.target), at(device, 4 * CHUNK)] },
      ...{ length: 32 * CHUNK, chunk: CHUNK, depth: 4, slots },
    })!;
    t.same(await run.over, { destination: 1, at: 12 * CHUNK, result: -ENOSPC });
    t.equal(run.progress().moved, 12 * CHUNK);
    const memory = backend.memory.allocHost(12 * CHUNK);
    const view = new Uint8Array(memory.buffer);
    t.equal((await transfer(device, 'read', 4 * CHUNK, view)).result, 12 * CHUNK);
    t.same(
      Buffer.from(view).equals(source.model.subarray(0, 12 * CHUNK)),
      true,
      'what is before it is there',
    );
    memory.munmap();
    await device.close();
  });
}

/** The pages that this thread had to wait for. */
function pageFaults(): number {
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[7]);
}

t.test('the pages of large slots are cleared away from this thread', { skip: skipNative }, async (t) => {
  const chunk = 256 * KiB;
  const slots = 7; // less than a huge page in sum, so that each page is a fault
  // Many, so that what the runtime itself touches meanwhile, which may be hundreds of pages, makes no difference.
  const rounds = 10;
  const pages = (rounds * slots * chunk) / PAGE_SIZE;
  const { file, backend } = await ground(t, 'uring');
  const length = slots * chunk;
  const source = await file('source', length, 14);
  const copy = await file('copy', length, 15);
  // A worker of the kernel reads what is not on the device yet, whatever the size.
  await source.target.flush();
  let faults = 0;
  for (let round = 0; round < rounds; round++) {
    const memory = backend.memory.allocHost(length);
    const before = pageFaults();
    const run = backend.pump({
      source: at(source.target),
      destinations: [at(copy.target)],
      ...{ length, chunk, depth: slots },
      slots: Array.from({ length: slots }, (_, i) => new Uint8Array(memory.buffer, i * chunk, chunk)),
    });
    t.equal(await run!.over, null, 'nothing failed');
    faults += pageFaults() - before;
    memory.munmap();
  }
  // A sanitizer's allocator takes new pages for what is allocated beside the transfers, so there the number says nothing.
  if (!asan) t.ok(faults < pages / 2, `${faults} page faults, and ${pages} pages of memory`);
  t.ok(readFileSync(copy.path).equals(source.model), 'every byte is there');
});

t.test('it declines what it cannot do as it is done chunk by chunk', { skip: skipNative }, async (t) => {
  const { file, backend, slots } = await ground(t, 'threads');
  const threads = await file('a', 8 * CHUNK);
  const ringed = await backend
    .openTarget(join(threads.path, '..', 'a'), { engine: 'uring' })
    .catch(() => null);
  const readOnly = await backend.openTarget(threads.path, {});
  const plan = { length: 4 * CHUNK, chunk: CHUNK, depth: 2, slots };
  const { target } = threads;
  t.equal(backend.pump({ source: at(target), destinations: [at(readOnly)], ...plan }), null, 'not writable');
  if (ringed !== null) {
    t.equal(backend.pump({ source: at(ringed), destinations: [at(target)], ...plan }), null, 'two engines');
    await ringed.close();
  }
  t.equal(
    backend.pump({ source: at(target), destinations: [at(target)], ...plan, slots: [] }),
    null,
    'no memory',
  );
  await readOnly.close();
  t.equal(backend.pump({ source: at(readOnly), destinations: [at(target)], ...plan }), null, 'closed');
});

t.test('uring: it goes on while JavaScript is busy', { skip: skipNative }, async (t) => {
  const { file, backend, slots } = await ground(t, 'uring');
  const source = await file('source', 200 * CHUNK, 9);
  const a = await file('a', 200 * CHUNK, 10);
  const length = 200 * CHUNK;
  const run = backend.pump({
    ...{ source: at(source.target), destinations: [at(a.target)] },
    ...{ length, chunk: CHUNK, depth: 2, slots },
  })!;
  await new Promise(setImmediate);
  // From here on no other code of this thread runs.
  const until = performance.now() + 10_000;
  let moved = 0;
  while (moved < length && performance.now() < until) moved += run.progress().moved;
  t.equal(moved, length);
  t.equal(await run.over, null);
  t.ok(readFileSync(a.path).equals(source.model));
});
