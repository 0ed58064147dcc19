/** What a program can see of fs.ReadStream and fs.WriteStream alike. */
import type { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { open as openHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import {
  type Behaviour,
  bytesIn,
  contents,
  eventsOf,
  group,
  isOpen,
  made,
  outcome,
  type Streams,
  seenOf,
  written,
} from './behaviour.js';

export const both: Behaviour[] = [];
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
  const row = group(both, role);
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
  const disposed = async (stream: Readable | Writable) => {
    const events: unknown[] = [];
    for (const name of ['end', 'finish', 'close']) stream.on(name, () => events.push(name));
    stream.on('error', (error: NodeJS.ErrnoException) => events.push(`${error.name} ${error.code}`));
    const result = await outcome(() => (stream as unknown as AsyncDisposable)[Symbol.asyncDispose]());
    const { name, code } = (stream.errored ?? {}) as NodeJS.ErrnoException;
    return [result, events, stream.destroyed, name, code];
  };
  row('Symbol.asyncDispose before it is open', async (s, folder) => disposed(make(s, made(folder))));
  row('Symbol.asyncDispose when it is open', async (s, folder) => {
    const stream = make(s, made(folder));
    await new Promise((resolve) => stream.once('ready', resolve));
    return disposed(stream);
  });
  row('Symbol.asyncDispose at its end', async (s, folder) => {
    const stream = make(s, made(folder));
    await new Promise((resolve) => over(stream).once('close', resolve));
    return disposed(stream);
  });
  row('Symbol.asyncDispose of one that failed', async (s, folder) => {
    const stream = make(s, made(folder));
    stream.destroy(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
    return disposed(stream);
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
    row(`what ${JSON.stringify(options, (_, v) => (Number.isNaN(v) ? 'NaN' : v))} throws`, (s, folder) => {
      const path = made(folder);
      return outcome(() => {
        const stream = make(s, path, options as object);
        stream.on('error', () => {});
        stream.destroy();
        return 'nothing';
      });
    });
  }
  for (const path of [undefined, null, 5, true, {}, [], 'a\0b', new URL('http://a/b')]) {
    row(
      `what the path ${path instanceof URL ? path.href : (JSON.stringify(path) ?? 'undefined')} throws`,
      (s) =>
        outcome(() => {
          make(s, path).on('error', () => {});
          return 'nothing';
        }),
    );
  }
  row("flags and modes that do not exist: 'error'", async (s, folder) => {
    const path = made(folder);
    const seen: unknown[] = [];
    for (const options of [
      ...['q', '', 'constructor', {}, true, 1.5, 2 ** 33].map((flags) => ({ flags })),
      ...['9z', '', {}, true, -1, 1.5, 2 ** 33].map((mode) => ({ mode })),
    ]) {
      const error = await outcome(
        () => new Promise((resolve) => make(s, path, options).once('error', resolve)),
      );
      const { name, code } = error as NodeJS.ErrnoException;
      seen.push([name, code]);
    }
    return [seen, contents(path)];
  });
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
