/** What a program can see of the FileHandle of node:fs/promises: kinds of file, their attributes, and files as a whole. */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { type Behaviour, fifo, LINUX } from './behaviour.js';
import { type Any, closed, ended, handleRows, tried } from './handle.js';

export const handleFiles: Behaviour[] = [];
const row = handleRows(handleFiles);

// --- what appends, and what has no offsets ---

for (const flags of ['a', 'a+', 'as', 'ax+']) {
  row(`flags ${flags}: writes go to the end, wherever they are asked to go`, async (open, path) => {
    if (flags.includes('x')) fs.rmSync(path);
    await using handle = await open(path, flags);
    const written = [
      await handle.write('one'),
      await handle.write('two', 0),
      await handle.writev([Buffer.from('!')]),
    ];
    await handle.appendFile(' end');
    return [written.map(({ bytesWritten }) => bytesWritten), fs.readFileSync(path, 'latin1')];
  });
}
row('flags a: it cannot read', async (open, path) => {
  await using handle = await open(path, 'a');
  return [await tried(() => handle.read(Buffer.alloc(1), 0, 1, 0)), await tried(() => handle.readFile())];
});
row('flags a+: it reads at a position, and where it stands', async (open, path) => {
  await using handle = await open(path, 'a+');
  const at = await handle.read(Buffer.alloc(5), 0, 5, 4);
  const first = await handle.read(Buffer.alloc(3), 0, 3, null);
  await handle.write('END');
  return [String(at.buffer), String(first.buffer), await handle.readFile('utf8')];
});
row('flags a: streams and truncate()', async (open, path) => {
  const handle = await open(path, 'a');
  await handle.truncate(3);
  const stream = handle.createWriteStream({ autoClose: false });
  await ended(stream, ' more');
  const seen = [fs.readFileSync(path, 'latin1'), (await handle.stat()).size];
  return [...seen, await closed(handle, stream)];
});
row('flags a of several handles at once: no write is lost', async (open, path) => {
  const all = await Promise.all([1, 2, 3].map(() => open(path, 'a')));
  await Promise.all(all.flatMap((handle) => Array.from({ length: 10 }, () => handle.write('0123456789'))));
  await Promise.all(all.map((handle) => handle.close()));
  return fs.statSync(path).size;
});
row(
  '/dev/null and /dev/zero',
  async (open) => {
    await using zero = await open('/dev/zero', 'r+');
    await using nothing = await open('/dev/null', 'r+');
    const { bytesRead, buffer } = await zero.read(Buffer.alloc(9, 1), 0, 9);
    return [
      bytesRead,
      buffer.every((byte: number) => byte === 0),
      await nothing.readFile('utf8'),
      await nothing.write('x'),
    ];
  },
  LINUX,
);
row(
  'a FIFO: what is there, and then the end',
  async (open, path) => {
    const pipe = fifo(dirname(path));
    const [reader, writer] = await Promise.all([open(pipe, 'r'), open(pipe, 'w')]);
    await writer.write('first');
    const { bytesRead } = await reader.read(Buffer.alloc(100));
    await writer.write('second');
    await writer.close();
    const rest = await reader.readFile('utf8');
    await reader.close();
    return [bytesRead, rest];
  },
  LINUX,
);
row(
  'a file of /proc',
  async (open) => {
    await using handle = await open('/proc/self/stat');
    return (await handle.readFile('utf8')).length > 50;
  },
  LINUX,
);
row(
  'a path that is not UTF-8',
  async (open, path) => {
    const name = Buffer.concat([Buffer.from(path), Buffer.from([0xff, 0xfe])]);
    fs.writeFileSync(name, 'named so');
    await using handle = await open(name);
    return handle.readFile('utf8');
  },
  LINUX,
);

// --- what a file is, and who may use it ---

