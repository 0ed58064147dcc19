/**
 * Where a name of ours is a name of node:fs, it means the same: both are given the same files and options, and the bytes,
 * the order of events, the counters and the codes of errors are compared.
 *
 * On purpose different:
 *   - a directory is refused when it is opened, node:fs opens it and fails to read;
 *   - `highWaterMark` must be > 0 here, and its default is 512 KiB; sizes of chunks are not compared;
 *   - an option that does not exist is refused here.
 */
import fs, { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import t from 'tap';
import { openSystem } from '../lib/index.js';
import { bytesOf, NOTHING_LEFT } from './helpers/copies.js';
import { fc } from './helpers/random.js';

const folder = t.testdir({});
const system = await openSystem({ machine: 'switch' });

/** What could be seen of a stream, from outside. */
interface Story {
  events: string[];
  /** `pending` when it was made, and at each event. */
  pending: boolean[];
  code: string | null;
  bytes: Buffer;
  count: number;
  destroyed: boolean;
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

type Stream = (Readable | Writable) & { pending: boolean };

/** Listen to all of it until nothing more can come. */
function listen(stream: Stream, last: readonly string[]): { story: Story; over: Promise<void> } {
  const story: Story = {
    events: [],
    pending: [stream.pending],
    code: null,
    bytes: Buffer.alloc(0),
    count: 0,
    destroyed: false,
  };
  for (const event of ['open', 'ready', 'end', 'finish', 'close']) {
    stream.on(event, () => {
      story.events.push(event);
      story.pending.push(stream.pending);
    });
  }
  stream.on('error', (error) => {
    story.events.push('error');
    story.code = codeOf(error);
  });
  const over = new Promise<void>((resolve) => {
    // What comes after the last event would be a difference too.
    const done = () => setTimeout(resolve, 1);
    for (const event of last) stream.once(event, done);
  });
  return { story, over };
}

/** With or without its event. */
async function untilClosed(stream: Readable | Writable): Promise<void> {
  while (!stream.closed) await new Promise(setImmediate);
}

interface ReadCase {
  start?: number;
  end?: number;
  highWaterMark?: number;
  autoClose?: boolean;
  emitClose?: boolean;
}

async function read(open: (options: ReadCase) => Readable, options: ReadCase): Promise<Story | string> {
  let stream: Readable & { bytesRead: number; pending: boolean };
  try {
    stream = open(options) as typeof stream;
  } catch (error) {
    return codeOf(error);
  }
  const closes = options.autoClose !== false && options.emitClose !== false;
  const { story, over } = listen(stream, closes ? ['close'] : ['end', 'error']);
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await over;
  story.bytes = Buffer.concat(chunks);
  story.count = stream.bytesRead;
  story.destroyed = stream.destroyed;
  const told = structuredClone(story);
  stream.destroy();
  await untilClosed(stream);
  return told;
}

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });
const switches = { autoClose: optional(fc.boolean()), emitClose: optional(fc.boolean()) };
const defined = <T extends object>(options: T) =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };

t.test('createReadStream', async (t) => {
  const path = join(folder, 'read');
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 60_000 }).chain((size) =>
        fc.record({
          size: fc.constant(size),
          start: optional(fc.integer({ min: 0, max: size })),
          end: optional(
            fc.oneof(fc.integer({ min: 0, max: size + 5000 }), fc.constant(Number.POSITIVE_INFINITY)),
          ),
          highWaterMark: optional(fc.constantFrom<number>(1, 100, 512, 4096, 5000, 16_384)),
          ...switches,
        }),
      ),
      async ({ size, ...options }) => {
        writeFileSync(path, bytesOf(size, size));
        // A read of one byte at a time is slow on both sides.
        if ((options.highWaterMark ?? 512) < 512 && size > 5000) options.highWaterMark = 2000;
        const ours = await read((o) => system.createReadStream(path, o), defined(options));
        const theirs = await read((o) => fs.createReadStream(path, o), defined(options));
        t.same(ours, theirs, JSON.stringify({ size, ...options }));
      },
    ),
    { numRuns: 60 },
  );
});

