/**
 * The ends that `pipeline` of node:stream/promises takes are ends of a copy too: what they deliver and get, what the receipt says,
 * and what becomes of them when something fails.
 */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Transform, Writable } from 'node:stream';
import { ReadableStream, TransformStream, WritableStream } from 'node:stream/web';
import { setImmediate as turn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { openSystem, type PipelineSource, type System } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { skipNative } from '../helpers/native.js';

const SIZE = 300_007;
const content = bytesOf(SIZE, 14);
const pieces: Buffer[] = [];
for (let at = 0; at < SIZE; at += 70_000) pieces.push(content.subarray(at, at + 70_000));

async function* generated() {
  for (const piece of pieces) {
    await turn();
    yield piece;
  }
}

const webReadable = () =>
  new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });

/** What never ends, one small chunk after the other. */
async function* endless() {
  for (;;) {
    await turn();
    yield Buffer.alloc(512, 5);
  }
}

/** Run on each backend, with a folder for files; everything is given back at the end. */
function each(
  name: string,
  body: (t: Test, system: System, file: (name: string) => string) => Promise<void>,
) {
  for (const [backend, options] of [
    ['emulator', { machine: 'switch' }],
    ['native', {}],
  ] as const) {
    t.test(`${name}, ${backend}`, { skip: backend === 'native' && skipNative }, async (t) => {
      const system = await openSystem(options);
      const folder = mkdtempSync(join(tmpdir(), 'p2pdma-ends-'));
      t.teardown(() => rmSync(folder, { recursive: true }));
      await body(t, system, (one) => join(folder, one));
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
}

each('every kind of source', async (t, system, file) => {
  const bytes = new Uint8Array(content);
  const kinds: [string, () => PipelineSource][] = [
    ['an async iterable', generated],
    ['an iterable', () => new Set(pieces)],
    ['a generator function', () => generated],
    ['a function that returns an iterable', () => () => pieces],
    ['views of other types', () => () => [new DataView(bytes.buffer, 0, 7), new Uint8Array(bytes.buffer, 7)]],
    ['a Readable', () => Readable.from(pieces, { objectMode: false })],
    ['a Readable of objects', () => Readable.from(pieces)],
    ['a Duplex', () => Duplex.from(pieces)],
    ['a Transform', () => new PassThrough({ highWaterMark: 2 * SIZE }).end(content)],
    ['a ReadableStream', webReadable],
    ['the readable half of a TransformStream', () => webReadable().pipeThrough(new TransformStream())],
  ];
  for (const [kind, source] of kinds) {
    const path = file('to');
    const receipt = await system.pipeline(source(), path, { verify: true });
    t.ok(readFileSync(path).equals(content), kind);
    t.match(
      receipt,
      {
        bytes: SIZE,
        transport: 'host-memory',
        provider: null,
        verified: true,
        reason: /not a p2pdma stream/,
      },
      kind,
    );
    t.equal(receipt.path.hostDram, SIZE, `${kind}: every byte is counted once, on its way from host memory`);
    t.equal(receipt.path.peerBus, 0, kind);
    const part = await system.pipeline(source(), path, { end: 99_999 });
    t.equal(part.bytes, 100_000, kind);
    t.ok(readFileSync(path).equals(content.subarray(0, 100_000)), `a part of ${kind}`);
  }
  await system.pipeline(() => ['one, ', '', 'two, ', 'drei ÷ π'], file('text'));
  t.equal(readFileSync(file('text'), 'utf8'), 'one, two, drei ÷ π', 'text is UTF-8');
  await system.pipeline(() => [], file('text'));
  t.equal(readFileSync(file('text')).length, 0, 'nothing at all');
});

each('every kind of destination', async (t, system, file) => {
  writeFileSync(file('from'), content);
  let got: Buffer[] = [];
  const keep = (chunk: Buffer, done: () => void) => {
    got.push(chunk);
    done();
  };
  const sink = () => new Writable({ write: (chunk, _, done) => keep(chunk, done) });
  const transform = new Transform({ transform: (chunk, _, done) => done(null, chunk) });
  const passed = transform.toArray();
  const kinds = [
    ['a Writable', sink()],
    [
      'a WritableStream',
      new WritableStream<Uint8Array>({ write: (chunk) => void got.push(Buffer.from(chunk)) }),
    ],
    [
      'an async function',
      async (source: AsyncIterable<Buffer>) => {
        for await (const chunk of source) got.push(chunk);
      },
    ],
    ['a Duplex', Duplex.from({ writable: sink(), readable: new PassThrough() })],
    ['a Transform', transform],
  ] as const;
  for (const [kind, destination] of kinds) {
    got = [];
    const receipt = await system.pipeline(file('from'), destination);
    if (destination === transform) got = (await passed) as Buffer[];
    t.ok(Buffer.concat(got).equals(content), kind);
    t.match(receipt, { bytes: SIZE, transport: 'host-memory', provider: null }, kind);
    t.ok(receipt.path.hostDram >= SIZE && receipt.path.hostDram < SIZE + 4096, `${kind}: in whole blocks`);
  }
  got = [];
  const many = await system.pipeline(generated, [file('a'), sink(), file('b')]);
  t.equal(many.bytes, SIZE);
  for (const one of ['a', 'b']) t.ok(readFileSync(file(one)).equals(content), one);
  t.ok(Buffer.concat(got).equals(content), 'and beside files');
  let called = 0;
  const empty = async (source: AsyncIterable<Buffer>) => {
    called++;
    for await (const _ of source) called++;
  };
  writeFileSync(file('empty'), '');
  t.equal((await system.pipeline(file('empty'), empty)).bytes, 0);
  t.equal(called, 1, 'a function is called although there is nothing');
});

each('paths as Buffers and URLs', async (t, system, file) => {
  writeFileSync(file('from'), content);
  await system.pipeline(Buffer.from(file('from')), [pathToFileURL(file('b ü')), Buffer.from(file('c'))]);
  for (const one of ['b ü', 'c']) t.ok(readFileSync(file(one)).equals(content), one);
  const broken = Buffer.concat([Buffer.from(file('x')), Buffer.from([0xff])]);
  await t.rejects(system.pipeline(file('from'), broken), { code: 'ERR_INVALID_ARG_VALUE', message: /UTF-8/ });
  await t.rejects(system.pipeline(new URL('http://localhost/x'), file('c')), {
    code: 'ERR_INVALID_URL_SCHEME',
    message: /must be a file URL/,
  });
});

each('handles stay open', async (t, system, file) => {
  writeFileSync(file('from'), content);
  const from = await open(file('from'));
  const to = await open(file('to'), 'w+');
  const receipt = await system.pipeline(from, to);
  t.match(receipt, { bytes: SIZE, transport: 'host-memory', reason: /descriptor is somebody else’s/ });
  t.ok(readFileSync(file('to')).equals(content));
  await system.pipeline(from, to, { start: 5, end: 9, destinationStart: 100 });
  const expected = Buffer.from(content);
  content.copy(expected, 100, 5, 10);
  t.ok(readFileSync(file('to')).equals(expected), 'a part, at a position');
  t.equal((await from.read(Buffer.alloc(8), 0, 8, 0)).bytesRead, 8, 'the source is open');
  await to.write('and on', 0);
  await t.rejects(system.pipeline(from, to, { verify: true }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /verify/,
  });
  await from.close();
  await to.close();
  await t.rejects(system.pipeline(from, file('c')), { code: 'EBADF', message: /closed.*source/ });
  await t.rejects(system.pipeline(file('from'), to), { code: 'EBADF', message: /closed.*destination/ });

  const own = await system.open(file('from'));
  const other = await system.open(file('other'), 'w+');
  t.match(await system.pipeline(own, other, { end: 9999 }), { bytes: 10_000 });
  t.ok(readFileSync(file('other')).equals(content.subarray(0, 10_000)));
  t.equal((await own.read(Buffer.alloc(8), 0, 8, 0)).bytesRead, 8, 'this package’s handle is open too');
  for (const handle of [own, other]) await handle.close();
});

each('between two ends of other kinds nothing is done', async (t, system) => {
  let calls = 0;
  const source = async function* () {
    calls++;
    yield 'x';
  };
  const counted = (done?: () => void) => {
    calls++;
    done?.();
  };
  const sink = () => new Writable({ write: (_chunk, _, done) => counted(done) });
  const consumer = async () => counted();
  const web = webReadable();
  for (const [from, to] of [
    [source, sink()],
    [source, consumer],
    [source(), [sink(), consumer]],
    [Readable.from(source()), new WritableStream({ write: () => counted() })],
    [web, sink()],
  ] as const) {
    await t.rejects(system.pipeline(from, to as never), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /neither the source nor a destination/,
      hint: /node:stream\/promises/,
    });
  }
  t.equal(calls, 0);
  t.notOk(web.locked);
});

each('what is no end', async (t, system, file) => {
  writeFileSync(file('from'), content);
  for (const source of [5, null, undefined, {}, ['a path'], new ArrayBuffer(3)]) {
    await t.rejects(system.pipeline(source as never, file('q')), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  for (const destination of [5, null, {}, generated(), webReadable(), new TransformStream()]) {
    await t.rejects(system.pipeline(file('from'), destination as never), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  const locked = webReadable();
  locked.getReader();
  await t.rejects(system.pipeline(locked, file('q')), { message: /ReadableStream that is locked/ });
  const writable = new WritableStream();
  writable.getWriter();
  await t.rejects(system.pipeline(file('from'), writable), { message: /WritableStream that is locked/ });
  await t.rejects(system.pipeline((() => 5) as never, file('q')), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /must return an iterable/,
  });
  await t.rejects(system.pipeline(file('from'), (() => 5) as never), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /must return a promise/,
  });
  for (const wrong of [null, 7, {}]) {
    const message = /must deliver strings, Buffers/;
    const code = 'ERR_INVALID_ARG_TYPE';
    await t.rejects(system.pipeline((() => ['x', wrong]) as never, file('q')), { code, message });
    if (wrong !== null) {
      await t.rejects(system.pipeline(Readable.from(['x', wrong]), file('q')), { code, message });
    }
  }
  for (const options of [{ start: 5 }, { sparse: true }]) {
    await t.rejects(system.pipeline(generated, file('q'), options), { code: 'ERR_INVALID_ARG_VALUE' });
  }
  await t.rejects(
    system.pipeline(file('from'), async () => {}, { verify: true }),
    { code: 'ERR_INVALID_ARG_VALUE', message: /verify/ },
  );
});

each('a source that fails ends the copy with its error', async (t, system, file) => {
  const broken = new Error('the source broke');
  const failing = async function* () {
    yield content;
    throw broken;
  };
  for (const source of [failing, failing(), new ReadableStream({ pull: () => Promise.reject(broken) })]) {
    await t.rejects(system.pipeline(source, file('to')), broken);
  }
  let signal: AbortSignal | null = null;
  const to = async (source: AsyncIterable<Buffer>, options: { signal: AbortSignal }) => {
    signal = options.signal;
    for await (const _ of source);
  };
  await t.rejects(system.pipeline(failing, [file('to'), to]), broken);
  t.equal(signal!.reason, broken, 'the function at another end is told');
  let aborted: unknown = null;
  const keepReason = (reason: unknown) => {
    aborted = reason;
  };
  const web = new WritableStream({ abort: (reason) => keepReason(reason) });
  await t.rejects(system.pipeline(failing, [file('to'), web]), broken);
  await turn();
  t.equal(aborted, broken, 'a WritableStream is aborted, not closed');
});

each('a destination that fails ends the source', async (t, system, file) => {
  writeFileSync(file('from'), content);
  const broken = new Error('the destination broke');
  await t.rejects(
    system.pipeline(file('from'), async (source) => {
      for await (const _ of source) throw broken;
    }),
    broken,
  );
  await t.rejects(
    system.pipeline(file('from'), new WritableStream({ write: () => Promise.reject(broken) })),
    broken,
  );
  await t.rejects(
    system.pipeline(file('from'), async (source) => {
      for await (const _ of source) break;
    }),
    { code: 'ERR_STREAM_DESTROYED', message: /returned before it had read everything/ },
  );
  await t.rejects(
    system.pipeline(file('from'), async () => {}),
    { code: 'ERR_STREAM_DESTROYED' },
  );

  let over = 0;
  const source = async function* ({ signal }: { signal: AbortSignal }) {
    signal.addEventListener('abort', () => over++);
    try {
      yield* endless();
    } finally {
      over++;
    }
  };
  const failed = new Writable({ write: (_chunk, _, done) => done(broken) });
  await t.rejects(system.pipeline(source, [file('to'), failed]), broken);
  let cancelled: unknown = null;
  const web = new ReadableStream({
    pull: (controller) => controller.enqueue(Buffer.alloc(512)),
    cancel: (reason) => {
      cancelled = reason;
    },
  });
  const second = new Writable({ write: (_chunk, _, done) => done(broken) });
  await t.rejects(system.pipeline(web, [file('to'), second]), broken);
  while (over < 2) await turn();
  t.equal(over, 2, 'the generator is told, and returned from');
  t.equal(cancelled, broken);
});

each('an abort ends what waits', async (t, system, file) => {
  let waits = () => {};
  let tell = () => {};
  const told = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const idle = async function* ({ signal }: { signal: AbortSignal }) {
    yield content;
    const aborted = once(signal, 'abort');
    waits();
    await aborted;
    tell();
  };
  const stuck = new Readable({ objectMode: true, read() {} });
  const web = new ReadableStream({});
  for (const source of [idle, stuck, web]) {
    const controller = new AbortController();
    const abort = () => controller.abort();
    waits = () => setImmediate(abort);
    const copy = system.pipeline(source, file('to'), { signal: controller.signal });
    if (source !== idle) setTimeout(abort, 50);
    await t.rejects(copy, { code: 'ABORT_ERR' });
  }
  await told;
  t.ok(stuck.destroyed);
  await web.cancel().catch(() => {});
});

each('a source that waits is destroyed when the copy has enough, or is stopped', async (t, system, file) => {
  for (const objectMode of [true, false]) {
    const kind = objectMode ? 'of objects' : 'of bytes';
    const enough = new Readable({ objectMode, read() {} });
    enough.push(content);
    t.match(await system.pipeline(enough, file('to'), { end: 9999 }), { bytes: 10_000 }, kind);
    await turn();
    t.ok(enough.destroyed, kind);
    const waiting = new Readable({ objectMode, read() {} });
    waiting.push(content);
    const stop = new AbortController();
    const copy = system.pipeline(waiting, file('to'), { stop: stop.signal });
    setTimeout(() => stop.abort(), 50);
    t.match(await copy, { bytes: SIZE }, kind);
    await turn();
    t.ok(waiting.destroyed, `stopped: ${kind}`);
  }
});

each('a copy that is refused leaves no end waiting', async (t, system, file) => {
  let cancelled = false;
  const web = new ReadableStream({
    cancel: () => {
      cancelled = true;
    },
  });
  await t.rejects(system.pipeline(web, file('missing/to')), { code: 'ENOENT' });
  t.ok(cancelled);
  const objects = Readable.from(pieces);
  await t.rejects(system.pipeline(objects, file('missing/to')), { code: 'ENOENT' });
  t.ok(objects.destroyed);
  let handle: FileHandle | null = await open(file('to'), 'w');
  await t.rejects(system.pipeline(file('missing'), handle), { code: 'ENOENT' });
  t.ok(handle.fd >= 0, 'a handle stays open');
  await handle.close();
  handle = null;
});

t.test('a socket as a destination: the end of writing is what counts', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { createServer, connect } = await import('node:net');
  const server = createServer({ allowHalfOpen: true }).listen(0);
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const socket = connect({ port: (server.address() as { port: number }).port, allowHalfOpen: true });
  const [peer] = await accepted;
  const arrived: Buffer[] = [];
  peer.on('data', (chunk: Buffer) => arrived.push(chunk));
  const heard = once(peer, 'end');
  t.match(await system.pipeline('nvme0n1', socket, { end: SIZE - 1 }), { bytes: SIZE });
  await heard;
  t.equal(Buffer.concat(arrived).length, SIZE);
  t.notOk(socket.destroyed, 'its other side can still be read');
  peer.end('thanks');
  const [answer] = await once(socket, 'data');
  t.equal(String(answer), 'thanks');
  socket.destroy();
  server.close();
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a plan reads nothing, calls nothing and locks nothing', async (t) => {
  const { planCopy } = await import('../../lib/index.js');
  const system = await openSystem({ machine: 'switch' });
  let calls = 0;
  const web = webReadable();
  for (const source of [() => [String(calls++)], web, generated()]) {
    t.match(await planCopy(source, 'nvme1n1', { system, end: 99 }), {
      ...{ bytes: 100, transport: 'host-memory', source: { kind: 'stream' } },
      destinations: [{ effect: 'overwrite', to: 99 }],
    });
  }
  const consume = async () => {
    calls++;
  };
  t.match(await planCopy('nvme0n1', consume, { system }), {
    destinations: [{ kind: 'stream', effect: 'pass' }],
  });
  t.equal(calls, 0);
  t.notOk(web.locked);
  t.match(await planCopy(Buffer.from('nvme0n1'), Buffer.from('nvme1n1'), { system }), {
    source: { path: 'nvme0n1' },
  });
  t.same(await system.close(), NOTHING_LEFT);
});
