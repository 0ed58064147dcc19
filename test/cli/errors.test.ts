import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { main, runCli } from '../helpers/cli.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-cli-errors-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
writeFileSync(file('a'), 'hello');

function p2pdma(...args: string[]) {
  return runCli(args, { cwd: folder });
}

const SWITCH = ['--machine', 'switch'];

t.test('the same words, as text and as JSON, with the same exit code', async (t) => {
  for (const [status, code, message, hint, ...args] of [
    [2, 'ENOTDIR', /a\/x'/, /./, 'copy', 'a/x', 'q', ...SWITCH],
    [2, 'EINVAL', /character device/, /gzip-backup/, 'copy', '/dev/zero', 'q', ...SWITCH],
    [
      2,
      'ERR_INVALID_ARG_VALUE',
      /^'-'/,
      /^For a file of this name put \.\/ before/,
      'trace',
      'copy',
      'a',
      '-',
      ...SWITCH,
    ],
    [2, 'ERR_OVERLAP', /both/, /./, 'copy', 'a', 'a', ...SWITCH],
    [2, 'ERR_OVERLAP', /named twice/, /./, 'copy', 'a', 'nvme0n1', 'nvme0n1', ...SWITCH],
    [
      ...([2, 'ERR_INVALID_ARG_VALUE', /^--provider none and --require-p2p/, /Drop one/] as const),
      ...['copy', 'a', 'q', '--provider', 'none', '--require-p2p', ...SWITCH],
    ],
    [
      ...([
        2,
        'ERR_CHUNK_TOO_LARGE',
        /^option --chunk: a chunk of 67108864/,
        /^Make --chunk smaller/,
      ] as const),
      ...['copy', 'nvme0n1', 'nvme1n1', '--chunk', '64MiB', ...SWITCH],
    ],
    [2, 'ERR_OUT_OF_RANGE', /^option --depth: /, /./, 'copy', 'a', 'q', '--depth', '0', ...SWITCH],
    [2, 'ERR_OUT_OF_RANGE', /^option --start: 2147483648/, /./, 'copy', 'a', 'q', '--start', '2g', ...SWITCH],
    [
      2,
      'ERR_INVALID_ARG_VALUE',
      /^option --provider: .*'nvme9'/,
      /./,
      'copy',
      'a',
      'q',
      '--provider',
      'nvme9',
      ...SWITCH,
    ],
    [2, 'ERR_MACHINE_INVALID', /'swich'/, /'switch'/, 'list', '--machine', 'swich'],
    [
      2,
      'ENOENT',
      /there is no such file.*nope\.json'/,
      /p2pdma snapshot/,
      'list',
      '--machine',
      './nope.json',
    ],
    [2, 'ERR_BACKEND_UNAVAILABLE', /^option --root: there is no/, /./, 'list', '--root', '/no/such'],
    [
      1,
      'ERR_P2P_REQUIRED',
      /^--require-p2p: /,
      /^Drop --require-p2p/,
      'copy',
      'a',
      'q',
      '--machine',
      'no-cmb',
      '--require-p2p',
    ],
  ] as [number, string, RegExp, RegExp, ...string[]][]) {
    const line = args.join(' ');
    const text = p2pdma(...args);
    t.equal(text.status, status, line);
    t.equal(text.stdout, '', line);
    t.notMatch(text.stderr, /highWaterMark|queueDepth|requireP2p/, line);
    const json = p2pdma(...args, '--json');
    t.equal(json.status, status, line);
    t.equal(json.stdout, '', line);
    const said = JSON.parse(json.stderr);
    t.match(said, { type: 'error', code, message, hint }, line);
    const whose =
      said.machine === null ? '' : `emulated machine '${said.machine}': its drives end with this process\n`;
    t.equal(text.stderr, `${whose}error ${code}: ${said.message}\n${said.hint}\n`, line);
  }
  t.notOk(existsSync(file('-')));
  t.notOk(existsSync(file('q')));
});

t.test('what is wrong with a line is JSON too', async (t) => {
  for (const [message, hint, ...args] of [
    [/^'1XB' is not an allowed value of --end$/, /^Give a size/, 'copy', 'a', 'q', '--end', '1XB'],
    [/^copy has no option '--verfy'$/, /--verify/, 'copy', 'a', 'q', '--verfy'],
    [/^copy needs <dst\.\.\.>$/, /^Write: p2pdma copy /, 'copy', 'a'],
    [/^p2pdma has no command 'copi'$/, /copy/, 'copi'],
  ] as [RegExp, RegExp, ...string[]][]) {
    const { status, stdout, stderr } = p2pdma(...args, '--json');
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '', args.join(' '));
    t.match(
      JSON.parse(stderr),
      { type: 'error', code: 'ERR_INVALID_ARG_VALUE', message, hint },
      args.join(' '),
    );
  }
});

