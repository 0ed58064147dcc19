import t from 'tap';
import { readTap } from '../tap.js';

const read = (text: string) => readTap(text.split('\n'));

t.test('nested results are counted at their leaves', async (t) => {
  const summary = read(`TAP version 14
# Subtest: file.test.js
    # Subtest: one
        ok 1 - a
        ok 2 - b
        1..2
    ok 1 - one # time=3ms
    ok 2 - lone
    1..2
ok 1 - file.test.js # time=9ms
1..1`);
  t.same(summary, { passed: 3, failed: [], skipped: [], complete: true });
});

t.test('a failure is named by its path, once', async (t) => {
  const summary = read(`TAP version 14
# Subtest: file.test.js
    # Subtest: one
        ok 1 - a
        not ok 2 - b
          ---
          ok 9 - not a result
          ...
        1..2
    not ok 1 - one # time=3ms
    1..1
not ok 1 - file.test.js
1..1`);
  t.same(summary.failed, ['file.test.js > one > b']);
  t.equal(summary.passed, 1);
});

t.test('a file that fails without a failed assertion is still a failure', async (t) => {
  const summary = read(`TAP version 14
# Subtest: file.test.js
    ok 1 - a
not ok 1 - file.test.js
1..1`);
  t.same(summary.failed, ['file.test.js']);
});

t.test('skips carry their reason', async (t) => {
  const summary = read('TAP version 14\nok 1 - x # SKIP no CMB\n1..1');
  t.same(summary.skipped, ['x (no CMB)']);
});

t.test('no plan, a wrong plan, or a bail out is not complete', async (t) => {
  t.equal(read('ok 1 - a').complete, false);
  t.equal(read('ok 1 - a\n1..2').complete, false);
  t.equal(read('ok 1 - a\nBail out! broken\n1..1').complete, false);
  t.equal(read('').complete, false);
});
