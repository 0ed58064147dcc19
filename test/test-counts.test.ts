/** What the closing lines of npm test and of the runs on other runtimes count, and where the randomness of tests comes from. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const require = createRequire(new URL('../../scripts/', import.meta.url));
const { countsByFile, failedNames } = require('./tap-counts.cjs');
const { suiteOf, table } = require('./suites.cjs');

const OUTPUT = `# Subtest: dist/test/faults.test.js
    # Subtest: two levels
        ok 1 - one
        not ok 2 - two
          ---
          diff: "ok 3 - is no point"
          ...
        ok 3 - three # SKIP not here
        1..3
    not ok 1 - two levels # time=3ms
    # Subtest: a test without a point counts for itself
        1..0
    ok 2 - a test without a point counts for itself
    1..2
not ok 1 - dist/test/faults.test.js # time=9ms
# Subtest: dist/test/crashes.test.js
    ok 1 - before it ends the process
not ok 2 - dist/test/crashes.test.js # time=1ms
`;

t.test('points are counted once; a file that ends badly has failed', async (t) => {
  const counts = countsByFile(OUTPUT);
  t.strictSame(
    [...counts],
    [
      ['dist/test/faults.test.js', { passed: 2, failed: 1, skipped: 1 }],
      ['dist/test/crashes.test.js', { passed: 1, failed: 1, skipped: 0 }],
    ],
  );
  t.strictSame(
    [...countsByFile('ok 1 - alone\nnot ok 2 - too\n1..2\n')],
    [['', { passed: 1, failed: 1, skipped: 0 }]],
  );
});

t.test('what failed, by name', async (t) => {
  t.strictSame(failedNames(OUTPUT), ['two']);
  t.strictSame(failedNames('not ok 1\n1..1\n'), ['a point without a name']);
});

t.test('the table: suite × runtime', async (t) => {
  t.equal(suiteOf('conformance/native.test.js'), 'conformance');
  t.equal(suiteOf('cli.test.js'), 'command, documents, packages');
  const counts = (failed: number) => ({ passed: 10, failed, skipped: 2 });
  const results = new Map([
    ['Node 20', new Map([['faults', counts(0)]])],
    [
      'Node 26',
      new Map([
        ['faults', counts(1)],
        ['conformance', counts(0)],
      ]),
    ],
  ]);
  t.strictSame(table(results).split('\n'), [
    '| passed / failed / skipped | Node 20    | Node 26    |',
    '|---------------------------|------------|------------|',
    '| conformance               | –          | 10 / 0 / 2 |',
    '| faults                    | 10 / 0 / 2 | 10 / 1 / 2 |',
  ]);
});

t.test('one seed, said in the output, makes a file draw the same again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'p2pdma-seed-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'draws.mjs');
  const helper = fileURLToPath(new URL('helpers/random.js', import.meta.url));
  writeFileSync(
    file,
    `import { fc, random } from ${JSON.stringify(helper)};
    const drawn = [random()];
    fc.assert(fc.property(fc.nat(), (n) => void drawn.push(n)));
    console.log('#', JSON.stringify(drawn));`,
  );
  const run = (seed: string | undefined) => {
    const { P2PDMA_SEED: _, ...env } = process.env;
    const { status, stdout } = spawnSync(process.execPath, [file], {
      encoding: 'utf8',
      env: seed === undefined ? env : { ...env, P2PDMA_SEED: seed },
    });
    const said = /# random with P2PDMA_SEED=(\d+)/.exec(stdout)?.[1];
    return { status, said, drawn: /# (\[.*\])/.exec(stdout)?.[1] };
  };
  const first = run(undefined);
  t.match(first, { status: 0, said: /^\d+$/, drawn: /^\[0\.\d+,\d+/ });
  t.strictSame(run(first.said), first);
  t.not(run(String(Number(first.said) + 1)).drawn, first.drawn);
  t.not(run('many').status, 0);
});