row('stat({ bigint: true })', async (open, path) => {
  await using handle = await open(path);
  const { size, mtimeNs } = await handle.stat({ bigint: true });
  return [String(size), typeof mtimeNs];
});
row(
  'chmod()',
  async (open, path) => {
    await using handle = await open(path);
    const seen = [];
    for (const mode of [0o600, '640', 0o777]) {
      await handle.chmod(mode);
      seen.push(((await handle.stat()).mode & 0o777).toString(8));
    }
    return seen;
  },
  LINUX,
);
row('chown() to whom it belongs', async (open, path) => {
  await using handle = await open(path);
  const { uid, gid } = await handle.stat();
  return [await handle.chown(uid, gid), await handle.chown(-1, -1), (await handle.stat()).uid === uid];
});
row('utimes()', async (open, path) => {
  await using handle = await open(path);
  const seen = [];
  for (const [atime, mtime] of [
    [1, 2.5],
    [new Date(3000), '4'],
  ] as const) {
    await handle.utimes(atime, mtime);
    const { atimeMs, mtimeMs } = await handle.stat();
    seen.push(atimeMs, mtimeMs);
  }
  return seen;
});
row('wrong arguments of chmod(), chown(), utimes() and truncate()', async (open, path) => {
  await using handle = await open(path, 'r+');
  const calls: [string, ...unknown[]][] = [
    ...[['x'], [], [-1], [1.5], [null]].map((args): [string, ...unknown[]] => ['chmod', ...args]),
    ...[['a', 1], [-2, 0], [1], [0.5, 0]].map((args): [string, ...unknown[]] => ['chown', ...args]),
    ...[['x', 1], [{}, 1], [1]].map((args): [string, ...unknown[]] => ['utimes', ...args]),
    ...[['x'], [0.5], [null], [{}]].map((args): [string, ...unknown[]] => ['truncate', ...args]),
  ];
  const seen = await Promise.all(
    calls.map(([call, ...args]) => tried(() => handle[call](...args).then(() => 'done'))),
  );
  return [seen, fs.readFileSync(path, 'latin1')];
});
row('truncate() to less than nothing, and to more than there is', async (open, path) => {
  await using handle = await open(path, 'r+');
  await handle.truncate(50);
  const longer = fs.readFileSync(path, 'latin1');
  await handle.truncate(-1);
  return [longer, fs.statSync(path).size];
});
row('all methods, after close()', async (open, path) => {
  const handle = await open(path, 'r+');
  await handle.close();
  const b = Buffer.alloc(1);
  const calls: [string, ...unknown[]][] = [
    ['read', b],
    ['readv', [b]],
    ['write', b],
    ['writev', [b]],
    ['readFile'],
    ['writeFile', 'x'],
    ['appendFile', 'x'],
    ['stat'],
    ['truncate', 1],
    ['sync'],
    ['datasync'],
    ['chmod', 0o600],
    ['chown', 0, 0],
    ['utimes', 1, 1],
  ];
  const codes = await Promise.all(
    calls.map(([call, ...args]) => tried(() => handle[call](...args)).then((seen) => (seen as Any)?.code)),
  );
  return [codes, await tried(() => handle.readableWebStream().locked)];
});
row('the event close', async (open, path) => {
  const handle = await open(path);
  const closed = new Promise((resolve) => handle.once('close', () => resolve('close')));
  await handle.close();
  return closed;
});

// --- whole files ---

