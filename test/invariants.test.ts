/**
 * The seven promises of the design, one test for each, on the emulator. What ends a process is tried in processes of
 * its own.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Writable } from 'node:stream';
import { finished, pipeline as nodePipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { openSystem, type P2pReadStream, type P2pWriteStream, type System } from '../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from './helpers/copies.js';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const CHUNK = 65_536;
const OWNER = '0000:03:00.0';
/** Each I/O takes a while, so that there is something in flight when things happen. */
const SLOW = { readUs: 300, writeUs: 300 };

const preset = await openSystem({ machine: 'switch' });
const description = preset.snapshot() as object;
await preset.close();

const slow = () => openSystem({ machine: { ...description, latency: SLOW } });

const available = (system: System) => system.topology.functions.map((fn) => fn.p2pmem?.available ?? null);

const turns = async (n: number) => {
  for (let i = 0; i < n; i++) await new Promise(setImmediate);
};

/** With or without an error. */
async function closed(stream: Readable | Writable): Promise<void> {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
}

/** Run `source` as a program on its own. @returns what it printed */
async function program(
  source: string,
): Promise<{ stdout: string; code: number | null; signal: string | null }> {
  const text = concrete(source);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', text], {
      timeout: 30_000,
    });
    return { stdout, code: 0, signal: null };
  } catch (error) {
    const { stdout, stderr, code, signal } = error as {
      stdout: string;
      stderr: string;
      code: number | null;
      signal: string | null;
    };
    return { stdout: stdout + stderr, code, signal };
  }
}

/** The names in capitals become what they stand for. */
function concrete(source: string): string {
  const index = new URL('../lib/index.js', import.meta.url).href;
  const machine = { ...description, latency: SLOW };
  return source.replaceAll('LIB', JSON.stringify(index)).replaceAll('MACHINE', JSON.stringify(machine));
}

/** The beginning of a copy that goes on for a while, in another process or thread. */
const COPYING = `
  import { openSystem } from LIB;
  const system = await openSystem({ machine: MACHINE });
  const reader = system.createReadStream('nvme0n1', { highWaterMark: 65536, queueDepth: 16 });
  const writer = system.createWriteStream('nvme1n1', { highWaterMark: 65536, queueDepth: 16 });
  reader.on('error', () => {});
  writer.on('error', () => {});
  reader.pipe(writer);
  while (writer.bytesWritten < 1_000_000) await new Promise(setImmediate);
`;

// ---- 1. A slot is never reused, unmapped or handed back while an I/O on it is in flight.

