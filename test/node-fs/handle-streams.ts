/** What a program can see of the streams and web streams over a FileHandle of node:fs/promises. */
import fs from 'node:fs';
import { type Behaviour, eventsOf, group, LONG, made } from './behaviour.js';
import { type Any, closed, ended, handleRows, TEXT, tried } from './handle.js';

export const handleStreams: Behaviour[] = [];
const row = handleRows(handleStreams);

async function textOf(stream: Any): Promise<string> {
  return String(Buffer.concat(await stream.toArray()));
}

// --- streams over a handle ---

row('a stream moves where it stands', async (open, path) => {
  const handle = await open(path, 'r+');
  await handle.read(Buffer.alloc(4), 0, 4, null);
  const reader = handle.createReadStream({ autoClose: false, end: 4 });
  const text = await textOf(reader);
  const next = await handle.read(Buffer.alloc(6), 0, 6, null);
  const writer = handle.createWriteStream({ autoClose: false });
  await ended(writer, '-FOX-');
  await handle.write('JUMPS');
  return [text, String(next.buffer), fs.readFileSync(path, 'latin1'), await closed(handle, reader, writer)];
});
row('a stream with a start does not', async (open, path) => {
  const handle = await open(path, 'r+');
  const reader = handle.createReadStream({ autoClose: false, start: 10, end: 14 });
  const text = await textOf(reader);
  const writer = handle.createWriteStream({ autoClose: false, start: 4 });
  await ended(writer, 'QUICK');
  const { buffer } = await handle.read(Buffer.alloc(5), 0, 5, null);
  return [text, String(buffer), await closed(handle, reader, writer)];
});
row('closing a handle destroys its streams', async (open, path) => {
  const handle = await open(path, 'r+');
  const streams = [
    handle.createReadStream(),
    handle.createReadStream({ autoClose: false }),
    handle.createWriteStream(),
  ];
  for (const stream of streams) stream.on('error', () => {});
  await handle.close();
  return streams.map((stream) => stream.destroyed);
});
row('path, fd, pending and events of a stream over a handle', async (open, path) => {
  const seen = [];
  for (const kind of ['createReadStream', 'createWriteStream']) {
    const handle = await open(path, 'r+');
    const stream = handle[kind]();
    seen.push(stream.path ?? 'none', stream.fd === handle.fd, stream.pending);
    if (kind === 'createReadStream') stream.resume();
    else stream.end();
    seen.push(await eventsOf(stream), stream.fd, handle.fd);
  }
  return seen;
});

row('close() under a stream that reads', async (open, path) => {
  fs.writeFileSync(path, Buffer.alloc(4 * 1024 * 1024, 1));
  const handle = await open(path);
  const stream = handle.createReadStream({ highWaterMark: 4096 });
  const seen: unknown[] = [];
  for (const event of ['error', 'end', 'close']) stream.on(event, () => seen.push(event));
  await new Promise((resolve) => stream.once('data', resolve));
  await handle.close();
  while (!stream.closed) await new Promise(setImmediate);
  return [seen, handle.fd];
});
row('close() under a stream that writes', async (open, path) => {
  const seen: unknown[] = [];
  for (const autoClose of [true, false]) {
    const handle = await open(path, 'w');
    const stream = handle.createWriteStream({ autoClose });
    for (const event of ['error', 'finish', 'close']) stream.on(event, () => seen.push(event));
    stream.write(Buffer.alloc(300_001, 1));
    await handle.close();
    while (!stream.closed) await new Promise(setImmediate);
    seen.push(handle.fd, stream.bytesWritten, fs.statSync(path).size);
  }
  return seen;
});

// --- web streams ---

const web = group(handleStreams, 'web streams of handles');
const LATER = { since: 22 } as const;

web(
  'all bytes, from where it stands; the handle stays open',
  async (s, folder) => {
    await using handle = await s.open(made(folder, LONG));
    await handle.read(Buffer.alloc(7), 0, 7, null);
    const chunks = [];
    for await (const chunk of handle.readableWebStream()) chunks.push(Buffer.from(chunk));
    return [Buffer.concat(chunks).equals(LONG.subarray(7)), handle.fd >= 0];
  },
  LATER,
);
web(
  'a reader’s own buffers',
  async (s, folder) => {
    await using handle = await s.open(made(folder, TEXT));
    const reader = handle.readableWebStream({ type: 'bytes' }).getReader({ mode: 'byob' });
    const seen = [];
    for (const view of [
      new Uint8Array(4),
      new Uint16Array(3),
      new DataView(new ArrayBuffer(9), 2, 5),
      new Uint8Array(100),
    ]) {
      const { value, done } = await reader.read(view);
      seen.push([
        value.constructor.name,
        value.byteOffset,
        Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString(),
        done,
      ]);
    }
    const { done, value } = await reader.read(new Uint8Array(8));
    return [...seen, done, value.byteLength];
  },
  // Before, a buffer that begins in the middle of its memory ends the process.
  { since: 26 },
);
web(
  'calls between reads move on together',
  async (s, folder) => {
    await using handle = await s.open(made(folder, TEXT));
    const reader = handle.readableWebStream({ type: 'bytes' }).getReader({ mode: 'byob' });
    const first = await reader.read(new Uint8Array(4));
    const between = await handle.read(Buffer.alloc(6), 0, 6, null);
    const second = await reader.read(new Uint8Array(5));
    await reader.cancel();
    return [
      Buffer.from(first.value).toString(),
      String(between.buffer),
      Buffer.from(second.value).toString(),
    ];
  },
  LATER,
);
web(
  'a second one',
  async (s, folder) => {
    await using handle = await s.open(made(folder));
    await handle.readableWebStream().cancel();
    return tried(() => handle.readableWebStream().locked);
  },
  LATER,
);
web(
  'of an empty file',
  async (s, folder) => {
    await using handle = await s.open(made(folder, ''));
    return (await handle.readableWebStream().getReader().read()).done;
  },
  LATER,
);
for (const [how, use] of [
  [
    'ends',
    async (stream: Any) => {
      for await (const _ of stream);
    },
  ],
  ['is cancelled', (stream: Any) => stream.cancel()],
  [
    'is left',
    async (stream: Any) => {
      for await (const _ of stream) break;
    },
  ],
] as const) {
  web(
    `autoClose, when it ${how}`,
    async (s, folder) => {
      const handle = await s.open(made(folder, LONG));
      await use(handle.readableWebStream({ autoClose: true }));
      while (handle.fd !== -1) await new Promise(setImmediate);
      return tried(() => handle.stat());
    },
    { since: 24 },
  );
}
web(
  'wrong arguments',
  async (s, folder) => {
    const seen = [];
    for (const options of [5, 'x', { autoClose: 'x' }]) {
      await using handle = await s.open(made(folder));
      seen.push(await tried(() => handle.readableWebStream(options).locked));
    }
    return seen;
  },
  { since: 24 },
);
web(
  'closing the handle before the end',
  async (s, folder) => {
    const handle = await s.open(made(folder, LONG));
    const reader = handle.readableWebStream({ type: 'bytes' }).getReader({ mode: 'byob' });
    await reader.read(new Uint8Array(100));
    await handle.close();
    return tried(async () => ((await reader.read(new Uint8Array(100))).done ? 'ended' : 'more'));
  },
  {
    ...LATER,
    differs: {
      theirs: 'ended',
      ours: { code: 'EBADF', syscall: 'read' },
      why: 'a stream that only ended would look like the whole file',
    },
  },
);