row('writeFile() of iterables, views and encodings', async (open, path) => {
  await using handle = await open(path, 'w+');
  await handle.writeFile('c3a9', 'hex');
  await handle.writeFile(new Uint16Array([0x4241]));
  await handle.writeFile(new DataView(new Uint8Array([67, 68]).buffer));
  await handle.writeFile(
    (async function* () {
      yield 'e';
      yield Buffer.from('f');
    })(),
    { encoding: 'utf8' },
  );
  return fs.readFileSync(path, 'latin1');
});
row('wrong arguments of readFile() and writeFile()', async (open, path) => {
  await using handle = await open(path, 'r+');
  const signal = AbortSignal.abort();
  const calls: [string, ...unknown[]][] = [
    ['readFile', 'no such'],
    ['readFile', 5],
    ['readFile', { signal }],
    ['readFile', { signal: 5 }],
    ['writeFile', 5],
    ['writeFile', {}],
    ['writeFile', null],
    ['writeFile', 'x', 'no such'],
    ['writeFile', 'x', { signal }],
    ['appendFile', true],
    ['read', 5],
    ['read', 'x'],
    ['write', 5],
    ['write', null],
    ['write', {}],
    ['writev', 'x'],
    ['writev', [1]],
    ['readv', null],
  ];
  const seen = await Promise.all(
    calls.map(([call, ...args]) => tried(() => handle[call](...args).then(() => 'done'))),
  );
  return [seen, fs.readFileSync(path, 'latin1')];
});
row('a signal ends writeFile() between two pieces', async (open, path) => {
  await using handle = await open(path, 'w');
  const control = new AbortController();
  const pieces = (function* () {
    yield 'one';
    control.abort();
    yield 'two';
  })();
  return [
    await tried(() => handle.writeFile(pieces, { signal: control.signal })),
    fs.readFileSync(path, 'latin1'),
  ];
});
row('nothing at all: empty buffers', async (open, path) => {
  await using handle = await open(path, 'r+');
  const none = Buffer.alloc(0);
  return [
    (await handle.write(none)).bytesWritten,
    (await handle.write('')).bytesWritten,
    (await handle.writev([])).bytesWritten,
    (await handle.writev([none, none])).bytesWritten,
    (await handle.read(Buffer.alloc(3), 0, 0)).bytesRead,
  ];
});
row(
  'positions that are none, for write()',
  async (open, path) => {
    await using handle = await open(path, 'r+');
    const seen = [];
    for (const position of [-2, 0.5, 'x', {}]) {
      seen.push(await tried(() => handle.write(Buffer.from('!'), 0, 1, position).then(() => 'written')));
    }
    return [seen, fs.readFileSync(path, 'latin1').slice(0, 4)];
  },
  {
    differs: {
      theirs: [['written', 'written', 'written', 'written'], '!!!!'],
      ours: [
        [
          'RangeError ERR_OUT_OF_RANGE',
          'RangeError ERR_OUT_OF_RANGE',
          'TypeError ERR_INVALID_ARG_TYPE',
          'TypeError ERR_INVALID_ARG_TYPE',
        ],
        'the ',
      ],
      why: 'node:fs writes where the handle stands, and so over bytes that nobody named',
    },
  },
);
row('lengths for truncate()', async (open, path) => {
  await using handle = await open(path, 'r+');
  const lengths = [Number.NaN, 1.5, '5', null, {}, -3, undefined];
  return Promise.all(lengths.map((length) => tried(() => handle.truncate(length))));
});
row('what writeFile() takes', async (open, path) => {
  await using handle = await open(path, 'w+');
  await handle.writeFile(new DataView(new ArrayBuffer(3)));
  await handle.writeFile([new Uint16Array(2), 'x']);
  const wrong = await Promise.all([5, null, {}].map((data) => tried(() => handle.writeFile(data))));
  return [fs.readFileSync(path, 'latin1'), wrong];
});
row('encodings that there are not', async (open, path) => {
  await using handle = await open(path, 'r+');
  return [
    await tried(() => handle.writeFile('x', 'none')),
    await tried(() => handle.readFile({ encoding: 'none' })),
  ];
});
row('readFile() and writeFile() with a signal', async (open, path) => {
  await using handle = await open(path, 'r+');
  const stopped = { signal: AbortSignal.abort() };
  const { signal } = new AbortController();
  return [
    await tried(() => handle.readFile(stopped)),
    await tried(() => handle.writeFile('x', stopped)),
    await tried(() => handle.readFile({ signal: 5 })),
    await tried(() => handle.writeFile('X', { signal })),
    fs.readFileSync(path, 'latin1'),
  ];
});
