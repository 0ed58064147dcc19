/** What a program can see of fs.WriteStream. */
import fs from 'node:fs';
import { join } from 'node:path';
import {
  type Behaviour,
  contents,
  eventsOf,
  group,
  LINUX,
  made,
  outcome,
  seenOf,
  written,
} from './behaviour.js';

export const writing: Behaviour[] = [];
const write = group(writing, 'writing');

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
write(
  'destroy() while it writes',
  async (s, folder) => {
    const stream = s.createWriteStream(join(folder, 'file'));
    const events: string[] = [];
    stream.on('error', ({ code }: NodeJS.ErrnoException) => events.push(`error ${code}`));
    await new Promise((resolve) => stream.once('ready', resolve));
    stream.write(Buffer.alloc(200_000), ({ code }: NodeJS.ErrnoException) => events.push(`written ${code}`));
    stream.destroy();
    await new Promise((resolve) => stream.once('close', resolve));
    return events;
  },
  {
    differs: {
      theirs: ['written ERR_STREAM_DESTROYED', 'error ERR_STREAM_DESTROYED'],
      ours: ['written ERR_STREAM_DESTROYED'],
      why: 'who destroys it has given up its data; the callbacks of write() and end() say what was not stored',
    },
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
