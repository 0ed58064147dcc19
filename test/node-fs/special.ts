/** Streams of node:fs over what has no offsets. */
import fs from 'node:fs';
import { join } from 'node:path';
import {
  type Behaviour,
  bytesIn,
  contents,
  eventsOf,
  fifo,
  group,
  LINUX,
  LONG,
  made,
  written,
} from './behaviour.js';

export const special: Behaviour[] = [];
const row = group(special, 'pipes and character devices');

row(
  'reading a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const stream = s.createReadStream(path);
    fs.createWriteStream(path).end('through a pipe');
    return bytesIn(stream);
  },
  LINUX,
);
row(
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
row(
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
row(
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
row(
  'writing a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const bytes = bytesIn(fs.createReadStream(path));
    const seen = await written(s.createWriteStream(path), 'through', ' a pipe', Buffer.alloc(200_000));
    return [seen, ((await bytes) as string).length];
  },
  LINUX,
);
row(
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
row(
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
row(
  'from a file to a FIFO',
  async (s, folder) => {
    const path = fifo(folder);
    const bytes = bytesIn(fs.createReadStream(path));
    s.createReadStream(made(folder, LONG)).pipe(s.createWriteStream(path));
    return (await bytes) === LONG.toString('latin1');
  },
  LINUX,
);
row('from a file to the end of another', async (s, folder) => {
  const to = made(folder, 'before ', 'to');
  const writer = s.createWriteStream(to, { flags: 'a' });
  s.createReadStream(made(folder, LONG)).pipe(writer);
  await eventsOf(writer);
  return contents(to) === `before ${LONG.toString('latin1')}`;
});
row(
  '/dev/null',
  async (s) => [
    await bytesIn(s.createReadStream('/dev/null')),
    await written(s.createWriteStream('/dev/null'), 'x', Buffer.alloc(100_000)),
  ],
  LINUX,
);
row(
  '/dev/null with flags r+ and a',
  async (s) => [
    await written(s.createWriteStream('/dev/null', { flags: 'r+' }), 'x'),
    await written(s.createWriteStream('/dev/null', { flags: 'a' }), 'x'),
  ],
  LINUX,
);
row('some bytes of /dev/zero', (s) => bytesIn(s.createReadStream('/dev/zero', { end: 9 })), LINUX);
row(
  '/dev/full',
  async (s) => {
    const error = (await written(s.createWriteStream('/dev/full'), 'x')) as NodeJS.ErrnoException;
    return [error.code, error.errno, error.syscall];
  },
  LINUX,
);
row(
  'a file of /proc',
  async (s) => ((await bytesIn(s.createReadStream('/proc/self/stat'))) as string).length > 50,
  LINUX,
);
