import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import t from 'tap';
import { openSystem, P2pdmaError, Pace, type Progress, planCopy } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';
import { main, p2pdma } from '../helpers/cli.js';
import { bytesOf } from '../helpers/copies.js';
import { keptInFiles } from '../helpers/kept.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-copy-'));
const file = (name: string) => join(folder, name);
t.teardown(() => rmSync(folder, { recursive: true }));

const copy = (...args: string[]) => p2pdma('copy', ...args);

/** Names, sizes, times and contents of everything here. */
function everything(): unknown {
  return readdirSync(folder)
    .sort()
    .map((name) => {
      const { size, mtimeMs, ctimeMs, ino } = statSync(file(name));
      return {
        name,
        size,
        mtimeMs,
        ctimeMs,
        ino,
        head: readFileSync(file(name)).subarray(0, 4096).toString('hex'),
      };
    });
}

const content = bytesOf(3 * MIB + 77, 5);
writeFileSync(file('source'), content);

/** An image that holds an ext4, by its superblock. */
function image(name: string): string {
  const disk = Buffer.alloc(4 * MIB);
  disk.writeUInt32LE(64, 1024);
  disk.writeUInt16LE(0xef53, 0x438);
  disk.writeUInt32LE(0x42, 0x460);
  disk.write('my photos\u001b[2J', 0x478);
  writeFileSync(file(name), disk);
  return file(name);
}

t.test('--dry-run: the plan, and nothing written', async (t) => {
  const disk = image('disk');
  writeFileSync(file('old'), 'old');
  const before = everything();
  const args = [file('source'), disk, file('old'), file('new'), '--machine', 'four-drives', '--dry-run'];
  const words = copy(...args, '--resume', file('journal'));
  t.equal(words.status, 1, 'a script would be refused');
  t.match(words.stdout, /would copy +3\.00 MiB \(3145805 bytes\): bytes 0 to 3145804 of .*source/);
  t.match(
    words.stdout,
    /to +.*disk: a file of 4 MiB, which is replaced\nit holds +ext4 'my photos\\x1b\[2J' \(filesystem\)\n +on a terminal you will be asked first; elsewhere it is refused without --force/,
  );
  t.match(words.stdout, /to +.*old: a file of 3 B, which is replaced/);
  t.match(words.stdout, /to +.*new: a new file/);
  t.match(words.stdout, /transport +p2p-bus\nprovider +0000:03:00\.0/);
  t.match(words.stdout, /nothing was written/);
  const plan = JSON.parse(copy(...args, '--json').stdout);
  t.match(plan, {
    bytes: content.length,
    transport: 'p2p-bus',
    needsForce: true,
    problems: [{ code: 'ERR_HOLDS_DATA', hint: /--force/ }],
    resume: null,
    destinations: [
      { effect: 'truncate', size: 4 * MIB, holds: [{ name: 'ext4', kind: 'filesystem', offset: 0x438 }] },
      { effect: 'truncate', holds: [] },
      { effect: 'create', from: 0, to: content.length - 1 },
    ],
  });
  const forced = copy(...args, '--json', '--force');
  t.equal(forced.status, 0);
  t.match(JSON.parse(forced.stdout), { needsForce: false, problems: [] });
  if (spawnSync('script', ['--version']).status === 0) {
    const command = [process.execPath, main, 'copy', ...args].map((word) => `'${word}'`).join(' ');
    const run = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' });
    t.equal(run.status, 0, run.stdout);
    t.match(run.stdout, /on a terminal you will be asked first/);
    t.notMatch(run.stdout, /problem/);
  }
  t.same(everything(), before, 'nothing changed');
});

t.test('a plan names what cannot be opened for what it is', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { backend } = system.context;
  const real = backend.openTarget.bind(backend);
  backend.openTarget = (path, options) =>
    path === file('source')
      ? real(path, options)
      : Promise.reject(new P2pdmaError('EACCES', `EACCES: permission denied, open '${path}'`, { path }));
  writeFileSync(file('shut'), 'shut');
  const plan = async (to: string) => {
    const { destinations, problems } = await planCopy(file('source'), to, { system });
    t.match(problems, [{ code: 'EACCES' }]);
    return destinations[0];
  };
  t.match(await plan(file('shut')), { kind: 'file', effect: 'truncate', size: 4 });
  t.match(await plan('nvme1n1'), { kind: 'namespace', effect: 'overwrite', size: 1024 * MIB });
  await system.close();
});

