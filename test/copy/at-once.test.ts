/** A small file is copied without streams; what the caller and the metrics get is what streams would give. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { BlockTarget, IoRequest } from '../../lib/backend/backend.js';
import { EIO, ENOSPC } from '../../lib/base/errno.js';
import {
  METRICS_CHANNEL,
  type MetricsEvent,
  openSystem,
  type PipelineOptions,
  type Progress,
  type Receipt,
  receiptOf,
  type System,
} from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { directIoDir, skipNative } from '../helpers/native.js';

const KIB = 1024;
/** Sizes at the edges of blocks, pages and the limit. */
const SIZES = [0, 1, 511, 512, 513, 4095, 4096, 4097, 64 * KIB, 128 * KIB - 1, 128 * KIB];

const cached = mkdtempSync(join(tmpdir(), 'p2pdma-at-once-'));
t.teardown(() => rmSync(cached, { recursive: true }));

/** Both ways of one copy; the second through streams, chunk by chunk. */
const WAYS = ['at once', 'streams'] as const;
type Way = (typeof WAYS)[number];

async function by<T>(way: Way, work: () => Promise<T>): Promise<T> {
  if (way === 'streams') process.env.P2PDMA_PUMP = '0';
  try {
    return await work();
  } finally {
    delete process.env.P2PDMA_PUMP;
  }
}

/** Everything about a copy that both ways must agree on. */
interface Outcome {
  readonly receipt: object | null;
  readonly error: object | null;
  readonly progress: readonly object[];
  readonly closed: readonly string[];
  readonly metrics: object;
  readonly files: readonly (string | null)[];
}

const withoutTime = ({ seconds, ...rest }: Receipt): object => ({ ...rest, timed: seconds >= 0 });

async function outcome(
  system: System,
  way: Way,
  from: string,
  to: readonly string[],
  options: PipelineOptions,
): Promise<Outcome> {
  const progress: object[] = [];
  const closed: string[] = [];
  const onProgress = (moment: Progress) => {
    const { type, phase, bytes, total, transport, provider, backend, machine } = moment;
    progress.push({ type, phase, bytes, total, transport, provider, backend, machine });
  };
  const heard = (message: unknown) => {
    const { closed: what, path } = message as MetricsEvent;
    closed.push(`${what} ${path}`);
  };
  subscribe(METRICS_CHANNEL, heard);
  const before = system.metrics();
  let receipt: Receipt | null = null;
  let error: Error | null = null;
  try {
    receipt = await by(way, () => system.pipeline(from, [...to], { ...options, onProgress }));
  } catch (thrown) {
    error = thrown as Error;
  } finally {
    unsubscribe(METRICS_CHANNEL, heard);
  }
  const after = system.metrics();
  const { code, message, hint, path, syscall, errno } = (error ?? {}) as Error & Record<string, unknown>;
  const left = receiptOf(error);
  return {
    receipt: receipt && withoutTime(receipt),
    error: error && { code, message, hint, path, syscall, errno, receipt: left && withoutTime(left) },
    progress: progress.slice(-1),
    closed: closed.sort(),
    metrics: {
      read: after.bytes.read - before.bytes.read,
      written: after.bytes.write - before.bytes.write,
      path: Object.entries(after.path).map(([way, bytes]) => [way, bytes - Object(before.path)[way]]),
      errors:
        Object.values(after.errors).reduce((a, b) => a + b, 0) -
        Object.values(before.errors).reduce((a, b) => a + b, 0),
      hostMemory: after.transports['host-memory'] - before.transports['host-memory'],
      inFlight: after.inFlight,
      open: after.open,
    },
    files: to.map((path) => (existsSync(path) ? readFileSync(path, 'hex') : null)),
  };
}

/** The number of requests that targets got, while `work` runs. */
async function requests(system: System, work: () => Promise<unknown>): Promise<number> {
  const before = system.metrics().transfers;
  await work();
  const { read, write } = system.metrics().transfers;
  return read - before.read + write - before.write;
}

const native = () => openSystem({ backend: 'native' });

async function closed(t: Test, system: System): Promise<void> {
  t.same(await system.close(), NOTHING_LEFT);
}

