/** What a program can see of the FileHandle of node:fs/promises: how it reads, writes, opens and closes. */
import fs from 'node:fs';
import type { Behaviour } from './behaviour.js';
import { type Any, handleRows, tried } from './handle.js';

export const handles: Behaviour[] = [];
const row = handleRows(handles);

row('read(buffer, offset, length, position)', async (open, path) => {
  await using handle = await open(path);
  const buffer = Buffer.alloc(10, '.');
  const { bytesRead, buffer: same } = await handle.read(buffer, 2, 5, 4);
  return [bytesRead, same === buffer, String(buffer)];
});
row('read(buffer, options) and read(options)', async (open, path) => {
  await using handle = await open(path);
  const buffer = Buffer.alloc(8, '.');
  await handle.read(buffer, { offset: 1, length: 3, position: 10 });
  const { bytesRead, buffer: other } = await handle.read({ buffer: Buffer.alloc(4), position: 4 });
  return [String(buffer), bytesRead, String(other)];
});
row('read() without arguments', async (open, path) => {
  await using handle = await open(path);
  const { bytesRead, buffer } = await handle.read();
  return [bytesRead, buffer.length, String(buffer.subarray(0, bytesRead))];
});
row('read() where it stands, several at once', async (open, path) => {
  await using handle = await open(path);
  const all = await Promise.all(
    [3, 4, 5].map((length) => handle.read(Buffer.alloc(length), 0, length, null)),
  );
  // node:fs does not say which of them reads first.
  const letters = all.map(({ buffer }) => String(buffer)).join('');
  return [letters.length, [...letters].toSorted().join('')];
});
row('read() at a position does not move it', async (open, path) => {
  await using handle = await open(path);
  await handle.read(Buffer.alloc(4), 0, 4, 20);
  const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, -1);
  return String(buffer);
});
row(
  'read() with a bigint',
  async (open, path) => {
    await using handle = await open(path);
    return String((await handle.read(Buffer.alloc(5), 0, 5, 4n)).buffer);
  },
  { since: 26 },
);
row('read() beyond the end', async (open, path) => {
  await using handle = await open(path);
  return [
    (await handle.read(Buffer.alloc(5), 0, 5, 1000)).bytesRead,
    (await handle.read(Buffer.alloc(9), 0, 9, 40)).bytesRead,
  ];
});
row('read() into a Uint16Array and a DataView', async (open, path) => {
  await using handle = await open(path);
  const words = new Uint16Array(4);
  const view = new DataView(new ArrayBuffer(6), 1, 4);
  const seen = [(await handle.read(words, 0, 4, 0)).bytesRead, (await handle.read(view, 0, 4, 4)).bytesRead];
  return [seen, Buffer.from(words.buffer).toString('latin1'), Buffer.from(view.buffer).toString('latin1')];
});
row('wrong arguments of read()', async (open, path) => {
  await using handle = await open(path);
  const buffer = Buffer.alloc(10);
  return Promise.all(
    [[buffer, -1], [buffer, 0, 11], [buffer, 11], [buffer, 5, 6], [buffer, '1'], [Buffer.alloc(0)]].map(
      (args) => tried(() => handle.read(...args).then(() => 'read')),
    ),
  );
});
row(
  'wrong positions of read()',
  async (open, path) => {
    await using handle = await open(path);
    const buffer = Buffer.alloc(10);
    const positions = [-2, 'x', 0.5, {}];
    return Promise.all(positions.map((p) => tried(() => handle.read(buffer, 0, 1, p).then(() => 'read'))));
  },
  { since: 26 },
);
row('readv()', async (open, path) => {
  await using handle = await open(path);
  const buffers = [Buffer.alloc(3), new Uint8Array(6)];
  const { bytesRead, buffers: same } = await handle.readv(buffers, 4);
  const more = await handle.readv([Buffer.alloc(100)]);
  return [bytesRead, same === buffers, buffers.map(String), more.bytesRead];
});
row('write(buffer, …)', async (open, path) => {
  await using handle = await open(path, 'r+');
  const seen = [
    await handle.write(Buffer.from('QUICK'), 0, 5, 4),
    await handle.write(Buffer.from('xxTHExx'), 2, 3),
  ];
  await handle.write(Buffer.from('END'), { position: 50 });
  return [seen.map(({ bytesWritten }) => bytesWritten), fs.readFileSync(path, 'latin1')];
});
row('write(text, position, encoding)', async (open, path) => {
  await using handle = await open(path, 'r+');
  const { bytesWritten, buffer } = await handle.write('é', 4, 'latin1');
  const second = await handle.write('€');
  return [bytesWritten, buffer, second.bytesWritten, fs.readFileSync(path, 'latin1')];
});
row('writev()', async (open, path) => {
  await using handle = await open(path, 'r+');
  const { bytesWritten } = await handle.writev([Buffer.from('ab'), new Uint8Array([99, 100])], 10);
  return [bytesWritten, fs.readFileSync(path, 'latin1')];
});
row('readFile(), from where it stands', async (open, path) => {
  await using handle = await open(path);
  await handle.read(Buffer.alloc(4), 0, 4, null);
  return [
    String(await handle.readFile()),
    await handle.readFile('utf8'),
    await handle.readFile({ encoding: 'hex' }),
  ];
});
row('writeFile() and appendFile(), from where it stands', async (open, path) => {
  await using handle = await open(path, 'w+');
  await handle.writeFile('one ');
  await handle.appendFile(Buffer.from('two '));
  await handle.writeFile(['th', 'ree']);
  return fs.readFileSync(path, 'latin1');
});
row('stat(), truncate()', async (open, path) => {
  await using handle = await open(path, 'r+');
  const before = (await handle.stat()).size;
  await handle.truncate(7);
  const { size } = await handle.stat();
  await handle.truncate();
  return [before, size, (await handle.stat()).size, (await handle.stat()).isFile()];
});
row('sync(), datasync()', async (open, path) => {
  await using handle = await open(path, 'r+');
  return [await handle.sync(), await handle.datasync()];
});
row('createReadStream()', async (open, path) => {
  const handle = await open(path);
  const stream = handle.createReadStream({ start: 4, end: 8 });
  const text = String(Buffer.concat(await stream.toArray()));
  while (handle.fd !== -1) await new Promise(setImmediate);
  return text;
});
row('createReadStream() from where it stands, autoClose: false', async (open, path) => {
  await using handle = await open(path);
  await handle.read(Buffer.alloc(4), 0, 4, null);
  const text = String(Buffer.concat(await handle.createReadStream({ autoClose: false }).toArray()));
  return [text, handle.fd >= 0];
});
row('createWriteStream()', async (open, path) => {
  const handle = await open(path, 'r+');
  await new Promise((resolve) => handle.createWriteStream({ start: 4 }).end('QUICK', resolve));
  return fs.readFileSync(path, 'latin1');
});
row('readLines()', async (open, path) => {
  fs.writeFileSync(path, 'a\nb\r\nc');
  const handle = await open(path);
  const lines = [];
  for await (const line of handle.readLines()) lines.push(line);
  return lines;
});
row('fd, close(), and what is closed', async (open, path) => {
  const handle = await open(path);
  const seen = [typeof handle.fd, fs.fstatSync(handle.fd).size];
  await handle.close();
  return [
    ...seen,
    handle.fd,
    await tried(() => handle.read(Buffer.alloc(1))),
    await tried(() => handle.close()),
  ];
});
row('writing what is open for reading', async (open, path) => {
  await using handle = await open(path);
  return tried(() => handle.write('x'));
});
for (const flags of ['w', 'wx', fs.constants.O_WRONLY]) {
  row(`reading what is open for writing only, flags ${flags}`, async (open, path) => {
    if (flags === 'wx') fs.rmSync(path);
    await using handle = await open(path, flags);
    await handle.write('hello', 0);
    return [
      await tried(() => handle.read(Buffer.alloc(3), 0, 3, 0)),
      await tried(() => handle.read(Buffer.alloc(3), 0, 3, null)),
      await tried(() => handle.readv([Buffer.alloc(4)], 0)),
      await tried(() => handle.readFile()),
      await tried(() => handle.readFile('utf8')),
      (await handle.read(Buffer.alloc(3), 0, 0, 0)).bytesRead,
      await new Promise((resolve) => {
        handle.createReadStream({ start: 0, autoClose: false }).on('error', resolve).resume();
      }).then(({ code, syscall }: Any) => ({ code, syscall })),
      fs.readFileSync(path, 'latin1'),
    ];
  });
}
row('write() of half a byte, and of text of no bytes', async (open, path) => {
  await using handle = await open(path, 'r+');
  await using reading = await open(path, 'r');
  return [
    await tried(() => handle.write('616', null, 'hex')),
    await tried(() => handle.write('6', 0, 'HEX')),
    (await handle.write('6263', 0, 'hex')).bytesWritten,
    (await handle.write('')).bytesWritten,
    await tried(() => reading.write('')),
    await tried(() => reading.write('', 0, 'hex')),
    (await reading.write(Buffer.alloc(0))).bytesWritten,
    fs.readFileSync(path, 'latin1'),
  ];
});
row('flags and mode', async (open, path) => {
  await using handle = await open(`${path}-new`, 'wx', 0o640);
  await handle.write('x');
  return [
    (fs.statSync(`${path}-new`).mode & 0o777).toString(8),
    await tried(() => open(`${path}-new`, 'wx')),
  ];
});
row('what is not there', async (open, path) => [
  await tried(() => open(`${path}-none`)),
  await tried(() => open(`${path}-none`, 'r+')),
  await tried(() => open(`${path}/below`)),
]);
