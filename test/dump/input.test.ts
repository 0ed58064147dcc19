/** What is taken in of what was named, and that nothing of it is left out without a word. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { describeMachine, diagnose, openSystem } from '../../lib/index.js';
import { hexDump } from '../helpers/lspci-dump.js';

t.test('a folder deeper than is read: refused, not read in part', async (t) => {
  const folder = t.testdir();
  const system = await openSystem({ machine: 'switch' });
  writeFileSync(join(folder, 'lspci.txt'), hexDump(system.topology));
  await system.close();
  const whole = await describeMachine(folder);
  t.match(whole.evidence?.recognised, [/^lspci -xxxx/]);
  await whole.close();
  mkdirSync(join(folder, ...Array<string>(13).fill('d')), { recursive: true });
  await t.rejects(describeMachine(folder), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /folders more than 12 deep, and no more is read/,
  });
});

t.test('beside a folder with sys/ and proc/ nothing else is read, and that is said', async (t) => {
  const folder = t.testdir({ sys: {}, proc: {} });
  for (const inputs of [
    [folder, Buffer.from('more')],
    [Buffer.from('more'), folder],
  ]) {
    await t.rejects(describeMachine(inputs), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /nothing else is read beside such a folder/,
    });
  }
});

t.test('what is not recognised is said, beside what is', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const folder = t.testdir({
    'lspci.txt': hexDump(system.topology),
    'uname.txt': 'Linux box 6.8.0-52-generic',
  });
  await system.close();
  const machine = await describeMachine([folder, Buffer.from('whatever')]);
  t.match(machine.evidence?.notKnown, [
    { what: "what 'uname.txt' says", why: /not recognised/ },
    { what: "what 'the bytes given' says" },
  ]);
  await machine.close();
});

t.test('paths and URLs are judged as everywhere', async (t) => {
  for (const [input, code] of [
    [new URL('http://host/a'), 'ERR_INVALID_URL_SCHEME'],
    ['a\0b', 'ERR_INVALID_ARG_VALUE'],
  ] as const) {
    await t.rejects(describeMachine(input), { code });
    await t.rejects(diagnose({ from: input }), { code });
  }
});

t.test(
  'a folder below that cannot be read ends it, by name',
  { skip: process.getuid?.() === 0 && 'root reads all' },
  async (t) => {
    const folder = t.testdir({ closed: {}, 'lspci.txt': '' });
    chmodSync(join(folder, 'closed'), 0);
    await t.rejects(describeMachine(folder), { code: 'EACCES', path: join(folder, 'closed') });
    chmodSync(join(folder, 'closed'), 0o700);
  },
);
