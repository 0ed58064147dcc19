import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { inOptions } from '../../lib/cli/errors.js';
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

t.test('what commander finds is JSON too', async (t) => {
  for (const [message, hint, ...args] of [
    [/'1XB' is invalid\. Expected a size/, /./, 'copy', 'a', 'q', '--end', '1XB'],
    [/^unknown option '--verfy'/, /--verify/, 'copy', 'a', 'q', '--verfy'],
    [/^missing required argument 'dst'/, /./, 'copy', 'a'],
    [/^unknown command 'copi'/, /copy/, 'copi'],
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

t.test('the library’s names in those of the command line, but not in what is quoted', (t) => {
  for (const [said, wanted] of [
    [
      "option highWaterMark: must be more (received 'option start')",
      "option --chunk: must be more (received 'option start')",
    ],
    ['Drop requireP2p to fall back', 'Drop --require-p2p to fall back'],
    ['Unmount it, or pass force if you are sure.', 'Unmount it, or pass --force if you are sure.'],
    ["'/tmp/queueDepth' is odd", "'/tmp/queueDepth' is odd"],
    ['option --end: 5 is beyond', 'option --end: 5 is beyond'],
    ['host memory was asked for (provider: none)', 'host memory was asked for (--provider none)'],
    ['use --provider none', 'use --provider none'],
    ['option bandwidth: no', 'option --bwlimit: no'],
  ] as const) {
    t.equal(inOptions(said), wanted);
  }
  t.end();
});
