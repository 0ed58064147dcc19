/**
 * npm run test:install [-- TARBALL]: the packed package in empty folders, installed by each package manager on each Node,
 * without a compiler; and its types under each TypeScript. Without TARBALL the tree is packed as it is. The exit code is 1
 * if anything failed, and what was said then is printed.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MANAGERS, type Manager, type Place, type Ran, run } from './managers.js';
import { beforeRequire, KINDS, writeProject } from './type-projects.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const require = createRequire(import.meta.url);
const { names, runtime, versions } = require('../../../scripts/runtimes.cjs') as {
  readonly names: readonly string[];
  readonly versions: Readonly<Record<string, string>>;
  runtime(name: string): string;
};
const { inParallel } = require('../../../scripts/run-files.cjs') as {
  inParallel<T>(jobs: readonly T[], width: number, work: (job: T) => Promise<void>): Promise<void>;
};
const { typescript } = JSON.parse(readFileSync(join(root, 'test/install/tools.json'), 'utf8')) as {
  readonly typescript: readonly string[];
};
const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const COPY = `
  const system = await openSystem({ machine: 'switch' });
  const receipt = await system.pipeline('nvme0n1', 'nvme1n1', { end: 65535, verify: true });
  await system.close();
  console.log(receipt.transport);`;
const NATIVE = `
  import { openSystem } from 'p2pdma';
  import { readFileSync, writeFileSync } from 'node:fs';
  writeFileSync('a', 'p2pdma'.repeat(10_000));
  const system = await openSystem({ backend: 'native' });
  await system.pipeline('a', 'b');
  await system.close();
  const addons = readFileSync('/proc/self/maps', 'utf8').match(/[^ \\n]+\\.node$/gm) ?? [];
  console.log(readFileSync('a').equals(readFileSync('b')), /linux-\\w+\\W+p2pdma\\.\\w+\\.node$/.test(addons[0]));`;

/** What is tried in each folder, by its name in the table; what it must print. */
const CHECKS: Readonly<Record<string, { words: readonly string[]; prints: RegExp }>> = {
  import: { words: ['node', 'import.mjs'], prints: /^p2p-bus$/ },
  require: { words: ['node', 'require.cjs'], prints: /^p2p-bus$/ },
  addon: { words: ['node', 'native.mjs'], prints: /^true true$/ },
  command: {
    words: [
      'p2pdma',
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--machine',
      'switch',
      '--bytes',
      '1MiB',
      '--verify',
      '--json',
    ],
    prints: /"verified":true/,
  },
  types: { words: ['tsc', '-p', 'types-nodenext'], prints: /^$/ },
};

const FILES = {
  'package.json': '{ "private": true }\n',
  'import.mjs': `import { openSystem } from 'p2pdma';${COPY}`,
  'require.cjs': `const { openSystem } = require('p2pdma'); (async () => {${COPY}})();`,
  'native.mjs': NATIVE,
};