t.test('a bad machine file: it is named, and all that is wrong with it', async (t) => {
  writeFileSync(file('empty.json'), '{}');
  const { status, stderr } = p2pdma('list', '--machine', './empty.json');
  t.equal(status, 2);
  t.match(
    stderr,
    /^error ERR_MACHINE_INVALID: '\.\/empty\.json': \d+ problems: version: .*; hostBridges: missing/,
  );
  t.match(stderr, /functions: missing/);
  t.match(stderr, /\n.*schema\/machine\.schema\.json.*p2pdma snapshot.*presets/);
  writeFileSync(file('torn.json'), '{"version": 1,');
  t.match(
    p2pdma('list', '--machine', './torn.json').stderr,
    /^error ERR_MACHINE_INVALID: .*torn\.json.*not JSON/,
  );
});

t.test(
  'stdout that is full: one line, 1',
  { skip: !existsSync('/dev/full') && 'no /dev/full' },
  async (t) => {
    const full = (...args: string[]) => {
      const { status, stderr } = spawnSync(process.execPath, [main, ...args], {
        encoding: 'utf8',
        cwd: folder,
        stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
      });
      return { status, stderr };
    };
    t.match(full('list', ...SWITCH), {
      status: 1,
      stderr: /^the output could not be written to stdout: ENOSPC.*\n$/,
    });
    t.match(full('copy', 'a', 'done', ...SWITCH), {
      status: 1,
      stderr: /^the copy is done; its receipt could not be written to stdout: ENOSPC.*\n$/,
    });
    t.equal(readFileSync(file('done'), 'utf8'), 'hello');
    const { status, stderr } = full('copy', 'a', 'done', ...SWITCH, '--json');
    t.equal(status, 1);
    t.match(JSON.parse(stderr.trim().split('\n').at(-1)!), {
      type: 'error',
      code: 'ENOSPC',
      message: /^the copy is done/,
    });
  },
);

t.test('each command says the library’s options by its own', async (t) => {
  for (const [message, hint, ...args] of [
    [/^option --chunk: must be more than 0 \(received 0\)$/, /./, 'copy', 'a', 'q', '--chunk', '0'],
    [/^option --depth: must be 1024 or less/, /./, 'copy', 'a', 'q', '--depth', '1025'],
    [
      /^option --start: must be <= --end \(received --start 3, --end 1\)$/,
      /./,
      'copy',
      'a',
      'q',
      '--start',
      '3',
      '--end',
      '1',
    ],
    [
      /^option --destination-start: 2147483648 is beyond/,
      /./,
      'copy',
      'a',
      'nvme0n1',
      '--destination-start',
      '2g',
    ],
    [
      /^option --start: 2147483648 is at the end|^option --start: /,
      /./,
      'trace',
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--start',
      '2g',
    ],
    [
      /^option --chunks: a chunk of/,
      /^Make --chunks smaller/,
      'bench',
      'nvme0n1',
      'nvme1n1',
      '--write',
      '--chunks',
      '64m',
    ],
  ] as [RegExp, RegExp, ...string[]][]) {
    const { status, stderr } = p2pdma(...args, ...SWITCH, '--json');
    t.equal(status, 2, args.join(' '));
    t.match(JSON.parse(stderr), { message, hint }, args.join(' '));
  }
});

