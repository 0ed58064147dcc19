import t from 'tap';
import { failureOf } from '../boot.js';
import { checkConfig } from '../kernel.js';
import { readTap } from '../tap.js';

const good = ['TAP version 14', 'ok 1 - a', '1..1', '# guest done'];

function ending(more: Partial<Parameters<typeof failureOf>[0]> & { lines?: string[] }) {
  const lines = more.lines ?? good;
  return {
    timedOut: false,
    limitSeconds: 60,
    exit: '',
    stderr: '',
    console: '',
    ...more,
    lines,
    tap: readTap(lines),
  };
}

t.test('only a guest that ends well passes', async (t) => {
  t.equal(failureOf(ending({})), null);
  const rows: [Parameters<typeof ending>[0], RegExp][] = [
    [
      { console: 'Kernel panic - not syncing: Attempted to kill init!' },
      /kernel panicked: Attempted to kill init/,
    ],
    [
      { console: 'Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled' },
      /ran out of memory/,
    ],
    [{ console: 'Out of memory: Killed process 99 (node)' }, /ran out of memory/],
    [{ console: 'BUG: kernel NULL pointer dereference' }, /kernel failed: BUG/],
    [{ timedOut: true, lines: good.slice(0, 2) }, /hung: not done after 60 s; last result line: ok 1 - a/],
    [
      { exit: 'QEMU ended with status 1', stderr: 'no such device' },
      /QEMU ended with status 1: no such device/,
    ],
    [{ lines: [] }, /never reported/],
    [{ lines: good.slice(0, 3) }, /stopped before its end/],
    [{ lines: ['TAP version 14', 'ok 1 - a', '1..2', '# guest done'] }, /not complete TAP/],
    [{ lines: ['TAP version 14', 'not ok 1 - a', '1..1', '# guest done'] }, /1 failed:\n {2}a/],
    [{ lines: ['TAP version 14', '1..0', '# guest done'] }, /no test ran/],
  ];
  for (const [more, message] of rows) t.match(failureOf(ending(more)), message);
});

t.test('an option that Kconfig dropped is an error', async (t) => {
  const fragment = '# a comment\nCONFIG_A=y\n# CONFIG_B is not set\n';
  t.doesNotThrow(() => checkConfig(fragment, 'CONFIG_A=y\n# CONFIG_B is not set\n'));
  t.throws(() => checkConfig(fragment, '# CONFIG_A is not set\n'), /dropped CONFIG_A=y/);
  t.throws(() => checkConfig(fragment, 'CONFIG_A=y\nCONFIG_B=y\n'), /kept CONFIG_B/);
});
