/** `--help` of every command: complete, within 80 columns, and each example runs and exits as it says. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { buildProgram } from '../../lib/cli/program.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { main, p2pdma, runCli } from '../helpers/cli.js';
import { bytesOf } from '../helpers/copies.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-help-'));
t.teardown(() => rmSync(folder, { recursive: true }));

/** All commands, as they are called: `''`, `'copy'`, `'trace copy'`, … */
function calls(command: Command, name = ''): { name: string; command: Command }[] {
  const below = command.createHelp().visibleCommands(command);
  return [{ name, command }, ...below.flatMap((one) => calls(one, `${name} ${one.name()}`.trim()))];
}

const commands = calls(await buildProgram());

function help(name: string): string {
  const { status, stdout, stderr } = p2pdma(...name.split(' ').filter(Boolean), '--help');
  if (status !== 0 || stderr !== '') throw new Error(`${name}: ${status} ${stderr}`);
  return stdout;
}

// --- a place where everything that the examples name is there, and nothing real is touched ---

const drive = (bdf: string, upstream: string) => ({
  bdf,
  type: 'endpoint',
  upstream,
  vendor: 0x1b36,
  device: 0x10,
  nvme: {
    cmb: { size: '16MiB' },
    // In files, so that a copy to them can be resumed.
    namespaces: [{ nsid: 1, size: '4MiB', store: 'file', file: join(folder, `${bdf}.img`) }],
  },
});
const port = (bdf: string, type: string, upstream: string | null) => ({
  bdf,
  type,
  upstream,
  vendor: 0x104c,
  device: 0x8233,
});
const small = {
  version: 1,
  name: 'small',
  hostBridges: [{ bus: 0 }],
  functions: [
    port('00:01.0', 'root-port', null),
    port('01:00.0', 'upstream-port', '00:01.0'),
    ...[0, 1, 2].flatMap((i) => [
      port(`02:0${i}.0`, 'downstream-port', '01:00.0'),
      drive(`0${3 + i}:00.0`, `02:0${i}.0`),
    ]),
  ],
};
writeFileSync(join(folder, 'small.json'), JSON.stringify(small));
writeSysfsTree(join(folder, 'captured'), twoDrivesBelowASwitch());
for (const name of ['disk.img', 'a.img']) writeFileSync(join(folder, name), bytesOf(1024 * 1024, 1));
for (const name of ['.zfunc', '.local/share/bash-completion/completions', '.config/fish/completions', 'bin'])
  mkdirSync(join(folder, name), { recursive: true });

const NEEDS_NONE = ['--machine', '--root', 'help', 'completion', 'demo', 'top'];
const onSmall = ['--machine', join(folder, 'small.json')];

/** `p2pdma` as an emulated machine where the line names none; what else the lines call does as little as possible. */
const SHIMS: Record<string, string> = {
  p2pdma: `case " $* " in
  ${NEEDS_NONE.map((word) => `*' ${word} '*`).join('|')}) exec '${process.execPath}' '${main}' "$@" ;;
  *) exec '${process.execPath}' '${main}' "$@" ${onSmall.join(' ')} ;;
esac`,
  sudo: 'exec "$@"',
  npx: 'exec "$@"',
  dot: 'cat > /dev/null',
  zstd: 'if [ "$1" = -dc ]; then cat a.img; else cat > /dev/null; fi',
};
for (const [name, script] of Object.entries(SHIMS)) {
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, 'bin', name), 0o755);
}

/** In a shell, unless the line is words alone. */
function run(line: string) {
  const env = { HOME: folder, PATH: `${join(folder, 'bin')}:${process.env.PATH}` };
  const [command, ...args] = line.replace(/^(sudo|npx) /, '').split(/ +/);
  if (command === 'p2pdma' && /^[\w ./:=,-]*$/.test(line)) {
    const named = NEEDS_NONE.some((word) => args.includes(word));
    return runCli([...args, ...(named ? [] : onSmall)], { cwd: folder, env });
  }
  return spawnSync('sh', ['-c', line], { cwd: folder, env: { ...process.env, ...env }, encoding: 'utf8' });
}

