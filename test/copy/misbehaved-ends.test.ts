/**
 * Ends of other kinds that do not keep to the rules (they fail without an error, deliver null, end in the middle or never): the
 * copy fails and says why, and neither hangs nor counts as done.
 */
import { Readable, Writable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { NOTHING_LEFT } from '../helpers/copies.js';

const MIB = 1024 * 1024;
const content = Buffer.alloc(MIB, 'p2pdma');
const never = () => new Promise<never>(() => {});

t.test('who fails without an error has failed all the same, and is named', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const fromNobody = (by: string) => ({
    code: 'ERR_STREAM_DESTROYED',
    message: new RegExp(`pipeline: ${by} failed without an error \\(threw (undefined|null)\\)`),
  });
  for (const nothing of [undefined, null]) {
    const generator = async function* () {
      yield content;
      throw nothing;
    };
    await t.rejects(system.pipeline(generator, 'nvme1n1'), fromNobody('a function as a source'));
    await t.rejects(system.pipeline(generator(), 'nvme1n1'), fromNobody('an iterable as a source'));
    const web = new ReadableStream({
      start: (controller) => {
        controller.enqueue(content);
        setImmediate(() => controller.error(nothing));
      },
    });
    await t.rejects(system.pipeline(web, 'nvme1n1'), fromNobody('a ReadableStream as a source'));
    const range = { end: MIB - 1 };
    const atTheEnd = async (source: AsyncIterable<Buffer>) => {
      for await (const _chunk of source);
      throw nothing;
    };
    for (const destination of [atTheEnd, () => Promise.reject(nothing)]) {
      await t.rejects(
        system.pipeline('nvme0n1', destination, range),
        fromNobody('a function as a destination'),
      );
    }
    const atOnce = () => {
      throw nothing;
    };
    await t.rejects(system.pipeline('nvme0n1', atOnce, range), fromNobody('a function as a destination'));
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a web stream whose chunk is null has not ended there', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  for (const chunk of [null, undefined, 5, {}]) {
    const web = new ReadableStream({
      start: (controller) => {
        controller.enqueue(content);
        controller.enqueue(chunk);
        controller.enqueue(content);
        controller.close();
      },
    });
    await t.rejects(system.pipeline(web, 'nvme1n1'), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /a ReadableStream as a source must deliver strings, Buffers/,
    });
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a web stream is cancelled, with the error or when enough was read', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const cancelled: unknown[] = [];
  const endless = () =>
    new ReadableStream({
      pull: (controller) => controller.enqueue(content),
      cancel: (reason) => void cancelled.push(reason),
    });
  t.equal((await system.pipeline(endless(), 'nvme1n1', { end: 3 * MIB })).bytes, 3 * MIB + 1);
  t.same(cancelled, [undefined]);
  await t.rejects(system.pipeline(endless(), 'nvme1n1', { signal: AbortSignal.abort() }), {
    code: 'ABORT_ERR',
  });
  t.match(cancelled[1], { code: 'ABORT_ERR' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a destination that somebody else ends in the middle fails the copy', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const ends: [string | Readable, number][] = [
    ['nvme0n1', MIB],
    ['nvme0n1', 16 * 1024], // several chunks come in one turn
    [Readable.from(Array.from({ length: 64 }, () => content)), MIB],
  ];
  for (const [source, highWaterMark] of ends) {
    const destination = new Writable({
      write(_chunk, _encoding, done) {
        destination.end();
        done();
      },
    });
    const all = [destination, ...(typeof source === 'string' ? [] : ['nvme1n1'])];
    await t.rejects(system.pipeline(source, all, { end: 32 * MIB, highWaterMark }), {
      code: 'ERR_STREAM_DESTROYED',
      message: "'Writable' was ended before it had everything: the source has not ended",
    });
  }
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what a destination passes on of a stream behind it is not said of the destination', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const behind = new Writable({ write: (_chunk, _encoding, done) => done() });
  behind.on('error', () => {});
  const destination = new Writable({ write: (chunk, _encoding, done) => behind.write(chunk, done) });
  behind.end();
  const error = await system.pipeline('nvme0n1', destination, { end: 32 * MIB }).catch((error) => error);
  t.match(error, { code: 'ERR_STREAM_WRITE_AFTER_END' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a copy is stopped although the next chunk never comes', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const generator = async function* () {
    yield content;
    await never();
  };
  const web = new ReadableStream({
    start: (controller) => controller.enqueue(content),
    pull: never,
    cancel: never,
  });
  for (const source of [generator, generator(), web]) {
    const stop = new AbortController();
    const onProgress = ({ bytes }: { bytes: number }) => bytes >= MIB && stop.abort();
    const { bytes } = await system.pipeline(source, 'nvme1n1', { stop: stop.signal, onProgress });
    t.equal(bytes, MIB);
  }
  t.same(await system.close(), NOTHING_LEFT);
});
