/**
 * Everything that the emulator can let go wrong, met by every door of the public face: each ends in the right error,
 * with the offset where there is one, and leaves nothing behind. Machine: `switch`, with faults.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { finished, pipeline as nodePipeline } from 'node:stream/promises';
import t, { type Test } from 'tap';
import { openSystem, P2pdmaError, type System } from '../lib/index.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from './helpers/copies.js';

const MIB = 1024 * 1024;
const SIZE = 2 * MIB;
/** 64 KiB: 32 chunks. */
const CHUNK = 65_536;
const OWNER = '0000:03:00.0';

const description = (await machineOf('switch')) as Record<string, unknown>;

async function machineOf(preset: string): Promise<object> {
  const system = await openSystem({ machine: preset });
  await system.close();
  return system.snapshot() as object;
}

interface Rig {
  readonly system: System;
  readonly source: Buffer;
  readonly before: Buffer;
}

/** A copy from nvme0n1 (which lends its CMB) to nvme1n1 meets `faults`. */
function faulty(
  name: string,
  faults: readonly object[],
  body: (t: Test, rig: Rig) => Promise<void>,
  more: object = {},
): void {
  t.test(name, async (t) => {
    const sound = { ...description, ...more };
    const source = bytesOf(SIZE, 1);
    const before = bytesOf(SIZE, 2);
    const system = await openSystem({ machine: { ...sound, faults } });
    const atFirst = free(system);
    await body(t, { system, source, before });
    t.match(atFirst, free(system), 'the providers that are there have all of their memory');
    t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
  });
}

/** The source and the destination hold their bytes. Not for faults that this would run into. */
async function fill({ system, source, before }: Rig): Promise<void> {
  await poke(system, 'nvme0n1', 0, source);
  await poke(system, 'nvme1n1', 0, before);
}

async function failure(promise: Promise<unknown>): Promise<P2pdmaError> {
  const error = await promise.then(
    () => new Error('it went well'),
    (e: Error) => e,
  );
  return error as P2pdmaError;
}

function check(t: Test, error: P2pdmaError, expected: object, what: string): void {
  t.type(error, P2pdmaError, `${what}: ${String(error)}`);
  t.match(error, expected, what);
  t.ok(error.hint?.length > 10, `${what}: says what to do`);
}

/** Bytes free in each provider that is there. */
function free(system: System): Record<string, number> {
  const providers = system.topology.functions.filter((fn) => fn.p2pmem !== null);
  return Object.fromEntries(providers.map((fn) => [fn.bdf, fn.p2pmem!.available]));
}

const sink = () =>
  new Writable({
    write(_chunk, _encoding, done) {
      done();
    },
  });

// ---- A block that cannot be read or written.

const BAD = 1_000_448; // LBA 1954
for (const [op, code, errno] of [
  ['read', 'ENODATA', -61],
  ['write', 'ENODATA', -61],
] as const) {
  const namespace = op === 'read' ? 'nvme0n1' : 'nvme1n1';
  faulty(`media error, ${op}`, [{ kind: 'media-error', namespace, lba: BAD / 512, op }], async (t, rig) => {
    const { system, source } = rig;
    if (op === 'read') await system.pipeline(Readable.from([source]), 'nvme0n1');
    const at = Math.floor(BAD / CHUNK) * CHUNK;
    const expected = {
      code,
      errno,
      syscall: op,
      path: `/dev/${namespace}`,
      offset: at,
      message: new RegExp(`offset ${at}`),
    };
    const options = { end: SIZE - 1, highWaterMark: CHUNK };

    check(t, await failure(system.pipeline('nvme0n1', 'nvme1n1', options)), expected, 'pipeline');
    check(
      t,
      await failure(system.pipeline('nvme0n1', 'nvme1n1', { ...options, provider: 'none' })),
      expected,
      'pipeline by host memory',
    );
    const streams = nodePipeline(
      system.createReadStream('nvme0n1', options),
      system.createWriteStream('nvme1n1', { highWaterMark: CHUNK }),
    );
    check(t, await failure(streams), expected, 'streams');

    const target = await system.target(namespace, { write: true });
    for (const provider of [OWNER, null]) {
      const memory = system.allocate(provider, 4096);
      const where = provider === null ? 'host memory' : 'CMB';
      const start = BAD - (BAD % 4096);
      const io = op === 'read' ? target.read(memory.buffer, start) : target.write(memory.buffer, start);
      check(t, await failure(io), { code, errno, syscall: op }, `target.${op}, ${where}`);
      const next = target.read(memory.buffer, start + 4096);
      t.equal(await next, 4096, 'the blocks beside it are well');
      memory.free();
    }
    await target.close();

    if (op === 'read') {
      const got: Buffer[] = [];
      const reader = system.createReadStream('nvme0n1', options);
      const error = await failure(
        (async () => {
          for await (const chunk of reader) got.push(chunk);
        })(),
      );
      check(t, error, expected, 'for await');
      const bytes = Buffer.concat(got);
      t.ok(
        bytes.length <= at && bytes.equals(source.subarray(0, bytes.length)),
        'only good bytes came before',
      );
      const good = await system.pipeline('nvme0n1', 'nvme1n1', {
        start: BAD + 512,
        end: SIZE - 1,
        verify: true,
      });
      t.equal(good.verified, true, 'behind it all is well');
    }
  });
}

