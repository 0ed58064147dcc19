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
import { presets } from '../../lib/machine/presets.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';
import { random } from '../helpers/random.js';

const MIB = 1024 * 1024;
const SIZE = 2 * MIB;
/** More of everything, where it is asked for: P2PDMA_TIMES=100. */
const TIMES = Number(process.env.P2PDMA_TIMES ?? 1);
const source = bytesOf(SIZE, 7);
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-pump-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const between = (low: number, high: number) => low + Math.floor(random() * (high - low + 1));

interface Place {
  readonly system: System;
  readonly from: string;
  readonly to: readonly [string, string];
  written(path: string, length: number): Promise<Buffer>;
}

async function places(): Promise<Place[]> {
  const emulator = await openSystem({ machine: 'four-drives' });
  await poke(emulator, 'nvme0n1', 0, source);
  const emulated: Place = {
    system: emulator,
    from: 'nvme0n1',
    to: ['nvme1n1', 'nvme2n1'],
    written: async (path, length) => (length === 0 ? Buffer.alloc(0) : peek(emulator, path, 0, length)),
  };
  const native = await openSystem({ backend: 'native' }).catch((error: Error) => {
    t.comment(`native: ${error.message}`);
    return null;
  });
  if (native === null) return [emulated];
  const from = join(folder, 'source');
  writeFileSync(from, source);
  const written = async (path: string, length: number) => {
    const file = await open(path);
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await file.read(bytes, 0, length, 0);
    await file.close();
    return bytes.subarray(0, bytesRead);
  };
  return [emulated, { system: native, from, to: [join(folder, 'a'), join(folder, 'b')], written }];
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

/** What a latecomer saw must be the source from some byte on, to its end. */
function endOfSource(t: Test, bytes: Buffer, end: number, what: string): void {
  t.ok(bytes.equals(source.subarray(end - bytes.length, end)), `${what}: the last ${bytes.length} bytes`);
}

/** Each is given a reader that is piped to a writer of ours, and interferes; it resolves when both have ended. */
const interferences: Record<string, (t: Test, reader: P2pReadStream, end: number) => Promise<void>> = {
  nobody: async () => {},
  'a data listener': async (t, reader, end) => {
    await moment();
    const seen: Buffer[] = [];
    reader.on('data', (chunk: Buffer) => seen.push(chunk));
    if (!reader.readableEnded) await finished(reader, { writable: false });
    endOfSource(t, Buffer.concat(seen), end, 'listener');
  },
  'a foreign destination': async (t, reader, end) => {
    await moment();
    if (reader.readableEnded) return;
    const foreign = new Collector();
    reader.pipe(foreign);
    await finished(foreign);
    endOfSource(t, foreign.bytes, end, 'destination');
  },
  'a transform behind it': async (t, reader, end) => {
    await moment();
    if (reader.readableEnded) return;
    const foreign = new Collector();
    reader.pipe(new PassThrough()).pipe(foreign);
    await finished(foreign);
    endOfSource(t, foreign.bytes, end, 'transform');
  },
  pauses: async (_t, reader) => {
    while (!reader.readableEnded && !reader.destroyed) {
      await moment();
      reader.pause();
      await moment();
      reader.resume();
    }
  },
};

t.test('whoever wants to see the data stops the pump, byte-exact', async (t) => {
  for (const { system, from, to, written } of await places()) {
    await t.test(system.backend, async (t) => {
      for (let i = 0; i < 40 * TIMES; i++) {
        const names = Object.keys(interferences);
        const name = names[between(0, names.length - 1)]!;
        const start = random() < 0.5 ? 0 : between(0, 5000);
        const length = between(1, SIZE - start);
        const options = { highWaterMark: 4096 << between(0, 5), queueDepth: between(1, 9) };
        const what = `${i} ${name} [${start}, +${length}) ${JSON.stringify(options)}`;
        const reader = system.createReadStream(from, { ...options, start, end: start + length - 1 });
        const writer = system.createWriteStream(to[0], { ...options, flush: false });
        const whole = finished(writer);
        reader.pipe(writer);
        await Promise.all([whole, interferences[name]!(t, reader, start + length)]);
        t.equal(reader.bytesRead, length, `${what}: bytesRead`);
        t.equal(writer.bytesWritten, length, `${what}: bytesWritten`);
        const expected = source.subarray(start, start + length);
        t.ok((await written(to[0], length)).equals(expected), `${what}: written`);
        if (!reader.closed) await finished(reader).catch(() => {});
      }
    });
  }
});

t.test('unpipe stops at a chunk’s boundary; what is piped to next goes on there', async (t) => {
  for (const { system, from, to, written } of await places()) {
    await t.test(system.backend, async (t) => {
      for (let i = 0; i < 40 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: SIZE - 1, highWaterMark: 16384 });
        const first = system.createWriteStream(to[0], { flush: false });
        reader.pipe(first);
        await moment();
        reader.unpipe(first);
        first.end();
        await finished(first);
        const done = first.bytesWritten;
        t.ok(done === SIZE || done % 16384 === 0, `${done} bytes: whole chunks`);
        t.ok((await written(to[0], done)).equals(source.subarray(0, done)), 'and these');
        const second = system.createWriteStream(to[1], { flush: false });
        reader.pipe(second);
        if (reader.readableEnded) second.end();
        await finished(second);
        const rest = SIZE - done;
        t.equal(second.bytesWritten, rest, 'the rest');
        t.ok((await written(to[1], rest)).equals(source.subarray(done)), 'byte for byte');
        if (!reader.closed) await finished(reader);
      }
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
  for (const { system, from, to, written } of await places()) {
    for (const [how, leave] of Object.entries(leavings)) {
      for (const heir of ['another writer', ...Object.keys(heirs)]) {
        await t.test(`${system.backend}: ${how}, then ${heir}`, async (t) => {
          const own = heir === 'another writer';
          const requireP2p = own && system.backend === 'emulator';
          const reader = system.createReadStream(from, { end: SIZE - 1, highWaterMark: 16384, requireP2p });
          const first = system.createWriteStream(to[0], { flush: false });
          first.on('error', () => {});
          reader.pipe(first);
          while (first.bytesWritten === 0) await new Promise(setImmediate);
          leave(reader, first);
          const bytesRead = await settled(reader);
          if (bytesRead === SIZE) return t.end();
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
            t.ok((await written(to[1], SIZE - bytesRead)).equals(source.subarray(bytesRead)), 'the rest');
          } else {
            t.ok((await heirs[heir]!(reader)).equals(source.subarray(bytesRead)), 'the rest');
          }
          if (how !== 'it is destroyed')
            t.ok(done.equals(source.subarray(0, bytesRead)), 'and what was before');
          first.destroy();
        });
      }
    }
    t.same(await system.close(), NOTHING_LEFT);
  }
});

t.test('a writer that joins later gets the rest, and the first all', async (t) => {
  for (const { system, from, to, written } of await places()) {
    await t.test(system.backend, async (t) => {
      for (let i = 0; i < 15 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: SIZE - 1, highWaterMark: 16384 });
        const [first, second] = to.map((path) => system.createWriteStream(path, { flush: false }));
        reader.pipe(first!);
        await moment();
        reader.pipe(second!);
        if (reader.readableEnded) second!.end();
        await Promise.all([finished(first!), finished(second!)]);
        t.ok((await written(to[0], SIZE)).equals(source), 'all');
        const rest = second!.bytesWritten;
        t.ok((await written(to[1], rest)).equals(source.subarray(SIZE - rest)), `the last ${rest} bytes`);
      }
    });
  }
});

