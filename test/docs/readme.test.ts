/** Every command and code block of the README does what it says: it runs, and a comment behind a console.log is what that prints. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { optionHelp } from '../../lib/index.js';
import { blocksOf, runJs, runSh, sessionsOf } from '../helpers/doc-blocks.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = blocksOf(readme);

// The blocks import 'p2pdma', which resolves from inside the package.
const folder = mkdtempSync(join(root, 'dist', 'readme-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('the two lines come first', async (t) => {
  // npm ci and npm test are what runs this; npm start has a test of its own (cli.test.ts).
  t.match(blocks[0], { language: 'sh', body: 'npm ci && npm start\nnpm ci && npm test' });
  t.ok(blocks[0]!.line < 5);
});

for (const [i, block] of blocks.entries()) {
  if (i === 0) continue;
  t.test(`line ${block.line}: ${block.language}`, async (t) => {
    switch (block.language) {
      case 'js':
        return runJs(t, block.body, join(folder, `block-${i}.mjs`));
      case 'sh':
        return runSh(t, sessionsOf([block], 'sh')[0]!);
      case '':
        t.match(block.body, /[│─▶]/, 'a drawing');
        return;
      default:
        t.fail(`nobody knows how to check a block of '${block.language}'`);
    }
  });
}

t.test('the number of machines is right', async (t) => {
  const { MACHINE_PRESETS } = await import('../../lib/index.js');
  t.match(readme, `[one of ${MACHINE_PRESETS.length} machines](docs/presets.md)`);
});

t.test('where it runs: what package.json and the prebuilds say', async (t) => {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  t.match(readme, `Node ${engines.node.replace('>=', '')} or newer`);
  const script = readFileSync(join(root, 'scripts/prebuild.cjs'), 'utf8');
  const architectures = [...script.matchAll(/^ {2}(\w+): \{ prefix:/gm)].map(([, name]) => name);
  const libcs = [...script.matchAll(/^ {2}(glibc|musl): \{/gm)].map(([, name]) => name);
  t.strictSame(libcs, ['glibc', 'musl']);
  t.match(readme, `Linux ${architectures.join(', ')}; glibc ≥ 2.28 or musl: addon included`);
});

t.test('the defaults in the table of options are those of the options', async (t) => {
  const rows = readme.matchAll(/^\| `(\w+)` +\| [^|]+ \| (.+?) +\|$/gm);
  let seen = 0;
  for (const [, name, said] of rows) {
    if (!Object.hasOwn(optionHelp, name!)) continue;
    const { value, byDefault } = optionHelp[name as keyof typeof optionHelp];
    const inCode = typeof value === 'string' ? `\`'${value}'\`` : `\`${value}\``;
    const wanted = value === undefined || typeof value === 'number' ? byDefault : inCode;
    t.equal(said, wanted, name!);
    seen++;
  }
  t.equal(seen, 7);
});