for (const [where, folder] of [
  ['page cache', () => cached],
  ['direct I/O', directIoDir],
] as const) {
  t.test(`native, ${where}`, { skip: skipNative }, async (t) => {
    const directory = folder(t);
    const at = (name: string) => join(directory, name);
    const system = await native();
    for (const size of SIZES) {
      const data = bytesOf(size, 7 + size);
      writeFileSync(at('source'), data);
      for (const options of [
        {},
        { flush: false },
        { flags: 'r+' },
        { memory: 'host' },
      ] as PipelineOptions[]) {
        const outcomes: Outcome[] = [];
        for (const way of WAYS) {
          for (const name of ['a', 'b']) writeFileSync(at(name), bytesOf(256 * KIB, 3));
          outcomes.push(await outcome(system, way, at('source'), [at('a'), at('b')], options));
        }
        const said = `${size} bytes, ${JSON.stringify(options)}`;
        t.same(outcomes[0], outcomes[1], said);
        t.ok(outcomes[0]!.receipt, `${said}: it succeeds`);
        const there = readFileSync(at('b'));
        t.ok(there.subarray(0, size).equals(data), `${said}: the bytes`);
        t.equal(there.length, options.flags === 'r+' ? 256 * KIB : size, `${said}: the length`);
      }
    }
    t.equal(
      await requests(system, () => system.pipeline(at('source'), at('a'), { flush: false })),
      2,
      'one read and one write',
    );
    await closed(t, system);
  });
}

t.test(
  'native: a copy that cannot begin says the same, and leaves the same',
  { skip: skipNative },
  async (t) => {
    const at = (name: string) => join(cached, name);
    const system = await native();
    writeFileSync(at('source'), bytesOf(1000, 1));
    writeFileSync(at('there'), 'as it was');
    const cases: Record<string, [from: string, to: string[], options?: PipelineOptions]> = {
      'no source': ['missing', ['new']],
      'no folder': ['source', ['missing/new']],
      'one of two destinations is a folder': ['source', ['new', '.']],
      'it exists already': ['source', ['new', 'there'], { flags: 'wx' }],
      'onto itself': ['source', ['source']],
      'twice the same': ['source', ['new', './new']],
    };
    for (const [name, [from, to, options = {}]] of Object.entries(cases)) {
      const outcomes: Outcome[] = [];
      for (const way of WAYS) {
        outcomes.push(
          await outcome(
            system,
            way,
            at(from),
            to.map(at).filter((path) => path !== cached),
            options,
          ),
        );
        rmSync(at('new'), { force: true });
      }
      // Streams that were never read from are not reported here.
      t.same({ ...outcomes[0], closed: [] }, { ...outcomes[1], closed: [] }, name);
    }
    t.equal(readFileSync(at('there'), 'utf8'), 'as it was');
    await closed(t, system);
  },
);