t.test('1. a slot in flight stays where it is', async (t) => {
  t.test('whatever ends the streams, and whenever', async (t) => {
    const system = await slow();
    const source = bytesOf(SIZE, 1);
    await poke(system, 'nvme0n1', 0, source);
    const free = available(system);
    const endings: Record<string, (r: P2pReadStream, w: P2pWriteStream, stop: AbortController) => void> = {
      'destroy the reader': (r) => r.destroy(),
      'destroy the writer': (_, w) => w.destroy(),
      'destroy the reader with an error': (r) => r.destroy(new Error('enough')),
      'destroy the writer with an error': (_, w) => w.destroy(new Error('enough')),
      'abort both': (_r, _w, stop) => stop.abort(),
      'unpipe, then destroy': (r, w) => {
        r.unpipe(w);
        w.destroy();
        r.destroy();
      },
      'end the writer early': (r, w) => {
        r.unpipe(w);
        w.end();
        r.destroy();
      },
    };
    for (const [how, ending] of Object.entries(endings)) {
      for (const when of [0, 2, 7, 20]) {
        const stop = new AbortController();
        const options = { highWaterMark: CHUNK, queueDepth: 4, signal: stop.signal };
        const reader = system.createReadStream('nvme0n1', { ...options, end: SIZE - 1 });
        const writer = system.createWriteStream('nvme1n1', options);
        reader.on('error', () => {});
        writer.on('error', () => {});
        reader.pipe(writer);
        await turns(when);
        ending(reader, writer, stop);
        // At once somebody else takes all the memory that is free, and writes all over it.
        const rest = system.topology.find(OWNER)!.p2pmem!.available;
        const vandal = rest > 0 ? system.allocate(OWNER, rest) : null;
        vandal?.buffer.fill(0xbd);
        reader.destroy();
        if (!how.startsWith('end')) writer.destroy();
        for (const stream of [reader, writer]) await closed(stream);
        const done = writer.bytesWritten;
        const there = await peek(system, 'nvme1n1', 0, Math.max(512, done));
        // What was written is the source's; what was not is as it was: zeros, or of the rounds before.
        const blank = Buffer.alloc(512);
        let strange = -1;
        for (let at = 0; at + 512 <= done && strange < 0; at += 512) {
          const block = there.subarray(at, at + 512);
          if (!block.equals(source.subarray(at, at + 512)) && !block.equals(blank)) strange = at;
        }
        t.equal(strange, -1, `${how}, after ${when} turns`);
        vandal?.free();
        await turns(2);
        t.same(available(system), free, `${how}, after ${when} turns: the memory is back`);
      }
    }
    t.same(await system.close(), NOTHING_LEFT);
  });

  t.test('process.exit() with transfers in flight', async (t) => {
    const { stdout, code, signal } = await program(`${COPYING}
      process.on('exit', () => process.stdout.write('in flight at the end'));
      process.exit(7);
    `);
    t.match({ stdout, code, signal }, { stdout: /in flight at the end$/, code: 7, signal: null });
  });

  t.test('an exception that nobody catches', async (t) => {
    const { stdout, code, signal } = await program(`${COPYING}
      throw new Error('nobody catches this');
    `);
    t.match({ stdout, code, signal }, { stdout: /nobody catches this/, code: 1, signal: null });
  });

  t.test('a worker that is terminated with transfers in flight', async (t) => {
    const thread = concrete(`${COPYING}
      const { parentPort } = await import('node:worker_threads');
      parentPort.postMessage('copying');
    `);
    const { stdout, code, signal } = await program(`
      import { Worker } from 'node:worker_threads';
      const file = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(thread)}));
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(file);
        await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
        await worker.terminate();
      }
      // This thread is none the worse for it.
      const { openSystem } = await import(LIB);
      const system = await openSystem({ machine: 'switch' });
      const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 999_999, verify: true });
      console.log(JSON.stringify([receipt.transport, receipt.verified, await system.close()]));
    `);
    t.equal(code, 0, stdout);
    t.equal(signal, null);
    t.same(JSON.parse(stdout.trim().split('\n').at(-1) ?? 'null'), ['p2p-bus', true, NOTHING_LEFT]);
  });
});

// ---- 2. After everything is closed, every provider's `available` is what it was before.

t.test('2. the memory is given back', async (t) => {
  const system = await slow();
  const free = available(system);
  await system.pipeline('nvme0n1', 'nvme1n1', { end: SIZE - 1 });
  t.same(available(system), free, 'after a copy');
  await system.pipeline('nvme1n1', 'nvme0n1', { end: 1000, provider: 'nvme0' });
  t.same(available(system), free, 'after a small one');
  const lending = system.createReadStream('nvme0n1', { memory: 'cmb', highWaterMark: CHUNK });
  const [chunk] = (await once(lending, 'data')) as [Buffer];
  t.notSame(available(system), free, 'not while a chunk is on loan');
  lending.release(chunk);
  lending.destroy();
  await once(lending, 'close');
  await turns(3);
  t.same(available(system), free, 'after a forced lending');
  const memory = system.allocate('nvme1', MIB);
  memory.free();
  memory.free();
  t.same(available(system), free, 'given back twice, it is there once');
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n9', { end: SIZE - 1 }));
  t.same(available(system), free, 'after a failure');
  t.same(await system.close(), NOTHING_LEFT);
});

// ---- 3. A short or failed transfer never becomes data or an early end.

