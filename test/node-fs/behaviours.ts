/**
 * What a program can see of the streams of node:fs, one behaviour at a time. Each is run with node:fs and with this package in
 * its place, and the two outcomes are compared: the right value is what the running Node says.
 */
import type { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { open as openHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { bytesOf } from '../helpers/copies.js';

/** What is tried: node:fs, or an object with the same functions. */
export interface Streams {
  // biome-ignore lint/suspicious/noExplicitAny: wrong arguments are tried too
  createReadStream(path: any, options?: any): any;
  // biome-ignore lint/suspicious/noExplicitAny: wrong arguments are tried too
  createWriteStream(path: any, options?: any): any;
}

export interface Behaviour {
  readonly group: string;
  readonly what: string;
  /** What is seen, as plain data. `folder` is empty. */
  readonly run: (streams: Streams, folder: string) => unknown;
  /** It differs on purpose. Both outcomes are checked. */
  readonly differs?: { readonly theirs: unknown; readonly ours: unknown; readonly why: string };
  /** Where it can be tried. */
  readonly where?: 'linux';
}

const rows: Behaviour[] = [];
export const behaviours: readonly Behaviour[] = rows;

function group(name: string) {
  return (what: string, run: Behaviour['run'], more: Pick<Behaviour, 'differs' | 'where'> = {}) => {
    rows.push({ group: name, what, run, ...more });
  };
}

const LINUX = { where: 'linux' } as const;

/** Of an error, what a program looks at. */
function seenOf(error: unknown): unknown {
  const { code, errno, syscall, path } = error as NodeJS.ErrnoException;
  return { code, errno, syscall, path };
}

/** The class and code of what was thrown, or what came back. */
async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return await run();
  } catch (error) {
    const { name, code } = error as NodeJS.ErrnoException;
    const kind = error instanceof TypeError ? 'TypeError' : error instanceof RangeError ? 'RangeError' : name;
    return `${kind} ${code}`;
  }
}

/** Everything that it delivers, or its error. */
async function bytesIn(stream: Readable): Promise<unknown> {
  const chunks: (Buffer | string)[] = [];
  const text = stream.readableEncoding !== null;
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch (error) {
    return seenOf(error);
  }
  return text ? chunks.join('') : Buffer.concat(chunks as Buffer[]).toString('latin1');
}

/** Its events until it is closed, in order, with their arguments as far as they are the same in every run. */
function eventsOf(stream: Readable | Writable, last = 'close'): Promise<string[]> {
  const seen: string[] = [];
  for (const event of ['open', 'ready', 'end', 'finish', 'error', 'close']) {
    stream.on(event, (value?: unknown) => {
      const code = event === 'error' ? (value as NodeJS.ErrnoException).code : typeof value;
      seen.push(value === undefined ? event : `${event} ${code}`);
    });
  }
  return new Promise((resolve) => stream.once(last, () => setTimeout(resolve, 5, seen)));
}

/** Write the pieces, end, and wait. */
async function written(stream: Writable, ...pieces: (string | Uint8Array)[]): Promise<unknown> {
  const failed = new Promise<unknown>((resolve) => stream.once('error', (error) => resolve(seenOf(error))));
  const closed = new Promise<string>((resolve) => stream.once('close', () => resolve('closed')));
  for (const piece of pieces) stream.write(piece);
  stream.end();
  return Promise.race([failed, closed]);
}

function soon<T>(value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, 200, value));
}

function contents(path: string): string | null {
  return fs.existsSync(path) ? fs.readFileSync(path, 'latin1') : null;
}

