/** Which files are transferred directly, and what a reader is told of those that are not. */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { zeroPath } from '../../lib/backend/path-bytes.js';
import { EACCES, EINVAL } from '../../lib/base/errno.js';
import { createWriteStream, openSystem, pipeline } from '../../lib/index.js';
import { type Addon, loadAddon } from '../../lib/native/addon.js';
import { openNative } from '../../lib/native/backend.js';
import { whyNotDirect } from '../../lib/native/direct-io.js';
import type { FileStat } from '../../lib/native/file-stat.js';
import type { NativeTarget } from '../../lib/native/target.js';
import { transfer } from '../../lib/streams/transfer.js';
import { skipNative } from '../helpers/native.js';

const stat: FileStat = {
  kind: 'file',
  size: 8192,
  device: 42,
  identity: '42:7',
  dioMemAlign: -1,
  dioOffsetAlign: -1,
};

t.test('what is asked before a file is read and written directly', async (t) => {
  const folder = t.testdir({ file: 'x'.repeat(8192) });
  /** `again`: what opening it anew with O_DIRECT answers. */
  const asked = (again: number | 'a file' | 'a folder', of: Partial<FileStat>, type: string | null) => {
    const addon = {
      openFile: () =>
        typeof again === 'number' ? again : openSync(again === 'a file' ? join(folder, 'file') : folder, 'r'),
      closeFd: (fd: number) => closeSync(fd),
      readAt: (fd: number, into: Uint8Array, offset: number) => {
        try {
          return readSync(fd, into, 0, into.length, offset);
        } catch (error) {
          return (error as NodeJS.ErrnoException).errno!;
        }
      },
      addressOf: () => 4096 + 16,
    } as unknown as Addon;
    return whyNotDirect(addon, -1, '/x', { ...stat, ...of }, type);
  };
  const said = { dioMemAlign: 4, dioOffsetAlign: 512 };
  t.equal(asked(-EINVAL, said, 'ext4'), null, 'statx is believed, nothing is tried');
  t.match(
    asked(-EINVAL, said, 'overlay'),
    /^overlay does not support O_DIRECT/,
    'of a stacked one it is tried all the same',
  );
  t.match(asked(-EINVAL, {}, 'squashfs'), /^squashfs does not support O_DIRECT/);
  t.equal(asked('a file', {}, 'overlay'), null);
  t.equal(asked('a folder', {}, 'overlay'), null, 'an error other than EINVAL is no word on O_DIRECT');
  t.equal(asked(-EACCES, {}, 'ext4'), null, 'not to be read, but known to do it');
  t.match(asked(-EACCES, {}, 'odd'), /could not be tried: it may not be read/);
  t.match(asked('a file', { dioMemAlign: 0 }, 'ext4'), /does no direct I\/O/);
  t.match(asked('a file', {}, 'tmpfs'), /keeps files in memory/);
});

t.test('a small file gets O_DIRECT when it is needed', { skip: skipNative }, async (t) => {
  const bytes = Buffer.alloc(60_000, 'as small files are, ');
  const folder = t.testdir({ small: bytes, large: Buffer.alloc(300_000, 7) });
  const addon = loadAddon();
  const backend = await openNative();
  const before = addon.counters().fds;
  const isDirect = (fd: number | undefined): boolean => {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!;
    return (Number.parseInt(flags, 8) & constants.O_DIRECT) !== 0;
  };
  const large = (await backend.openTarget(join(folder, 'large'), {})) as NativeTarget;
  const small = (await backend.openTarget(join(folder, 'small'), {})) as NativeTarget;
  const knows = small.buffered === null && isDirect(large.fd) && !isDirect(small.fd);
  const read = async (target: NativeTarget, length: number, cacheable: boolean) => {
    const view = backend.memory.allocBuffer(length);
    const path = zeroPath();
    const moved = await transfer(target, { op: 'read', view, offset: 0, expect: 0, cacheable }, path);
    return { data: Buffer.from(view.subarray(0, moved)), path };
  };
  const cached = await read(small, 65_536, true);
  t.ok(cached.data.equals(bytes));
  if (knows) {
    t.equal(cached.path.hostDram, bytes.length, 'through the page cache, not a byte more is moved');
    t.equal(addon.counters().fds, before + 2, 'with the descriptor that is there');
  }
  const direct = await read(small, 65_536, false);
  t.ok(direct.data.equals(bytes));
  if (knows) t.equal(addon.counters().fds, before + 3, 'and one more with O_DIRECT');
  t.ok((await read(large, 4096, true)).data.equals(Buffer.alloc(4096, 7)));
  await small.close();
  await large.close();
  t.equal(addon.counters().fds, before, 'all are closed');
  await backend.close();
});

const mounts = (() => {
  if (skipNative !== false) return skipNative;
  if (process.getuid?.() !== 0) return 'mounting needs root';
  const known = readFileSync('/proc/filesystems', 'utf8');
  for (const type of ['overlay', 'squashfs'])
    if (!known.includes(`\t${type}\n`)) return `no ${type} in this kernel`;
  return spawnSync('mksquashfs', ['-version']).error === undefined ? false : 'no mksquashfs';
})();

t.test('overlayfs over squashfs is read and written through the page cache', { skip: mounts }, async (t) => {
  let folder = '';
  const at = (name: string) => join(folder, name);
  // Before the folder is removed, which is torn down after this.
  t.teardown(() => {
    run('umount', at('ov'));
    run('umount', at('low'));
  });
  folder = t.testdir({ src: {}, low: {}, up: {}, work: {}, ov: {} });
  const run = (command: string, ...args: string[]) => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  };
  const bytes = Buffer.alloc(300_321, 'not a multiple of anything, ');
  writeFileSync(at('src/a'), bytes);
  writeFileSync(at('src/b'), bytes);
  run('mksquashfs', at('src'), at('s.img'), '-quiet', '-noappend', '-no-progress');
  run('mount', '-o', 'loop,ro', at('s.img'), at('low'));
  run(
    'mount',
    '-t',
    'overlay',
    'overlay',
    '-o',
    `lowerdir=${at('low')},upperdir=${at('up')},workdir=${at('work')}`,
    at('ov'),
  );

  const backend = await openNative();
  const target = await backend.openTarget(at('ov/a'), {});
  t.match(target.noP2pReason, /overlay does not support O_DIRECT/);
  await target.close();
  await backend.close();

  await using system = await openSystem({ backend: 'native' });
  const receipt = await pipeline(at('ov/a'), at('out'), { system, verify: true });
  t.match(receipt, {
    bytes: bytes.length,
    verified: true,
    transport: 'host-memory',
    reason: /overlay does not support O_DIRECT/,
  });
  t.same(readFileSync(at('out')), bytes);

  const writer = createWriteStream(at('ov/b'), { flags: 'r+', start: 4096, system });
  await new Promise<void>((resolve, reject) => {
    writer.on('error', reject);
    writer.end(Buffer.alloc(5000, 'new'), () => resolve());
  });
  const expected = Buffer.from(bytes);
  Buffer.alloc(5000, 'new').copy(expected, 4096);
  t.same(readFileSync(at('ov/b')), expected, 'the file is copied up, and the rest of it is as it was');
});