t.test('3. all of it or an error', async (t) => {
  for (const afterBytes of [65_536, 300_001, 1_000_000, 2_200_000]) {
    const system = await openSystem({
      machine: { ...description, faults: [{ kind: 'remove', controller: 'nvme0', afterBytes }] },
    });
    const reader = system.createReadStream('nvme0n1', { end: 2 * MIB - 1, highWaterMark: CHUNK });
    let ended = false;
    let bytes = 0;
    reader.on('end', () => {
      ended = true;
    });
    reader.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    const error = await finished(reader).then(
      () => null,
      (e: Error) => e,
    );
    if (error === null) t.equal(bytes, 2 * MIB, `gone after ${afterBytes}: it was enough`);
    else {
      t.notOk(ended, `gone after ${afterBytes}: no end, ${error.message}`);
      t.ok(bytes < 2 * MIB);
    }
    t.equal(error === null, afterBytes > 2 * MIB);
    t.same(await system.close(), NOTHING_LEFT);
  }
  const system = await openSystem({
    machine: {
      ...description,
      faults: [{ kind: 'media-error', namespace: 'nvme1n1', lba: 3000, op: 'write' }],
    },
  });
  const writer = system.createWriteStream('nvme1n1', { highWaterMark: CHUNK });
  writer.on('finish', () => t.fail("'finish'"));
  await t.rejects(nodePipeline(Readable.from([bytesOf(SIZE)]), writer), { code: 'ENODATA' });
  t.same(await system.close(), NOTHING_LEFT);
});

// ---- 4. `finish` means: written, and flushed unless the caller said otherwise.

t.test('4. finish means written and flushed', async (t) => {
  for (const flush of [true, false]) {
    const system = await slow();
    const events: string[] = [];
    const trace = system.trace();
    trace.on('data', (event: { layer: string; event: string; op?: string }) => {
      const text = JSON.stringify(event);
      if (event.layer === 'bio')
        events.push(/flush/.test(text) ? 'flush' : /write/.test(text) ? 'write' : 'read');
    });
    const data = bytesOf(SIZE, 7);
    const writer = system.createWriteStream('nvme1n1', { highWaterMark: CHUNK, flush });
    writer.end(data);
    await once(writer, 'finish');
    // At 'finish', not a turn later.
    const there = peek(system, 'nvme1n1', 0, SIZE);
    await turns(5);
    const writes = events.filter((event) => event !== 'read');
    if (flush) t.equal(writes.at(-1), 'flush', 'the last thing before it was a flush');
    else t.notOk(writes.includes('flush'), 'no flush was asked for');
    t.ok((await there).equals(data), `flush: ${flush}: every byte is there`);
    trace.destroy();
    t.same(await system.close(), NOTHING_LEFT);
  }
});

// ---- 5. After close(), a chunk that was lent is detached: using it throws; it never crashes the process.

t.test('5. a lent chunk after close()', async (t) => {
  const system = await slow();
  await poke(system, 'nvme0n1', 0, bytesOf(SIZE, 1));
  const reader = system.createReadStream('nvme0n1', { memory: 'cmb', highWaterMark: CHUNK });
  reader.on('error', () => {});
  const [chunk] = (await once(reader, 'data')) as [Buffer];
  const part = chunk.subarray(100, 200);
  const memory = system.allocate('nvme0', 4096);
  const closing = system.close();
  await closing;
  for (const [what, buffer] of [
    ['the chunk', chunk],
    ['a part of it', part],
    ['an allocation', memory.buffer],
  ] as const) {
    t.equal(buffer.length, 0, `${what} has no bytes`);
    t.throws(() => buffer.readUInt8(0), RangeError, `${what}: reading`);
    t.throws(() => buffer.writeUInt8(1, 0), RangeError, `${what}: writing`);
    t.throws(() => new Uint8Array(buffer.buffer, 0, 1), `${what}: a new view`);
    t.equal(buffer[0], undefined);
  }
  t.throws(() => reader.release(chunk), { code: 'ERR_NOT_LENT' });
  t.doesNotThrow(() => memory.free(), 'free() after close()');
  t.same(await closing, NOTHING_LEFT);

  const other = await openSystem({ machine: 'switch' });
  const target = await other.target('nvme0n1', { write: true });
  t.equal(await target.write(chunk, 0), 0, 'no bytes, nothing to write');
  const writer = other.createWriteStream('nvme1n1');
  writer.write(chunk);
  writer.end();
  await finished(writer);
  t.equal(writer.bytesWritten, 0);
  t.same(await other.close(), NOTHING_LEFT);

  const { stdout, code, signal } = await program(`
    import { openSystem } from LIB;
    import { once } from 'node:events';
    const system = await openSystem({ machine: MACHINE });
    const reader = system.createReadStream('nvme0n1', { memory: 'cmb', highWaterMark: 65536 });
    reader.on('error', () => {});
    const [chunk] = await once(reader, 'data');
    await system.close();
    const thrown = [];
    for (const use of [
      () => chunk.readUInt32LE(0),
      () => chunk.copy(Buffer.alloc(10)),
      () => Buffer.concat([chunk]),
      () => chunk.toString('hex'),
      () => structuredClone(chunk.buffer),
      () => new DataView(chunk.buffer).getInt8(0),
      () => require('node:crypto'),
    ]) {
      try { use(); thrown.push(false); } catch { thrown.push(true); }
    }
    console.log(thrown.length, chunk.length);
  `);
  t.match(
    { stdout, code, signal },
    { stdout: /^7 0\n$/, code: 0, signal: null },
    'no use of it ends the process',
  );
});

