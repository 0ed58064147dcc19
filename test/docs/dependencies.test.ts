/** docs/dependencies.md and NOTICES.md: every dependency is there, with the licence and the size that it has. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const manifest = JSON.parse(read('package.json')) as Record<
  'dependencies' | 'devDependencies' | 'peerDependencies',
  Record<string, string>
>;
const [users, developers] = read('docs/dependencies.md').split('## What only a clone needs') as [
  string,
  string,
];

/** The cells of each row below the head. */
function rows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(1).map((line) => line.slice(2, -2).split(' | '));
}

const installed = (name: string) => join(root, 'node_modules', name);
const licence = (name: string): string =>
  JSON.parse(readFileSync(join(installed(name), 'package.json'), 'utf8')).license;

/** In kB, of the files as they are, without the packages inside. */
function size(name: string): number {
  const files = readdirSync(installed(name), { recursive: true, withFileTypes: true });
  const own = files.filter((file) => file.isFile() && !file.parentPath.includes(`${name}/node_modules`));
  return own.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0) / 1000;
}

t.test('what comes with the package', async (t) => {
  const table = rows(users);
  t.strictSame(
    table.map(([name]) => name),
    Object.keys(manifest.dependencies).sort(),
  );
  for (const [name, said, kilobytes, ...words] of table) {
    t.equal(said, licence(name!), name!);
    const [is, stated] = [size(name!), Number(/^(\d+) kB$/.exec(kilobytes!)?.[1])];
    t.ok(Math.abs(is - stated) <= Math.max(stated / 10, 1), `${name}: ${is.toFixed()} kB, stated: ${stated}`);
    t.equal(words.filter((text) => text.trim() !== '').length, 3, `${name}: reason, maintenance, leaving`);
  }
});

t.test('optional peers', async (t) => {
  for (const name of Object.keys(manifest.peerDependencies))
    t.match(users, `\`${name}\` is an optional peer`);
});

t.test('what only a clone needs', async (t) => {
  const table = rows(developers);
  t.strictSame(
    table.map(([name]) => name),
    Object.keys(manifest.devDependencies).sort(),
  );
  for (const [name, said, reason] of table) {
    t.equal(said, licence(name!), name!);
    t.not(reason, '');
  }
});

t.test('the dependencies of dependencies: how many there are', async (t) => {
  const { packages } = JSON.parse(read('package-lock.json')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const all = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  const numbers = [
    'no',
    'one',
    'two',
    'three',
    'four',
    'five',
    'six',
    'seven',
    'eight',
    'nine',
    'ten',
    'eleven',
    'twelve',
  ];
  const direct = Object.keys(manifest.dependencies).length;
  const peers = Object.keys(manifest.peerDependencies).length;
  const [few, others] = [numbers[direct]!, numbers[all.length - direct]!];
  t.ok(peers > 0, 'a peer is a development dependency here');
  t.match(users.toLowerCase(), `${few} packages, and ${others} that four of them bring`);
});

t.test('what is bundled: named, and its licence is in NOTICES.md', async (t) => {
  const { BUNDLED } = createRequire(import.meta.url)(join(root, 'scripts/bundle.cjs')) as {
    BUNDLED: string[];
  };
  t.ok(BUNDLED.length > 0);
  const notices = read('NOTICES.md').replaceAll(/\s+/g, ' ');
  for (const name of BUNDLED) {
    t.match(users, `**${name}** (${licence(name)})`);
    const text = readFileSync(join(installed(name), 'LICENSE'), 'utf8');
    t.match(notices, text.slice(text.indexOf('Copyright')).replaceAll(/\s+/g, ' ').trim());
  }
});

t.test('the licence of each header that is compiled in is in NOTICES.md', async (t) => {
  const notices = read('NOTICES.md').replaceAll(/\s+/g, ' ');
  const text = readFileSync(join(installed('node-addon-api'), 'LICENSE.md'), 'utf8');
  t.match(notices, text.slice(text.indexOf('Copyright')).replaceAll(/\s+/g, ' ').trim());
  for (const name of readdirSync(join(root, 'src-native'))) {
    for (const [, header] of read(`src-native/${name}`).matchAll(/^#include <(linux\/\S+)>/gm)) {
      t.match(notices, `\`${header}\``, name);
    }
  }
});
