/**
 * The pump between our own ends: whoever wants to see the data stops it, at any moment, and no byte is lost, doubled or
 * another's. Native files and emulated drives.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { EmulatorBackend } from '../../lib/emulator/backend.js';
import { openSystem, type P2pReadStream, type P2pWriteStream, type System } from '../../lib/index.js';
import type { Machine } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';
import { random } from '../helpers/random.js';

const MIB = 1024 * 1024;
/** More of everything, where it is asked for: P2PDMA_TIMES=100. */
const TIMES = Number(process.env.P2PDMA_TIMES ?? 1);
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-pump-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const between = (low: number, high: number) => low + Math.floor(random() * (high - low + 1));

interface Place {
  readonly name: string;
  readonly system: System;
  readonly source: Buffer;
  readonly from: string;
  readonly to: readonly [string, string];
  written(path: string, length: number): Promise<Buffer>;
}

/** What a drive takes: an emulated copy then goes on for many turns of the event loop, where it otherwise needs two or three. */
const latency = { readUs: 285, writeUs: 260, bytesPerSecond: null };

async function emulated(name: string, machine: Machine, bytes: number): Promise<Place> {
  const system = await openSystem({ machine });
  const source = bytesOf(bytes, 7);
  await poke(system, 'nvme0n1', 0, source);
  return {
    name,
    system,
    source,
    from: 'nvme0n1',
    to: ['nvme1n1', 'nvme2n1'],
    written: async (path, length) => (length === 0 ? Buffer.alloc(0) : peek(system, path, 0, length)),
  };
}

async function places(): Promise<Place[]> {
  const machine = presets['four-drives'];
  const both = [
    await emulated('emulator', machine, 4 * MIB),
    await emulated('emulator with latency', { ...machine, latency }, MIB),
  ];
  const native = await openSystem({ backend: 'native' }).catch((error: Error) => {
    t.comment(`native: ${error.message}`);
    return null;
  });
  if (native === null) return both;
  const from = join(folder, 'source');
  // A file has more, for a copy that is still under way when somebody has looked at it.
  const source = bytesOf(8 * MIB, 7);
  writeFileSync(from, source);
  const written = async (path: string, length: number) => {
    const file = await open(path);
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await file.read(bytes, 0, length, 0);
    await file.close();
    return bytes.subarray(0, bytesRead);
  };
  const to = [join(folder, 'a'), join(folder, 'b')] as const;
  return [...both, { name: 'native', system: native, source, from, to, written }];
}

/** Somebody foreign who keeps what it gets. */
class Collector extends Writable {
  readonly chunks: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(chunk);
    if (random() < 0.3) setImmediate(done);
    else done();
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

const moment = async () => {
  for (let i = between(0, 12); i > 0; i--) await new Promise(setImmediate);
  if (random() < 0.2) await sleep(between(0, 3));
};

/** Until the reader has read so much, or all. To ask for the metrics is to look at what the backend has moved by itself. */
async function hasRead(system: System, reader: P2pReadStream, bytes: number): Promise<void> {
  while (reader.bytesRead < bytes && !reader.readableEnded && !reader.destroyed) {
    await new Promise(setImmediate);
    system.metrics();
  }
}

/** One round in two a moment of any kind, in the others one in which a part of the data is read. */
const middle = async (system: System, reader: P2pReadStream, end: number, round: number) =>
  round % 2 === 0 ? moment() : hasRead(system, reader, between(1, Math.ceil(end / 2)));

/** How many rounds ended in the middle of the data. A test that has none has tested nothing. */
class Middles {
  #rounds = 0;
  #count = 0;

  add(bytes: number, all: number): void {
    this.#rounds++;
    if (bytes > 0 && bytes < all) this.#count++;
  }