for (const { name, command } of commands) {
  const title = name || 'p2pdma';
  t.test(title, { timeout: 120_000 }, async (t) => {
    const text = help(name);
    const own = name === 'help' ? [] : ['Exit codes:', 'Examples:'];
    for (const part of [`Usage: p2pdma ${name}`.trim(), ...own]) t.match(text, part);
    const widest = Math.max(...text.split('\n').map((line) => [...line].length));
    t.ok(widest <= 80, `${widest} columns`);
    for (const option of command.options) {
      t.not(option.description, '', option.flags);
      for (const choice of option.argChoices ?? []) t.match(option.description, choice, option.flags);
    }
    t.equal(p2pdma('help', ...name.split(' ').filter(Boolean)).stdout, text);
    const examples = [...text.matchAll(/^((?: {2}# .*\n)+) {2}(p2pdma|sudo) (.*)$/gm)];
    t.ok(examples.length >= (name === 'help' ? 0 : 1), `${examples.length} examples`);
    for (const [, comment, first, rest] of examples) {
      const line = `${first} ${rest}`;
      const wanted = /exit code[\s#]+(\d+)/.exec(comment!)?.[1] ?? '0';
      const { status, stderr } = run(line);
      t.equal(status, Number(wanted), `${line}\n${stderr}`);
    }
  });
}

t.test(
  'wider terminals: at most 100 columns',
  { skip: spawnSync('script', ['--version']).status !== 0 },
  async (t) => {
    const line = `stty cols 160; '${process.execPath}' '${main}' copy --help`;
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], { encoding: 'utf8' });
    const widest = Math.max(...stdout.split(/\r?\n/).map((text) => [...text].length));
    t.ok(widest > 80 && widest <= 100, `${widest} columns`);
  },
);

t.test('unknown names: the nearest', async (t) => {
  for (const [pattern, ...args] of [
    [/p2pdma has no command 'copi'\nDid you mean 'copy'\?/, 'copi'],
    [/p2pdma has no command 'cop'\nDid you mean one of 'top', 'copy'\?/, 'help', 'cop'],
    [/trace has no command 'cpy'\nDid you mean 'copy'\?/, 'help', 'trace', 'cpy'],
    [/copy has no option '--verfy'\nDid you mean '--verify'\?/, 'copy', 'a', 'b', '--verfy'],
    [
      /'sgv' is not an allowed value of --format\nAllowed values: text, svg, html, dot, json\. Did you mean 'svg'\?/,
      'topo',
      '--format',
      'sgv',
    ],
    [/'urign' is not .*\n.*Did you mean 'uring'\?/, 'copy', 'a', 'b', '--engine', 'urign'],
    [/'alwys' is not .*\n.*Did you mean 'always'\?/, 'list', '--color', 'alwys'],
    [/'nativ' is not .*\n.*Did you mean 'native'\?/, 'list', '--backend', 'nativ'],
    [/'bsh' is not an allowed value of <shell>\nAllowed values: bash, zsh, fish\. Did/, 'completion', 'bsh'],
    [/there is no preset 'swich'\nDid you mean 'switch'\?/, 'list', '--machine', 'swich'],
    [
      /there is no .*'nvm0'\nDid you mean 'nvme0'\?/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--machine',
      'switch',
      '--provider',
      'nvm0',
    ],
    [/nvme0n7'\nDid you mean 'nvme0n1'\?/, 'copy', 'nvme0n7', 'nvme1n1', '--machine', 'switch'],
    [/nvme1n7'\nDid you mean 'nvme1n1'\?/, 'copy', 'nvme0n1', 'nvme1n7', '--machine', 'switch'],
    [
      /'nvme1'\n'nvme1' is a controller: name its namespace \(nvme1n1\)/,
      'copy',
      'nvme0n1',
      'nvme1',
      '--machine',
      'switch',
    ],
    [/nvme1n7'\nDid you mean 'nvme1n1'\?/, 'bench', 'nvme1n7', '--machine', 'switch'],
    [/nvme1n7'\nDid you mean 'nvme1n1'\?/, 'topo', '--route', 'nvme0n1', 'nvme1n7', '--machine', 'switch'],
    [/nvme0n7'\nDid you mean 'nvme0n1'\?/, 'explain', 'nvme0n7', '--machine', 'switch'],
  ] as const) {
    const { status, stdout, stderr } = p2pdma(...args);
    t.ok(status === 1 || status === 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, pattern, args.join(' '));
  }
});

t.test('--color', async (t) => {
  const list = (color: string, env: Record<string, string> = {}) =>
    runCli(['list', '--machine', 'switch', '--color', color], { env }).stdout;
  t.notMatch(list('auto'), '\u001b');
  t.notMatch(list('never'), '\u001b');
  t.match(list('always'), '\u001b[');
  t.match(list('always', { NO_COLOR: '1' }), '\u001b[', 'what is said on the line counts more');
});