// ---- The drive is pulled out.

for (const [which, op, namespace] of [
  ['nvme0', 'read', 'nvme0n1'],
  ['nvme1', 'write', 'nvme1n1'],
] as const) {
  for (const provider of ['nvme0', 'nvme1', 'none']) {
    faulty(
      `removed: the ${op === 'read' ? 'source' : 'destination'}, provider ${provider}`,
      [{ kind: 'remove', controller: which, afterBytes: 600_000 }],
      async (t, { system }) => {
        const error = await failure(
          system.pipeline('nvme0n1', 'nvme1n1', { end: SIZE - 1, highWaterMark: CHUNK, provider }),
        );
        // The kernel ends reads of what is gone with 0 or EIO, writes with ENOSPC or EIO, and memory of what is gone
        // cannot be reached by the other drive.
        t.type(error, P2pdmaError, String(error));
        t.ok(
          ['EIO', 'ENODEV', 'ENXIO', 'ENOSPC', 'ERR_SHORT_TRANSFER'].includes(error.code),
          `${error.code}: ${error.message}`,
        );
        t.ok(error.hint.length > 10, 'says what to do');
        t.notOk(
          system.controllers.some((c) => c.name === which),
          'it is gone',
        );
        const gone = await failure(system.target(namespace));
        check(t, gone, { code: 'ENOENT', syscall: 'open' }, 'opening it again');
        const other = which === 'nvme0' ? 'nvme1n1' : 'nvme0n1';
        t.equal((await peek(system, other, 0, 4096)).length, 4096, 'the other drive is well');
      },
    );
  }
}

faulty(
  'removed: an early end is never taken for the end',
  [{ kind: 'remove', controller: 'nvme0', afterBytes: 600_000 }],
  async (t, { system }) => {
    const reader = system.createReadStream('nvme0n1', { end: SIZE - 1, highWaterMark: CHUNK });
    reader.on('end', () => t.fail("'end'"));
    const error = await failure(nodePipeline(reader, sink()));
    t.ok(
      ['EIO', 'ENODEV', 'ENXIO', 'ERR_SHORT_TRANSFER'].includes(error.code),
      `${error.code}: ${error.message}`,
    );
    t.ok(reader.bytesRead <= 600_000 + CHUNK, `${reader.bytesRead} bytes came before`);
  },
);

faulty(
  'removed: an open target says so from then on',
  [{ kind: 'remove', controller: 'nvme1', afterBytes: 8192 }],
  async (t, { system }) => {
    const target = await system.target('nvme1n1', { write: true });
    const memory = system.allocate(null, 4096);
    let error: P2pdmaError | null = null;
    for (let i = 0; i < 5 && error === null; i++) {
      error = await target.read(memory.buffer, 0).then(
        () => null,
        (e: P2pdmaError) => e,
      );
    }
    t.ok(['EIO', 'ERR_SHORT_TRANSFER'].includes(error?.code ?? ''), String(error));
    for (const io of [
      () => target.read(memory.buffer, 0),
      () => target.readv([memory.buffer], 0),
      () => target.write(memory.buffer, 0),
      () => target.flush(),
      () => target.passthrough({ opcode: 0x00, nsid: 1 }),
    ]) {
      t.type(await failure(io()), P2pdmaError, String(io));
    }
    memory.free();
    await target.close();
  },
);

// ---- Writes of one drive into the other's CMB are acknowledged and lost.

const lost = [{ kind: 'drop-peer-writes', function: OWNER }];
faulty('dropped peer writes: without verify nobody sees it', lost, async (t, rig) => {
  const { system, source } = rig;
  await poke(system, 'nvme1n1', 0, source);
  // nvme1 reads its medium into nvme0's CMB (lost), and nvme0 writes what was there.
  const receipt = await system.pipeline('nvme1n1', 'nvme0n1', {
    end: SIZE - 1,
    highWaterMark: CHUNK,
    provider: OWNER,
  });
  t.match(receipt, { bytes: SIZE, transport: 'p2p-bus', verified: false, digest: null });
  t.equal(receipt.path.peerBus, SIZE, 'the bytes went over the bus, as far as anybody can tell');
  t.notOk((await peek(system, 'nvme0n1', 0, SIZE)).equals(source), 'and yet they are wrong');
});

