/** `system.open()` beside a model, on a drive and a file at any offset; node-fs.test.ts has it beside node:fs. */
import fs from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EIO } from '../../lib/base/errno.js';
import { errnoError } from '../../lib/base/errors.js';
import { openSystem, type P2pFileHandle } from '../../lib/index.js';
import { BlockFile } from '../../lib/streams/handle-file.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { fc } from '../helpers/random.js';

t.setTimeout(300_000);

const native = await openSystem().catch(() => null);
await native?.close();

/** The same reads and writes, some of them at once where they do not touch, on a handle and on a Buffer. */
async function likeAModel(t: Test, handle: P2pFileHandle, size: number): Promise<void> {
  const model = Buffer.alloc(size);
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          at: fc.integer({ min: 0, max: size - 1 }),
          length: fc.oneof(fc.integer({ min: 0, max: 700 }), fc.integer({ min: 0, max: 20_000 })),
          within: fc.integer({ min: 0, max: 9 }),
          seed: fc.integer({ min: 1, max: 1000 }),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      async (ops) => {
        // Neighbours in one block, written at once: none may lose what another wrote.
        const parts = ops.map(({ at, length, within, seed }) => ({
          at,
          bytes: bytesOf(Math.min(length, size - at) + within, seed).subarray(within),
        }));
        const apart = parts.filter((one, i) =>
          parts
            .slice(0, i)
            .every((o) => one.at + one.bytes.length <= o.at || o.at + o.bytes.length <= one.at),
        );
        await Promise.all(apart.map(({ at, bytes }) => handle.write(bytes, 0, bytes.length, at)));
        for (const { at, bytes } of apart) model.set(bytes, at);
        for (const { at, length: asked } of ops) {
          const length = Math.min(asked, size - at);
          const buffer = Buffer.alloc(length + 1, 0xee);
          const { bytesRead } = await handle.read(buffer, 1, length, at);
          const wanted = model.subarray(at, at + length);
          t.ok(
            bytesRead === wanted.length && buffer.subarray(1, 1 + bytesRead).equals(wanted),
            `${length} at ${at}`,
          );
        }
      },
    ),
    { numRuns: 40 },
  );
}

t.test('a drive, at any offset', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const target = await system.target('nvme0n1');
  const { size } = target;
  await target.close();
  const handle = await system.open('nvme0n1', 'r+');
  await likeAModel(t, handle, 256 * 1024);
  t.equal((await handle.read(Buffer.alloc(10), 0, 10, size - 3)).bytesRead, 3, 'the end of the drive');
  await t.rejects(handle.write('four', size - 3), { code: 'ENOSPC', syscall: 'write' });
  await t.rejects(handle.stat(), { code: 'EOPNOTSUPP', syscall: 'fstat' });
  t.equal(handle.fd, -1);
  t.same(await system.close(), NOTHING_LEFT, 'closing the system closes the handle');
});

t.test('a file, at any offset', { skip: native === null && 'no native backend' }, async (t) => {
  const path = join(t.testdir({}), 'file');
  fs.writeFileSync(path, Buffer.alloc(256 * 1024));
  const system = await openSystem();
  await likeAModel(t, await system.open(path, 'r+'), 256 * 1024);
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('what a close(2) that fails says', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { close } = BlockFile.prototype;
  t.teardown(() => {
    BlockFile.prototype.close = close;
  });
  BlockFile.prototype.close = async function () {
    await close.call(this);
    throw errnoError(-EIO, 'close', this.target.path);
  };
  const handle = await system.open('nvme0n1', 'r+');
  await t.rejects(handle.createReadStream({ end: 9 }).toArray(), { code: 'EIO', syscall: 'close' });
  await t.rejects(handle.close(), { code: 'EIO' });
  const open = await system.open('nvme0n1', 'r+');
  await t.rejects(system.close(), { code: 'EIO' }, 'told by who closes it');
  t.equal(open.fd, -1);
});

t.test('a stream that ended and stays open', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const handle = await system.open('nvme0n1', 'r+');
  const reader = handle.createReadStream({ end: 9, autoClose: false });
  await reader.toArray();
  const writer = handle.createWriteStream({ autoClose: false });
  await new Promise<void>((resolve) => writer.end('x', () => resolve()));
  t.equal((await handle.read(Buffer.alloc(1), 0, 1, 0)).bytesRead, 1);
  await handle.close();
  t.same([reader.destroyed, writer.destroyed], [true, true], 'does not keep close() waiting');
  await t.rejects(handle.createReadStream().toArray(), { code: 'EBADF', syscall: 'open' });
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('the descriptor of an emulated drive is not there: what needs one is refused', async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  await using handle = await system.open('nvme0n1', 'r+');
  await t.rejects(handle.chmod(0o600), { code: 'EOPNOTSUPP', syscall: 'fchmod' });
  await t.rejects(handle.chown(0, 0), { code: 'EOPNOTSUPP', syscall: 'fchown' });
  await t.rejects(handle.utimes(1, 1), { code: 'EOPNOTSUPP', syscall: 'futimes' });
  await t.rejects(handle.truncate(512), { code: 'EINVAL', syscall: 'ftruncate' });
});

t.test('a drive cannot be appended to', async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  await t.rejects(system.open('nvme0n1', 'a'), { code: 'EINVAL', syscall: 'open', path: 'nvme0n1' });
});

t.test('a handle that is closed while its web stream reads: the read rejects', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const handle = await system.open('nvme0n1');
  const reader = handle.readableWebStream().getReader();
  const pending = reader.read();
  const closing = handle.close();
  await t.rejects(pending, { code: 'EBADF', syscall: 'read' });
  await t.rejects(reader.read(), { code: 'EBADF' });
  await t.rejects(reader.closed, { code: 'EBADF' });
  await closing;
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('a web stream that was read to its end stays ended', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const path = join(t.testdir({ file: 'text' }), 'file');
  const handle = await system.open(path);
  const reader = handle.readableWebStream().getReader();
  t.equal(Buffer.from((await reader.read()).value!).toString(), 'text');
  t.same(await reader.read(), { done: true, value: undefined });
  await handle.close();
  t.same(await reader.read(), { done: true, value: undefined });
  t.same(await system.close(), NOTHING_LEFT);
});
