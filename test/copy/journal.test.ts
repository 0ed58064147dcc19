import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Journal } from '../../lib/copy/journal.js';
import { openSystem, type PipelineOptions, planCopy, type Receipt, type System } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';
import { bytesOf, NOTHING_LEFT, peek, poke } from '../helpers/copies.js';
import { about, writtenJournal } from '../helpers/journals.js';
import { keptInFiles } from '../helpers/kept.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-journal-'));
const file = (name: string) => join(folder, name);
const written = (name: string, ...marks: number[]) => writtenJournal(file(name), ...marks);
t.teardown(() => rmSync(folder, { recursive: true }));
const journalUrl = new URL('../../lib/copy/journal.js', import.meta.url).href;

t.test('what is marked is read again', async (t) => {
  await written('plain', 10, 20, 30);
  const journal = await Journal.read(file('plain'));
  t.match(journal, { done: 30, marks: [10, 20, 30], header: about });
  await journal!.begin();
  await journal!.mark(40);
  await t.rejects(Journal.read(file('plain')), { code: 'EBUSY', message: /another copy of this process/ });
  await journal!.close();
  t.equal((await Journal.read(file('plain')))!.done, 40);
  const again = await Journal.read(file('plain'));
  await again!.begin();
  await again!.remove();
  t.equal(await Journal.read(file('plain')), null, 'removed');
  t.same(readdirSync(folder), ['source'], 'no temporary file stays');
});