// ---- 6. A device that is in use is not written without force.

t.test('6. what is in use is not written', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const holder = await system.target('nvme1n1', { write: true });
  const busy = { code: 'EBUSY', syscall: 'open', hint: /force/ };
  await t.rejects(system.target('nvme1n1', { write: true }), busy, 'target');
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { end: 999 }), busy, 'pipeline');
  await t.rejects(finished(system.createWriteStream('nvme1n1')), busy, 'stream');
  t.ok(await system.target('nvme1n1').then((target) => target.close().then(() => true)), 'reading is fine');
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 999, force: true });
  t.equal(receipt.bytes, 1000, 'with force');
  await holder.close();
  t.equal((await system.pipeline('nvme0n1', 'nvme1n1', { end: 999 })).bytes, 1000, 'nobody has it any more');
  t.same(await system.close(), NOTHING_LEFT);
});

// ---- 7. close() reports what is left: zero, or the truth.

t.test('7. close() tells what is left', async (t) => {
  const busyClose = async (t: Test, name: string, body: (system: System) => Promise<unknown>) => {
    const system = await slow();
    await body(system);
    t.same(await system.close(), NOTHING_LEFT, name);
    t.same(await system.close(), NOTHING_LEFT, `${name}: asked again`);
    await t.rejects(system.target('nvme0n1'), { code: 'ERR_STREAM_DESTROYED' }, `${name}: it is closed`);
  };
  const quiet = <T extends { on(event: 'error', listener: () => void): unknown }>(stream: T): T => {
    stream.on('error', () => {});
    return stream;
  };
  await busyClose(t, 'nothing was done', async () => {});
  await busyClose(t, 'a copy under way', async (system) => {
    const reader = quiet(system.createReadStream('nvme0n1', { highWaterMark: CHUNK }));
    reader.pipe(quiet(system.createWriteStream('nvme1n1')));
    await turns(10);
  });
  await busyClose(t, 'a pipeline under way', async (system) => {
    system.pipeline('nvme0n1', 'nvme1n1', { highWaterMark: CHUNK }).catch(() => {});
    await turns(20);
  });
  await busyClose(t, 'a pipeline that has just begun', async (system) => {
    system.pipeline('nvme0n1', 'nvme1n1').catch(() => {});
  });
  await busyClose(t, 'streams that are not open yet', async (system) => {
    quiet(system.createReadStream('nvme0n1'));
    quiet(system.createWriteStream('nvme1n1'));
  });
  await busyClose(t, 'transfers of a target under way', async (system) => {
    const target = await system.target('nvme1n1', { write: true });
    const memory = system.allocate('nvme0', MIB);
    for (let i = 0; i < 10; i++) target.write(memory.buffer, i * MIB).catch(() => {});
  });
  await busyClose(t, 'targets, memory and loans', async (system) => {
    await system.target('nvme0n1');
    await system.target('nvme1n1', { write: true });
    system.allocate('nvme1', 10_000);
    system.allocate(null, 10_000);
    const lending = quiet(system.createReadStream('nvme0n1', { memory: 'cmb', highWaterMark: CHUNK }));
    await once(lending, 'data');
  });
  // Behind the back of the library, so that there is something to report.
  const system = await openSystem({ machine: 'switch' });
  const { memory } = system.context.backend;
  memory.mmapP2pmem(system.topology.find(OWNER)!, 8192);
  const report = await system.close();
  t.not(report.slots, 0, 'a mapping that nobody gave back is told');
});