t.test('a file that is called as an option, a phrase, or with a quote keeps its name', async (t) => {
  for (const name of [
    "it's highWaterMark.img",
    "pass force, drop machine 'requireP2p' option start",
    'provider: none (`end`)',
    'ENOENT: queueDepth',
  ]) {
    const missing = JSON.parse(p2pdma('copy', name, 'q', ...SWITCH, '--json').stderr);
    t.match(missing, { code: 'ENOENT', message: `no such file or directory, open '${file(name)}'` });
    writeFileSync(file(name), 'hello');
    const twice = p2pdma('copy', name, name, ...SWITCH);
    t.equal(twice.status, 2);
    t.ok(twice.stderr.includes(`source and destination are both '${file(name)}'`), twice.stderr);
    const start = JSON.parse(p2pdma('copy', name, 'q', '--start', '9', ...SWITCH, '--json').stderr);
    t.equal(start.message, `option --start: 9 is beyond the end of '${name}' (5 bytes)`);
    const machine = JSON.parse(p2pdma('list', '--machine', `./${name}`, '--json').stderr);
    t.ok(machine.message.startsWith(`./${name}: not JSON: `), machine.message);
    t.equal(p2pdma('copy', name, `${name}.copy`, ...SWITCH, '--quiet').status, 0);
  }
});

t.test(
  '2 is what comes of the line and of what it names; 1 what comes later, whatever its code',
  async (t) => {
    // The same code from either side.
    t.match(p2pdma('copy', 'nope', 'q', ...SWITCH), { status: 2, stderr: /error ENOENT/ });
    t.match(p2pdma('copy', 'a', 'nope/q', ...SWITCH), { status: 1, stderr: /error ENOENT/ });
    t.match(p2pdma('demo', 'nope'), { status: 2, stderr: /error ENOENT/ });
    t.match(p2pdma('snapshot', ...SWITCH, '--name', 'x'.repeat(201)), { status: 2, stderr: /1 to 200/ });
  },
);

t.test(
  'what the library says of its options elsewhere than in errors is said by the command’s too',
  async (t) => {
    const none = ['--provider', 'none', ...SWITCH];
    const reason = 'host memory was asked for (--provider none)';
    t.equal(JSON.parse(p2pdma('copy', 'a', 'r1', ...none, '--json').stdout).reason, reason);
    t.match(p2pdma('copy', 'a', 'r2', ...none).stdout, `because        ${reason}\n`);
    t.equal(JSON.parse(p2pdma('copy', 'a', 'r3', ...none, '--dry-run', '--json').stdout).reason, reason);
    t.match(p2pdma('trace', 'copy', 'a', 'r4', ...none).stdout, reason);
  },
);

t.test('without the addon: what to write on this line', async (t) => {
  for (const args of [
    ['copy', 'a', 'q'],
    ['trace', 'copy', 'a', 'q'],
    ['bench', 'a'],
  ]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--no-addons', main, ...args], {
      encoding: 'utf8',
      cwd: folder,
    });
    t.match(
      stderr,
      /^error ERR_BACKEND_UNAVAILABLE: .*\n.* To try it without, emulate a machine: --machine switch\.\n$/,
      args.join(' '),
    );
    t.match({ status, stdout }, { status: 1, stdout: '' }, args.join(' '));
  }
  const doctor = spawnSync(process.execPath, ['--no-addons', main, 'doctor'], { encoding: 'utf8' });
  t.match(doctor.stdout, /emulate a machine: --machine switch/);
  t.notMatch(doctor.stdout, "machine: 'switch'");
});
