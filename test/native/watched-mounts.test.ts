/** The mounts are read again when, and only when, the kernel says that they changed. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Addon, loadAddon, nativeCounters } from '../../lib/native/addon.js';
import { parseMountinfo } from '../../lib/native/sysfs/mountinfo.js';
import { WatchedMounts } from '../../lib/native/watched-mounts.js';
import { addonUrl, nativeBackendUrl as backendUrl, skipNative } from '../helpers/native.js';

const line = (type: string, options = 'rw') => `36 35 259:1 / /mnt rw - ${type} /dev/nvme0n1p1 ${options}\n`;

t.test('by what the kernel answers', async (t) => {
  let text = line('ext4');
  let changed = false;
  let reads = 0;
  const addon = {
    openWatched: () => 7,
    closeWatched: () => 0,
    hasChanged: () => changed,
    readAt: (_fd: number, into: Uint8Array, offset: number) => {
      if (offset === 0) reads++;
      return Buffer.from(text).copy(into, 0, offset);
    },
  } as unknown as Addon;
  const watched = new WatchedMounts(addon);
  const [first] = watched.mounts()!;
  t.match(first, { type: 'ext4', mountPoint: '/mnt' });
  t.equal(watched.mounts()![0], first, 'the same object while nothing changed');
  t.equal(reads, 1);
  text = line('xfs');
  changed = true;
  t.match(watched.mounts(), [{ type: 'xfs' }]);
  changed = false;
  t.match(watched.mounts(), [{ type: 'xfs' }]);
  t.equal(reads, 2);

  text = line('btrfs', 'rw,compress=zstd');
  changed = true;
  watched.mounts();
  changed = false;
  text = line('btrfs', 'rw,nodatasum');
  t.match(watched.mounts(), [{ superOptions: ['rw', 'nodatasum'] }], 'its options change unannounced');

  text = line('f2fs');
  changed = true;
  watched.mounts();
  t.match(watched.mountsThisTurn(), [{ type: 'f2fs' }]);
  text = line('ext4');
  t.match(watched.mountsThisTurn(), [{ type: 'f2fs' }], 'the kernel is asked once in a turn');
  t.match(watched.mounts(), [{ type: 'ext4' }]);
  t.match(watched.mountsThisTurn(), [{ type: 'ext4' }]);
  text = line('xfs');
  await nextTurn();
  t.match(watched.mountsThisTurn(), [{ type: 'xfs' }], 'and again in the next one');

  watched.close();
  t.equal(watched.mounts(), null, 'after that the tree is read');
  t.equal(watched.mountsThisTurn(), null);
  const none = new WatchedMounts({ ...addon, openWatched: () => -13 });
  t.equal(none.mounts(), null, 'and where it cannot be opened');
  const unread = new WatchedMounts({ ...addon, readAt: () => -5 });
  t.equal(unread.mounts(), null, 'and where it cannot be read');
});

t.test('of this process', { skip: skipNative }, async (t) => {
  const watched = new WatchedMounts(loadAddon());
  t.equal(nativeCounters().watched, 1);
  t.same(watched.mounts(), parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')));
  watched.close();
  watched.close();
  t.equal(nativeCounters().watched, 0);
});

/** What a script prints that runs where its mounts are its own. */
function withOwnMounts(t: Test, script: string): boolean[] {
  const { stdout, stderr } = spawnSync(
    'unshare',
    ['-m', '--propagation', 'private', process.execPath, '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
  t.equal(stderr, '');
  return JSON.parse(stdout);
}

const mayMount = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
const skip = skipNative || (mayMount ? false : 'mounting in a namespace of its own is not permitted here');

t.test('a mount, other options, a move and an unmount are each announced', { skip }, async (t) => {
  const folder = t.testdir({ a: {}, b: {} });
  const script = `
    import { spawnSync } from 'node:child_process';
    const { loadAddon } = await import(${JSON.stringify(addonUrl)});
    const addon = loadAddon();
    const fd = addon.openWatched('/proc/self/mountinfo');
    const told = [addon.hasChanged(fd)];
    for (const [command, ...args] of ${JSON.stringify([
      ['mount', '-t', 'tmpfs', 'none', `${folder}/a`],
      ['mount', '-o', 'remount,ro', `${folder}/a`],
      ['mount', '-o', 'remount,bind,noexec', `${folder}/a`],
      ['mount', '--move', `${folder}/a`, `${folder}/b`],
      ['umount', `${folder}/b`],
    ])}) {
      if (spawnSync(command, args).status !== 0) told.push(command);
      told.push(addon.hasChanged(fd), addon.hasChanged(fd));
    }
    console.log(JSON.stringify(told));
  `;
  t.same(withOwnMounts(t, script), [false, ...Array.from({ length: 5 }, () => [true, false]).flat()]);
});

t.test('what was mounted in the same turn is seen for what it is', { skip }, async (t) => {
  const folder = t.testdir({ a: { file: 'below' }, file: 'beside' });
  const script = `
    import { spawnSync } from 'node:child_process';
    import { writeFileSync } from 'node:fs';
    const { openNative } = await import(${JSON.stringify(backendUrl)});
    const backend = await openNative();
    const kinds = [];
    const look = async (path) => {
      const target = await backend.openTarget(path, {});
      kinds.push(/on tmpfs/.test(target.buffered));
      await target.close();
    };
    await look('${folder}/file');
    await look('${folder}/a/file');
    spawnSync('mount', ['-t', 'tmpfs', 'none', '${folder}/a']);
    writeFileSync('${folder}/a/file', 'above');
    await look('${folder}/file');
    await look('${folder}/a/file');
    spawnSync('umount', ['${folder}/a']);
    await look('${folder}/a/file');
    await backend.close();
    console.log(JSON.stringify(kinds));
  `;
  const kinds = withOwnMounts(t, script);
  const [beside] = kinds;
  t.same(kinds, [beside, beside, beside, true, beside]);
});
