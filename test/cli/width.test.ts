/** What the commands print fits a terminal of 80 columns, on every built-in machine; or its line cannot be broken. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { MACHINE_PRESETS } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { runCli } from '../helpers/cli.js';

const WIDTH = 80;

/** Lines that cannot be broken, and why. */
const WHOLE: readonly RegExp[] = [
  // A shell command to paste: a line break would end it.
  /^ {4}(echo|sudo) /,
  // A line of the tree: broken, what is below it would stand below nothing.
  /^[│┃ ]*[├└┣┗┡┠]/,
  // A string in JSON is on one line.
  /^ +"description": "/,
  // A digest is one word.
  /^ *sha256:[0-9a-f]{64}$/,
];

const LINES: readonly (readonly string[])[] = [
  ['list'],
  ['topo'],
  ['topo', '--route', 'nvme0n1', 'nvme1n1'],
  ['explain'],
  ['explain', 'nvme0', 'nvme1'],
  ['explain', '--kernel', 'all'],
  ['explain', '--kernel', 'proposed'],
  ['doctor'],
  ['snapshot'],
  ['copy', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', '--dry-run'],
  ['copy', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', '--verify'],
  ['trace', 'copy', 'nvme0n1', 'nvme1n1', '--chunk', '4096'],
  ['bench', 'nvme0n1', 'nvme1n1', '--bytes', '64KiB', '--chunks', '4KiB', '--rounds', '1'],
  ['bench', 'nvme0n1', 'nvme1n1', '--write', '--bytes', '64KiB', '--chunks', '64KiB', '--rounds', '1'],
  // What they answer to a line that is wrong.
  ['copy', 'nvme0n1', 'nvme1n1', '--chunk', 'big'],
  ['copy', 'nvme0n1', 'nvme9n1', '--bytes', '1MiB'],
  ['explain', 'nvme0', 'nvme9'],
];

function printed(line: readonly string[]): string[] {
  const { stdout, stderr } = runCli(line, { env: { COLUMNS: String(WIDTH), NO_COLOR: '1' } });
  return `${stdout}${stderr}`.split('\n');
}

function wide(lines: readonly string[]): string[] {
  return lines.filter((text) => [...text].length > WIDTH && !WHOLE.some((pattern) => pattern.test(text)));
}

for (const machine of MACHINE_PRESETS) {
  t.test(machine, async (t) => {
    for (const line of LINES) {
      const lines = printed([...line, '--machine', machine]);
      t.ok(lines.length > 1, `${line.join(' ')}: it printed something`);
      t.strictSame(wide(lines), [], line.join(' '));
    }
  });
}

t.test('captured trees: empty, and of a kernel without P2PDMA', async (t) => {
  const empty = t.testdir({ sys: {}, proc: {} });
  const config = { p2pdma: false, at: 'boot' } as const;
  const lacks = writeSysfsTree(t.testdir({}), { ...twoDrivesBelowASwitch(), config });
  for (const line of [
    ['list', '--root', empty],
    ['doctor', '--root', empty],
    ['snapshot', '--root', empty],
    ['list', '--root', lacks],
    ['doctor', '--root', lacks],
  ]) {
    const lines = printed(line);
    t.ok(lines.length > 1, `${line.join(' ')}: it printed something`);
    const own = wide(lines).filter((text) => !text.includes(empty) && !text.includes(lacks));
    t.strictSame(own, [], line.join(' '));
  }
});

t.test('demo', async (t) => t.strictSame(wide(printed(['demo', fileURLToPath(import.meta.url)])), []));

t.test('what is too long for a table is above its rows', async (t) => {
  const source = join(
    t.testdir({ [`${'long-'.repeat(15)}name`]: 'x'.repeat(65536) }),
    `${'long-'.repeat(15)}name`,
  );
  const small = ['--machine', 'switch', '--bytes', '4KiB', '--chunks', '4KiB', '--rounds', '1'];
  const lines = printed(['bench', source, ...small]);
  t.match(lines.join('\n'), /\n +4 KiB .*\n {12}└ .*(as fast|no difference)/);
});
