/** What the commands print fits a terminal of 80 columns, on every built-in machine; or its line cannot be broken. */
import t from 'tap';
import { MACHINE_PRESETS } from '../../lib/index.js';
import { runCli } from '../helpers/cli.js';

const WIDTH = 80;

/** Lines that cannot be broken, and why. */
const WHOLE: readonly RegExp[] = [
  // A shell command to paste: a line break would end it.
  /^ {4}(echo|sudo) /,
  // A line of the tree: broken, what is below it would stand below nothing.
  /^[│┃ ]*[├└┣┗┡┠]/,
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
  ['copy', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', '--dry-run'],
  ['copy', 'nvme0n1', 'nvme1n1', '--bytes', '1MiB', '--verify'],
  ['trace', 'copy', 'nvme0n1', 'nvme1n1', '--bytes', '4096'],
  // What they answer to a line that is wrong.
  ['copy', 'nvme0n1', 'nvme1n1', '--chunk', 'big'],
  ['copy', 'nvme0n1', 'nvme9n1', '--bytes', '1MiB'],
  ['explain', 'nvme0', 'nvme9'],
];

for (const machine of MACHINE_PRESETS) {
  t.test(machine, async (t) => {
    for (const line of LINES) {
      const { stdout, stderr } = runCli([...line, '--machine', machine], {
        env: { COLUMNS: String(WIDTH), NO_COLOR: '1' },
      });
      const printed = `${stdout}${stderr}`.split('\n');
      t.ok(printed.length > 1, `${line.join(' ')}: it printed something`);
      const wide = printed.filter(
        (text) => [...text].length > WIDTH && !WHOLE.some((pattern) => pattern.test(text)),
      );
      t.strictSame(wide, [], line.join(' '));
    }
  });
}