t.test('a writer that fails leaves the others; a reader that is destroyed leaves nothing', async (t) => {
  for (const { system, from, to, written } of await places()) {
    await t.test(system.backend, async (t) => {
      for (let i = 0; i < 15 * TIMES; i++) {
        const reader = system.createReadStream(from, { end: SIZE - 1, highWaterMark: 16384 });
        const [first, second] = to.map((path) => system.createWriteStream(path, { flush: false }));
        for (const writer of [first!, second!]) reader.pipe(writer);
        const lost = finished(first!).catch((error: Error) => error);
        await moment();
        first!.destroy(new Error('enough'));
        await Promise.all([lost, finished(second!)]);
        t.ok((await written(to[1], SIZE)).equals(source), 'the other has all');
        const aborted = system.createReadStream(from, { end: SIZE - 1, highWaterMark: 16384 });
        const writer = system.createWriteStream(to[0], { flush: false });
        aborted.pipe(writer);
        await moment();
        aborted.destroy();
        writer.destroy();
        if (!aborted.closed) await new Promise((resolve) => aborted.once('close', resolve));
        const kept = writer.bytesWritten;
        t.ok(
          (await written(to[0], kept)).equals(source.subarray(0, kept)),
          `${kept} acknowledged bytes are there`,
        );
      }
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
});

t.test('the receipt says that an outsider’s part went through host memory', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('nvme0n1', { end: SIZE - 1, highWaterMark: 65536 });
  const writer = system.createWriteStream('nvme1n1');
  reader.pipe(writer);
  // To ask for the metrics is to look at what the backend has moved by itself.
  while (reader.bytesRead === 0) await new Promise(setImmediate).then(() => system.metrics());
  t.equal(reader.transport, 'p2p-bus', 'until somebody looks');
  const foreign = new Collector();
  reader.pipe(foreign);
  await Promise.all([finished(writer), finished(foreign)]);
  t.equal(reader.transport, 'host-memory');
  t.equal(reader.receipt.path.hostDram, foreign.bytes.length, 'just what it saw');
  t.ok(reader.receipt.path.internal >= SIZE - foreign.bytes.length, 'the rest by the CMB');
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a small file takes a small pool', async (t) => {
  const path = join(folder, 'small');
  writeFileSync(path, source.subarray(0, 4000));
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
  const latency = { readUs: 285, writeUs: 260 };
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
