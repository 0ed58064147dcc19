/** Shell completions: what may stand at the cursor, asked as the shells ask it; in bash (and zsh and fish, if they are there) really. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import t from 'tap';
import { complete as completions, offersOf } from '../../lib/cli/completion.js';
import { buildProgram, leaves } from '../../lib/cli/program.js';
import { MACHINE_PRESETS } from '../../lib/index.js';

const main = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-tab-'));
t.teardown(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, 'bin'));
mkdirSync(join(folder, 'captured'));
writeFileSync(join(folder, 'disk of mine.img'), '');
writeFileSync(join(folder, 'machine.json'), '');
writeFileSync(join(folder, 'bin', 'p2pdma'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
chmodSync(join(folder, 'bin', 'p2pdma'), 0o755);
const env = { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` };

/** The candidates of a line whose last word is being written, and what of the file system besides. */
async function complete(...words: string[]): Promise<{ values: string[]; besides: string }> {
  const { candidates, besides } = await completions(await buildProgram(), words);
  return { values: candidates.map(([value]) => value), besides };
}

t.test('commands, options, their values', async (t) => {
  const all = await complete('');
  t.strictSame(all.values.slice(0, 3), ['doctor', 'list', 'topo']);
  t.notOk(all.values.includes('__complete'));
  t.same((await complete('co')).values, ['copy', 'completion']);
  t.same((await complete('trace', '')).values, ['copy']);
  t.same((await complete('help', 'tr')).values, ['trace']);
  t.ok((await complete('copy', '--')).values.includes('--verify'));
  t.notOk((await complete('copy', '--verify', '--')).values.includes('--verify'), 'not twice');
  t.same((await complete('copy', '--ver')).values, ['--verify']);
  t.same(await complete('list', '--machine', 'acs'), { values: ['acs', 'acs-listed'], besides: 'files' });
  t.same((await complete('list', '--machine=acs')).values, ['--machine=acs', '--machine=acs-listed']);
  t.same((await complete('list', '--machine', '')).values, [...MACHINE_PRESETS]);
  t.same(await complete('list', '--root', ''), { values: [], besides: 'directories' });
  t.same(await complete('topo', '--format', ''), {
    values: ['text', 'svg', 'html', 'dot', 'json'],
    besides: '',
  });
  t.same((await complete('topo', '--color=n')).values, ['--color=never']);
  t.same((await complete('completion', '')).values, ['bash', 'zsh', 'fish']);
  t.same(await complete('list', 'x'), { values: [], besides: '' }, 'it takes no operands');
  t.same(await complete('nonsense', '--nonsense', ''), { values: [], besides: '' });
});

t.test('what is on the machine that the line is about', async (t) => {
  const machine = ['--machine', 'four-drives'];
  t.same(await complete('copy', ...machine, 'nvme'), {
    values: ['nvme0n1', 'nvme1n1', 'nvme2n1', 'nvme3n1'],
    besides: 'files',
  });
  t.same((await complete('copy', 'nvme0n1', 'nvme1n1', ...machine, 'nvme3')).values, ['nvme3n1'], 'several');
  t.same((await complete('copy', ...machine, '--provider', '')).values, [
    'auto',
    'none',
    'nvme0',
    'nvme1',
    'nvme2',
    'nvme3',
  ]);
  t.same((await complete('copy', ...machine, '--provider', '0000:03')).values, ['0000:03:00.0']);
  t.same(
    (await complete('topo', ...machine, '--route', 'nvme0', 'nvme1')).values,
    ['nvme1', 'nvme1n1'],
    'each of many',
  );
  t.same((await complete('topo', ...machine, '--route', 'nvme0', '--fo')).values, ['--format']);
  t.same((await complete('explain', '--machine=four-drives', 'nvme3')).values, ['nvme3', 'nvme3n1']);
  t.same(await complete('copy', '--machine', 'nowhere', 'nvme'), { values: [], besides: 'files' });
});

