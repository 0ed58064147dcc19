/** What node:fs has to do itself, and what a receipt says of it. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';

const folder = t.testdir({ file: 'the quick brown fox', empty: '' });
const file = join(folder, 'file');
const linux = process.platform === 'linux' ? {} : { skip: 'Linux' };

t.test('the receipt says why node:fs did it', linux, async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);

  const reader = system.createReadStream(fifo);
  const writer = system.createWriteStream(fifo);
  writer.end('through');
  t.equal(String(Buffer.concat(await reader.toArray())), 'through');
  for (const receipt of [reader.receipt, writer.receipt]) {
    t.match(receipt, {
      bytes: 7,
      transport: 'host-memory',
      provider: null,
      reason: 'a pipe (FIFO) has no offsets and no size',
      path: { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 7 },
    });
  }

  const more = system.createWriteStream(file, { flags: 'a' });
  await finished(more.end('es'));
  t.match(more.receipt, { bytes: 2, reason: /^it appends: only the kernel knows/ });

  const fd = fs.openSync(file, 'r');
  const borrowed = system.createReadStream(null, { fd });
  t.equal(String(Buffer.concat(await borrowed.toArray())), 'the quick brown foxes');
  t.match(borrowed.receipt, { bytes: 21, reason: /^the descriptor is somebody else’s/ });

  const ordinary = system.createWriteStream(file, { flags: 'r+' });
  await finished(ordinary.end('THE'));
  t.match(ordinary.receipt.reason, /not a p2pdma stream/, 'a file is not one of these');
});

t.test('nothing falls back where peer-to-peer is required', linux, async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('/dev/zero', { end: 9, requireP2p: true });
  await t.rejects(finished(reader.resume()), { code: 'ERR_P2P_REQUIRED', message: /character device/ });
  const writer = system.createWriteStream(file, { flags: 'a', requireP2p: true });
  await t.rejects(finished(writer.end('x')), { code: 'ERR_P2P_REQUIRED', message: /it appends/ });
  const to = system.createWriteStream('/dev/null');
  const from = system.createReadStream('nvme0n1', { end: 9999, requireP2p: true });
  from.pipe(to);
  await t.rejects(finished(from), { code: 'ERR_P2P_REQUIRED', message: /character device/ });
  to.destroy();
});

t.test('a drive through a pipe, and a pipe to a drive', linux, async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const fifo = join(folder, 'drives');
  execFileSync('mkfifo', [fifo]);
  const bytes = bytesOf(300_000, 5);
  await finished(system.createWriteStream('nvme0n1', { start: 100 }).end(bytes));
  const into = system.createWriteStream('nvme1n1', { start: 7 });
  system.createReadStream(fifo).pipe(into);
  const out = system.createWriteStream(fifo);
  system.createReadStream('nvme0n1', { start: 100, end: 300_099 }).pipe(out);
  await Promise.all([finished(into), finished(out)]);
  const back = Buffer.concat(await system.createReadStream('nvme1n1', { start: 7, end: 300_006 }).toArray());
  t.ok(back.equals(bytes));
  t.match(out.receipt, { transport: 'host-memory', reason: /pipe/ });
});

t.test('a hole that goes into a pipe is written as zeros', linux, async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const fifo = join(folder, 'holes');
  const holes = join(folder, 'with-holes');
  execFileSync('mkfifo', [fifo]);
  fs.writeFileSync(holes, 'x');
  fs.truncateSync(holes, 3_000_000);
  const bytes = new Promise<number>((resolve) => {
    let count = 0;
    fs.createReadStream(fifo)
      .on('data', (chunk) => (count += chunk.length))
      .on('end', () => resolve(count));
  });
  system.createReadStream(holes, { sparse: true }).pipe(system.createWriteStream(fifo));
  t.equal(await bytes, 3_000_000);
});

t.test('what cannot be opened like this', linux, async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const device = system.createWriteStream('nvme0n1', { flags: 'a' });
  await t.rejects(
    finished(device.end('x')),
    { code: 'EINVAL', hint: /start/ },
    'a device has no end to append to',
  );
  const typo = system.createWriteStream('nvme9n9', { flags: 'a' });
  await t.rejects(finished(typo.end('x')), { code: 'ENOENT' }, 'no file is made under a device’s name');
  const appended = system.createWriteStream(file, { flags: 'a' });
  await t.rejects(system.pipeline('nvme0n1', appended, { end: 99, verify: true }), {
    code: 'ERR_INVALID_ARG_VALUE',
    option: 'verify',
  });
  await t.rejects(system.pipeline('nvme0n1', '/dev/null', { end: 99 }), { code: 'EINVAL' }, 'a copy');
});

t.test('what was lent stays open when the system closes', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const fd = fs.openSync(file, 'r');
  const reader = system.createReadStream(null, { fd, autoClose: false });
  await new Promise((resolve) => reader.once('data', resolve));
  t.same(await system.close(), NOTHING_LEFT);
  t.doesNotThrow(() => fs.fstatSync(fd));
  fs.closeSync(fd);
});

t.test('/dev/stdin and /dev/stdout', linux, async (t) => {
  const lib = JSON.stringify(fileURLToPath(new URL('../../lib/index.js', import.meta.url)));
  const program = `
    const { openSystem } = require(${lib});
    openSystem({ machine: 'switch' }).then((system) => {
      system.createReadStream('/dev/stdin').pipe(system.createWriteStream('/dev/stdout'));
    });`;
  // The pipes that Node gives its children are sockets, which cannot be opened by a path.
  const run = spawnSync('sh', ['-c', 'cat | "$0" -e "$1" | cat', process.execPath, program], {
    input: bytesOf(150_000, 9),
  });
  t.equal(String(run.stderr), '');
  t.ok(run.stdout.equals(bytesOf(150_000, 9)));
});