faulty('dropped peer writes: verify sees it, with the offset', lost, async (t, rig) => {
  const { system, source } = rig;
  await poke(system, 'nvme1n1', 0, source);
  for (const start of [0, 5 * 4096 + 3]) {
    const options = {
      start,
      destinationStart: start,
      end: SIZE - 1,
      highWaterMark: CHUNK,
      provider: OWNER,
      verify: true,
    };
    const error = await failure(system.pipeline('nvme1n1', 'nvme0n1', options));
    const block = start - (start % 512);
    check(
      t,
      error,
      {
        code: 'ERR_VERIFY_MISMATCH',
        offset: block,
        message: new RegExp(`offset ${block}: the peer write was dropped`),
      },
      `from byte ${start}`,
    );
  }
  const sound = await system.pipeline('nvme1n1', 'nvme0n1', {
    end: SIZE - 1,
    provider: 'none',
    verify: true,
  });
  t.match(sound, { verified: true, transport: 'host-memory' }, 'provider none, as the hint says');
  const other = await system.pipeline('nvme1n1', 'nvme0n1', {
    end: SIZE - 1,
    provider: 'nvme1',
    verify: true,
  });
  t.match(other, { verified: true, transport: 'p2p-bus' }, 'reads of a peer are not lost');
});

faulty('dropped peer writes: verify of the data alone finds the byte', lost, async (t, rig) => {
  const { system, source } = rig;
  // The CMB holds what the first copy left there: the second one's chunks look plausible, but are old.
  await poke(system, 'nvme1n1', 0, source);
  await poke(system, 'nvme0n1', 0, Buffer.alloc(SIZE));
  const memory = system.allocate(OWNER, 4096);
  memory.buffer.fill(source.subarray(0, 4096));
  memory.buffer[777]! ^= 1;
  const from = await system.target('nvme1n1');
  const to = await system.target('nvme0n1', { write: true });
  t.equal(await from.read(memory.buffer, 0), 4096, 'lost, and reported as read');
  await to.write(memory.buffer, 0);
  await Promise.all([from.close(), to.close()]);
  memory.free();
  t.notOk((await peek(system, 'nvme0n1', 0, 4096)).equals(source.subarray(0, 4096)));
});

// ---- A command that is never completed.

faulty(
  'no completion: the command is asked back and tried again',
  [{ kind: 'no-completion', controller: 'nvme1', nth: 5 }],
  async (t, rig) => {
    const { system } = rig;
    const began = performance.now();
    const target = await system.target('nvme1n1', { write: true });
    const memory = system.allocate(null, 4096);
    for (let i = 0; i < 10; i++) {
      memory.buffer.fill(i);
      t.equal(await target.write(memory.buffer, i * 4096), 4096);
    }
    t.ok(performance.now() - began > 100, 'one of them took its time');
    for (let i = 0; i < 10; i++) {
      await target.read(memory.buffer, i * 4096);
      t.ok(memory.buffer.equals(Buffer.alloc(4096, i)));
    }
    memory.free();
    await target.close();
  },
  { ioTimeout: 0.1 },
);

faulty(
  'no completion: a copy waits for it, and is whole',
  [
    { kind: 'no-completion', controller: 'nvme0', nth: 3 },
    { kind: 'no-completion', controller: 'nvme1', nth: 9 },
  ],
  async (t, { system }) => {
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', {
      end: SIZE - 1,
      highWaterMark: CHUNK,
      verify: true,
      requireP2p: true,
    });
    t.match(receipt, { bytes: SIZE, verified: true, transport: 'p2p-bus' });
  },
  { ioTimeout: 0.1 },
);

const never = Array.from({ length: 400 }, (_, i) => ({
  kind: 'no-completion',
  controller: 'nvme1',
  nth: i + 1,
}));
faulty(
  'no completion, ever: an error, in bounded time',
  never,
  async (t, { system }) => {
    const error = await failure(
      system.pipeline('nvme0n1', 'nvme1n1', { end: 2 * CHUNK - 1, highWaterMark: CHUNK, queueDepth: 1 }),
    );
    t.type(error, P2pdmaError, String(error));
    t.ok(['EIO', 'ETIMEDOUT', 'ETIME', 'ENODATA'].includes(error.code), `${error.code}: ${error.message}`);
    t.equal(error.syscall, 'write');
  },
  { ioTimeout: 0.02 },
);

faulty(
  'no completion: a signal ends the wait for its caller, and closing cleans up',
  [{ kind: 'no-completion', controller: 'nvme1', nth: 4 }],
  async (t, { system }) => {
    const error = await failure(
      system.pipeline('nvme0n1', 'nvme1n1', {
        end: SIZE - 1,
        highWaterMark: CHUNK,
        signal: AbortSignal.timeout(30),
      }),
    );
    check(t, error, { code: 'ABORT_ERR' }, 'aborted');
  },
  { ioTimeout: 0.2 },
);