  check(t: Test): void {
    t.ok(this.#count > 0, `${this.#count} of ${this.#rounds} rounds in the middle of the data`);
  }
}

const NOTHING = Buffer.alloc(0);

/**
 * Each is given a reader that is piped to a writer of ours, waits for the moment and interferes. It resolves to what it
 * saw when both have ended: the source from some byte on, to its end.
 */
const interferences: Record<string, (reader: P2pReadStream, at: Promise<void>) => Promise<Buffer>> = {
  nobody: async () => NOTHING,
  'a data listener': async (reader, at) => {
    await at;
    const seen: Buffer[] = [];
    reader.on('data', (chunk: Buffer) => seen.push(chunk));
    if (!reader.readableEnded) await finished(reader, { writable: false });
    return Buffer.concat(seen);
  },
  'a foreign destination': async (reader, at) => {
    await at;
    if (reader.readableEnded) return NOTHING;
    const foreign = new Collector();
    reader.pipe(foreign);
    await finished(foreign);
    return foreign.bytes;
  },
  'a transform behind it': async (reader, at) => {
    await at;
    if (reader.readableEnded) return NOTHING;
    const foreign = new Collector();
    reader.pipe(new PassThrough()).pipe(foreign);
    await finished(foreign);
    return foreign.bytes;
  },
  pauses: async (reader) => {
    while (!reader.readableEnded && !reader.destroyed) {
      await moment();
      reader.pause();
      await moment();
      reader.resume();
    }
    return NOTHING;
  },
};

t.test('whoever wants to see the data stops the pump, byte-exact', async (t) => {
  for (const { name: place, system, source, from, to, written } of await places()) {
    const size = source.length;
    await t.test(place, async (t) => {
      const middles = new Middles();
      for (let i = 0; i < 40 * TIMES; i++) {
        const names = Object.keys(interferences);
        const name = names[between(0, names.length - 1)]!;
        const start = random() < 0.5 ? 0 : between(0, 5000);
        const length = between(1, size - start);
        const options = { highWaterMark: 4096 << between(0, 5), queueDepth: between(1, 9) };
        const what = `${i} ${name} [${start}, +${length}) ${JSON.stringify(options)}`;
        const reader = system.createReadStream(from, { ...options, start, end: start + length - 1 });
        const writer = system.createWriteStream(to[0], { ...options, flush: false });
        const whole = finished(writer);
        reader.pipe(writer);
        const interference = interferences[name]!(reader, middle(system, reader, length, i));
        const [seen] = await Promise.all([interference, whole]);
        const end = start + length;
        t.ok(
          seen.equals(source.subarray(end - seen.length, end)),
          `${what}: saw the last ${seen.length} bytes`,
        );
        middles.add(seen.length, length);
        t.equal(reader.bytesRead, length, `${what}: bytesRead`);
        t.equal(writer.bytesWritten, length, `${what}: bytesWritten`);
        const expected = source.subarray(start, start + length);
        t.ok((await written(to[0], length)).equals(expected), `${what}: written`);
        if (!reader.closed) await finished(reader).catch(() => {});
      }
      middles.check(t);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
});

t.test('unpipe stops at a chunk’s boundary; what is piped to next goes on there', async (t) => {
  for (const { name, system, source, from, to, written } of await places()) {
    const size = source.length;
    await t.test(name, async (t) => {
      const middles = new Middles();
      for (let i = 0; i < 40 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: size - 1, highWaterMark: 16384 });
        const first = system.createWriteStream(to[0], { flush: false });
        reader.pipe(first);
        await middle(system, reader, size, i);
        reader.unpipe(first);
        first.end();
        await finished(first);
        const done = first.bytesWritten;
        t.ok(done === size || done % 16384 === 0, `${done} bytes: whole chunks`);
        t.ok((await written(to[0], done)).equals(source.subarray(0, done)), 'and these');
        const second = system.createWriteStream(to[1], { flush: false });
        reader.pipe(second);
        if (reader.readableEnded) second.end();
        await finished(second);
        const rest = size - done;
        t.equal(second.bytesWritten, rest, 'the rest');
        t.ok((await written(to[1], rest)).equals(source.subarray(done)), 'byte for byte');
        middles.add(done, size);
        if (!reader.closed) await finished(reader);
      }
      middles.check(t);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
});

/** Each takes the last writer away from a reader; what goes on with the rest comes after a while. */
const leavings: Record<string, (reader: P2pReadStream, writer: P2pWriteStream) => void> = {
  'it is unpiped': (reader, writer) => {
    reader.unpipe(writer);
  },
  'it is destroyed': (_reader, writer) => {
    writer.destroy();
  },
  'it is unpiped while paused': (reader, writer) => {
    reader.pause();
    reader.unpipe(writer);
  },
};

/** Each asks for the rest, and resolves to it. */
const heirs: Record<string, (reader: P2pReadStream) => Promise<Buffer>> = {
  'a listener': async (reader) => {
    const chunks: Buffer[] = [];
    reader.on('data', (chunk) => chunks.push(chunk));
    // As in Node: who unpipes pauses.
    reader.resume();
    await finished(reader);
    return Buffer.concat(chunks);
  },
  'a loop': async (reader) => {
    const chunks: Buffer[] = [];
    for await (const chunk of reader) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  },
  'read()': async (reader) => {
    const chunks: Buffer[] = [];
    while (!reader.readableEnded) {
      const chunk = reader.read() as Buffer | null;
      if (chunk !== null) chunks.push(chunk);
      else await new Promise(setImmediate);
    }
    return Buffer.concat(chunks);
  },
};

/** What it has read, once that has not changed for a while: what was under way when its writer left has come to its end. */
async function settled(reader: P2pReadStream): Promise<number> {
  let same = 0;
  for (let before = -1; same < 5; await sleep(10)) {
    same = reader.bytesRead === before ? same + 1 : 0;
    before = reader.bytesRead;
  }
  return reader.bytesRead;
}

t.test('without its last writer it reads nothing, until somebody asks', async (t) => {
  for (const { name, system, source, from, to, written } of await places()) {
    const size = source.length;
    const middles = new Middles();
    for (const [how, leave] of Object.entries(leavings)) {
      for (const heir of ['another writer', ...Object.keys(heirs)]) {
        await t.test(`${name}: ${how}, then ${heir}`, async (t) => {
          const own = heir === 'another writer';
          const requireP2p = own && system.backend === 'emulator';
          const reader = system.createReadStream(from, { end: size - 1, highWaterMark: 16384, requireP2p });
          const first = system.createWriteStream(to[0], { flush: false });
          first.on('error', () => {});
          reader.pipe(first);
          await hasRead(system, reader, 1);
          leave(reader, first);
          const bytesRead = await settled(reader);
          middles.add(bytesRead, size);
          if (bytesRead === size) return t.end();
          if (how !== 'it is destroyed') t.equal(bytesRead, first.bytesWritten, 'nothing but what it has');
          t.equal(reader.readableLength, 0, 'nor in between');
          const { reason, transport } = reader.receipt;
          t.notMatch(reason, /consumer|not a p2pdma stream/);
          t.notOk(reader.destroyed);
          const done = Buffer.from(await written(to[0], bytesRead));
          if (own) {
            const second = system.createWriteStream(to[1], { flush: false });
            reader.pipe(second);
            await finished(second);
            t.equal(reader.transport, transport, 'on the same way');
            t.ok((await written(to[1], size - bytesRead)).equals(source.subarray(bytesRead)), 'the rest');
          } else {
            t.ok((await heirs[heir]!(reader)).equals(source.subarray(bytesRead)), 'the rest');
          }
          if (how !== 'it is destroyed')
            t.ok(done.equals(source.subarray(0, bytesRead)), 'and what was before');
          first.destroy();
        });
      }
    }
    middles.check(t);
    t.same(await system.close(), NOTHING_LEFT);
  }
});

t.test('a writer that joins later gets the rest, and the first all', async (t) => {
  for (const { name, system, source, from, to, written } of await places()) {
    const size = source.length;
    await t.test(name, async (t) => {
      const middles = new Middles();
      for (let i = 0; i < 15 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: size - 1, highWaterMark: 16384 });
        const [first, second] = to.map((path) => system.createWriteStream(path, { flush: false }));
        reader.pipe(first!);
        await middle(system, reader, size, i);
        reader.pipe(second!);
        if (reader.readableEnded) second!.end();
        await Promise.all([finished(first!), finished(second!)]);
        t.ok((await written(to[0], size)).equals(source), 'all');
        const rest = second!.bytesWritten;
        t.ok((await written(to[1], rest)).equals(source.subarray(size - rest)), `the last ${rest} bytes`);
        middles.add(rest, size);
      }
      middles.check(t);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
});

t.test('a writer that fails leaves the others; a reader that is destroyed leaves nothing', async (t) => {
  for (const { name, system, source, from, to, written } of await places()) {
    const size = source.length;
    await t.test(name, async (t) => {
      const middles = new Middles();
      for (let i = 0; i < 15 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: size - 1, highWaterMark: 16384 });
        const [first, second] = to.map((path) => system.createWriteStream(path, { flush: false }));
        for (const writer of [first!, second!]) reader.pipe(writer);
        const lost = finished(first!).catch((error: Error) => error);
        await middle(system, reader, size, i);
        first!.destroy(new Error('enough'));
        await Promise.all([lost, finished(second!)]);
        t.ok((await written(to[1], size)).equals(source), 'the other has all');
        const aborted = system.createReadStream(from, { end: size - 1, highWaterMark: 16384 });
        const writer = system.createWriteStream(to[0], { flush: false });
        aborted.pipe(writer);
        await middle(system, aborted, size, i);
        aborted.destroy();
        writer.destroy();
        if (!aborted.closed) await new Promise((resolve) => aborted.once('close', resolve));
        const kept = writer.bytesWritten;
        t.ok(
          (await written(to[0], kept)).equals(source.subarray(0, kept)),
          `${kept} acknowledged bytes are there`,
        );
        middles.add(kept, size);
      }
      middles.check(t);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
});

t.test('the receipt says that an outsider’s part went through host memory', async (t) => {
  const all = 8 * MIB;
  const system = await openSystem({ machine: { ...presets.switch, latency } });
  const reader = system.createReadStream('nvme0n1', { end: all - 1, highWaterMark: 65536 });
  const writer = system.createWriteStream('nvme1n1');
  reader.pipe(writer);
  await hasRead(system, reader, 1);
  t.equal(reader.transport, 'p2p-bus', 'until somebody looks');
  const foreign = new Collector();
  reader.pipe(foreign);
  await Promise.all([finished(writer), finished(foreign)]);
  t.ok(foreign.bytes.length > 0 && foreign.bytes.length < all, `it saw ${foreign.bytes.length} bytes`);
  t.equal(reader.transport, 'host-memory');
  t.equal(reader.receipt.path.hostDram, foreign.bytes.length, 'just what it saw');
  t.ok(reader.receipt.path.internal >= all - foreign.bytes.length, 'the rest by the CMB');
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a small file takes a small pool', async (t) => {
  const path = join(folder, 'small');
  writeFileSync(path, bytesOf(4000, 7));
  const system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream(path);
  const writer = system.createWriteStream(join(folder, 'copy'));
  let most = 0;
  reader.pipe(writer);
  const watch = setInterval(() => {
    most = Math.max(most, ...system.metrics().pools.map(({ bytes }) => bytes));
  }, 0);
  await finished(writer);
  clearInterval(watch);
  t.ok(most <= 16384, `${most} bytes`);
  t.equal((await stat(join(folder, 'copy'))).size, 4000);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a reader whose drive is pulled out leaves none of its memory behind', async (t) => {
  for (let i = 0; i < 60; i++) {
    const system = await openSystem({ machine: { ...presets.iommu, latency, ioTimeout: 1 } });
    const { backend } = system.context;
    if (!(backend instanceof EmulatorBackend)) throw new Error('not emulated');
    const options = { highWaterMark: 8192, queueDepth: 3, memory: 'host' } as const;
    const reader = system.createReadStream('nvme0n1', { ...options, end: MIB - 1 });
    const writer = system.createWriteStream('nvme1n1', { flush: false });
    const over = finished(reader, { writable: false }).catch((error: Error) => error);
    reader.pipe(writer);
    for (let turns = between(2, 40); turns > 0; turns--) await new Promise(setImmediate);
    backend.remove('nvme0');
    await over;
    writer.destroy();
    const left = await Promise.race([system.close(), sleep(5000, 'hangs')]);
    t.match(left, NOTHING_LEFT, `round ${i}`);
  }
});
