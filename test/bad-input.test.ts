/**
 * Each usage error is refused: with a stable code, with the option and the value in the message, with advice,
 * before anything was written, and leaving nothing behind.
 */
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import t from 'tap';
import { openSystem, type PipelineOptions } from '../lib/index.js';
import { machine, type Rig, refused } from './helpers/refused.js';

const MIB = 1024 * 1024;

/** The same request by every door that takes it. */
const doors: Record<string, (rig: Rig, from: string, to: string, options: PipelineOptions) => unknown> = {
  pipeline: ({ system }, from, to, options) => system.pipeline(from, to, options),
  'pipeline to several': ({ system, path }, from, to, options) =>
    system.pipeline(from, [path('new'), path('other'), to], options),
};

for (const [door, go] of Object.entries(doors)) {
  refused(`${door}: unknown namespace as the source`, (rig) => go(rig, 'nvme7n1', rig.path('new2'), {}), {
    code: 'ENOENT',
    message: /'\/dev\/nvme7n1'/,
    syscall: 'open',
  });
  refused(`${door}: unknown namespace as a destination`, (rig) => go(rig, 'nvme0n1', 'nvme1n9', {}), {
    code: 'ENOENT',
    message: /'\/dev\/nvme1n9'/,
    syscall: 'open',
  });
  refused(`${door}: missing file`, (rig) => go(rig, rig.path('missing'), rig.path('file'), {}), {
    code: 'ENOENT',
    message: /missing'/,
    syscall: 'open',
  });
  refused(
    `${door}: a destination in a missing folder`,
    (rig) => go(rig, 'nvme0n1', rig.path('no/where'), { end: 99 }),
    { code: 'ENOENT', message: /no\/where'/ },
  );
  refused(`${door}: below a file`, (rig) => go(rig, rig.path('file/x'), 'nvme1n1', {}), {
    code: 'ENOTDIR',
    message: /file\/x'/,
  });
  refused(`${door}: directory as the source`, (rig) => go(rig, rig.path('folder'), 'nvme1n1', {}), {
    code: 'EISDIR',
    message: /folder'/,
  });
  refused(`${door}: directory as a destination`, (rig) => go(rig, rig.path('file'), rig.path('folder'), {}), {
    code: 'EISDIR',
    message: /folder'/,
  });
  refused(`${door}: read-only namespace`, (rig) => go(rig, rig.path('file'), 'nvme1n2', {}), {
    code: 'EROFS',
    message: /'\/dev\/nvme1n2'/,
    syscall: 'open',
  });
  refused(
    `${door}: start beyond the end of a file`,
    (rig) => go(rig, rig.path('file'), rig.path('new2'), { start: MIB + 1 }),
    { code: 'ERR_OUT_OF_RANGE', message: /start.*1048577.*file' \(1048576 bytes\)/ },
  );
  refused(
    `${door}: start beyond the end of a namespace`,
    (rig) => go(rig, 'nvme0n1', rig.path('new2'), { start: 9 * MIB }),
    { code: 'ERR_OUT_OF_RANGE', message: /start.*9437184.*8388608/ },
  );
  refused(
    `${door}: destinationStart beyond the end of a namespace`,
    (rig) => go(rig, rig.path('file'), 'nvme1n1', { destinationStart: 9 * MIB }),
    { code: 'ERR_OUT_OF_RANGE', message: /destinationStart.*9437184.*nvme1n1.*8388608/ },
  );
  refused(
    `${door}: more than the destination holds`,
    (rig) => go(rig, rig.path('file'), 'nvme1n1', { destinationStart: 8 * MIB - 100 }),
    { code: 'ENOSPC', message: /nvme1n1/, syscall: 'write' },
  );
  refused(
    `${door}: chunk larger than the CMB`,
    (rig) => go(rig, 'nvme0n1', 'nvme1n1', { highWaterMark: 32 * MIB, end: 8 * MIB - 1 }),
    { code: 'ERR_CHUNK_TOO_LARGE', message: /highWaterMark.*33554432.*CMB of 0000:03:00\.0/ },
  );
  refused(
    `${door}: a provider that does not exist`,
    (rig) => go(rig, 'nvme0n1', 'nvme1n1', { provider: 'nvme9', end: MIB }),
    { code: 'ERR_INVALID_ARG_VALUE', message: /provider.*'nvme9'/ },
  );
  refused(
    `${door}: requireP2p where there is no way`,
    (rig) => go(rig, 'nvme0n1', 'nvme1n1', { provider: 'none', requireP2p: true, end: MIB }),
    { code: 'ERR_P2P_REQUIRED', message: /requireP2p.*provider: none/ },
  );
  for (const [option, value, code] of [
    ['start', -1, 'ERR_OUT_OF_RANGE'],
    ['start', 1.5, 'ERR_OUT_OF_RANGE'],
    ['start', Number.NaN, 'ERR_OUT_OF_RANGE'],
    ['start', '5', 'ERR_INVALID_ARG_TYPE'],
    ['end', -1, 'ERR_OUT_OF_RANGE'],
    ['end', 2 ** 53, 'ERR_OUT_OF_RANGE'],
    ['end', 0.25, 'ERR_OUT_OF_RANGE'],
    ['destinationStart', -512, 'ERR_OUT_OF_RANGE'],
    ['destinationStart', 0.5, 'ERR_OUT_OF_RANGE'],
    ['highWaterMark', 0, 'ERR_INVALID_ARG_VALUE'],
    ['highWaterMark', -4096, 'ERR_INVALID_ARG_VALUE'],
    ['highWaterMark', 4096.5, 'ERR_INVALID_ARG_VALUE'],
    ['queueDepth', 0, 'ERR_OUT_OF_RANGE'],
    ['queueDepth', 1.5, 'ERR_OUT_OF_RANGE'],
    ['queueDepth', 100_000, 'ERR_OUT_OF_RANGE'],
    ['memory', 'moon', 'ERR_INVALID_ARG_VALUE'],
    ['engine', 'steam', 'ERR_INVALID_ARG_VALUE'],
    ['flags', 'a+', 'ERR_INVALID_ARG_VALUE'],
    ['provider', 7, 'ERR_INVALID_ARG_TYPE'],
    ['requireP2p', 'yes', 'ERR_INVALID_ARG_TYPE'],
    ['signal', {}, 'ERR_INVALID_ARG_TYPE'],
    ['verify', 1, 'ERR_INVALID_ARG_TYPE'],
    ['onProgress', 'no function', 'ERR_INVALID_ARG_TYPE'],
    ['colour', 'red', 'ERR_INVALID_ARG_VALUE'],
  ] as const) {
    refused(
      `${door}: ${option} ${String(value)}`,
      (rig) => go(rig, 'nvme0n1', rig.path('file'), { [option]: value }),
      {
        code,
        message:
          option === 'colour'
            ? /option 'colour'/
            : new RegExp(`option ${option}: .*${escaped(typeof value === 'object' ? '{}' : String(value))}`),
      },
    );
  }
  refused(
    `${door}: start after end`,
    (rig) => go(rig, 'nvme0n1', rig.path('file'), { start: 100, end: 99 }),
    { code: 'ERR_OUT_OF_RANGE', message: /start.*100.*99/ },
  );
}

function escaped(text: string): string {
  return text.replace(/[[\]().*+?^$|{}\\]/g, '\\$&');
}

for (const [name, from, to, options] of [
  ['a namespace onto itself', 'nvme0n1', '/dev/nvme0n1', {}],
  ['a namespace a little further', 'nvme0n1', 'nvme0n1', { end: 8191, destinationStart: 8191 }],
  ['a namespace a little earlier', 'nvme0n1', 'nvme0n1', { start: 8191, end: 16383 }],
  ['a file onto itself', 'file', './file', {}],
  ['a file further on, but truncated first', 'file', 'file', { end: 99, destinationStart: 4096 }],
  ['a file by a symbolic link', 'file', 'symbolic', {}],
  ['a symbolic link to a file', 'symbolic', 'file', {}],
  ['a file by a hard link', 'file', 'hard', {}],
] as const) {
  refused(
    `overlap: ${name}`,
    ({ system, path }) => {
      const place = (name: string) => (name.includes('nvme') ? name : path(name));
      return system.pipeline(place(from), place(to), options);
    },
    { code: 'ERR_OVERLAP', message: /(file|nvme0n1|symbolic|hard)'.*overlap|truncate/ },
  );
}

refused(
  'overlap: the same destination twice',
  ({ system }) => system.pipeline('nvme0n1', ['nvme1n1', '/dev/nvme1n1']),
  {
    code: 'ERR_OVERLAP',
    message: /'\/dev\/nvme1n1' is named twice/,
  },
);

refused('no destination', ({ system }) => system.pipeline('nvme0n1', []), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /destination/,
});
for (const [name, value] of [
  ['a number', 5],
  ['null', null],
  ['an empty object', {}],
] as const) {
  refused(`${name} as the source`, ({ system, path }) => system.pipeline(value as never, path('file')), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: /source/,
  });
  refused(
    `${name} as a destination`,
    ({ system, path }) => system.pipeline('nvme0n1', [path('file'), value as never]),
    { code: 'ERR_INVALID_ARG_TYPE', message: /destination/ },
  );
}
refused('an empty path', ({ system }) => system.pipeline('', 'nvme1n1'), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /path/,
});
refused('a path with a zero byte', ({ system }) => system.pipeline('nvme0n1', 'a\0b'), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /path/,
});
refused('a URL that is no file', ({ system }) => system.pipeline('nvme0n1', new URL('http://localhost/')), {
  code: 'ERR_INVALID_URL_SCHEME',
  message: /path.*http:/,
});
refused(
  'verify of a destination that cannot be read back',
  ({ system, path }) =>
    system.pipeline('nvme0n1', [path('file'), new PassThrough().resume()], { verify: true, end: 99 }),
  { code: 'ERR_INVALID_ARG_VALUE', message: /verify/ },
);
refused(
  'a file that must be new',
  ({ system, path }) => system.pipeline('nvme0n1', [path('new'), path('file')], { flags: 'wx', end: 99 }),
  { code: 'EEXIST', message: /file'/, syscall: 'open' },
);
refused(
  'a file that must be there',
  ({ system, path }) => system.pipeline('nvme0n1', [path('file'), path('new')], { flags: 'r+', end: 99 }),
  { code: 'ENOENT', message: /new'/, syscall: 'open' },
);
refused(
  'a source that is open for writing already, as a destination',
  async ({ system }) => {
    const target = await system.target('nvme1n1', { write: true });
    await system.pipeline('nvme0n1', 'nvme1n1', { end: 99 }).finally(() => target.close());
  },
  { code: 'EBUSY', message: /nvme1n1/, syscall: 'open' },
);

// ---- Streams of their own: at once where the option says it, else as an 'error' event.

for (const [option, value, code] of [
  ['start', -1, 'ERR_OUT_OF_RANGE'],
  ['start', 0.5, 'ERR_OUT_OF_RANGE'],
  ['highWaterMark', 0, 'ERR_INVALID_ARG_VALUE'],
  ['queueDepth', 0, 'ERR_OUT_OF_RANGE'],
  ['queueDepth', -1, 'ERR_OUT_OF_RANGE'],
  ['colour', 1, 'ERR_INVALID_ARG_VALUE'],
] as const) {
  const expected = { code, message: new RegExp(`${option}`) };
  refused(
    `createReadStream: ${option} ${value}`,
    ({ system, path }) => system.createReadStream(path('file'), { [option]: value }),
    expected,
  );
  refused(
    `createWriteStream: ${option} ${value}`,
    ({ system, path }) => system.createWriteStream(path('file'), { [option]: value }),
    expected,
  );
}
refused(
  'createReadStream: unknown namespace',
  ({ system }) => finished(system.createReadStream('nvme7n1').resume()),
  { code: 'ENOENT', message: /nvme7n1/, syscall: 'open' },
);
refused(
  'createReadStream: chunk larger than the CMB',
  ({ system }) =>
    finished(system.createReadStream('nvme0n1', { memory: 'cmb', highWaterMark: 32 * MIB }).resume()),
  { code: 'ERR_CHUNK_TOO_LARGE', message: /highWaterMark.*33554432/ },
);
refused(
  'createWriteStream: chunk larger than the CMB',
  async ({ system }) => {
    const stream = system.createWriteStream('nvme1n1', { memory: 'cmb', highWaterMark: 32 * MIB });
    stream.end(Buffer.alloc(512));
    await finished(stream);
  },
  { code: 'ERR_CHUNK_TOO_LARGE', message: /highWaterMark.*33554432/ },
);
refused(
  'createWriteStream: start beyond the end of a namespace',
  ({ system }) => finished(system.createWriteStream('nvme1n1', { start: 8 * MIB + 1 }).end('x')),
  { code: 'ENOSPC', message: /nvme1n1/, syscall: 'write' },
);
refused(
  'createWriteStream: read-only namespace',
  ({ system }) => finished(system.createWriteStream('nvme1n2')),
  {
    code: 'EROFS',
    message: /nvme1n2/,
    syscall: 'open',
  },
);
refused(
  'createWriteStream: directory',
  ({ system, path }) => finished(system.createWriteStream(path('folder'))),
  {
    code: 'EISDIR',
    message: /folder/,
  },
);
refused(
  'createWriteStream past the end of a namespace',
  async ({ system }) => {
    const stream = system.createWriteStream('nvme1n1', { start: 8 * MIB - 512 });
    stream.end(Buffer.alloc(4096));
    await finished(stream);
  },
  { code: 'ENOSPC', message: /nvme1n1/, syscall: 'write' },
);

// ---- Targets and memory.

refused('target: unknown', ({ system }) => system.target('nvme7n1'), { code: 'ENOENT', message: /nvme7n1/ });
refused('target: read-only', ({ system }) => system.target('nvme1n2', { write: true }), {
  code: 'EROFS',
  message: /nvme1n2/,
});
refused('target: a misspelt option', ({ system }) => system.target('nvme1n1', { wriet: true } as never), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /wriet/,
});
refused(
  'target: a controller that is not there',
  ({ system, path }) => system.target(path('file'), { controller: 'nvme9' }),
  {
    code: 'ENODEV',
    message: /nvme9/,
  },
);
for (const [name, position, length, code] of [
  ['a negative position', -512, 512, 'ERR_OUT_OF_RANGE'],
  ['half a byte', 0.5, 512, 'ERR_OUT_OF_RANGE'],
  ['a position within a block', 100, 512, 'EINVAL'],
  ['a part of a block', 0, 100, 'EINVAL'],
  ['past the end', 8 * MIB, 512, 'ENOSPC'],
] as const) {
  refused(
    `target.write: ${name}`,
    async ({ system }) => {
      const target = await system.target('nvme1n1', { write: true });
      try {
        await target.write(Buffer.alloc(length), position);
      } finally {
        await target.close();
      }
    },
    { code, message: code === 'ERR_OUT_OF_RANGE' ? new RegExp(escaped(String(position))) : /nvme1n1/ },
  );
}
for (const op of ['write', 'writev'] as const) {
  refused(
    `target.${op}: opened for reading`,
    async ({ system }) => {
      const target = await system.target('nvme1n1');
      const bytes = Buffer.alloc(512);
      try {
        await (op === 'write' ? target.write(bytes, 0) : target.writev([bytes], 0));
      } finally {
        await target.close();
      }
    },
    { code: 'EBADF', message: /nvme1n1/, syscall: op, errno: -9 },
  );
}
refused(
  'a stream over a target that was opened for reading',
  async ({ system }) => {
    const target = await system.target('nvme1n1');
    const stream = target.createWriteStream();
    stream.end(Buffer.alloc(512));
    await finished(stream).finally(() => target.close());
  },
  { code: 'EBADF', message: /nvme1n1/ },
);
for (const bytes of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
  refused(`allocate: ${bytes} bytes`, ({ system }) => system.allocate('nvme0', bytes), {
    code: 'ERR_OUT_OF_RANGE',
    message: new RegExp(`bytes.*${bytes}`),
  });
}
refused('allocate: more than the CMB', ({ system }) => system.allocate('nvme0', 17 * MIB), {
  code: 'ENOMEM',
  message: /0000:03:00\.0/,
  syscall: 'mmap',
});
refused('allocate: more than any computer has', ({ system }) => system.allocate(null, 2 ** 52), {
  code: 'ENOMEM',
  message: /4503599627370496|host/,
});
refused('allocate: unknown provider', ({ system }) => system.allocate('nvme9', 4096), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /provider.*'nvme9'/,
});
refused(
  'explain: a client that does not exist',
  ({ system }) => system.explain('nvme0', ['nvme1', '0000:99:00.0']),
  {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /client.*'0000:99:00\.0'/,
  },
);
refused('explain: a provider that does not exist', ({ system }) => system.explain('nvme9', ['nvme1']), {
  code: 'ERR_INVALID_ARG_VALUE',
  message: /provider.*'nvme9'/,
});

t.test('what node:fs takes and a stream here does not: the hint says what takes its place', async (t) => {
  await using system = await openSystem({ machine: machine() });
  const hints: [() => unknown, string, RegExp][] = [
    [() => system.createReadStream('nvme0n1', { fs: {} } as never), 'ERR_INVALID_ARG_VALUE', /replaced/],
  ];
  for (const [ask, code, hint] of hints) {
    try {
      ask();
      t.fail('not refused');
    } catch (error) {
      t.match(error, { code, hint });
    }
  }
});

t.test('listeners have types: this compiles', async (t) => {
  await using system = await openSystem({ machine: machine() });
  const reader = system.createReadStream('nvme0n1', { end: 4095 });
  let bytes = 0;
  reader.on('data', (chunk) => {
    bytes += chunk.length;
  });
  reader.on('error', ({ message }) => t.fail(message));
  reader.once('close', () => {});
  await finished(reader);
  t.equal(bytes, 4096);
  const described = system.snapshot();
  described.faults = [];
  t.equal(described.name, 'two drives');
});