t.test('every option and argument that takes something is known', async (t) => {
  for (const command of leaves(await buildProgram()) as Command[]) {
    if (command.name().startsWith('__') || command.name() === 'help') continue;
    const taking = [
      ...command.options.filter(({ required, optional }) => required || optional),
      ...command.registeredArguments,
    ];
    for (const one of taking) {
      const name = 'long' in one ? one.long! : one.name();
      t.ok(one.argChoices !== undefined || offersOf(one) !== undefined, `${command.name()}: ${name}`);
    }
  }
});

/** As bash calls it: COMP_WORDS is cut at blanks, `=` and `:`. */
function bash(line: string): string[] {
  const words = line.split(/ |(?<=[=:])|(?=[=:])/);
  const script = `
    source <(p2pdma completion bash)
    source <(p2pdma completion bash)
    complete -p p2pdma >&2
    COMP_WORDS=(${words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')})
    COMP_CWORD=${words.length - 1}
    COMP_LINE='${line.replaceAll("'", "'\\''")}'
    COMP_POINT=\${#COMP_LINE}
    _p2pdma p2pdma
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const run = spawnSync('bash', ['--norc', '-c', script], { cwd: folder, env, encoding: 'utf8' });
  t.equal(run.stderr, 'complete -F _p2pdma p2pdma\n', line);
  return run.stdout.trim().split('\n');
}

t.test('bash', { skip: spawnSync('bash', ['--version']).status !== 0 && 'no bash' }, async (t) => {
  t.same(bash('p2pdma co'), ['copy', 'completion']);
  t.same(bash('p2pdma list --machine sm'), ['small-cmb']);
  t.same(bash('p2pdma list --machine=sm'), ['small-cmb'], 'behind the =');
  t.same(bash('p2pdma list --machine m').sort(), [
    'machine.json',
    'mirror',
    'misaligned-cmb',
    'multi-function',
    'multipath',
  ]);
  t.same(bash('p2pdma topo --format '), ['text', 'svg', 'html', 'dot', 'json']);
  t.same(bash('p2pdma list --root ').sort(), ['bin', 'captured'], 'folders only');
  t.same(bash('p2pdma copy --machine switch d'), ['disk of mine.img']);
  t.same(bash('p2pdma copy --machine switch nvme'), ['nvme0n1', 'nvme1n1']);
  t.same(bash('p2pdma copy --machine switch --provider 0000:03'), ['03:00.0'], 'behind the last :');
  t.same(bash('p2pdma copy --machine switch --provider 0000:'), [
    ...['00:00.0', '00:01.0', '01:00.0', '02:00.0', '02:01.0', '03:00.0', '04:00.0'],
  ]);
  t.same(bash('p2pdma copy $(touch ran) `touch ran` ra'), [''], 'nothing on the line is run');
});

t.test('zsh', { skip: spawnSync('zsh', ['--version']).status !== 0 && 'no zsh' }, async (t) => {
  const script = `
    autoload -Uz compinit && compinit -u -d ${join(folder, 'dump')}
    source <(p2pdma completion zsh)
    _describe() { print -l -- "\${(P@)2}" }
    _files() { print files "$@" }
    words=(p2pdma list --machine acs) CURRENT=4
    _p2pdma`;
  const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', script], { cwd: folder, env, encoding: 'utf8' });
  t.match(stdout, /^acs:preset\nacs-listed:preset\n/, stderr);
});

t.test('fish', { skip: spawnSync('fish', ['--version']).status !== 0 && 'no fish' }, async (t) => {
  const ask = (line: string) => {
    const script = `p2pdma completion fish | source; complete -C '${line}'`;
    return spawnSync('fish', ['--no-config', '-c', script], { cwd: folder, env, encoding: 'utf8' }).stdout;
  };
  t.match(ask('p2pdma co'), /^completion\t.*\ncopy\t/);
  t.match(ask('p2pdma list --machine acs'), /^acs\tpreset\nacs-listed\tpreset\n/);
  t.match(ask('p2pdma copy --machine switch d'), /^disk of mine\.img/);
});
