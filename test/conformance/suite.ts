/**
 * What every backend must do, stated once. A backend's own test file opens a system, names places to read and write, and
 * runs this; what it cannot have is skipped with its reason in sight.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { finished, pipeline as nodePipeline } from 'node:stream/promises';
import type { Test } from 'tap';
import { fc } from '../helpers/random.js';
import { endings } from './endings.js';
import { type Backend, pattern, suiteOn, until } from './rig.js';

export function suite(t: Test, backend: Backend): void {
  const on = suiteOn(t, backend);
  const { unit: UNIT, size: SIZE, test, cmbTest } = on;

  test('pipes any length to any offset, byte for byte', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    for (const [start, length, to] of [
      [0, 1, 0],
      [0, 511, 0],
      [0, 512, 512],
      [0, 513, 0],
      [3, 4096, 3],
      [1, 100, 2],
      [512, UNIT, 4096],
      [100, UNIT + 1, 200],
      [7, 2 * UNIT + 17, 0],
      [0, 3 * UNIT, 0],
      [5, 2 * UNIT, 1],
    ] as const) {
      const what = `[${start}, +${length}) → ${to}`;
      const apart = rig.peerAlignment;
      if (apart !== undefined && (start - to) % apart.bytes !== 0 && (start - to) % 4 === 0) {
        t.pass(what, { skip: apart.reason });
        continue;
      }
      const [destination] = rig.destinations;
      await rig.poke(destination, 0, pattern(SIZE, 2));
      const reader = rig.system.createReadStream(rig.source, {
        start,
        end: start + length - 1,
        highWaterMark: 256 * 1024,
      });
      const writer = rig.system.createWriteStream(destination, {
        start: to,
        flags: 'r+',
        highWaterMark: 256 * 1024,
      });
      await nodePipeline(reader, writer);
      t.equal(reader.bytesRead, length, `${what}: bytesRead`);
      t.equal(writer.bytesWritten, length, `${what}: bytesWritten`);
      const expected = pattern(SIZE, 2);
      pattern(SIZE).copy(expected, to, start, start + length);
      t.ok(
        (await rig.peek(destination, 0, SIZE)).equals(expected),
        `${what}: written there and nowhere else`,
      );
    }
  });

  test('a new file gets the exact length; a block target keeps what surrounds the write', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(UNIT + 77));
    const [destination] = rig.destinations;
    await rig.poke(destination, 0, pattern(2 * UNIT, 3));
    const receipt = await rig.system.pipeline(rig.source, destination, {
      end: UNIT + 76,
      highWaterMark: 128 * 1024,
    });
    t.equal(receipt.bytes, UNIT + 77);
    const after = await rig.peek(destination, 0, rig.kind === 'file' ? UNIT + 77 : 2 * UNIT);
    if (rig.kind === 'file') {
      t.equal(await rig.length(destination), UNIT + 77, 'truncated, and not padded');
    } else {
      t.ok(
        after.subarray(UNIT + 77).equals(pattern(2 * UNIT, 3).subarray(UNIT + 77)),
        'the rest is untouched',
      );
    }
    t.ok(after.subarray(0, UNIT + 77).equals(pattern(UNIT + 77)));
  });

  test('for await gives Buffers that may be kept', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const kept: Buffer[] = [];
    const reader = rig.system.createReadStream(rig.source, {
      start: 11,
      end: 3 * UNIT,
      highWaterMark: 64 * 1024,
    });
    for await (const chunk of reader) kept.push(chunk);
    t.equal(reader.transport, 'host-memory');
    t.match(reader.receipt.reason, /ordinary Buffers/);
    t.ok(Buffer.concat(kept).equals(pattern(SIZE).subarray(11, 3 * UNIT + 1)));
  });

  test('chunks of any size from any stream are gathered', async (_t, rig) => {
    const [destination] = rig.destinations;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: Math.floor(SIZE / 60) }), { maxLength: 20 }),
        fc.integer({ min: 0, max: 5000 }),
        async (lengths, start) => {
          await rig.poke(destination, 0, pattern(SIZE, 4));
          const total = lengths.reduce((a, b) => a + b, 0);
          const bytes = pattern(total, 5);
          let at = 0;
          const chunks = lengths.map((length) => {
            at += length;
            return bytes.subarray(at - length, at);
          });
          const writer = rig.system.createWriteStream(destination, {
            start,
            flags: 'r+',
            highWaterMark: 32 * 1024,
          });
          await nodePipeline(Readable.from(chunks, { objectMode: false }), writer);
          const expected = pattern(SIZE, 4);
          bytes.copy(expected, start);
          return (await rig.peek(destination, 0, SIZE)).equals(expected) && writer.bytesWritten === total;
        },
      ),
      { numRuns: 12 },
    );
  });

  test('a source buffer may be reused as soon as the write is acknowledged', async (t, rig) => {
    const [destination] = rig.destinations;
    const writer = rig.system.createWriteStream(destination, { highWaterMark: 16 * 1024 });
    const chunk = Buffer.alloc(16 * 1024);
    for (let i = 0; i < 50; i++) {
      chunk.fill(i);
      await new Promise<void>((resolve, reject) =>
        writer.write(chunk, (error?: Error | null) => (error ? reject(error) : resolve())),
      );
    }
    writer.end();
    await finished(writer);
    const there = await rig.peek(destination, 0, 50 * 16 * 1024);
    for (let i = 0; i < 50; i++) {
      if (there[i * 16384] !== i || there[i * 16384 + 16383] !== i) t.fail(`chunk ${i} was overwritten`);
    }
    t.equal(there[49 * 16384], 49);
  });

  test('one source, three destinations', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const receipt = await rig.system.pipeline(rig.source, rig.destinations, {
      end: 3 * UNIT + 4,
      highWaterMark: 128 * 1024,
      verify: true,
    });
    t.equal(receipt.bytes, 3 * UNIT + 5);
    t.equal(receipt.verified, true);
    const digest = createHash('sha256')
      .update(pattern(SIZE).subarray(0, 3 * UNIT + 5))
      .digest('hex');
    t.equal(receipt.digest, `sha256:${digest}`);
    for (const destination of rig.destinations) {
      t.ok(
        (await rig.peek(destination, 0, 3 * UNIT + 5)).equals(pattern(SIZE).subarray(0, 3 * UNIT + 5)),
        destination,
      );
    }
  });

  test('pipes through a foreign transform in the middle', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(UNIT));
    const [destination] = rig.destinations;
    await nodePipeline(
      rig.system.createReadStream(rig.source, { end: UNIT - 1 }),
      new PassThrough(),
      rig.system.createWriteStream(destination),
    );
    t.ok((await rig.peek(destination, 0, UNIT)).equals(pattern(UNIT)));
  });

  test('a foreign listener beside the pipe never sees a chunk change', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const [destination] = rig.destinations;
    const reader = rig.system.createReadStream(rig.source, {
      end: SIZE - 1,
      highWaterMark: 64 * 1024,
      queueDepth: 2,
    });
    const writer = rig.system.createWriteStream(destination, { highWaterMark: 64 * 1024 });
    const kept: Buffer[] = [];
    let at = 0;
    reader.pipe(writer);
    setTimeout(() => {
      reader.on('data', (chunk: Buffer) => {
        if (kept.length === 0) at = reader.bytesRead - reader.readableLength - chunk.length;
        kept.push(chunk);
      });
    }, 1);
    await finished(writer);
    const seen = Buffer.concat(kept);
    t.ok(seen.equals(pattern(SIZE).subarray(SIZE - seen.length)), `${seen.length} bytes kept, from ${at} on`);
    t.ok((await rig.peek(destination, 0, SIZE)).equals(pattern(SIZE)));
  });

  cmbTest('between its own ends the bytes stay off host DRAM, the tail included', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const target = await rig.system.target(rig.destinations[0]);
    const block = target.logicalBlockSize;
    await target.close();
    for (const length of [SIZE, 2 * UNIT + 513, 100]) {
      const receipt = await rig.system.pipeline(rig.source, rig.destinations[0], {
        end: length - 1,
        highWaterMark: 256 * 1024,
        requireP2p: true,
        verify: true,
      });
      // What is less than a block has one way into a file, and a receipt says that it went it.
      const hostDram = rig.kind === 'file' ? length % block : 0;
      t.match(receipt, { bytes: length, verified: true, path: { hostDram } });
      if (hostDram > 0)
        t.match(receipt.reason, `${hostDram} bytes, less than a block, went through the page`);
      if (hostDram === length) t.equal(receipt.transport, 'host-memory', 'there was nothing else');
      else {
        t.equal(receipt.provider, rig.provider);
        t.ok(receipt.transport.startsWith('p2p'), receipt.transport);
      }
      const { internal, peerBus, hostBridge } = receipt.path;
      t.ok(internal + peerBus + hostBridge + hostDram >= 2 * length, 'every byte twice');
    }
  });

  cmbTest("memory: 'cmb' lends chunks to anybody, who hands them back once", async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const reader = rig.system.createReadStream(rig.source, {
      end: SIZE - 1,
      highWaterMark: 128 * 1024,
      queueDepth: 2,
      memory: 'cmb',
    });
    const hash = createHash('sha256');
    for await (const chunk of reader) {
      hash.update(chunk);
      reader.release(chunk.subarray(5));
      t.throws(() => reader.release(chunk), { code: 'ERR_NOT_LENT' }, 'only once');
    }
    t.equal(hash.digest('hex'), createHash('sha256').update(pattern(SIZE)).digest('hex'));
    t.throws(() => reader.release(Buffer.alloc(4)), { code: 'ERR_NOT_LENT' });
  });

  cmbTest(
    'a chunk still on loan when its stream is closed is detached, and its memory is back',
    async (t, rig) => {
      const reader = rig.system.createReadStream(rig.source, {
        end: SIZE - 1,
        memory: 'cmb',
        highWaterMark: 64 * 1024,
      });
      const [chunk] = (await once(reader, 'data')) as [Buffer];
      t.ok(chunk.length > 0);
      reader.destroy();
      await once(reader, 'close');
      await new Promise(setImmediate);
      t.equal(chunk.length, 0, 'it has no bytes any more');
      t.throws(() => chunk.readUInt8(0));
    },
  );

  cmbTest('without releases a lending reader waits, and loses nothing', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    const reader = rig.system.createReadStream(rig.source, {
      end: SIZE - 1,
      memory: 'cmb',
      highWaterMark: 128 * 1024,
      queueDepth: 2,
    });
    const lent: Buffer[] = [];
    reader.on('data', (chunk: Buffer) => lent.push(chunk));
    await until(() => lent.length >= 4, 'four chunks');
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.equal(lent.length, 4, 'the pool is 2 × queueDepth slots');
    const parts: Buffer[] = [];
    const drain = setInterval(() => {
      const chunk = lent.shift();
      if (chunk === undefined) return;
      parts.push(Buffer.from(chunk));
      reader.release(chunk);
    }, 0);
    await finished(reader);
    clearInterval(drain);
    for (const chunk of lent) {
      parts.push(Buffer.from(chunk));
      reader.release(chunk);
    }
    t.ok(Buffer.concat(parts).equals(pattern(SIZE)));
  });

  cmbTest('vectored I/O mixes CMB and host memory, also on the owner of the CMB', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(64 * 1024));
    const cmb = rig.system.allocate(rig.provider, 16 * 1024);
    const host = rig.system.allocate(null, 16 * 1024);
    for (const path of [rig.source, rig.destinations[0]]) {
      await rig.poke(path, 0, pattern(64 * 1024));
      const target = await rig.system.target(path, { write: true });
      const views = [cmb.buffer.subarray(0, 8192), host.buffer, cmb.buffer.subarray(8192)];
      t.equal(await target.readv(views, 4096), 32 * 1024);
      t.ok(Buffer.concat(views).equals(pattern(64 * 1024).subarray(4096, 4096 + 32 * 1024)), `readv ${path}`);
      t.equal(await target.writev(views, 32 * 1024), 32 * 1024);
      await target.flush();
      t.ok(
        (await rig.peek(path, 32 * 1024, 32 * 1024)).equals(
          pattern(64 * 1024).subarray(4096, 4096 + 32 * 1024),
        ),
      );
      await target.close();
    }
    cmb.free();
    t.equal(cmb.buffer.length, 0, 'freed memory is detached');
    host.free();
  });

  test('Target reads and writes in place, and says what is misaligned', async (t, rig) => {
    const target = await rig.system.target(rig.source, { write: true });
    const memory = rig.system.allocate(null, 8192);
    const block = target.logicalBlockSize;
    memory.buffer.set(pattern(8192));
    t.equal(await target.write(memory.buffer, 8192), 8192);
    await target.flush();
    memory.buffer.fill(0);
    t.equal(await target.read(memory.buffer, 8192), 8192);
    t.ok(memory.buffer.equals(pattern(8192)));
    t.equal(await target.read(memory.buffer.subarray(0, 0), 0), 0);
    if (block > 1) {
      await t.rejects(target.read(memory.buffer, 100), { code: 'EINVAL', syscall: 'read' });
      await t.rejects(target.write(memory.buffer.subarray(0, 100), 0), { code: 'EINVAL', syscall: 'write' });
    }
    if (target.limits.dmaAlignment > 1) {
      await t.rejects(target.read(memory.buffer.subarray(1, 1 + block), 0), { code: 'EINVAL' });
    }
    await t.rejects(target.read(memory.buffer, -1), { code: 'ERR_OUT_OF_RANGE' });
    await t.rejects(target.read(memory.buffer, 0.5), { code: 'ERR_OUT_OF_RANGE' });
    if (target.kind !== 'file') {
      const last = target.size - block;
      await t.rejects(target.write(memory.buffer, last), { code: 'ENOSPC' });
      t.equal(await target.read(memory.buffer, last), block, 'a read ends where the target does');
    }
    await target.close();
    await t.rejects(target.read(memory.buffer, 0), { code: 'ERR_TARGET_CLOSED' });
    memory.free();
  });

  test('bad options are refused at once, with the option and the value in the message', async (t, rig) => {
    const read = (options: object) => () => rig.system.createReadStream(rig.source, options);
    t.throws(read({ start: -1 }), { code: 'ERR_OUT_OF_RANGE', message: /start.*-1/ });
    t.throws(read({ start: 1.5 }), { code: 'ERR_OUT_OF_RANGE', message: /start.*1\.5/ });
    t.throws(read({ start: 'x' }), { code: 'ERR_INVALID_ARG_TYPE', message: /start.*'x'/ });
    t.throws(read({ start: 10, end: 9 }), { code: 'ERR_OUT_OF_RANGE', message: /start.*10.*9/ });
    t.throws(read({ end: -1 }), { code: 'ERR_OUT_OF_RANGE', message: /end/ });
    t.throws(read({ highWaterMark: 0 }), { code: 'ERR_INVALID_ARG_VALUE', message: /highWaterMark.*0/ });
    t.throws(read({ queueDepth: 0 }), { code: 'ERR_OUT_OF_RANGE', message: /queueDepth.*0/ });
    t.throws(read({ memory: 'moon' }), { code: 'ERR_INVALID_ARG_VALUE', message: /memory.*'moon'/ });
    t.throws(read({ colour: 1 }), { code: 'ERR_INVALID_ARG_VALUE', message: /colour/ });
    t.throws(() => rig.system.createReadStream(''), { code: 'ERR_INVALID_ARG_VALUE' });
    t.throws(() => rig.system.createReadStream(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
    await t.rejects(rig.system.pipeline(rig.source, []), { code: 'ERR_INVALID_ARG_VALUE' });
    const size = await rig.length(rig.source);
    const beyond = rig.system.createReadStream(rig.source, { start: size + 1 });
    t.equal((await beyond.toArray()).length, 0, 'beyond the end: empty, as in node:fs');
    const none = rig.system.createReadStream(rig.source, { start: size });
    t.equal((await none.toArray()).length, 0, 'exactly at the end: empty');
    await t.rejects(rig.system.target('/no/such/place'), { code: 'ENOENT' });
    await t.rejects(rig.system.target('/'), { code: 'EISDIR' });
  });

  test('a copy onto itself is refused before anything is written', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(UNIT));
    await t.rejects(rig.system.pipeline(rig.source, rig.source), { code: 'ERR_OVERLAP' });
    await t.rejects(
      rig.system.pipeline(rig.source, rig.source, { end: 8191, destinationStart: 4096, flags: 'r+' }),
      { code: 'ERR_OVERLAP' },
    );
    await t.rejects(rig.system.pipeline(rig.source, [rig.destinations[0], rig.destinations[0]]), {
      code: 'ERR_OVERLAP',
    });
    t.ok((await rig.peek(rig.source, 0, UNIT)).equals(pattern(UNIT)), 'untouched');
    await rig.system.pipeline(rig.source, rig.source, { end: 8191, destinationStart: 16384, flags: 'r+' });
    t.ok(
      (await rig.peek(rig.source, 16384, 8192)).equals(pattern(UNIT).subarray(0, 8192)),
      'elsewhere in it: fine',
    );
  });

  endings(on);
}