const newest = names.filter((name) => name.startsWith('node')).at(-1)!;
const work = mkdtempSync(join(tmpdir(), 'p2pdma-matrix-'));
const trouble: string[] = [];
try {
  process.exitCode = (await main(process.argv[2])) ? 0 : 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main(given: string | undefined): Promise<boolean> {
  const tarball = given === undefined ? packed() : resolve(given);
  const nodes = names.filter((name) => name.startsWith('node'));
  const cells = new Map<string, string>();
  const jobs = MANAGERS.flatMap((manager) => nodes.map((name) => ({ manager, name })));
  await inParallel(jobs, availableParallelism(), async ({ manager, name }) => {
    cells.set(`${manager.name} ${name}`, await cell(tarball, manager, name));
  });
  const rows = MANAGERS.map((manager) => [
    `${manager.name} (${manager.version})`,
    ...nodes.map((name) => cells.get(`${manager.name} ${name}`)!),
  ]);
  print(['', ...nodes.map((name) => `Node ${versions[name]}`)], rows);
  console.log(`yes: ${Object.keys(CHECKS).join(', ')} (types on the newest Node only)`);
  console.log('–: this npm does not support this Node');
  console.log();
  print(['', ...KINDS.map(({ resolution }) => resolution)], await types(tarball, nodes.at(-1)!));
  console.log('import: this TypeScript has no require of ES modules');
  for (const text of trouble) console.log(`\n${text}`);
  return trouble.length === 0;
}

function packed(): string {
  const pack = ['pack', root, '--json', '--ignore-scripts', '--pack-destination', work];
  const [{ filename }] = JSON.parse(execFileSync('npm', pack, { encoding: 'utf8', stdio: 'pipe' }));
  return join(work, filename);
}

/** An empty folder with the tarball and the scripts that try it. */
function emptyFolder(tarball: string, name: string): string {
  const folder = join(work, name.replaceAll(/\W+/g, '-'));
  mkdirSync(folder);
  copyFileSync(tarball, join(folder, 'p2pdma.tgz'));
  for (const [file, text] of Object.entries(FILES)) writeFileSync(join(folder, file), text);
  return folder;
}

async function cell(tarball: string, manager: Manager, name: string): Promise<string> {
  const since = manager.since === null ? '' : manager.since[Number(name.slice(4))];
  if (since === undefined) return '–';
  const title = `${manager.name} on ${name}`;
  const place: Place = { folder: emptyFolder(tarball, title), node: runtime(name) };
  manager.prepare(place.folder);
  const typed = [`typescript@${devDependencies.typescript}`, `@types/node@${devDependencies['@types/node']}`];
  const added = await run(manager, place, manager.add('./p2pdma.tgz', ...(name === newest ? typed : [])));
  if (added.status !== 0) return failed(`${title}: install`, added);
  writeProject(place.folder, KINDS.find(({ module }) => module === 'nodenext')!);
  const wrong: string[] = [];
  for (const [check, { words, prints }] of Object.entries(CHECKS)) {
    if (check === 'types' && name !== newest) continue;
    const done = await run(manager, place, manager.exec(...words));
    if (done.status === 0 && prints.test(done.stdout.trim().split('\n').at(-1)!)) continue;
    wrong.push(check);
    failed(`${title}: ${words.join(' ')}`, done);
  }
  rmSync(place.folder, { recursive: true });
  return wrong.length === 0 ? 'yes' : `no ${wrong.join(', ')}`;
}

function failed(title: string, { status, output }: Ran): string {
  trouble.push(`${title}: exit code ${status}\n${output.trim()}`);
  return 'not installed';
}

/** A row for each TypeScript: does each way of resolving modules check? */
async function types(tarball: string, name: string): Promise<string[][]> {
  const manager = MANAGERS[0]!;
  const place: Place = { folder: emptyFolder(tarball, 'types'), node: runtime(name) };
  const aliases = typescript.map((version) => `typescript-${version}@npm:typescript@${version}`);
  const tools = [...aliases, `@types/node@${devDependencies['@types/node']}`];
  const added = await run(manager, place, manager.add('./p2pdma.tgz', ...tools));
  if (added.status !== 0) return [[failed('types: install', added)]];
  const rows = [];
  for (const version of typescript) {
    const row = [`TypeScript ${version}`];
    const tsc = join(place.folder, `node_modules/typescript-${version}/bin/tsc`);
    if (!existsSync(tsc)) throw new Error(`no ${tsc}`);
    const [major, minor] = version.split('.').map(Number) as [number, number];
    const requires = major > 5 || minor >= 8;
    for (const kind of KINDS) {
      const project = writeProject(place.folder, requires ? kind : beforeRequire(kind));
      const done = await run(manager, place, manager.exec('node', tsc, '-p', project));
      if (done.status !== 0) failed(`TypeScript ${version}, ${kind.title}`, done);
      const all = requires || kind.module !== 'nodenext' ? 'yes' : 'import';
      row.push(done.status === 0 ? all : 'no');
    }
    rows.push(row);
  }
  return rows;
}

function print(head: readonly string[], rows: readonly string[][]): void {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => (row[i] ?? '').length)));
  for (const row of all)
    console.log(
      row
        .map((text, i) => text.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    );
}
