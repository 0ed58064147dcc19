/** Whose a journal is: two processes at one, a process that was killed, claims, other boots and containers. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Journal } from '../../lib/copy/journal.js';
import { own, whyAlive } from '../../lib/copy/journal-owner.js';
import { main } from '../helpers/cli.js';
import { about, writtenJournal } from '../helpers/journals.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-journal-owner-'));
const file = (name: string) => join(folder, name);
t.teardown(() => rmSync(folder, { recursive: true }));

const journalUrl = new URL('../../lib/copy/journal.js', import.meta.url).href;

/** Does with a journal what a copy does, at a word of its parent. */
const COPY = `
  const { Journal } = await import(${JSON.stringify(journalUrl)});
  let journal = null;
  process.on('message', async (path) => {
    if (path === null) {
      await journal?.close();
      return process.send('ended');
    }
    try {
      const kept = await Journal.read(path);
      journal = kept ?? (await Journal.create(path, ${JSON.stringify(about)}));
      await journal.begin();
      await journal.mark(10);
      process.send('begun');
    } catch ({ code }) {
      journal = null;
      process.send(code);
    }
  });
  process.send('ready');
`;

async function said(child: ChildProcess): Promise<string> {
  return (await once(child, 'message'))[0] as string;
}

t.test('two processes at one journal: one goes on, the other is refused', async (t) => {
  const home = t.testdir({ 'copy.mjs': COPY });
  const children = await Promise.all(
    [1, 2].map(async () => {
      const child = fork(join(home, 'copy.mjs'));
      await said(child);
      return child;
    }),
  );
  // A journal whose process was killed.
  const dead = spawn(process.execPath, [
    '--input-type=module',
    '-e',
    `const { Journal } = await import(${JSON.stringify(journalUrl)});
     await Journal.create(${JSON.stringify(join(home, 'dead'))}, ${JSON.stringify(about)});
     process.kill(process.pid, 'SIGKILL');`,
  ]);
  await once(dead, 'close');
  const folder = join(home, 'journals');
  mkdirSync(folder);
  const rounds = 40;
  for (let round = 0; round < rounds; round++) {
    for (const kind of ['new', 'stale']) {
      const path = join(folder, `${kind}-${round}`);
      if (kind === 'stale') copyFileSync(join(home, 'dead'), path);
      // Both at once, now the one a little earlier, now the other.
      const [first, second] = round % 2 === 0 ? children : children.toReversed();
      const answers = Promise.all([said(first!), said(second!)]);
      first!.send(path);
      if (round % 4 > 1) await new Promise((resolve) => setTimeout(resolve, round / 8));
      second!.send(path);
      t.same((await answers).sort(), ['EBUSY', 'begun'], path);
      const ended = Promise.all(children.map(said));
      for (const child of children) child.send(null as never);
      await ended;
    }
  }
  for (const child of children) child.kill();
  await Promise.all(children.map((child) => once(child, 'close')));
  const names = readdirSync(folder);
  t.equal(names.length, 2 * rounds, `nothing else is left: ${names.filter((name) => name.startsWith('.'))}`);
  for (const name of names) t.match(await Journal.read(join(folder, name)), { marks: [10] }, name);
});

t.test('two commands begun with one new journal: the first is whole', async (t) => {
  const home = t.testdir({});
  const [source, target, journal] = ['a', 'b', 'j'].map((name) => join(home, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(source, Buffer.alloc(12 * MIB, 0x5a));
  const words = [main, 'copy', source, target, '--resume', journal, '--bwlimit', '4m', '--json'];
  const runs = await Promise.all(
    [1, 2].map(async () => {
      const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
      let stderr = '';
      child.stderr.on('data', (text: Buffer) => {
        stderr += text;
      });
      const [status] = (await once(child, 'close')) as [number];
      return { status, error: stderr.includes('EBUSY') };
    }),
  );
  t.same(
    runs.sort((a, b) => a.status - b.status),
    [
      { status: 0, error: false },
      { status: 1, error: true },
    ],
  );
  t.ok(readFileSync(target).equals(readFileSync(source)));
  t.same(readdirSync(home).sort(), ['a', 'b'], 'the journal is gone, and nothing else is left');
});

t.test('a claim that a crash left behind is passed over, and goes', async (t) => {
  const bytes = await writtenJournal(file('claimed'), 10);
  const line = bytes.toString().trim().split('\n').length;
  const gone = { pid: 1, since: '-1', boot: 'another', space: null };
  for (const n of [0, 1]) writeFileSync(file(`.claimed.${line}.${n}`), JSON.stringify(gone));
  const journal = await Journal.read(file('claimed'));
  await journal!.begin();
  t.same(
    readdirSync(folder).filter((name) => name.startsWith('.claimed')),
    [],
  );
  await journal!.remove();

  await writtenJournal(file('held-claim'), 10);
  const late = await Journal.read(file('held-claim'));
  writeFileSync(file(`.held-claim.${line}.0`), '');
  await t.rejects(late!.begin(), { code: 'EBUSY' }, 'one that is being made counts');
  rmSync(file(`.held-claim.${line}.0`));
  const other = await Journal.read(file('held-claim'));
  await other!.begin();
  await other!.close();
  await t.rejects(
    late!.begin(),
    { code: 'EBUSY', message: /in the meantime/ },
    'it was read before the other went on',
  );
  rmSync(file('held-claim'));
});

t.test('a journal of another boot is nobody’s; of another container, somebody’s for a while', async (t) => {
  const now = Date.now();
  const at = (mtimeMs: number) => ({ dev: 0, ino: 0, mtimeMs });
  const me = own();
  t.equal(whyAlive({ ...me, pid: 1, boot: 'before' }, at(now)), null);
  t.equal(whyAlive({ ...me, pid: 1, since: '-1' }, at(now)), null, 'the number was given again');
  if (me.space !== null) {
    t.match(whyAlive({ ...me, space: 'pid:[1]' }, at(now - 1000)), /another container/);
    t.equal(whyAlive({ ...me, space: 'pid:[1]' }, at(now - 60_000)), null);
  }
});
