/** The documents say what is: every shell line in them runs. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../', import.meta.url));
const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));

// The blocks import 'p2pdma', which resolves from inside the package.
const folder = mkdtempSync(join(root, 'dist', 'docs-'));
t.teardown(() => rmSync(folder, { recursive: true }));

for (const name of docs) {
  const text = readFileSync(join(root, 'docs', name), 'utf8');
  const lines = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap((match) =>
    match[1]!.trim().split('\n'),
  );
  t.test(name, async (t) => {
    t.not(text.trim(), '');
    for (const line of lines) {
      const run = spawnSync('sh', ['-c', line], { cwd: root, encoding: 'utf8' });
      t.equal(run.status, 0, `${line}\n${run.stderr}`);
    }
    for (const [i, [, source]] of [...text.matchAll(/^```js\n([\s\S]*?)^```/gm)].entries()) {
      const file = join(folder, `${name}-${i}.mjs`);
      writeFileSync(file, source!);
      const run = spawnSync(process.execPath, [file], { cwd: root, encoding: 'utf8' });
      t.equal(run.status, 0, `${file}\n${run.stderr}`);
    }
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      t.equal(spawnSync('test', ['-e', join(root, 'docs', target!)]).status, 0, `${name} links to ${target}`);
    }
  });
}
