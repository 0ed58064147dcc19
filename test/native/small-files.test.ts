/** A small file costs no change of threads, and a large one does not hold up the JavaScript thread. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';
import type { OpenOptions } from '../../lib/backend/backend.js';
import { loadAddon, nativeCounters } from '../../lib/native/addon.js';
import { openNative } from '../../lib/native/backend.js';
import { STAT_WORDS, statIn } from '../../lib/native/file-stat.js';
import type { NativeTarget } from '../../lib/native/target.js';
import { openSystem } from '../../lib/system.js';
import { child, skipNative, transfer } from '../helpers/native.js';

const script = `
  const backend = await openNative();
  const [path, bytes] = argv;
  const size = Number(bytes);
  const target = await backend.openTarget(path, { write: true });
  const view = backend.memory.allocBuffer(size).fill(9);
  await target.truncate(0);
  const wrote = (await io(target, 'write', 0, view)).result;
  view.fill(0);
  const got = (await io(target, 'read', 0, view)).result;
  const same = view.every((byte) => byte === 9);
  await target.close();
  await target.close();
  const { threads, fds } = nativeCounters();
  await backend.close();
  console.log(JSON.stringify({ wrote, got, same, threads, fds, watched: nativeCounters().watched }));
`;

t.test('truncated, written, read and closed', { skip: skipNative }, async (t) => {
  const folder = t.testdir({});
  for (const [size, threads] of [
    [64 * 1024, false],
    [1024 * 1024, true],
  ] as const) {
    const path = join(folder, `${size}`);
    writeFileSync(path, Buffer.alloc(size, 1));
    const { stdout, stderr } = child(script, [path, `${size}`]);
    t.equal(stderr, '');
    const { threads: used, ...facts } = JSON.parse(stdout);
    t.same(facts, { wrote: size, got: size, same: true, fds: 0, watched: 0 });
    t.equal(used > 0, threads, `${size} bytes: ${used} threads`);
    t.equal(statSync(path).size, size);
    t.ok(readFileSync(path).every((byte) => byte === 9));
  }
});

const inMemory = `
  const backend = await openNative({ engine: argv[1] });
  const target = await backend.openTarget(argv[0], { write: true });
  const view = backend.memory.allocBuffer(4096).fill(9);
  const before = nativeCounters();
  await io(target, 'write', 0, view);
  await io(target, 'read', 0, view);
  // Nothing else wakes the event loop here.
  for (let i = 0; i < 300; i++) await io(target, 'read', 0, view);
  const { enters, threads } = nativeCounters();
  let timers = 0;
  const timer = setInterval(() => timers++, 1);
  let reads = 0;
  // Each is asked for in the answer to the one before, until a timer had its turn.
  await new Promise((over) => {
    const next = () => io(target, 'read', 0, view).then(() => (++reads < 1000 || timers === 0 ? next() : over()));
    next();
  });
  clearInterval(timer);
  await target.close();
  await backend.close();
  console.log(JSON.stringify({ enters: enters - before.enters, threads, goesOn: reads >= 1000, timed: timers > 0 }));
`;

t.test('the beginning of a file in memory is moved at once', { skip: skipNative }, async (t) => {
  const folder = mkdtempSync('/dev/shm/p2pdma-');
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'file');
  writeFileSync(path, Buffer.alloc(4096, 1));
  for (const engine of ['auto', 'threads']) {
    const { stdout, stderr } = child(inMemory, [path, engine]);
    t.equal(stderr, '', engine);
    const facts = { enters: 0, threads: 0, goesOn: true, timed: true };
    t.same(JSON.parse(stdout), facts, `${engine}: neither the ring nor a thread, and timers have their turn`);
  }
});

t.test('what a stream moves of a small file goes through the page cache', { skip: skipNative }, async (t) => {
  const folder = t.testdir({});
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  for (const bytes of [64 * 1024, 65_000]) {
    const data = Buffer.alloc(bytes, bytes % 251);
    writeFileSync(join(folder, 'from'), data);
    writeFileSync(join(folder, 'to'), '');
    const from = await system.target(join(folder, 'from'));
    const to = await system.target(join(folder, 'to'), { write: true });
    const { fds } = nativeCounters();
    const writer = from.createReadStream().pipe(to.createWriteStream());
    await finished(writer);
    if (to.blockTarget.cachedUpTo === 0) t.comment('this filesystem does not say whether it does direct I/O');
    else t.equal(nativeCounters().fds, fds, 'no descriptor with O_DIRECT was needed');
    t.match(writer.receipt, { bytes, transport: 'host-memory', path: { hostDram: bytes } });
    t.ok(readFileSync(join(folder, 'to')).equals(data));
    await from.close();
    await to.close();
  }
});

t.test('only a regular file is opened without a look at its path before', { skip: skipNative }, async (t) => {
  const addon = loadAddon();
  const folder = t.testdir({ file: 'content' });
  const at = (name: string) => join(folder, name);
  execFileSync('mkfifo', [at('fifo')]);
  symlinkSync('file', at('link'));
  symlinkSync('nothing', at('dangling'));
  const { fds } = nativeCounters();
  for (const name of ['file', 'link']) {
    const fd = addon.openRegular(at(name), constants.O_RDWR, 0, STAT_WORDS);
    t.ok(fd >= 0, name);
    const { dev, ino } = statSync(at('file'));
    t.match(statIn(), { kind: 'file', size: 7, device: dev, identity: `${dev}:${ino}` });
    t.equal(nativeCounters().fds, fds + 1);
    t.equal(addon.empty(fd), 0);
    t.equal(statSync(at('file')).size, 0);
    t.equal(addon.closeFd(fd), 0);
    writeFileSync(at('file'), 'content');
  }
  const errors = { fifo: -22, '.': -22, nothing: -2, dangling: -2, 'file/below': -20 };
  for (const [name, errno] of Object.entries(errors)) {
    t.equal(addon.openRegular(at(name), constants.O_RDWR, 0, STAT_WORDS), errno, name);
  }
  t.equal(addon.openRegular('/dev/null', constants.O_RDONLY, 0, STAT_WORDS), -22);
  t.ok(addon.empty(-1) < 0, 'a descriptor that is not open');
  t.equal(nativeCounters().fds, fds, 'nothing is left open');
});

t.test('a file that is there: the same facts by either way', { skip: skipNative }, async (t) => {
  const backend = await openNative();
  t.teardown(() => backend.close());
  const memory = mkdtempSync('/dev/shm/p2pdma-');
  t.teardown(() => rmSync(memory, { recursive: true }));
  for (const folder of [t.testdir({}), memory]) {
    const path = join(folder, 'file');
    const factsOf = async (options: OpenOptions) => {
      writeFileSync(path, 'content');
      const target = (await backend.openTarget(path, options)) as NativeTarget;
      const { name, kind, size, limits, ranges, buffered, noP2pReason, unproven, made } = target;
      await target.close();
      return { name, kind, size, limits: { ...limits }, ranges, buffered, noP2pReason, unproven, made };
    };
    for (const options of [{}, { write: true }, { write: true, create: true, truncate: true }]) {
      const looked = await factsOf({ ...options, end: backend.inspect(path) });
      t.match(looked, { kind: 'file', made: false, size: 'truncate' in options ? 0 : 7 });
      t.same(await factsOf(options), looked, `${folder}, ${Object.keys(options)}`);
    }
  }
});

const isRoot = process.getuid?.() === 0;
t.test(
  'somebody else’s file in a folder like /tmp',
  { skip: isRoot ? skipNative : 'needs root' },
  async (t) => {
    const folder = t.testdir({ file: 'content' });
    const path = join(folder, 'file');
    chmodSync(folder, 0o1777);
    chownSync(path, 65534, 65534);
    const outcome = async (open: () => Promise<{ close(): Promise<void> }>) => {
      try {
        await (await open()).close();
        return 'opened';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    };
    const backend = await openNative();
    t.teardown(() => backend.close());
    const protects = readFileSync('/proc/sys/fs/protected_regular', 'utf8').trim();
    for (const [flags, options] of [
      ['w', { write: true, create: true, truncate: true }],
      ['r+', { write: true }],
      ['r', {}],
    ] as const) {
      const expected = await outcome(() => open(path, flags));
      const words = `${flags}, fs.protected_regular ${protects}: ${expected}, as with node:fs`;
      t.equal(await outcome(() => backend.openTarget(path, options)), expected, words);
    }
  },
);

t.test('the size that opening it said holds until it is written', { skip: skipNative }, async (t) => {
  const path = join(t.testdir({ file: 'content' }), 'file');
  const backend = await openNative();
  t.teardown(() => backend.close());
  const target = await backend.openTarget(path, { write: true });
  appendFileSync(path, 'more');
  t.equal(target.sizeThisTurn, 7, 'in this turn');
  t.equal(target.size, 11);
  const view = backend.memory.allocBuffer(4096);
  const wrote = transfer(target, 'write', 0, view);
  t.equal(target.sizeThisTurn, 11, 'asked anew, because it is being written');
  t.equal((await wrote).result, 4096);
  t.equal(target.sizeThisTurn, 4096);
  await target.close();
  const other = await backend.openTarget(path, {});
  await nextTurn();
  appendFileSync(path, 'more');
  t.equal(other.sizeThisTurn, 4100, 'and in another turn');
  await other.close();
});

t.test('a descriptor is handed out as node:fs opens files', { skip: skipNative }, async (t) => {
  const path = join(t.testdir({ file: 'content' }), 'file');
  const real = await open(path, 'r');
  const system = await openSystem({ backend: 'native' });
  t.teardown(() => system.close());
  const handle = await system.open(path, 'r');
  t.equal(flagsOf(handle.fd), flagsOf(real.fd));
  const stream = system.createReadStream(path);
  const fd = await new Promise<number>((resolve) => stream.once('open', resolve));
  t.equal(flagsOf(fd), flagsOf(real.fd));
  stream.destroy();
  await handle.close();
  await real.close();
});

t.test(
  'a target that is closed leaves the next file with its number alone',
  { skip: skipNative },
  async (t) => {
    const folder = mkdtempSync('/dev/shm/p2pdma-');
    t.teardown(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'file');
    writeFileSync(path, 'content');
    const backend = await openNative();
    t.teardown(() => backend.close());
    const target = (await backend.openTarget(path, {})) as NativeTarget;
    await target.close();
    const other = openSync(path, 'a');
    t.teardown(() => closeSync(other));
    const before = flagsOf(other);
    t.equal(target.fd, other, 'it has the number');
    t.equal(flagsOf(other), before);
  },
);

/** The flags of an open file, in octal. */
function flagsOf(fd: number): string | undefined {
  return /^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
}