// ---- Somebody else has the CMB.

const exhausted = (available: number) => [
  { kind: 'pool-exhausted', controller: 'nvme0', available },
  { kind: 'pool-exhausted', controller: 'nvme1', available },
];
for (const available of [0, 4096, CHUNK - 4096]) {
  faulty(`pool exhausted to ${available} bytes`, exhausted(available), async (t, rig) => {
    const { system, source, before } = rig;
    await fill(rig);
    const options = { end: SIZE - 1, highWaterMark: CHUNK };
    check(
      t,
      await failure(system.pipeline('nvme0n1', 'nvme1n1', { ...options, requireP2p: true })),
      { code: 'ERR_P2P_REQUIRED', message: /0000:03:00\.0.*(bytes free|ENOMEM)/ },
      'requireP2p',
    );
    t.ok((await peek(system, 'nvme1n1', 0, SIZE)).equals(before), 'nothing was written');
    const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { ...options, verify: true });
    t.match(
      receipt,
      {
        transport: 'host-memory',
        provider: null,
        verified: true,
        reason: /0000:03:00\.0.*(bytes free|ENOMEM)/,
      },
      'falls back, and says why',
    );
    t.equal(receipt.path.hostDram, 2 * SIZE);
    t.ok((await peek(system, 'nvme1n1', 0, SIZE)).equals(source));
    t.throws(() => system.allocate('nvme0', available + 4096), { code: 'ENOMEM', syscall: 'mmap' });
    const forced = system.createReadStream('nvme0n1', { ...options, memory: 'cmb' });
    check(t, await failure(finished(forced.resume())), { code: 'ERR_P2P_REQUIRED' }, "memory: 'cmb'");
  });
}

async function staysPeerToPeer(t: Test, rig: Rig): Promise<void> {
  const { system, source } = rig;
  await fill(rig);
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', {
    end: SIZE - 1,
    highWaterMark: CHUNK,
    requireP2p: true,
    verify: true,
  });
  t.match(receipt, { transport: 'p2p-bus', verified: true, path: { hostDram: 0 } });
  t.ok((await peek(system, 'nvme1n1', 0, SIZE)).equals(source));
}

faulty(
  'pool with room for exactly one chunk: peer-to-peer, with one slot',
  exhausted(CHUNK),
  async (t, rig) => {
    const { system, source } = rig;
    await staysPeerToPeer(t, rig);
    // Parts of blocks at both ends have their pages still.
    const odd = await system.pipeline('nvme0n1', 'nvme1n1', {
      ...{ start: 512, end: SIZE - 100, destinationStart: 1024, highWaterMark: CHUNK, requireP2p: true },
    });
    t.match(odd, { transport: 'p2p-bus', path: { hostDram: 0 } });
    const written = await peek(system, 'nvme1n1', 1024, SIZE - 100 - 512 + 1);
    t.ok(written.equals(source.subarray(512, SIZE - 99)));
  },
);

faulty(
  'pool nearly exhausted: fewer slots, still peer-to-peer',
  exhausted(4 * CHUNK),
  async (t, rig) => await staysPeerToPeer(t, rig),
);

faulty('two copies share a pool: the second falls back while the first has it', [], async (t, rig) => {
  const { system, source } = rig;
  await fill(rig);
  const whole = system.allocate('nvme0', system.topology.find(OWNER)!.p2pmem!.available);
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', {
    end: SIZE - 1,
    provider: 'nvme0',
    verify: true,
  });
  t.match(receipt, { transport: 'host-memory', reason: /0000:03:00\.0.*free/ });
  whole.free();
  const again = await system.pipeline('nvme0n1', 'nvme1n1', {
    end: SIZE - 1,
    provider: 'nvme0',
    requireP2p: true,
  });
  t.match(again, { transport: 'p2p-bus' }, 'and afterwards it does not');
  t.ok((await peek(system, 'nvme1n1', 0, SIZE)).equals(source));
});

t.test(
  'a file on the drive: a media error while copying leaves what was written, and says where',
  async (t) => {
    const folder = t.testdir({});
    const to = join(folder, 'to');
    const system = await openSystem({
      machine: { ...description, faults: [{ kind: 'media-error', namespace: 'nvme0n1', lba: BAD / 512 }] },
    });
    const error = await failure(system.pipeline('nvme0n1', to, { end: SIZE - 1, highWaterMark: CHUNK }));
    check(t, error, { code: 'ENODATA', syscall: 'read', path: '/dev/nvme0n1' }, 'pipeline');
    const there = readFileSync(to);
    t.ok(there.length <= BAD, `${there.length} bytes are there`);
    t.same(await system.close(), NOTHING_LEFT);
  },
);