t.test('createReadStream: bad ranges', async (t) => {
  const path = join(folder, 'ranges');
  writeFileSync(path, bytesOf(10_000));
  const wild = fc.oneof(
    fc.integer({ min: -5, max: 10 }),
    fc.double({ min: -3, max: 12_000 }),
    fc.constantFrom<unknown>(Number.NaN, Number.NEGATIVE_INFINITY, 2 ** 53, '7', null, {}, true, -1, 0.5),
  );
  await fc.assert(
    fc.asyncProperty(fc.record({ start: optional(wild), end: optional(wild) }), async (wildly) => {
      const options = defined(wildly) as ReadCase;
      const ours = await read((o) => system.createReadStream(path, o), options);
      const theirs = await read((o) => fs.createReadStream(path, o), options);
      t.same(ours, theirs, `start ${String(options.start)}, end ${String(options.end)}`);
    }),
    { numRuns: 60 },
  );
  for (const range of [
    { start: 10_000 },
    { start: 10_001 },
    { start: 12_000, end: 12_000 },
    { start: 9_999, end: 20_000 },
    { start: 10_001, end: 10_000 },
  ]) {
    const ours = await read((o) => system.createReadStream(path, o), range);
    const theirs = await read((o) => fs.createReadStream(path, o), range);
    t.same(ours, theirs, `${JSON.stringify(range)} of 10,000 bytes`);
  }
});

t.test('createReadStream: what is not there', async (t) => {
  for (const [name, path] of [
    ['missing', join(folder, 'missing')],
    ['in a missing folder', join(folder, 'no', 'where')],
    ['below a file', join(folder, 'ranges', 'x')],
  ] as const) {
    const ours = await read((o) => system.createReadStream(path, o), {});
    const theirs = await read((o) => fs.createReadStream(path, o), {});
    t.same(ours, theirs, name);
  }
  const ours = (await read((o) => system.createReadStream(folder, o), {})) as Story;
  const theirs = (await read((o) => fs.createReadStream(folder, o), {})) as Story;
  t.equal(ours.code, theirs.code, 'a directory');
  t.throws(() => system.createReadStream(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => fs.createReadStream(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => system.createReadStream('a\0b'), { code: 'ERR_INVALID_ARG_VALUE' });
  t.throws(() => fs.createReadStream('a\0b'), { code: 'ERR_INVALID_ARG_VALUE' });
});

interface WriteCase {
  start?: number;
  flags?: 'w' | 'wx' | 'r+';
  highWaterMark?: number;
  autoClose?: boolean;
  emitClose?: boolean;
}

/** What is done with a Writable. */
type Step =
  | { readonly write: number }
  | { readonly text: string; readonly encoding: BufferEncoding }
  | 'cork'
  | 'uncork'
  | 'wait';

async function write(
  open: (options: WriteCase) => Writable,
  options: WriteCase,
  steps: readonly Step[],
): Promise<Story | string> {
  let stream: Writable & { bytesWritten: number; pending: boolean };
  try {
    stream = open(options) as typeof stream;
  } catch (error) {
    return codeOf(error);
  }
  const closes = options.autoClose !== false && options.emitClose !== false;
  const { story, over } = listen(stream, closes ? ['close'] : ['finish', 'error']);
  let seed = 0;
  for (const step of steps) {
    if (step === 'cork' || step === 'uncork') stream[step]();
    else if (step === 'wait') await new Promise((resolve) => stream.write('', resolve));
    else if ('text' in step) stream.write(step.text, step.encoding);
    else stream.write(bytesOf(step.write, ++seed));
  }
  stream.end(bytesOf(7, 99));
  await over;
  story.count = stream.bytesWritten;
  story.destroyed = stream.destroyed;
  const told = structuredClone(story);
  stream.destroy();
  await untilClosed(stream);
  return told;
}

const step = fc.oneof<fc.Arbitrary<Step>[]>(
  fc.integer({ min: 0, max: 30_000 }).map((length) => ({ write: length })),
  fc.record({
    text: fc.string({ maxLength: 50 }),
    encoding: fc.constantFrom<BufferEncoding>('utf8', 'latin1', 'utf16le'),
  }),
  fc.constantFrom<Step>('cork', 'uncork', 'wait'),
);

/** The same steps on two copies of the same file. */
async function writeBoth(before: Buffer | null, options: WriteCase, steps: readonly Step[]) {
  const paths = [join(folder, 'ours'), join(folder, 'theirs')] as const;
  for (const path of paths) {
    rmSync(path, { force: true });
    if (before !== null) writeFileSync(path, before);
  }
  const ours = await write((o) => system.createWriteStream(paths[0], o), options, steps);
  const theirs = await write((o) => fs.createWriteStream(paths[1], o), options, steps);
  const contents = paths.map((path) => (fs.existsSync(path) ? readFileSync(path) : null));
  return { ours, theirs, contents };
}

t.test('createWriteStream', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.option(fc.integer({ min: 0, max: 60_000 }), { nil: null }),
      fc.record({
        start: optional(fc.integer({ min: 0, max: 70_000 })),
        flags: optional(fc.constantFrom<'w' | 'wx' | 'r+'>('w', 'wx', 'r+')),
        highWaterMark: optional(fc.constantFrom(100, 4096, 16_384, 65_536)),
        ...switches,
      }),
      // Corked to the end, the wait for a write would last for ever.
      fc.array(step, { maxLength: 12 }).map((steps) => {
        let corks = 0;
        return steps.filter((s) => {
          corks += s === 'cork' ? 1 : s === 'uncork' && corks > 0 ? -1 : 0;
          return s !== 'wait' || corks === 0;
        });
      }),
      async (size, options, steps) => {
        const before = size === null ? null : bytesOf(size, 50);
        // One that fails to open never calls back.
        const fails = (options.flags === 'wx' && size !== null) || (options.flags === 'r+' && size === null);
        const does = fails ? steps.filter((s) => s !== 'wait') : steps;
        const { ours, theirs, contents } = await writeBoth(before, defined(options), does);
        const what = JSON.stringify({ size, ...options, does });
        if (fails && typeof ours !== 'string' && typeof theirs !== 'string') ours.count = theirs.count = 0;
        t.same(ours, theirs, what);
        t.ok(
          contents[0] === null
            ? contents[1] === null
            : contents[1] !== null && contents[0]!.equals(contents[1]!),
          `the same file: ${what}`,
        );
      },
    ),
    { numRuns: 60 },
  );
});