function isOpen(fd: number): boolean {
  try {
    fs.fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

function made(folder: string, bytes: string | Buffer = 'the quick brown fox', name = 'file'): string {
  const path = join(folder, name);
  fs.writeFileSync(path, bytes);
  return path;
}

function fifo(folder: string): string {
  const path = join(folder, 'fifo');
  const run = process.getBuiltinModule?.('node:child_process');
  if (run === undefined) throw new Error('no child processes');
  run.execFileSync('mkfifo', [path]);
  return path;
}

const LONG = bytesOf(20_000, 3);

// --- reading ---

const read = group('reading');

read('a whole file', (s, folder) => bytesIn(s.createReadStream(made(folder))));
read('an empty file', (s, folder) => bytesIn(s.createReadStream(made(folder, ''))));
for (const range of [
  { start: 4 },
  { start: 4, end: 8 },
  { end: 8 },
  { start: 4, end: 4 },
  { start: 5, end: 1000 },
  { start: 19 },
  { start: 20 },
  { start: 5000, end: 6000 },
  { end: Number.POSITIVE_INFINITY },
  { start: undefined, end: undefined },
]) {
  read(`of 19 bytes ${JSON.stringify(range)}`, (s, folder) =>
    bytesIn(s.createReadStream(made(folder), range)),
  );
}
for (const options of [
  { highWaterMark: 1 },
  { highWaterMark: 100 },
  { highWaterMark: 1000, start: 7 },
  { highWaterMark: 4096 },
  { highWaterMark: 5000 },
  { highWaterMark: 5000, start: 7 },
  { highWaterMark: 65_536, start: 1 },
  { highWaterMark: 4096, start: 513, end: 12_345 },
]) {
  read(`sizes of the chunks with ${JSON.stringify(options)}`, async (s, folder) => {
    const sizes: number[] = [];
    const bytes = options.highWaterMark === 1 ? LONG.subarray(0, 3000) : LONG;
    const stream = s.createReadStream(made(folder, bytes), options);
    stream.on('data', (chunk: Buffer) => sizes.push(chunk.length));
    await eventsOf(stream);
    return sizes;
  });
}
read('readableHighWaterMark is as asked for', (s, folder) => {
  const stream = s.createReadStream(made(folder), { highWaterMark: 1001 });
  stream.destroy();
  return stream.readableHighWaterMark;
});
read(
  'readableHighWaterMark by default',
  (s, folder) => {
    const stream = s.createReadStream(made(folder));
    stream.destroy();
    return stream.readableHighWaterMark;
  },
  {
    differs: {
      theirs: 65_536,
      ours: 524_288,
      why: 'larger requests to a drive cost less; ask for another size if you need it',
    },
  },
);
read('encoding as an option', (s, folder) =>
  bytesIn(s.createReadStream(made(folder, 'héllo €'), { encoding: 'utf8' })),
);
read('encoding in place of options', (s, folder) =>
  bytesIn(s.createReadStream(made(folder, 'héllo'), 'hex')),
);
read('encoding, with a character in two chunks', (s, folder) =>
  bytesIn(s.createReadStream(made(folder, '€€€€€'), { encoding: 'utf8', highWaterMark: 4 })),
);
read('setEncoding()', (s, folder) =>
  bytesIn(s.createReadStream(made(folder, 'héllo')).setEncoding('base64')),
);
for (const options of [
  null,
  undefined,
  {},
  { encoding: null },
  { fd: null },
  { mode: null },
  { flags: null },
  { signal: null },
  { highWaterMark: null },
]) {
  read(`options ${JSON.stringify(options) ?? 'undefined'}`, async (s, folder) => {
    const path = made(folder);
    return outcome(() => bytesIn(s.createReadStream(path, options)));
  });
}
read('a URL', (s, folder) => bytesIn(s.createReadStream(pathToFileURL(made(folder)))));
read('a Buffer as the path', (s, folder) => bytesIn(s.createReadStream(Buffer.from(made(folder)))));
read(
  'a path that is not UTF-8',
  (s, folder) => {
    const path = Buffer.concat([Buffer.from(folder), Buffer.from([0x2f, 0xff, 0xfe])]);
    fs.writeFileSync(path, 'named so');
    return bytesIn(s.createReadStream(path));
  },
  LINUX,
);
read('flags r+, rs, rs+, O_RDWR', async (s, folder) => {
  const path = made(folder);
  const { O_RDWR, O_RDONLY } = fs.constants;
  const seen = [];
  for (const flags of ['r+', 'rs', 'rs+', 'sr', O_RDWR, O_RDONLY])
    seen.push(await bytesIn(s.createReadStream(path, { flags })));
  return seen;
});
read('flags w+ empties, a+ creates', async (s, folder) => {
  const path = made(folder);
  const seen = [await bytesIn(s.createReadStream(path, { flags: 'w+' })), contents(path)];
  const fresh = join(folder, 'fresh');
  seen.push((await bytesIn(s.createReadStream(fresh, { flags: 'a+' }))) as string, contents(fresh));
  return seen;
});
read('flags wx+ of a file that is there', (s, folder) =>
  bytesIn(s.createReadStream(made(folder), { flags: 'wx+' })).then((e) => ({ ...(e as object), path: '' })),
);
read('flags w: it cannot read', (s, folder) =>
  bytesIn(s.createReadStream(made(folder), { flags: 'w' })).then((e) => (e as NodeJS.ErrnoException).code),
);
read('for await, left early, destroys it', async (s, folder) => {
  const stream = s.createReadStream(made(folder, LONG), { highWaterMark: 100 });
  for await (const _ of stream) break;
  return [stream.destroyed, stream.bytesRead > 0];
});
read('readable and read(n)', async (s, folder) => {
  const stream = s.createReadStream(made(folder, LONG), { highWaterMark: 4000 });
  const sizes: number[] = [];
  stream.on('readable', () => {
    for (let chunk = stream.read(700); chunk !== null; chunk = stream.read(700)) sizes.push(chunk.length);
  });
  await eventsOf(stream);
  return sizes.reduce((sum, size) => sum + size, 0);
});
read('pause() and resume()', async (s, folder) => {
  const stream = s.createReadStream(made(folder, LONG), { highWaterMark: 5000 });
  let paused = false;
  const seen: string[] = [];
  stream.on('data', () => {
    seen.push(paused ? 'while paused' : 'data');
    stream.pause();
    paused = true;
    setTimeout(() => {
      paused = false;
      stream.resume();
    }, 2);
  });
  await eventsOf(stream);
  return seen;
});
read('bytesRead, also with an encoding', async (s, folder) => {
  const stream = s.createReadStream(made(folder, 'héllo'), 'utf8');
  await bytesIn(stream);
  return stream.bytesRead;
});
read('pipe() to node:fs', async (s, folder) => {
  const to = join(folder, 'to');
  s.createReadStream(made(folder, LONG)).pipe(fs.createWriteStream(to));
  while (contents(to)?.length !== LONG.length) await new Promise(setImmediate);
  return contents(to) === LONG.toString('latin1');
});
read(
  'an unknown option',
  (s, folder) => outcome(() => bytesIn(s.createReadStream(made(folder), { starts: 5 }))),
  {
    differs: {
      theirs: 'the quick brown fox',
      ours: 'TypeError ERR_INVALID_ARG_VALUE',
      why: 'a misspelt option would change which bytes are moved, and nobody would notice',
    },
  },
);
read(
  'highWaterMark 0',
  (s, folder) =>
    outcome(() =>
      Promise.race([bytesIn(s.createReadStream(made(folder), { highWaterMark: 0 })), soon('it never ended')]),
    ),
  {
    differs: {
      theirs: 'it never ended',
      ours: 'RangeError ERR_OUT_OF_RANGE',
      why: 'no byte would ever be read',
    },
  },
);
read('the option fs', (s, folder) => outcome(() => bytesIn(s.createReadStream(made(folder), { fs }))), {
  differs: {
    theirs: 'the quick brown fox',
    ours: 'TypeError ERR_INVALID_ARG_VALUE',
    why: 'the I/O goes to the drive itself; a node:fs that was replaced or patched is not called',
  },
});

// --- both ---

const WRONG_SIZE: Pick<Behaviour, 'differs'> = {
  differs: {
    theirs: 'TypeError ERR_INVALID_ARG_VALUE',
    ours: 'RangeError ERR_OUT_OF_RANGE',
    why: 'as for every other number that is out of range',
  },
};
const WRONG_URL: Pick<Behaviour, 'differs'> = {
  differs: {
    theirs: 'TypeError ERR_INVALID_URL_SCHEME',
    ours: 'TypeError ERR_INVALID_ARG_VALUE',
    why: 'one code stands for every path that cannot be one',
  },
};

for (const [role, make, keys] of [
  [
    'reading',
    (s: Streams, path: unknown, options?: object) => s.createReadStream(path, options),
    ['end', 'bytesRead'],
  ],
  [
    'writing',
    (s: Streams, path: unknown, options?: object) => s.createWriteStream(path, options),
    ['bytesWritten'],
  ],
] as const) {
  const row = group(role);
  const over = (stream: Readable | Writable) => {
    if ('resume' in stream) stream.resume();
    else stream.end();
    return stream;
  };
  row('properties before it is open', async (s, folder) => {
    const stream = make(s, made(folder), { start: 3 });
    const seen = ['fd', 'flags', 'mode', 'start', 'pending', 'autoClose', 'destroyed', 'closed', ...keys].map(
      (key) => [key, stream[key]],
    );
    over(stream);
    await eventsOf(stream);
    return seen;
  });
  row('flags and mode as they were given', async (s, folder) => {
    const stream = make(s, made(folder), { flags: 'r+', mode: 0o640 });
    over(stream);
    await eventsOf(stream);
    return [stream.flags, stream.mode];
  });
  row('path of a string, a URL and a Buffer', async (s, folder) => {
    const path = made(folder);
    const seen = [];
    for (const given of [path, pathToFileURL(path), Buffer.from(path)]) {
      const stream = make(s, given, { flags: 'r+' });
      seen.push([typeof stream.path, String(stream.path)]);
      over(stream);
      await eventsOf(stream);
    }
    return seen;
  });
  row('events, in order, and the descriptor with open', (s, folder) => eventsOf(over(make(s, made(folder)))));
  row('events with emitClose: false', (s, folder) =>
    eventsOf(over(make(s, made(folder), { emitClose: false })), role === 'reading' ? 'end' : 'finish'),
  );
  row('events with autoClose: false, and the descriptor stays open', async (s, folder) => {
    const stream = make(s, made(folder), { autoClose: false });
    const events = await eventsOf(over(stream), role === 'reading' ? 'end' : 'finish');
    const seen = [events, stream.destroyed, isOpen(stream.fd)];
    stream.destroy();
    await new Promise((resolve) => stream.once('close', resolve));
    return seen;
  });
  row('fd: a number that is open, and null when it is closed', async (s, folder) => {
    const stream = make(s, made(folder));
    const fds: unknown[] = [stream.fd];
    stream.on('open', (fd: number) => fds.push(fd === stream.fd, isOpen(stream.fd)));
    await eventsOf(over(stream));
    return [...fds, stream.fd, stream.pending];
  });
  row('close(callback)', async (s, folder) => {
    const stream = make(s, made(folder));
    const seen: string[] = [];
    stream.on('close', () => seen.push('close'));
    await new Promise<void>((resolve) =>
      stream.close((error: unknown) => {
        seen.push(`callback ${error ?? 'without an error'}`);
        resolve();
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    return [seen.toSorted(), stream.closed, stream.destroyed];
  });
  row('close(callback) of one that is closed', async (s, folder) => {
    const stream = make(s, made(folder));
    await eventsOf(over(stream));
    return new Promise((resolve) => stream.close(() => resolve('called')));
  });
  row('close() without a callback', async (s, folder) => {
    const stream = make(s, made(folder));
    stream.close();
    const seen = await eventsOf(stream);
    return [seen.at(-1), stream.destroyed];
  });
  row('destroy(), then nothing but close', async (s, folder) => {
    const stream = make(s, made(folder));
    await new Promise((resolve) => stream.once('ready', resolve));
    stream.destroy();
    return eventsOf(stream);
  });
  row('destroy(error)', async (s, folder) => {
    const stream = make(s, made(folder));
    await new Promise((resolve) => stream.once('ready', resolve));
    stream.destroy(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
    return eventsOf(stream);
  });
  row('Symbol.asyncDispose', async (s, folder) => {
    const stream = make(s, made(folder));
    stream.on('error', () => {});
    await stream[Symbol.asyncDispose]?.();
    return stream.destroyed;
  });
  row('signal: aborted before', async (s, folder) => {
    const stream = make(s, made(folder), { signal: AbortSignal.abort() });
    return (await eventsOf(stream)).filter((event) => !/open|ready/.test(event));
  });
  row('signal: aborted when it is open', async (s, folder) => {
    const control = new AbortController();
    const stream = make(s, made(folder), { signal: control.signal });
    stream.once('ready', () => control.abort(new Error('why')));
    const error = new Promise((resolve) => stream.once('error', resolve));
    await eventsOf(stream);
    const { name, code, message, cause } = (await error) as Error & { code: string; cause: Error };
    return { name, code, message, cause: cause?.message };
  });
  row('a descriptor: its position, no open, no path, and it is closed', async (s, folder) => {
    const path = made(folder);
    const fd = fs.openSync(path, 'r+');
    fs.readSync(fd, Buffer.alloc(4));
    const stream = make(s, null, { fd });
    const before = [stream.fd === fd, stream.path, stream.pending];
    const events = eventsOf(stream);
    const bytes = role === 'reading' ? await bytesIn(stream) : await written(stream, 'QUICK');
    return [before, bytes, await events, isOpen(fd), stream.fd, contents(path)];
  });
  row('a descriptor and start', async (s, folder) => {
    const path = made(folder);
    const fd = fs.openSync(path, 'r+');
    const stream = make(s, path, { fd, start: 10 });
    const bytes = role === 'reading' ? await bytesIn(stream) : await written(stream, 'BROWN');
    return [bytes, contents(path)];
  });
  row('a descriptor with autoClose: false stays open, and its position has moved', async (s, folder) => {
    const path = made(folder);
    const fd = fs.openSync(path, 'r+');
    const stream = make(s, '', { fd, autoClose: false });
    if (role === 'reading') await bytesIn(stream);
    else await new Promise((resolve) => stream.end('THE', resolve));
    const rest = Buffer.alloc(5);
    const seen = [fs.readSync(fd, rest), rest.toString(), isOpen(fd)];
    fs.closeSync(fd);
    return seen;
  });
  row('a FileHandle', async (s, folder) => {
    const path = made(folder);
    const handle = await openHandle(path, 'r+');
    let closed = false;
    (handle as unknown as EventEmitter).on('close', () => (closed = true));
    const stream = make(s, null, { fd: handle });
    const bytes = role === 'reading' ? await bytesIn(stream) : await written(stream, 'THE QUICK');
    return [bytes, contents(path), closed, handle.fd];
  });
  row('a FileHandle with autoClose: false', async (s, folder) => {
    const path = made(folder);
    const handle = await openHandle(path, 'r+');
    const stream = make(s, null, { fd: handle, autoClose: false });
    if (role === 'reading') await bytesIn(stream);
    else await new Promise((resolve) => stream.end('THE', resolve));
    const seen = [handle.fd >= 0, contents(path)];
    stream.destroy();
    await new Promise<void>((resolve) => stream.once('close', resolve));
    return seen;
  });
  row('a FileHandle that its owner closes', async (s, folder) => {
    const handle = await openHandle(made(folder), 'r+');
    const stream = make(s, null, { fd: handle });
    stream.on('error', () => {});
    await handle.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    return stream.destroyed;
  });
  for (const options of [
    { start: -1 },
    { start: 0.5 },
    { start: '4' },
    { start: null },
    { start: Number.NaN },
    { encoding: 'no such' },
    { fd: 'text' },
    { fd: 1.5 },
    { fd: {} },
    { fd: -1 },
    { signal: {} },
    { signal: 'x' },
    { highWaterMark: -1 },
    { highWaterMark: 1.5 },
    ...(role === 'reading'
      ? [{ end: -1 }, { end: '4' }, { end: null }, { end: 0.5 }, { start: 5, end: 4 }]
      : [{ flush: 'x' }]),
    5,
    true,
  ]) {
    row(
      `what ${JSON.stringify(options, (_, v) => (Number.isNaN(v) ? 'NaN' : v))} throws`,
      (s, folder) => {
        const path = made(folder);
        return outcome(() => {
          const stream = make(s, path, options as object);
          stream.on('error', () => {});
          stream.destroy();
          return 'nothing';
        });
      },
      Number((options as { highWaterMark?: number }).highWaterMark ?? 1) === 1 ? {} : WRONG_SIZE,
    );
  }
  for (const path of [undefined, null, 5, true, {}, [], 'a\0b', new URL('http://a/b')]) {
    row(
      `what the path ${path instanceof URL ? path.href : (JSON.stringify(path) ?? 'undefined')} throws`,
      (s) =>
        outcome(() => {
          make(s, path).on('error', () => {});
          return 'nothing';
        }),
      path instanceof URL ? WRONG_URL : {},
    );
  }
  row(
    "flags that do not exist: 'error'",
    async (s, folder) => {
      const path = made(folder);
      return outcome(async () => {
        const stream = make(s, path, { flags: 'q' });
        return (await eventsOf(stream))[0];
      });
    },
    {
      differs: {
        theirs: 'error ERR_INVALID_ARG_VALUE',
        ours: 'TypeError ERR_INVALID_ARG_VALUE',
        why: 'it is thrown by the call, as for the other options',
      },
    },
  );
  for (const [name, path] of [
    ['a missing file', 'missing/'],
    ['a file in a missing folder', 'missing/file'],
    ['a path below a file', 'file/below'],
  ] as const) {
    row(`the error of ${name}`, async (s, folder) => {
      made(folder);
      const stream = make(s, join(folder, path.replace(/\/$/, '')), {
        flags: role === 'reading' ? 'r' : 'r+',
      });
      const error = await new Promise((resolve) => stream.once('error', resolve));
      return seenOf(error);
    });
  }
}

read('the error of a directory', async (s, folder) => {
  const { code, errno } = (await bytesIn(s.createReadStream(folder))) as NodeJS.ErrnoException;
  return { code, errno };
});
read(
  'the class of the error of a missing file',
  async (s, folder) => {
    const stream = s.createReadStream(join(folder, 'missing'));
    const error = (await new Promise((resolve) => stream.once('error', resolve))) as Error;
    return [error instanceof Error, error.name];
  },
  {
    differs: {
      theirs: [true, 'Error'],
      ours: [true, 'P2pdmaError'],
      why: 'it also has a hint, and facts that Node’s errors do not have',
    },
  },
);
read('the text of ENOENT', async (s, folder) => {
  const stream = s.createReadStream(join(folder, 'missing'));
  return ((await new Promise((resolve) => stream.once('error', resolve))) as Error).message;
});

// --- writing ---

const write = group('writing');

for (const flags of [
  'w',
  'wx',
  'w+',
  'wx+',
  'xw',
  'r+',
  'rs+',
  'a',
  'ax',
  'a+',
  'ax+',
  'as',
  'as+',
  'sa',
  null,
]) {
  for (const before of ['the quick brown fox', null]) {
    write(`flags ${flags} on ${before === null ? 'a new file' : 'a file of 19 bytes'}`, async (s, folder) => {
      const path = before === null ? join(folder, 'file') : made(folder, before);
      const stream = s.createWriteStream(path, { flags });
      const seen = (await written(stream, 'NEW', ' TEXT')) as NodeJS.ErrnoException;
      return [typeof seen === 'string' ? seen : [seen.code, seen.errno, seen.syscall], contents(path)];
    });
  }
}
write('flags as numbers', async (s, folder) => {
  const { O_WRONLY, O_RDWR, O_CREAT, O_APPEND, O_TRUNC, O_EXCL, O_SYNC } = fs.constants;
  const seen = [];
  for (const flags of [
    O_WRONLY,
    O_RDWR,
    O_WRONLY | O_CREAT,
    O_WRONLY | O_TRUNC,
    O_WRONLY | O_APPEND,
    O_WRONLY | O_SYNC,
    O_WRONLY | O_CREAT | O_EXCL,
  ]) {
    const path = made(folder);
    await written(s.createWriteStream(path, { flags }), 'NEW');
    seen.push(contents(path));
  }
  return seen;
});
write('flags r: it cannot write', async (s, folder) => {
  const error = (await written(
    s.createWriteStream(made(folder), { flags: 'r' }),
    'x',
  )) as NodeJS.ErrnoException;
  return [error.code, error.errno, error.syscall];
});
for (const options of [
  { flags: 'r+', start: 4 },
  { flags: 'w', start: 4 },
  { flags: 'a', start: 4 },
  { flags: 'r+', start: 25 },
  { start: 3 },
]) {
  write(`in a file of 19 bytes, ${JSON.stringify(options)}`, async (s, folder) => {
    const path = made(folder);
    return [await written(s.createWriteStream(path, options), 'NEW'), contents(path)];
  });
}
write('two that append at the same time', async (s, folder) => {
  const path = made(folder, '');
  const streams = [1, 2].map(() => s.createWriteStream(path, { flags: 'a' }));
  await Promise.all(
    streams.map((stream, i) =>
      written(stream, ...Array.from({ length: 20 }, () => `${i} ${'x'.repeat(97)}\n`)),
    ),
  );
  const lines = contents(path)!.split('\n');
  return [lines.length, lines.slice(0, -1).every((line) => line.length === 99)];
});
write(
  'mode of a new file',
  async (s, folder) => {
    const seen = [];
    for (const [i, mode] of [0o600, '0640', 0o777, null, undefined].entries()) {
      for (const flags of ['w', 'a']) {
        const path = join(folder, `${flags}${i}`);
        await written(s.createWriteStream(path, { mode, flags }), 'x');
        seen.push((fs.statSync(path).mode & 0o777).toString(8));
      }
    }
    return seen;
  },
  LINUX,
);
write('bytesWritten', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'));
  await written(stream, 'héllo', Buffer.alloc(5000));
  return stream.bytesWritten;
});
write('encoding in place of options', async (s, folder) => {
  const path = join(folder, 'file');
  await written(s.createWriteStream(path, 'latin1'), 'é');
  return contents(path);
});
write('encoding of one write', async (s, folder) => {
  const path = join(folder, 'file');
  const stream = s.createWriteStream(path);
  stream.write('68656c6c6f', 'hex');
  stream.write('w6k=', 'base64');
  await written(stream);
  return contents(path);
});
write('setDefaultEncoding()', async (s, folder) => {
  const path = join(folder, 'file');
  await written(s.createWriteStream(path).setDefaultEncoding('utf16le'), 'é');
  return contents(path);
});
write('chunks: Uint8Array, Buffer, text', async (s, folder) => {
  const path = join(folder, 'file');
  await written(s.createWriteStream(path), new Uint8Array([65, 66]), Buffer.from('C'), 'D');
  return contents(path);
});
for (const chunk of [null, 5, {}, true]) {
  write(`what write(${JSON.stringify(chunk)}) throws`, async (s, folder) => {
    const stream = s.createWriteStream(join(folder, 'file'));
    stream.on('error', () => {});
    const seen = await outcome(() => stream.write(chunk));
    stream.destroy();
    return seen;
  });
}
write('write() after end()', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'));
  const error = new Promise((resolve) => stream.once('error', resolve));
  stream.end('x');
  stream.write('y');
  return ((await error) as NodeJS.ErrnoException).code;
});
write('write() after destroy()', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'));
  stream.destroy();
  return new Promise((resolve) => stream.write('x', (error: NodeJS.ErrnoException) => resolve(error.code)));
});
write('write(chunk, callback) and end(callback)', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'));
  const seen: string[] = [];
  stream.write('x', () => seen.push('written'));
  await new Promise<void>((resolve) =>
    stream.end('y', () => {
      seen.push('ended');
      resolve();
    }),
  );
  return [seen, contents(join(folder, 'file'))];
});
write('cork() and uncork()', async (s, folder) => {
  const path = join(folder, 'file');
  const stream = s.createWriteStream(path);
  stream.cork();
  for (const text of ['a', 'b', 'c']) stream.write(text);
  const before = stream.writableLength;
  process.nextTick(() => stream.uncork());
  await new Promise((resolve) => setTimeout(resolve, 5));
  await written(stream, 'd');
  return [before, contents(path)];
});
write('highWaterMark: what write() answers, and drain', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'), { highWaterMark: 10 });
  const seen: unknown[] = [stream.writableHighWaterMark, stream.write('12345'), stream.write('67890')];
  await new Promise((resolve) => stream.once('drain', resolve));
  seen.push(stream.writableLength, stream.writableNeedDrain);
  await written(stream);
  return seen;
});
write(
  'writableHighWaterMark by default',
  (s, folder) => {
    const stream = s.createWriteStream(join(folder, 'file'));
    stream.destroy();
    return stream.writableHighWaterMark === fs.createWriteStream('/dev/null').destroy().writableHighWaterMark;
  },
  {
    differs: {
      theirs: true,
      ours: false,
      why: 'it is 512 KiB, so that whole requests to a drive are collected',
    },
    ...LINUX,
  },
);
write('destroySoon()', async (s, folder) => {
  const path = join(folder, 'file');
  const stream = s.createWriteStream(path);
  stream.write('text');
  stream.destroySoon();
  const events = await eventsOf(stream);
  return [events, contents(path)];
});
write('close(callback) after writes: they are written', async (s, folder) => {
  const path = join(folder, 'file');
  const stream = s.createWriteStream(path);
  stream.write('text');
  await new Promise<void>((resolve) => stream.close(() => resolve()));
  return contents(path);
});
write('close() with autoClose: false closes', async (s, folder) => {
  const stream = s.createWriteStream(join(folder, 'file'), { autoClose: false });
  stream.write('text');
  stream.close();
  await eventsOf(stream);
  return stream.destroyed;
});
for (const flush of [true, false, null, undefined]) {
  write(`flush: ${flush}`, async (s, folder) => {
    const path = join(folder, 'file');
    return [await written(s.createWriteStream(path, { flush }), 'x'), contents(path)];
  });
}
write('the error of a directory', async (s, folder) => {
  const error = (await written(s.createWriteStream(folder), 'x')) as NodeJS.ErrnoException;
  return [error.code, error.errno, error.syscall];
});
write('the error of wx', async (s, folder) => {
  const stream = s.createWriteStream(made(folder), { flags: 'wx' });
  return seenOf(await new Promise((resolve) => stream.once('error', resolve)));
});
write(
  'mode that is not one',
  (s, folder) =>
    outcome(async () => {
      const stream = s.createWriteStream(join(folder, 'file'), { mode: '9z' });
      return (await eventsOf(stream))[0];
    }),
  {
    differs: {
      theirs: 'error ERR_INVALID_ARG_VALUE',
      ours: 'TypeError ERR_INVALID_ARG_VALUE',
      why: 'it is thrown by the call, as for the other options',
    },
  },
);

// --- what has no offsets ---

const special = group('pipes and character devices');

special(
  'reading a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const stream = s.createReadStream(path);
    fs.createWriteStream(path).end('through a pipe');
    return bytesIn(stream);
  },
  LINUX,
);
special(
  'a FIFO delivers what is there, before more comes',
  async (s, folder) => {
    const path = fifo(folder);
    const stream = s.createReadStream(path);
    const writer = fs.createWriteStream(path);
    const seen: string[] = [];
    writer.write('first');
    for await (const chunk of stream) {
      seen.push(String(chunk));
      if (seen.length === 1) writer.end('second');
    }
    return seen;
  },
  LINUX,
);
special(
  'end of a FIFO: so many bytes',
  async (s, folder) => {
    const path = fifo(folder);
    const stream = s.createReadStream(path, { end: 6 });
    fs.createWriteStream(path)
      .on('error', () => {})
      .end('through a pipe');
    return bytesIn(stream);
  },
  LINUX,
);
special(
  'start of a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const stream = s.createReadStream(path, { start: 3 });
    fs.createWriteStream(path)
      .on('error', () => {})
      .end('through a pipe');
    return ((await bytesIn(stream)) as NodeJS.ErrnoException).code;
  },
  LINUX,
);
special(
  'writing a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const bytes = bytesIn(fs.createReadStream(path));
    const seen = await written(s.createWriteStream(path), 'through', ' a pipe', Buffer.alloc(200_000));
    return [seen, ((await bytes) as string).length];
  },
  LINUX,
);
special(
  'a FIFO whose reader has gone',
  async (s, folder) => {
    const path = fifo(folder);
    const reader = fs.createReadStream(path);
    const writer = s.createWriteStream(path);
    await new Promise<void>((resolve) => writer.once('ready', resolve));
    reader.destroy();
    await new Promise<void>((resolve) => reader.once('close', resolve));
    const error = (await written(writer, 'x')) as NodeJS.ErrnoException;
    return [error.code, error.errno, error.syscall];
  },
  LINUX,
);
special(
  'from a FIFO to a file',
  async (s, folder) => {
    const path = fifo(folder);
    const to = join(folder, 'to');
    const writer = s.createWriteStream(to);
    s.createReadStream(path).pipe(writer);
    fs.createWriteStream(path).end(LONG);
    await eventsOf(writer);
    return contents(to) === LONG.toString('latin1');
  },
  LINUX,
);
special(
  'from a file to a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const bytes = bytesIn(fs.createReadStream(path));
    s.createReadStream(made(folder, LONG)).pipe(s.createWriteStream(path));
    return (await bytes) === LONG.toString('latin1');
  },
  LINUX,
);
special('from a file to the end of another', async (s, folder) => {
  const to = made(folder, 'before ', 'to');
  const writer = s.createWriteStream(to, { flags: 'a' });
  s.createReadStream(made(folder, LONG)).pipe(writer);
  await eventsOf(writer);
  return contents(to) === `before ${LONG.toString('latin1')}`;
});
special(
  '/dev/null',
  async (s) => [
    await bytesIn(s.createReadStream('/dev/null')),
    await written(s.createWriteStream('/dev/null'), 'x', Buffer.alloc(100_000)),
  ],
  LINUX,
);
special(
  '/dev/null with flags r+ and a',
  async (s) => [
    await written(s.createWriteStream('/dev/null', { flags: 'r+' }), 'x'),
    await written(s.createWriteStream('/dev/null', { flags: 'a' }), 'x'),
  ],
  LINUX,
);
special('some bytes of /dev/zero', (s) => bytesIn(s.createReadStream('/dev/zero', { end: 9 })), LINUX);
special(
  '/dev/full',
  async (s) => {
    const error = (await written(s.createWriteStream('/dev/full'), 'x')) as NodeJS.ErrnoException;
    return [error.code, error.errno, error.syscall];
  },
  LINUX,
);
special(
  'a file of /proc',
  async (s) => ((await bytesIn(s.createReadStream('/proc/self/stat'))) as string).length > 50,
  LINUX,
);
