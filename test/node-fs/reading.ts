/** What a program can see of fs.ReadStream. */
import fs from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  type Behaviour,
  bytesIn,
  contents,
  eventsOf,
  group,
  LINUX,
  LONG,
  made,
  outcome,
  soon,
} from './behaviour.js';

export const reading: Behaviour[] = [];
const read = group(reading, 'reading');

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
      ours: 'TypeError ERR_INVALID_ARG_VALUE',
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
