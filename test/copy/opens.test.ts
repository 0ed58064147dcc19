/** What a copy costs besides its bytes: each end is looked at once and opened once, and little of sysfs is read for it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { openSystem, planCopy, receiptOf, type System } from '../../lib/index.js';
import type { NativeBackend } from '../../lib/native/backend.js';
import type { Sysfs } from '../../lib/native/sysfs/machine.js';
import { bytesOf, NOTHING_LEFT } from '../helpers/copies.js';
import { skipNative } from '../helpers/native.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-opens-'));
const file = (name: string) => join(folder, name);
writeFileSync(file('source'), bytesOf(64 * MIB, 1));
t.teardown(() => rmSync(folder, { recursive: true }));

interface Counts {
  opens: number;
  looks: number;
}

/** How often a system's targets are opened, and looked at, by what is `done` with it. */
async function counted(system: System, done: () => Promise<unknown>): Promise<Counts> {
  const { backend } = system.context;
  const { openTarget, inspect } = backend;
  const counts = { opens: 0, looks: 0 };
  backend.openTarget = (path, options) => {
    counts.opens++;
    return openTarget.call(backend, path, options);
  };
  backend.inspect = (path, options) => {
    counts.looks++;
    return inspect.call(backend, path, options);
  };
  try {
    await done();
  } finally {
    Object.assign(backend, { openTarget, inspect });
  }
  return counts;
}

async function onEach(t: Test, body: (t: Test, system: System) => Promise<void>): Promise<void> {
  for (const options of [{ backend: 'native' }, { machine: 'four-drives' }] as const) {
    const native = 'backend' in options;
    await t.test(native ? 'native' : 'emulator', { skip: native && skipNative }, async (t) => {
      const system = await openSystem(options);
      await body(t, system);
      t.same(await system.close(), NOTHING_LEFT);
    });
  }
}

t.test('a copy opens each end once', (t) =>
  onEach(t, async (t, system) => {
    const options = { end: MIB - 1 };
    const copy = (to: string | string[], more = {}) =>
      counted(system, () => system.pipeline(file('source'), to, { ...options, ...more }));
    t.same(await copy(file('new')), { opens: 2, looks: 2 }, 'to a file that it makes');
    t.same(await copy(file('new')), { opens: 2, looks: 2 }, 'to one that is there');
    t.same(await copy([file('1'), file('2'), file('3')]), { opens: 4, looks: 4 }, 'to three');
    t.same(await copy(file('new'), { verify: true }), { opens: 2, looks: 2 }, 'with verify');
  }),
);

t.test('planned, as the command does, and copied', (t) =>
  onEach(t, async (t, system) => {
    const both = (options: object) =>
      counted(system, async () => {
        await planCopy(file('source'), file('planned'), { ...options, system });
        const receipt = await system.pipeline(file('source'), file('planned'), options);
        t.match(receipt, { bytes: 64 * MIB, ...('verify' in options ? { verified: true } : {}) });
      });
    t.same(await both({ verify: true }), { opens: 4, looks: 4 });
    t.same(await both({ journal: file('journal') }), { opens: 6, looks: 4 }, 'with a journal, 64 MiB');
    t.same(await both({ journal: file('journal'), verify: true }), { opens: 6, looks: 4 });
  }),
);

t.test('a destination that is replaced under a copy with a journal ends it', (t) =>
  onEach(t, async (t, system) => {
    const [to, other, journal] = [file('replaced'), file('other'), file('journal-of-replaced')];
    writeFileSync(other, 'somebody else’s');
    let replaced = false;
    const copy = system.pipeline(file('source'), to, {
      ...{ journal, end: 8 * MIB - 1, bandwidth: 8 * MIB },
      onProgress: ({ bytes }) => {
        if (!replaced && bytes > MIB) renameSync(other, to);
        replaced ||= bytes > MIB;
      },
    });
    const error = await copy.catch((error: unknown) => error);
    t.match(error, { code: 'ERR_JOURNAL_MISMATCH', path: to });
    t.ok(receiptOf(error)!.bytes > MIB, 'with a receipt');
    t.equal(readFileSync(to, 'utf8'), 'somebody else’s', 'and is left alone');
    rmSync(journal);
  }),
);