t.test('--bytes and --destination-start', async (t) => {
  const part = (to: string, ...args: string[]) => copy(file('source'), to, '--machine', 'switch', ...args);
  writeFileSync(file('around'), bytesOf(64 * 1024, 9));
  const around = readFileSync(file('around'));
  const run = part(file('around'), '--start', '5', '--bytes', '8KiB', '--destination-start', '4099');
  t.equal(run.status, 0, run.stderr);
  content.copy(around, 4099, 5, 5 + 8192);
  t.ok(readFileSync(file('around')).equals(around), 'and its other bytes stay');
  t.equal(part(file('piece'), '--bytes', '3', '--destination-start', '2').status, 0);
  t.same(readFileSync(file('piece')), Buffer.concat([Buffer.alloc(2), content.subarray(0, 3)]));
  for (const [status, wanted, ...args] of [
    [2, /ERR_INVALID_ARG_VALUE: --bytes and --end/, '--bytes', '1', '--end', '1'],
    [2, /ERR_OUT_OF_RANGE: option --bytes: there are not 8388608/, '--bytes', '8MiB'],
    [2, /more than 0/, '--bytes', '0'],
    [2, /ERR_OUT_OF_RANGE: .*start: 3145805 is at the end/, '--start', String(content.length)],
    [2, /write 1MiB \(1048576\) or 1000000/, '--bytes', '1MB'],
  ] as const) {
    const { status: code, stderr } = part(file('around'), ...args);
    t.equal(code, status, args.join(' '));
    t.match(stderr, wanted);
  }
  t.ok(readFileSync(file('around')).equals(around), 'nothing was touched');
});

t.test('a destination that holds something: refused, unless --force or yes on a terminal', async (t) => {
  const disk = image('precious');
  const held = readFileSync(disk);
  const args = [file('source'), disk, '--machine', 'switch'];
  const refused = copy(...args);
  t.equal(refused.status, 1);
  t.match(
    refused.stderr,
    /^emulated machine .*\nerror ERR_HOLDS_DATA: .*precious holds ext4 'my photos\\x1b\[2J' \(filesystem\)\n.*--force.*\n$/,
  );
  const json = copy(...args, '--json');
  t.equal(json.status, 1);
  t.match(JSON.parse(json.stderr), { type: 'error', code: 'ERR_HOLDS_DATA' });
  const several = copy(file('source'), file('beside'), disk, '--machine', 'four-drives');
  t.equal(several.status, 1);
  t.notOk(existsSync(file('beside')), 'none of several is written');
  t.ok(readFileSync(disk).equals(held));

  if (spawnSync('script', ['--version']).status === 0) {
    for (const [answer, status] of [
      ['n', 1],
      ['', 1],
      ['y', 0],
    ] as const) {
      const command = [process.execPath, main, 'copy', ...args].map((word) => `'${word}'`).join(' ');
      const input = `${answer}\n`;
      const run = spawnSync('script', ['-qec', command, '/dev/null'], { input, encoding: 'utf8' });
      t.equal(run.status, status, run.stdout);
      t.match(run.stdout, /precious holds ext4 .*This will be destroyed\. Copy all the same\? \[y\/N\]/s);
      t.equal(readFileSync(disk).equals(held), status !== 0);
    }
  }
  writeFileSync(disk, held);
  t.equal(copy(...args, '--force', '--quiet').status, 0);
  t.ok(readFileSync(disk).equals(content));
});

t.test('several destinations, sparse, verified', async (t) => {
  const fd = openSync(file('holes'), 'w');
  writeSync(fd, content, 0, MIB, 8 * MIB);
  closeSync(fd);
  truncateSync(file('holes'), 64 * MIB);
  const args = [
    file('holes'),
    file('s1'),
    file('s2'),
    '--machine',
    'four-drives',
    '--sparse',
    '--verify',
    '--json',
  ];
  const { status, stdout, stderr } = copy(...args);
  t.equal(status, 0, stderr);
  t.match(JSON.parse(stdout), { bytes: 64 * MIB, verified: true });
  for (const name of ['s1', 's2']) t.ok(readFileSync(file(name)).equals(readFileSync(file('holes'))));
});

t.test('--json: progress as NDJSON on stderr, the receipt on stdout', async (t) => {
  const { status, stdout, stderr } = copy(
    ...[
      file('source'),
      file('out'),
      '--machine',
      'switch',
      '--json',
      '--bwlimit',
      '3MiB/s',
      '--chunk',
      '64KiB',
    ],
  );
  t.equal(status, 0, stderr);
  t.match(JSON.parse(stdout), { bytes: content.length, transport: 'p2p-bus' });
  t.equal(stdout.trim().split('\n').length, 1);
  const lines = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.ok(lines.length > 4, `${lines.length} lines`);
  let before = 0;
  for (const line of lines) {
    t.ok(line.type === 'progress' && line.bytes >= before && line.total === content.length);
    before = line.bytes;
  }
  t.match(lines.at(-2), {
    bytesPerSecond: Number,
    etaSeconds: Number,
    transport: 'p2p-bus',
    provider: '0000:03:00.0',
  });
  t.equal(before, content.length);
  t.same(copy(file('source'), file('out'), '--machine', 'switch', '--json', '--quiet').stderr, '');
});

