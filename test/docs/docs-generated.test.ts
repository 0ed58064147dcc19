/**
 * Documents that are made: the API reference of the doc comments in lib/, the table of error codes, the machines.
 * `npm run docs` (UPDATE_DOCS=1) makes them anew; this test says whether they are what it would make.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import t, { type Test } from 'tap';
import { FACTS } from '../../lib/base/errors.js';
import { buildProgram, leaves } from '../../lib/cli/program.js';
import { ERROR_CODES } from '../../lib/index.js';
import { kernelsDocument } from '../helpers/kernels-document.js';
import { nodeFsDocument } from '../helpers/node-fs-document.js';
import { optionsDocument } from '../helpers/options-document.js';
import { presetsDocument } from '../helpers/presets-document.js';
import { simulationDocument } from '../helpers/simulation-document.js';

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

/** What each fact of an error is. */
const FACT: Readonly<Record<(typeof FACTS)[number], string>> = {
  errno: 'the negative Linux errno, if the kernel or the emulated one gave one.',
  syscall: 'the operation that failed: `read`, `write`, `mmap`, `open`, …',
  path: 'the path or the name that the error concerns.',
  offset: 'the byte in `path` where the failed transfer began, or where the first difference is.',
  option: 'the option that was rejected, by its name in the library.',
  received: 'the value that was given for the option. It is not in the JSON of the error.',
  demand: 'what the value has to be, in words.',
};

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
      '`hint` says what to do next. Results of the kernel have the kernel’s names; errors about arguments have Node’s.',
      '',
      'These properties are set where they apply:',
      '',
      ...FACTS.map((fact) => `- \`${fact}\`: ${FACT[fact]}`),
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

t.test('simulation.md: every planted fault', async (t) => current(t, 'simulation.md', simulationDocument()));
t.test('node-fs.md: every behaviour that is compared', async (t) =>
  current(t, 'node-fs.md', nodeFsDocument()),
);

t.test('options.md: what has two names', async (t) => current(t, 'options.md', await optionsDocument()));

t.test('one word for one thing: nothing has a third name', async (t) => {
  const third =
    /\b(rate[- ]limit\w*|throttl\w+|speed limit|state file|checkpoint file|sizes? of (one )?transfers?|transfer size|(io|i\/o)[- ]?depth|queue length|window size|buffer size)\b/gi;
  const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];
  const texts: (readonly [name: string, text: string])[] = [
    ...pages
      .filter((name) => name.endsWith('.md'))
      .map((name) => [name, readFileSync(join(root, name), 'utf8')] as const),
    ...leaves(await buildProgram()).map((command) => [`help ${command.name()}`, helpOf(command)] as const),
  ];
  t.ok('the Rate-limited I/O depth'.match(third)?.length === 2, 'they are found');
  for (const [name, text] of texts) t.strictSame(text.match(third) ?? [], [], name);
});

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (more) => {
      text += more;
    },
  });
  command.outputHelp();
  return text;
}
