/** How streams and copies end: by themselves, by an error, by whoever destroys or aborts them; and what is left then. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { PassThrough, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { P2pdmaError, type P2pReadStream, type P2pWriteStream, pipeline } from '../../lib/index.js';

import { pattern, type Suite, until, ZERO } from './rig.js';

export function endings({ unit: UNIT, size: SIZE, test }: Suite): void {
  test('events and properties are those of node:fs', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(UNIT));
    const events: string[] = [];
    const reader = rig.system.createReadStream(rig.source, { end: 99 });
    t.equal(reader.pending, true);
    for (const event of ['open', 'ready', 'end', 'close']) reader.on(event, () => events.push(event));
    t.equal(reader.path, rig.source);
    await finished(reader.resume());
    if (!reader.closed) await once(reader, 'close');
    t.equal(reader.pending, true, 'closed');
    t.same(events, ['open', 'ready', 'end', 'close']);
    t.equal(reader.bytesRead, 100);

    const quiet = rig.system.createReadStream(rig.source, { end: 99, emitClose: false });
    quiet.on('close', () => t.fail('emitClose: false'));
    await once(quiet.resume(), 'end');
    await until(() => quiet.destroyed, 'closed all the same');

    const manual = rig.system.createReadStream(rig.source, { end: 99, autoClose: false });
    await once(manual.resume(), 'end');
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(manual.destroyed, false, 'autoClose: false leaves it open');
    manual.destroy();
    await once(manual, 'close');
  });

  test('an aborted signal ends a stream, a pipeline, a copy', async (t, rig) => {
    const reader = rig.system.createReadStream(rig.source, { signal: AbortSignal.abort() });
    await t.rejects(reader.toArray(), { name: 'AbortError' });
    for (const delay of [0, 1, 3]) {
      const stop = new AbortController();
      setTimeout(() => stop.abort(), delay);
      const copy = rig.system.pipeline(rig.source, rig.destinations[0], {
        signal: stop.signal,
        highWaterMark: 4096,
        end: SIZE - 1,
      });
      await copy.then(
        () => t.comment('it was faster'),
        (error: Error) => t.match(error, { code: 'ABORT_ERR' }),
      );
    }
    await t.rejects(rig.system.pipeline(rig.source, rig.destinations[0], { signal: AbortSignal.abort() }), {
      code: 'ABORT_ERR',
    });
  });

  test('streams destroyed at any moment leave nothing behind', async (t, rig) => {
    await rig.poke(rig.source, 0, pattern(SIZE));
    let state = 12345;
    const random = (n: number) => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state % n;
    };
    for (let round = 0; round < 40; round++) {
      const reader = rig.system.createReadStream(rig.source, {
        end: SIZE - 1,
        start: random(5000),
        highWaterMark: 4096 << random(6),
        queueDepth: 1 + random(8),
      });
      const writer = rig.system.createWriteStream(rig.destinations[random(3)]!, {
        start: random(2) * random(5000),
        highWaterMark: 4096 << random(6),
        queueDepth: 1 + random(8),
      });
      reader.on('error', () => {});
      writer.on('error', () => {});
      if (random(3) > 0) reader.pipe(writer);
      else reader.pipe(new PassThrough()).pipe(writer);
      const victims: (P2pReadStream | P2pWriteStream)[] = [
        [reader, writer],
        [writer, reader],
        [reader],
        [writer],
      ][random(4)] as never;
      for (const victim of victims) {
        for (let i = random(30); i > 0; i--) await new Promise(setImmediate);
        victim.destroy(random(2) === 0 ? undefined : new Error('enough'));
      }
      reader.destroy();
      writer.destroy();
      for (const stream of [reader, writer]) if (!stream.closed) await once(stream, 'close');
    }
    t.pass('40 rounds');
  });

  test('closing the system ends whatever is open', async (t, rig) => {
    const reader = rig.system.createReadStream(rig.source, { highWaterMark: 65536 });
    const writer = rig.system.createWriteStream(rig.destinations[0], { highWaterMark: 65536 });
    const target = await rig.system.target(rig.destinations[1], { write: true });
    const memory = rig.system.allocate(null, 4096);
    reader.on('error', () => {});
    writer.on('error', () => {});
    reader.pipe(writer);
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    t.same(await rig.system.close(), ZERO);
    t.equal(reader.destroyed, true);
    t.equal(writer.destroyed, true);
    t.equal(memory.buffer.length, 0);
    await t.rejects(target.read(Buffer.alloc(4096), 0), P2pdmaError);
    await t.rejects(rig.system.target(rig.source), { code: 'ERR_STREAM_DESTROYED' });
  });

  test('a destination that fails ends the copy with its error, and nothing is left open', async (t, rig) => {
    const bad = new Writable({
      write(_chunk, _encoding, callback) {
        callback(new Error('no more'));
      },
    });
    await t.rejects(rig.system.pipeline(rig.source, [rig.destinations[0], bad], { end: UNIT }), {
      message: 'no more',
    });
  });

  test('a foreign source is copied and verified by digest', async (t, rig) => {
    const bytes = pattern(2 * UNIT + 3, 9);
    const receipt = await pipeline(
      Readable.from([bytes.subarray(0, 99), bytes.subarray(99)], { objectMode: false }),
      rig.destinations[0],
      {
        system: rig.system,
        verify: true,
      },
    );
    t.match(receipt, { bytes: bytes.length, verified: true, transport: 'host-memory' });
    t.equal(receipt.digest, `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
  });
}
