/** Every command and code block of the README does what it says: it runs, and a comment behind a console.log is what that prints. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1]!,
  );

// The blocks import 'p2pdma', which resolves from inside the package.
const folder = mkdtempSync(join(root, 'dist', 'readme-'));
t.teardown(() => rmSync(folder, { recursive: true }));

for (const [i, source] of blocks('js').entries()) {
  t.test(`code block ${i + 1}`, async (t) => {
    const file = join(folder, `block-${i}.mjs`);
    writeFileSync(file, source);
    const run = spawnSync(process.execPath, [file], { encoding: 'utf8' });
    t.equal(run.status, 0, run.stderr);
    for (const [, said] of source.matchAll(/console\.log\(.*\); \/\/ ([^:\n]*)$/gm))
      t.match(run.stdout, said);
  });
}

t.test('commands', async (t) => {
  const lines = blocks('sh').flatMap((block) => block.trim().split('\n'));
  t.same(lines.slice(0, 2), ['npm ci && npm start', 'npm ci && npm test'], 'the two lines come first');
  // npm ci and npm test are what runs this; npm start has a test of its own (cli.test.ts).
  for (const line of lines.slice(2)) {
    t.match(line, /^npx p2pdma /);
    const run = spawnSync('sh', ['-c', line], { cwd: root, encoding: 'utf8' });
    t.equal(run.status, 0, `${line}\n${run.stderr}`);
    t.not(run.stdout, '', line);
  }
});

t.test('the list of presets is complete', async (t) => {
  const { MACHINE_PRESETS } = await import('../lib/index.js');
  for (const preset of MACHINE_PRESETS) t.match(readme, `\`${preset}\``);
});