t.test('createWriteStream: bad starts', async (t) => {
  for (const start of [-1, 0.5, Number.NaN, 2 ** 53, '7', {}, Number.POSITIVE_INFINITY]) {
    const { ours, theirs, contents } = await writeBoth(bytesOf(100), { start: start as number }, []);
    t.same(ours, theirs, `start ${String(start)}`);
    t.same(contents[0], contents[1]);
    t.equal(typeof ours, 'string', 'both threw');
  }
});

t.test('destroyed, with and without an error, and aborted', async (t) => {
  const path = join(folder, 'destroyed');
  for (const error of [undefined, new Error('enough')]) {
    for (const turns of [0, 1, 3, 10]) {
      const stories = [];
      for (const make of [
        () => system.createReadStream(path, { highWaterMark: 4096 }),
        () => fs.createReadStream(path, { highWaterMark: 4096 }),
        () => system.createWriteStream(`${path}-w`),
        () => fs.createWriteStream(`${path}-w`),
      ]) {
        writeFileSync(path, bytesOf(100_000));
        const stream = make() as Stream;
        const { story, over } = listen(stream, ['close']);
        // How far it came in so many turns is not compared; how it ends is.
        for (let i = 0; i < turns; i++) await new Promise(setImmediate);
        stream.destroy(error);
        await over;
        stories.push({ end: story.events.filter((e) => e === 'error' || e === 'close'), code: story.code });
      }
      t.same(stories[0], stories[1], `read stream, after ${turns} turns, ${error}`);
      t.same(stories[2], stories[3], `write stream, after ${turns} turns, ${error}`);
    }
  }
  for (const aborted of [true, false]) {
    const names = [];
    for (const make of [system.createReadStream.bind(system), fs.createReadStream]) {
      const control = new AbortController();
      if (aborted) control.abort();
      const stream = make(path, { signal: control.signal, highWaterMark: 4096 }) as Stream;
      const { story, over } = listen(stream, ['close']);
      if (!aborted) stream.once('data', () => control.abort());
      await over;
      // Aborted before: node:fs may still say 'open', before 'close' or after, as the thread pool has it. How it ends counts.
      names.push([story.events.filter((e) => e === 'error' || e === 'close').toSorted(), story.code]);
    }
    t.same(names[0], names[1], `aborted ${aborted ? 'before' : 'while reading'}`);
  }
});

t.test('in the end', async (t) => {
  t.same(await system.close(), NOTHING_LEFT, 'nothing is left over');
});