t.test('what was looked at is taken at opening if it is the same file', { skip: skipNative }, async (t) => {
  const system = await openSystem({ backend: 'native' });
  const backend = system.context.backend as NativeBackend;
  const sysfs = backend.sysfs as { -readonly [K in keyof Sysfs]: Sysfs[K] };
  const { blockInfo } = sysfs;
  let asked = 0;
  sysfs.blockInfo = (path) => {
    asked++;
    return blockInfo(path);
  };
  const path = file('looked-at');
  const open = async (change: () => void): Promise<number> => {
    const end = backend.inspect(path);
    change();
    asked = 0;
    const target = await backend.openTarget(path, { write: true, create: true, end });
    await target.close();
    return asked;
  };
  t.equal(await open(() => {}), 0, 'it is yet to be made');
  t.equal(await open(() => {}), 0, 'it is there');
  t.equal(await open(() => writeFileSync(path, 'longer')), 0, 'it was written to');
  writeFileSync(file('another'), 'another');
  t.equal(await open(() => renameSync(file('another'), path)), 1, 'it was replaced');
  t.equal(await open(() => rmSync(path)), 1, 'it was removed');
  rmSync(path);
  t.equal(await open(() => writeFileSync(path, '')), 1, 'it was made by another');
  t.same(await system.close(), NOTHING_LEFT);
});

t.test('an end that is a URL becomes a path once', async (t) => {
  let asked = 0;
  const url = (name: string): URL => {
    const one = pathToFileURL(file(name));
    const { pathname } = one;
    return Object.defineProperty(one, 'pathname', {
      get: () => {
        asked++;
        return pathname;
      },
    });
  };
  fileURLToPath(url('source'));
  const once = asked;
  t.ok(once > 0);
  const system = await openSystem({ machine: 'switch' });
  for (const options of [{}, { journal: file('journal') }]) {
    asked = 0;
    await system.pipeline(url('source'), [url('of-url'), url('of-url-2')], { ...options, end: MIB - 1 });
    t.equal(asked, 3 * once);
  }
  t.same(await system.close(), NOTHING_LEFT);
});

/** Opens the system and copies argv[0] to argv[1], with a file that is there to be seen being opened around each. */
const COPY = `
  const { openSystem } = await import(${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)});
  const { closeSync, openSync } = await import('node:fs');
  const [from, to] = process.argv.slice(1);
  const mark = () => closeSync(openSync(from + '.mark', 'w'));
  mark();
  const system = await openSystem({ backend: 'native' });
  mark();
  await system.pipeline(from, to, { end: 1048575 });
  mark();
  await system.close();
`;

const noStrace =
  spawnSync('strace', ['-e', 'trace=none', 'true']).status === 0 ? false : 'no strace here that may trace';

const twice = (paths: readonly string[]) => paths.filter((path, i) => paths.indexOf(path) !== i);

t.test(
  'a copy of a plain file opens at most 20 files below /sys and /proc, and none of them twice',
  { skip: skipNative || noStrace },
  async (t) => {
    const copy = ['--input-type=module', '-e', COPY, file('source'), file('traced')];
    const run = spawnSync(
      'strace',
      ['-f', '-qq', '-s', '4096', '-e', 'trace=open,openat,openat2', process.execPath, ...copy],
      { encoding: 'utf8', maxBuffer: 64 * MIB },
    );
    t.equal(run.status, 0, run.stderr.slice(-2000));
    const opened = [...run.stderr.matchAll(/open(?:at2?)?\([^"]*"([^"]*)"/g)].map(([, path]) => path!);
    const marks = opened.flatMap((path, i) => (path === `${file('source')}.mark` ? [i] : []));
    t.equal(marks.length, 3, 'the marks were seen');
    const ofKernel = (from: number, to: number) =>
      opened.slice(marks[from]! + 1, marks[to]).filter((path) => /^\/(sys|proc)\//.test(path));
    const [opening, copying] = [ofKernel(0, 1), ofKernel(1, 2)];
    t.ok(opened.slice(marks[1], marks[2]).includes(file('traced')), 'and the copy between the last two');
    t.ok(copying.length > 0 && copying.length <= 20, `${copying.length}:\n${copying.join('\n')}`);
    t.same(twice(copying), [], 'for the copy');
    t.ok(opening.length > copying.length);
    t.same(twice(opening), [], 'for opening the system');
  },
);