t.test(
  'in use by a process that lives: refused; a zombie does not count',
  { skip: !existsSync('/proc/self/stat') },
  async (t) => {
    const code = `
    const { Journal } = await import(${JSON.stringify(journalUrl)});
    const journal = await Journal.create(process.argv[1], ${JSON.stringify(about)});
    await journal.begin();
    console.log('begun');
    setInterval(() => {}, 1000);
  `;
    // A shell that never waits for its child, so that the child stays a zombie when it is killed.
    const shell = spawn(
      'sh',
      [
        '-c',
        '"$0" --input-type=module -e "$1" "$2" & echo $!; exec sleep 30',
        process.execPath,
        code,
        file('held'),
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let output = '';
    for await (const chunk of shell.stdout) {
      output += chunk;
      if (output.includes('begun')) break;
    }
    const pid = Number.parseInt(output, 10);
    await t.rejects(Journal.read(file('held')), {
      code: 'EBUSY',
      message: new RegExp(`in use by process ${pid}`),
    });
    process.kill(pid, 'SIGKILL');
    for (let i = 0; i < 2000 && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')); i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    t.match(readFileSync(`/proc/${pid}/stat`, 'latin1'), /\) Z /, 'it is a zombie');
    t.match(await Journal.read(file('held')), { done: 0 });
    shell.kill('SIGKILL');
  },
);

t.test('torn by power loss anywhere: every mark that was whole counts, and it goes on', async (t) => {
  const whole = await written('whole', 10, 20, 30);
  const first = whole.indexOf('\n') + 1;
  for (let length = first; length <= whole.length; length++) {
    for (const rest of [Buffer.alloc(0), Buffer.alloc(Math.min(50, whole.length - length))]) {
      writeFileSync(file('torn'), Buffer.concat([whole.subarray(0, length), rest]));
      const expected = [10, 20, 30].filter((done) => whole.indexOf(`{"done":${done}}`) + 44 < length);
      const journal = await Journal.read(file('torn'));
      if (journal?.done !== (expected.at(-1) ?? 0)) t.fail(`cut at ${length}: ${journal?.done}`);
      if (length % 16 !== 0) continue;
      await journal!.begin();
      await journal!.mark(99);
      await journal!.close();
      if ((await Journal.read(file('torn')))!.done !== 99) t.fail(`cut at ${length}: cannot go on`);
    }
  }
  t.pass('cut at each byte');
});

t.test('damaged anywhere: refused, with the reason', async (t) => {
  const whole = await written('good', 10, 20, 30);
  const lastNewline = whole.length - 1;
  for (let at = 0; at < lastNewline; at++) {
    for (const flip of at % 4 === 0 ? [0x01, 0x80] : [0x01]) {
      const bad = Buffer.from(whole);
      bad[at]! ^= flip;
      writeFileSync(file('bad'), bad);
      const error = await Journal.read(file('bad')).catch((e) => e);
      if (error?.code !== 'ERR_JOURNAL_DAMAGED')
        t.fail(`byte ${at} ^ ${flip}: ${error?.message ?? error?.done}`);
    }
  }
  const lines = whole.toString().split('\n').slice(0, -1);
  const refused = async (text: string, why: RegExp) => {
    writeFileSync(file('bad'), text);
    await t.rejects(Journal.read(file('bad')), { code: 'ERR_JOURNAL_DAMAGED', message: why });
  };
  await refused('', /is not a journal/);
  await refused('hello\n', /is not a journal/);
  await refused(
    lines[0]!.replace('journal 1', 'journal 2'),
    /its version is 2, but only version 1 is supported/,
  );
  await refused(`${lines[0]}`, /line 1/);
  await refused(
    `${[lines[0], lines[1], lines[3], lines[4]].join('\n')}\n`,
    /line 3 does not match its checksum/,
  );
  await refused(`${[lines[0], lines[2], lines[1]].join('\n')}\n`, /line 2 does not match its checksum/);
  const other = (await written('other', 10, 20)).toString().split('\n');
  await refused(`${[lines[0], ...other.slice(1)].join('\n')}`, /line 2 does not match its checksum/);
  await t.rejects(Journal.read(folder), { code: 'EISDIR' });
  await t.rejects(Journal.create(file('no/such'), about), { code: 'ENOENT' });
});

// --- copies ---

async function withSystem<T>(
  use: (system: System) => Promise<T>,
  machine: string | object = 'switch',
): Promise<T> {
  const system = await openSystem({ machine });
  const result = await use(system);
  t.same(await system.close(), NOTHING_LEFT);
  return result;
}

/** Copy with a journal, and stop as soon as so much is written. */
async function interrupted(
  system: System,
  from: string,
  to: string[],
  at: number,
  options: PipelineOptions = {},
): Promise<Receipt> {
  const stop = new AbortController();
  return system.pipeline(from, to, {
    bandwidth: 64 * MIB,
    ...options,
    stop: stop.signal,
    onProgress: ({ bytes }) => bytes >= at && stop.abort(),
  });
}

const content = bytesOf(20 * MIB + 12_345, 7);
writeFileSync(file('source'), content);
const from = file('source');

t.test('stopped and resumed: what was done is not done again, and the journal goes', async (t) => {
  const journal = file('journal');
  for (const options of [
    {},
    { start: 5000, destinationStart: 776, flags: 'r+' },
    { end: 9_999_999 },
  ] as PipelineOptions[]) {
    const [b, c] = [file('b'), file('c')];
    const before = bytesOf(200_000, 3);
    for (const to of [b, c]) writeFileSync(to, options.flags === 'r+' ? before : '');
    const start = options.start ?? 0;
    const at = options.destinationStart ?? 0;
    const part = content.subarray(start, (options.end ?? content.length) + 1);
    await withSystem(async (system) => {
      const first = await interrupted(system, from, [b, c], 3 * MIB, { journal, ...options });
      t.ok(first.bytes >= 3 * MIB && first.bytes < part.length, `stopped at ${first.bytes}`);
      t.match(first, { resumedFrom: 0, verified: false, transport: 'p2p-bus' });
      const plan = await planCopy(from, [b, c], { system, journal, ...options });
      t.same(plan.resume, { journal, done: first.bytes });
      const rest = await system.pipeline(from, [b, c], { journal, verify: true, ...options });
      t.equal(first.bytes + rest.bytes, part.length);
      t.match(rest, { resumedFrom: first.bytes, verified: true, digest: /^sha256:/ });
    });
    for (const to of [b, c]) {
      const expected = Buffer.alloc(Math.max(at + part.length, options.flags === 'r+' ? before.length : 0));
      if (options.flags === 'r+') before.copy(expected);
      part.copy(expected, at);
      t.ok(readFileSync(to).equals(expected), 'identical');
    }
    t.notOk(existsSync(journal), 'the journal is gone');
  }
});

t.test('a drive that lost its tail is brought up to date; one that was reused is not touched', async (t) => {
  const [b, journal] = [file('lost'), file('lost.journal')];
  await withSystem(async (system) => {
    const { bytes } = await interrupted(system, from, [b], 12 * MIB, { journal });
    const held = readFileSync(b);
    held.fill(0, bytes - 100_000);
    writeFileSync(b, held);
    const rest = await system.pipeline(from, b, { journal });
    t.ok(rest.resumedFrom! < bytes - 100_000, `went back to ${rest.resumedFrom}`);
    t.ok(readFileSync(b).equals(content));
  });
  await withSystem(async (system) => {
    const { bytes } = await interrupted(system, from, [b], 12 * MIB, { journal });
    truncateSync(b, bytes - 5);
    await system.pipeline(from, b, { journal });
    t.ok(readFileSync(b).equals(content), 'a shorter file, too');
  });
  await withSystem(async (system) => {
    await interrupted(system, from, [b], 12 * MIB, { journal });
    const held = readFileSync(b);
    held.write('another use', 1000);
    writeFileSync(b, held);
    await t.rejects(system.pipeline(from, b, { journal }), {
      code: 'ERR_JOURNAL_MISMATCH',
      message: /does not hold what was copied to it .*offset 1000/,
    });
    t.ok(readFileSync(b).equals(held), 'left alone');
    rmSync(journal);
  });
});

t.test('padding that a crash left behind the last byte is cut off', async (t) => {
  const [b, journal] = [file('padded'), file('padded.journal')];
  await withSystem(async (system) => {
    await interrupted(system, from, [b], 2 * MIB, { journal });
    // As if it had been killed between the last write and the cut.
    const whole = Buffer.concat([content, Buffer.alloc(512 - (content.length % 512))]);
    writeFileSync(b, whole);
    await system.pipeline(from, b, { journal });
    t.ok(readFileSync(b).equals(content));
  });
});

t.test('the journal of another copy is refused, and nothing is written', async (t) => {
  const [b, journal] = [file('mine'), file('mine.journal')];
  copyFileSync(from, file('source-2'));
  await withSystem(async (system) => {
    await interrupted(system, from, [b], 2 * MIB, { journal });
    const kept = readFileSync(journal);
    const held = readFileSync(b);
    const refused = async (message: RegExp, source: string, to: string[], options: PipelineOptions = {}) => {
      await t.rejects(system.pipeline(source, to, { journal, ...options }), {
        code: 'ERR_JOURNAL_MISMATCH',
        message,
      });
      t.ok(readFileSync(journal).equals(kept) && readFileSync(b).equals(held), 'nothing changed');
    };
    await refused(/its source is '.*source', not '.*source-2'/, file('source-2'), [b]);
    await refused(/its destination is '.*mine', not '.*others'/, from, [file('others')]);
    await refused(/it has 1 destinations, not 2/, from, [b, file('more')]);
    await refused(/it begins at byte 0 of the source, not 512/, from, [b], { start: 512 });
    await refused(/begins at byte 0 of the destination, not 512/, from, [b], { destinationStart: 512 });
    await refused(/it is of \d+ bytes, not 1000/, from, [b], { end: 999 });
    await refused(/begun without sparse/, from, [b], { sparse: true });
    const { atime, mtime } = statSync(from);
    utimesSync(from, atime, new Date(+mtime + 5000));
    await refused(/the source was modified since/, from, [b]);
    utimesSync(from, atime, mtime);
    appendFileSync(from, 'more');
    await refused(/it is of \d+ bytes|had \d+ bytes, and has/, from, [b]);
    writeFileSync(from, content);
    t.notOk(existsSync(file('more')));
    rmSync(journal);
  });
});

t.test('namespaces kept in files: resumed as well, but not on another machine or in new ones', async (t) => {
  const image = file('nvme1n1.img');
  const machine = keptInFiles(presets.switch, [null, image]);
  const journal = file('namespace.journal');
  const options = { end: 16 * MIB - 1, journal };
  await withSystem(async (system) => {
    await poke(system, 'nvme0n1', 0, content.subarray(0, 16 * MIB));
    await interrupted(system, 'nvme0n1', ['nvme1n1'], 2 * MIB, options);
    const rest = await system.pipeline('nvme0n1', 'nvme1n1', options);
    t.ok(rest.resumedFrom! > 0 && rest.transport === 'p2p-bus');
    t.ok((await peek(system, 'nvme1n1', 0, 16 * MIB)).equals(content.subarray(0, 16 * MIB)));
    await interrupted(system, 'nvme0n1', ['nvme1n1'], 2 * MIB, options);
  }, machine);
  rmSync(image);
  await withSystem(async (system) => {
    await poke(system, 'nvme0n1', 0, content.subarray(0, 16 * MIB));
    await t.rejects(system.pipeline('nvme0n1', 'nvme1n1', options), {
      code: 'ERR_JOURNAL_MISMATCH',
      message: /does not hold/,
    });
    t.notOk(
      (await peek(system, 'nvme1n1', 0, 4096)).some((byte) => byte !== 0),
      'not touched',
    );
  }, machine);
  t.notOk(existsSync(image), 'and not made');
  const other = await openSystem({ machine: keptInFiles(presets['nested-switches'], [null, image]) });
  await t.rejects(other.pipeline('nvme0n1', 'nvme1n1', options), {
    code: 'ERR_JOURNAL_MISMATCH',
    message: /was nvme0n1 of the emulated machine .*, and is nvme0n1 of/,
  });
  await other.close();
});

t.test('odd cases: nothing to copy, wx, streams, a journal in use', async (t) => {
  await withSystem(async (system) => {
    const journal = file('odd.journal');
    writeFileSync(file('empty'), '');
    t.match(await system.pipeline(file('empty'), file('empty-2'), { journal }), { bytes: 0, resumedFrom: 0 });
    t.equal(statSync(file('empty-2')).size, 0);
    const beyond = { journal, verify: true, flags: 'r+', destinationStart: 5000 } as const;
    const nothing = await system.pipeline(file('empty'), file('empty-2'), beyond);
    t.match(nothing, { bytes: 0, verified: true }, 'nothing, verified behind the end of a file');
    t.equal(statSync(file('empty-2')).size, 0);
    await t.rejects(system.pipeline(from, file('empty-2'), { journal, flags: 'wx' }), { code: 'EEXIST' });
    t.notOk(existsSync(journal));
    const first = await interrupted(system, from, [file('new')], 2 * MIB, { journal, flags: 'wx' });
    const rest = await system.pipeline(from, file('new'), { journal, flags: 'wx' });
    t.equal(first.bytes + rest.bytes, content.length);
    await t.rejects(system.pipeline(system.createReadStream(from), file('new'), { journal }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /must be a path or a file URL/,
    });
    const part = await interrupted(system, from, [file('all')], 2 * MIB, { journal });
    t.ok(part.bytes > 0);
    // All of it copied, but the process died before it removed the journal.
    const kept = await Journal.read(journal);
    await kept!.begin();
    writeFileSync(file('all'), content);
    await kept!.mark(content.length);
    await kept!.close();
    t.match(await system.pipeline(from, file('all'), { journal, verify: true }), {
      bytes: 0,
      resumedFrom: content.length,
      verified: true,
    });
    t.notOk(existsSync(journal));
  });
});

t.test('a journal that is an end of the copy: refused before anything is written or removed', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const there = (name: string) => readFileSync(file(name), 'latin1');
  writeFileSync(file('a.img'), 'precious source');
  writeFileSync(file('old.img'), 'old');
  linkSync(file('old.img'), file('hard.img'));
  symlinkSync('old.img', file('soft.img'));
  symlinkSync('k.img', file('dangling.img'));
  mkdirSync(file('d'));
  for (const [to, journal] of [
    ['k.img', file('k.img')],
    ['k.img', `${folder}/d/../k.img`],
    ['k.img', file('dangling.img')],
    ['dangling.img', file('k.img')],
    ['k.img', relative('.', file('k.img'))],
    ['old.img', file('hard.img')],
    ['old.img', file('soft.img')],
    ['k.img', file('a.img')],
  ] as const) {
    const wanted = { code: 'ERR_OVERLAP', message: /journal '.*img' is the (source|destination) '.*img'/ };
    await t.rejects(system.pipeline(file('a.img'), file(to), { journal }), wanted, `${to} ${journal}`);
    await t.rejects(planCopy(file('a.img'), file(to), { system, journal }), wanted, 'nor planned');
  }
  t.notOk(existsSync(file('k.img')));
  t.equal(there('a.img'), 'precious source');
  t.equal(there('old.img'), 'old');
  await system.close();
});

t.test('only what begins as a journal may be removed', async (t) => {
  const hint = async (path: string) => (await Journal.read(path).catch((error) => error)).hint;
  writeFileSync(file('none'), 'hello');
  writeFileSync(file('was'), 'p2pdma-journal 1 {"torn');
  writeFileSync(file('later'), 'p2pdma-journal 2 {}\n');
  for (const path of [file('none'), folder, '/dev/null']) {
    t.match(await hint(path), /^Name another file for the journal/, path);
  }
  for (const name of ['was', 'later']) t.match(await hint(file(name)), /^Remove it/, name);
});

const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

t.test(
  'what is no file is no journal and no machine, at once',
  { skip: process.platform === 'win32' },
  async (t) => {
    const fifo = file('fifo');
    execFileSync('mkfifo', [fifo]);
    writeFileSync(file('a'), 'data');
    const began = performance.now();
    await t.rejects(Journal.read(fifo), { code: 'ERR_JOURNAL_DAMAGED', hint: /another file/ });
    await t.rejects(Journal.read('/dev/zero'), { code: 'ERR_JOURNAL_DAMAGED' });
    await t.rejects(openSystem({ machine: fifo }), {
      code: 'ERR_MACHINE_INVALID',
      message: /a pipe \(FIFO\)/,
    });
    await t.rejects(openSystem({ machine: '/dev/null' }), {
      code: 'ERR_MACHINE_INVALID',
      hint: /to a file first/,
    });
    t.ok(performance.now() - began < 10_000);
    for (const words of [
      ['copy', file('a'), file('unwritten'), '--resume', fifo],
      ['list', '--machine', fifo],
    ]) {
      const child = spawn(process.execPath, [main, ...words], { stdio: 'ignore', timeout: 20_000 });
      const [status] = await once(child, 'close');
      t.not(status, null, `${words[0]} ends`);
      t.not(status, 0);
    }
    t.notOk(existsSync(file('unwritten')), 'nothing was written');
    for (const name of ['fifo', 'a']) rmSync(file(name));
  },
);
