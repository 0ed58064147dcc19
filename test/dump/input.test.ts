/** What is taken in of what was named, and that nothing of it is left out without a word. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { describeMachine, openSystem } from '../../lib/index.js';
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