t.test('--verify: the read-back has progress of its own', async (t) => {
  const args = [file('source'), file('v1'), file('v2'), '--machine', 'four-drives', '--verify', '--json'];
  const { status, stderr } = copy(...args);
  t.equal(status, 0, stderr);
  const lines = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const phases = lines.map(({ phase }) => phase);
  t.same([...new Set(phases)], ['copy', 'verify']);
  const last = lines.at(-1);
  t.match(last, {
    type: 'progress',
    phase: 'verify',
    bytes: 2 * content.length,
    total: 2 * content.length,
    transport: null,
  });
  // Null: it was looked at only once.
  t.ok(last.bytesPerSecond === null || last.bytesPerSecond > 0, `${last.bytesPerSecond}`);
});

t.test('--resume: what was copied is compared with progress, and that can be stopped', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const journal = file('phases-journal');
  const args = [file('source'), file('resumed')] as const;
  const until = (phase: string, bytes: number) => {
    const stop = new AbortController();
    const seen: string[] = [];
    const onProgress = ({ bytes: done, total, phase: now, backend, machine }: Progress) => {
      t.match({ backend, machine }, { backend: 'emulator', machine: 'switch' });
      if (seen.at(-1) !== now) seen.push(now);
      t.ok(total !== null && done <= total);
      if (now === phase && done >= bytes) stop.abort();
    };
    return { seen, options: { journal, onProgress, stop: stop.signal } };
  };
  const first = until('copy', MIB);
  const begun = await system.pipeline(...args, first.options);
  t.ok(begun.bytes > 0 && begun.bytes < content.length, `${begun.bytes} bytes`);
  const kept = readFileSync(journal, 'utf8');
  const second = until('recheck', 1);
  t.match(await system.pipeline(...args, second.options), { bytes: 0, verified: false });
  t.same(second.seen, ['recheck']);
  t.ok(readFileSync(journal, 'utf8').startsWith(kept), 'nothing that was known is lost');
  const third = until('never', 0);
  const receipt = await system.pipeline(...args, { ...third.options, verify: true });
  t.same(third.seen, ['recheck', 'copy', 'verify']);
  t.equal(receipt.resumedFrom! + receipt.bytes, content.length);
  t.ok(readFileSync(file('resumed')).equals(content));
  await system.close();
});

t.test(
  'on a terminal: a bar that says what it is at',
  {
    skip: spawnSync('script', ['--version']).status !== 0 && 'no script(1)',
  },
  async (t) => {
    const words = [process.execPath, main, 'copy', file('source'), file('barred'), '--machine', 'switch'];
    const command = [...words, '--verify', '--force'].map((word) => `'${word}'`).join(' ');
    const { status, stdout } = spawnSync('script', ['-qec', `stty cols 80; ${command}`, '/dev/null'], {
      encoding: 'utf8',
    });
    t.equal(status, 0, stdout);
    // The speed is known only if it was looked at more than once, and a long one leaves no room for the bar.
    t.match(stdout, /copying (█+ )?100% 3\.00 MiB of 3\.00 MiB (\S+ \S+\/s )?ETA .* p2p-bus/);
    t.match(stdout, /verifying (█+ )?100% 3\.00 MiB of 3\.00 MiB (\S+ \S+\/s )?ETA /);
    const drawn = stripVTControlCharacters(stdout).split(/[\r\n]+/);
    const receipt = drawn.slice(drawn.findIndex((line) => line.startsWith('copied')));
    const long = receipt.filter((line) => line.length > 80 && !line.includes('sha256:'));
    t.ok(receipt.length > 7);
    t.same(long, [], 'the receipt fits');
  },
);

t.test('less than asked, or not peer to peer: not 0', async (t) => {
  const p2p = copy(file('source'), file('out'), '--machine', 'no-cmb', '--require-p2p', '--json');
  t.equal(p2p.status, 1);
  t.match(JSON.parse(p2p.stderr.trim().split('\n').at(-1)!), { type: 'error', code: 'ERR_P2P_REQUIRED' });
  for (const [option, value] of [
    ['--bwlimit', '0'],
    ['--bwlimit', 'fast'],
    ['--bwlimit', '-1'],
  ] as const) {
    t.equal(copy('a', 'b', option, value).status, 2, `${option} ${value}`);
  }
  writeFileSync(file('not-a-journal'), 'hello\n');
  const run = copy(file('source'), file('out'), '--machine', 'switch', '--resume', file('not-a-journal'));
  t.equal(run.status, 2, 'the line names what will not do');
  t.match(
    run.stderr,
    /^emulated machine .*\nerror ERR_JOURNAL_DAMAGED: .*it is not a journal of p2pdma\n\S.*\n$/,
  );
  t.equal(readFileSync(file('not-a-journal'), 'utf8'), 'hello\n');
});

