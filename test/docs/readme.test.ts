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
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly name: string;
  readonly engines: { readonly node: string };
};

// The blocks import 'p2pdma', which resolves from inside the package.
const folder = mkdtempSync(join(root, 'dist', 'readme-'));
t.teardown(() => rmSync(folder, { recursive: true }));

/** The options that most programs need; docs/api.md has them all. */
const OPTIONS = [
  'start',
  'end',
  'highWaterMark',
  'queueDepth',
  'provider',
  'memory',
  'requireP2p',
  'verify',
  'flush',
] as const;

t.test('the two lines come first', async (t) => {
  // npm ci and npm test are what runs this; npm start has a test of its own (cli.test.ts).
  t.match(blocks[0], { language: 'sh', body: 'npm ci && npm start\nnpm ci && npm test' });
  t.ok(blocks[0]!.line < 5);
});

t.test('after them, for a project of one’s own: how to install it, and ten lines to run', async (t) => {
  const install = blocks.findIndex(({ body }) => body === `npm install ${manifest.name}`);
  t.ok(install > 0);
  const { language, body } = blocks[install + 1]!;
  t.equal(language, 'js');
  t.ok(body.split('\n').length <= 10);
  t.match(body, "machine: '", 'on an emulated machine');
});

for (const [i, block] of blocks.entries()) {
  if (i === 0) continue;
  t.test(`line ${block.line}: ${block.language}`, async (t) => {
    switch (block.language) {
      case 'js':
        return runJs(t, block.body, join(folder, `block-${i}.mjs`));
      case 'sh':
        // What it installs is what install/package.test.ts installs, and tries.
        if (block.body === `npm install ${manifest.name}`) return;
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
  t.match(readme, `Node ${manifest.engines.node.replace('>=', '')} or newer`);
  const script = readFileSync(join(root, 'scripts/prebuild.cjs'), 'utf8');
  const architectures = [...script.matchAll(/^ {2}(\w+): \{ prefix:/gm)].map(([, name]) => name);
  const libcs = [...script.matchAll(/^ {2}(glibc|musl): \{/gm)].map(([, name]) => name);
  t.strictSame(libcs, ['glibc', 'musl']);
  t.match(readme, `Linux ${architectures.join(', ')}; glibc ≥ 2.28 or musl: addon included`);
});

const help: Readonly<Record<string, (typeof optionHelp)['start']>> = optionHelp;

/** A row of the table in the README, from the table of the options. */
function optionRow(name: string): string {
  const { text, value, byDefault } = help[name]!;
  const inCode = typeof value === 'string' ? `\`'${value}'\`` : `\`${value}\``;
  const plain = value === undefined || typeof value === 'number';
  const words = text.replaceAll(/('[a-z0-9+]+')/g, '`$1`').replace('release()', '`release()`');
  return `| \`${name}\` | ${words} | ${plain ? byDefault : inCode} |`;
}

t.test('the table of options is that of the options', async (t) => {
  const rows: string[] = readme.match(/^\| `\w+` \| .* \| .* \|$/gm) ?? [];
  const named = rows.flatMap((row) => {
    const [, name] = /^\| `(\w+)`/.exec(row)!;
    return Object.hasOwn(help, name!) ? [name!] : [];
  });
  t.strictSame(named, [...OPTIONS]);
  for (const name of OPTIONS) t.ok(rows.includes(optionRow(name)), optionRow(name));
});