/** Everything that is submitted to the target of `name` passes through `submit` first. `asked`: a property of it is read. */
function between(
  system: System,
  name: string,
  submit: (io: IoRequest, real: BlockTarget) => void,
  asked: (key: string | symbol) => void = () => {},
): void {
  const { backend } = system.context;
  const { openTarget } = backend;
  backend.openTarget = async (path, options) => {
    const real = await openTarget.call(backend, path, options);
    if (!path.endsWith(name)) return real;
    return new Proxy(real, {
      get(target, key) {
        asked(key);
        if (key === 'submit') return (io: IoRequest) => submit(io, real);
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
}

const answer = (result: number) => (io: IoRequest) => {
  setImmediate(() => {
    io.result = result;
    io.done(io);
  });
};

t.test('native: failures in the middle', { skip: skipNative }, async (t) => {
  const at = (name: string) => join(cached, name);
  const data = bytesOf(5000, 2);
  for (const [what, name, errno] of [
    ['a read that fails', 'source', -EIO],
    ['a write that fails', 'full', -ENOSPC],
  ] as const) {
    const outcomes: Outcome[] = [];
    for (const way of WAYS) {
      const system = await native();
      writeFileSync(at('source'), data);
      writeFileSync(at('full'), 'as it was');
      let asked = 0;
      between(system, name, (io) => {
        asked++;
        answer(errno)(io);
      });
      outcomes.push(await outcome(system, way, at('source'), [at('full')], {}));
      if (way === 'at once') t.equal(asked, 1, `${what}: it is not tried again`);
      await closed(t, system);
    }
    t.same(outcomes[0], outcomes[1], what);
    t.ok(outcomes[0]!.error, what);
  }
});

t.test('native: to ask a file for its size is a system call', { skip: skipNative }, async (t) => {
  const at = (name: string) => join(cached, name);
  writeFileSync(at('source'), bytesOf(5000, 3));
  const system = await native();
  let sizes = 0;
  const asked = (key: string | symbol) => {
    if (key === 'size') sizes++;
  };
  between(system, 'source', (io, real) => real.submit(io), asked);
  await system.pipeline(at('source'), at('copy'), { flush: false });
  t.equal(sizes, 0, 'opening it has said it');
  await closed(t, system);
});

t.test('native: the source changes between the look and the read', { skip: skipNative }, async (t) => {
  const at = (name: string) => join(cached, name);
  const data = bytesOf(5000, 3);
  const changes: Record<string, () => void> = {
    'it has grown': () => appendFileSync(at('source'), 'more'),
    'it was cut short': () => truncateSync(at('source'), 1000),
    'it is empty now': () => truncateSync(at('source'), 0),
  };
  for (const [what, change] of Object.entries(changes)) {
    const outcomes: Outcome[] = [];
    for (const way of WAYS) {
      const system = await native();
      writeFileSync(at('source'), data);
      rmSync(at('copy'), { force: true });
      let changed = false;
      between(system, 'source', (io, real) => {
        if (!changed) change();
        changed = true;
        real.submit(io);
      });
      outcomes.push(await outcome(system, way, at('source'), [at('copy')], {}));
      await closed(t, system);
    }
    t.same(outcomes[0]?.error, outcomes[1]?.error, what);
    t.same(outcomes[0]?.files, outcomes[1]?.files, `${what}: what is written`);
    t.same(outcomes[0]?.receipt, outcomes[1]?.receipt, `${what}: what is reported`);
  }
});

t.test(
  'what needs a look at the data, or another way for it, goes through streams',
  { skip: skipNative },
  async (t) => {
    const at = (name: string) => join(cached, name);
    const system = await native();
    const data = bytesOf(64 * KIB, 4);
    writeFileSync(at('source'), data);
    const cases: Record<string, PipelineOptions> = {
      'chunks that are smaller': { highWaterMark: 16 * KIB },
      'a part of it': { start: 512, end: 8191 },
      'another place': { destinationStart: 4096, flags: 'r+' },
      verification: { verify: true },
      'a limit': { bandwidth: 2 ** 30 },
      'a signal': { signal: new AbortController().signal },
    };
    for (const [what, options] of Object.entries(cases)) {
      const outcomes: Outcome[] = [];
      for (const way of WAYS) {
        writeFileSync(at('copy'), '');
        outcomes.push(await outcome(system, way, at('source'), [at('copy')], options));
      }
      t.same(outcomes[0]?.files, outcomes[1]?.files, what);
      t.same(outcomes[0]?.receipt, outcomes[1]?.receipt, what);
    }
    t.ok(
      (await requests(system, () =>
        system.pipeline(at('source'), at('copy'), { highWaterMark: 16 * KIB }),
      )) >= 8,
      'each chunk has its own read and write',
    );
    await closed(t, system);
  },
);

t.test('emulator: through host memory', async (t) => {
  const at = (name: string) => join(cached, name);
  writeFileSync(at('source'), bytesOf(5000, 5));
  const outcomes: Outcome[] = [];
  for (const way of WAYS) {
    const system = await openSystem({ machine: 'four-drives' });
    rmSync(at('copy'), { force: true });
    outcomes.push(await outcome(system, way, at('source'), [at('copy')], { memory: 'host' }));
    await closed(t, system);
  }
  t.same(outcomes[0], outcomes[1]);
});

t.test('a system that is closed meanwhile waits for it', { skip: skipNative }, async (t) => {
  const at = (name: string) => join(cached, name);
  const system = await openSystem({ backend: 'native' });
  writeFileSync(at('source'), bytesOf(5000, 6));
  let closing: Promise<unknown> | null = null;
  between(system, 'copy', (io, real) => {
    closing ??= system.close();
    setTimeout(() => real.submit(io), 20);
  });
  const receipt = await system
    .pipeline(at('source'), at('copy'), { flush: false })
    .catch((error: Error) => error);
  t.same(await closing, NOTHING_LEFT);
  if (receipt instanceof Error) t.match(receipt, { code: /ERR_/ });
  else t.equal(readFileSync(at('copy')).length, 5000);
});