t.test('--resume towards a drive that ends with the process is refused before anything starts', async (t) => {
  const journal = file('mortal-journal');
  const words = [file('source'), 'nvme1n1', '--machine', 'switch', '--resume', journal];
  const { status, stdout, stderr } = await copy(...words);
  t.equal(status, 2);
  t.equal(stdout, '');
  t.match(
    stderr,
    /^emulated machine 'switch': .*\nerror ERR_INVALID_ARG_VALUE: option --resume: 'nvme1n1' .* exists only in this process.*\n.*"store": "file".*\n$/,
  );
  t.equal((await copy(...words, '--dry-run')).status, 2, 'a dry run too');
  const system = await openSystem({ machine: 'switch' });
  for (const to of [['/dev/nvme1n1'], [file('first'), 'nvme1n1']]) {
    await t.rejects(system.pipeline(file('source'), to, { journal }), { code: 'ERR_INVALID_ARG_VALUE' });
    await t.rejects(planCopy(file('source'), to, { journal, system }), { code: 'ERR_INVALID_ARG_VALUE' });
  }
  t.match(system.metrics(), { bytes: { read: 0, write: 0 } });
  await system.close();
  t.notOk(existsSync(journal));
  t.notOk(existsSync(file('first')));
});

t.test('a copy that fails on the way keeps its journal, and says so', async (t) => {
  const machine = JSON.parse(
    readFileSync(new URL('../../../test/fixtures/machine-two-drives.json', import.meta.url), 'utf8'),
  );
  machine.faults = [{ kind: 'media-error', namespace: 'nvme1n1', lba: 5000, op: 'write' }];
  // A journal is refused for what ends with the process.
  writeFileSync(file('worn.json'), JSON.stringify(keptInFiles(machine, [null, file('worn.img')])));
  const args = ['nvme0n1', 'nvme1n1', '--machine', file('worn.json'), '--resume', file('worn-journal')];
  const { status, stdout, stderr } = copy(...args);
  t.equal(status, 1);
  t.match(
    stdout,
    /^emulated machine '.*': .*\n\n?nvme0n1 ──▶ .*nvme1n1\n[\s\S]*^copied +19\.5 MiB /m,
    'the receipt of what was copied',
  );
  t.match(
    stderr,
    /^emulated machine '.*': .*\nwhat was copied is recorded in .*worn-journal; to continue, run the same command again\nerror E\w+: .*\n\S.*\n$/,
  );
  t.match(readFileSync(file('worn-journal'), 'utf8'), /\{"done":1048576\}/);
});

t.test('bandwidth: not exceeded, alone, with a journal, and shared', async (t) => {
  const system = await openSystem({
    machine: keptInFiles(presets['four-drives'], [null, null, file('paced.img')]),
  });
  const rate = 4 * MIB;
  const end = 8 * MIB - 1;
  const timed = async (what: string, run: () => Promise<unknown>) => {
    const began = performance.now();
    await run();
    const seconds = (performance.now() - began) / 1000;
    // A computer with other work may take longer.
    t.ok(seconds > 1.5 && seconds < 60, `${what}: ${seconds.toFixed(2)} s for 2 s`);
  };
  const pace = new Pace(rate);
  await Promise.all([
    timed('alone', () => system.pipeline('nvme0n1', 'nvme1n1', { end, bandwidth: rate })),
    timed('with a journal', () =>
      system.pipeline('nvme0n1', 'nvme2n1', { end, bandwidth: rate, journal: file('pace-journal') }),
    ),
    timed('two at one pace', () =>
      Promise.all(
        ['paced-1', 'paced-2'].map((to) =>
          system.pipeline('nvme0n1', file(to), { end: end >> 1, bandwidth: pace, highWaterMark: 128 * 1024 }),
        ),
      ),
    ),
  ]);
  await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', { bandwidth: 0 }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => new Pace(Number.NaN), RangeError);
  await system.close();
});

t.test('stop: any source ends early and cleanly', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const { Readable } = await import('node:stream');
  const stop = new AbortController();
  async function* endless() {
    for (let i = 0; ; i++) {
      if (i === 5) stop.abort();
      yield Buffer.alloc(4096, i);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const receipt = await system.pipeline(Readable.from(endless()), file('endless'), { stop: stop.signal });
  t.equal(statSync(file('endless')).size, receipt.bytes);
  const already = AbortSignal.abort();
  t.match(await system.pipeline('nvme0n1', 'nvme1n1', { stop: already, verify: true }), {
    bytes: 0,
    verified: false,
  });
  await system.close();
});
