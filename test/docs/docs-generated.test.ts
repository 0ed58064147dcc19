/**
 * Documents that are made: the API reference of the doc comments in lib/, the table of error codes, the machines.
 * `npm run docs` (UPDATE_DOCS=1) makes them anew; this test says whether they are what it would make.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ERROR_CODES } from '../../lib/index.js';
import { kernelsDocument } from '../helpers/kernels-document.js';
import { presetsDocument } from '../helpers/presets-document.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const update = process.env.UPDATE_DOCS === '1';

// typedoc compiles the library; on a busy machine that takes its time.
t.setTimeout(300_000);

function current(t: Test, name: string, text: string): void {
  const file = join(root, 'docs', name);
  if (update) writeFileSync(file, text);
  t.equal(readFileSync(file, 'utf8'), text, 'npm run docs renews it');
}

t.test('api.md: every public name, with a comment, and nothing of this computer', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-docs-'));
  const file = join(folder, 'api.md');
  const made = spawnSync(process.execPath, [join(root, 'scripts/api-docs.mjs'), file], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  t.equal(made.status, 0, `typedoc has nothing to complain of\n${made.stdout}${made.stderr}`);
  if (made.status === 0) {
    const text = readFileSync(file, 'utf8');
    t.notOk(text.includes(root) || text.includes(tmpdir()), 'no path of this computer');
    current(t, 'api.md', text);
  }
  rmSync(folder, { recursive: true });
});

t.test('errors.md: every code', async (t) => {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { cause, remedy }]) => `| \`${code}\` | ${cause} | ${remedy} |`,
  );
  current(
    t,
    'errors.md',
    [
      '# Error codes',
      '',
      'Every error is a `P2pdmaError`. Its `code` does not change between versions, its `message` says what happened to which object, and its',
      '`hint` says what to do next. `errno`, `syscall` and `path` are set where the kernel gave them. Results of the kernel have the',
      'kernel’s names; errors about arguments have Node’s.',
      '',
      '| code | what it means | what to do |',
      '|---|---|---|',
      ...rows,
      '',
    ].join('\n'),
  );
});

t.test('kernels.md: every rule, bug and distribution', async (t) =>
  current(t, 'kernels.md', kernelsDocument()),
);

t.test('presets.md: every machine', async (t) => current(t, 'presets.md', await presetsDocument()));
