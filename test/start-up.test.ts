/** What is loaded at the start: files that are named here and must not be, not times. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';
import { main } from './helpers/cli.js';

const index = new URL('../lib/index.js', import.meta.url).href;

/** Of a process: each module's address goes to stderr, whether it was imported or required. */
const WATCH = `data:text/javascript,${encodeURIComponent(`
  import { createRequire, register } from 'node:module';
  import { writeSync } from 'node:fs';
  register('data:text/javascript,' + encodeURIComponent(\`
    import { writeSync } from 'node:fs';
    export async function load(url, context, next) {
      writeSync(2, '\\\\nloaded ' + url + '\\\\n');
      return next(url, context);
    }\`));
  const { cache } = createRequire('file:///');
  process.on('exit', () => {
    for (const path of Object.keys(cache)) writeSync(2, '\\nloaded ' + path + '\\n');
  });
`)}`;

function addresses(...args: string[]): string[] {
  const { status, stderr } = spawnSync(process.execPath, ['--import', WATCH, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${args.join(' ')}: ${status}\n${stderr}`);
  return [...stderr.matchAll(/^loaded (.*)$/gm)].map(([, address]) => address!);
}

/** The modules of lib/ by their path in it, packages by their names. */
function loaded(...args: string[]): string[] {
  const names = addresses(...args).flatMap((address) => {
    const [, inPackage, own] = /\/(?:node_modules\/(.+)|dist\/lib\/(.+)\.js)$/.exec(address) ?? [];
    return own ?? inPackage?.split('/')[0] ?? [];
  });
  return [...new Set(names)].sort();
}

function imported(code: string): string[] {
  return loaded('--input-type=module', '--eval', `import * as p2pdma from '${index}'; ${code}`);
}

const PARTS =
  /^(native|emulator|dump|explain\/(try|doctor\/(facts|.*checks))|copy\/(plan|resume|verify|journal)|cli|cli-)/;

t.test('import: streams and what decides about routes', async (t) => {
  const names = imported('');
  t.ok(names.includes('streams/read-stream'), 'the watch sees something');
  t.same(
    names.filter((name) => PARTS.test(name)),
    [],
  );
  t.same(
    names.filter((name) => name.startsWith('machine/')),
    ['machine/preset-names'],
  );
});

t.test('a stream loads this machine; a named machine, its own backend', async (t) => {
  const late = (code: string) =>
    new Set(imported(code).flatMap((name) => PARTS.exec(name)?.[1] ?? [])) as Set<string>;
  t.same([...late(`p2pdma.createReadStream('/nowhere').on('error', () => {}).destroy();`)].sort(), [
    'native',
  ]);
  t.same([...late(`await (await p2pdma.openSystem({ machine: 'switch' })).close();`)].sort(), ['emulator']);
  t.same(
    [
      ...late(
        `await (await p2pdma.openSystem({ inspect: true, root: '/nowhere' }).catch(() => {}))?.close();`,
      ),
    ].sort(),
    ['native'],
  );
});

t.test('--version: nothing else', async (t) => {
  for (const word of ['--version', '-V']) t.same(loaded(main, word), ['cli/main', 'cli/version']);
});

t.test('--help: no command, not the library', async (t) => {
  const names = loaded(main, '--help');
  t.ok(names.includes('cli/program'), 'the watch sees something');
  t.same(
    names.filter((name) => !/^(cli\/[a-z]+|base\/.+|commander|picocolors)$/.test(name)),
    [],
  );
  const commands = ['cli/list', 'cli/doctor', 'cli/explain', 'cli/snapshot', 'cli/demo', 'cli/completion'];
  t.same(
    names.filter((name) => commands.includes(name) || name === 'base/zod'),
    [],
  );
});

t.test('list: no other command, and only its machine', async (t) => {
  const names = loaded(main, 'list', '--machine', 'switch');
  t.ok(names.includes('cli/list'));
  t.ok(names.includes('emulator/boot'));
  t.same(
    names.filter((name) =>
      /^(native|copy\/(plan|resume)|explain\/(try|doctor\/(facts|.*checks))|cli-progress|cli\/(topo|copy|trace|bench|doctor|explain|snapshot|demo|completion))/.test(
        name,
      ),
    ),
    [],
  );
});

// --- what users get ---

const bundle = fileURLToPath(new URL('../bundle/', import.meta.url));

/** The files of the bundle and the packages that a process loads. */
function loadedFiles(...args: string[]): { own: number; packages: string[] } {
  const all = addresses(...args);
  return {
    own: new Set(all.filter((address) => address.includes('/dist/bundle/'))).size,
    packages: all.filter((address) => address.includes('/node_modules/')),
  };
}

t.test('the bundle: import loads few files, and no package', async (t) => {
  const { own, packages } = loadedFiles(
    ...['--input-type=module', '--eval', `import '${pathToFileURL(bundle)}index.js'`],
  );
  t.ok(own > 0 && own <= 10, `${own} files`);
  t.same(packages, []);
});

t.test('import: no module of Node that streams do not need', async (t) => {
  const all = addresses('--input-type=module', '--eval', `import '${pathToFileURL(bundle)}index.js'`);
  const theirs = all.filter((address) => address.startsWith('node:'));
  t.ok(theirs.includes('node:stream'), 'the watch sees something');
  const needed =
    /^node:(async_hooks|diagnostics_channel|events|fs|fs\/promises|module|path|stream|stream\/promises|url)$/;
  t.same(
    theirs.filter((address) => !needed.test(address)),
    [],
  );
});

const noSysfs = process.platform !== 'linux' && 'only Linux has a machine to read';
t.test('the bundle: this machine is two files more', { skip: noSysfs }, async (t) => {
  const opening = (more: string) =>
    loadedFiles(
      '--input-type=module',
      '--eval',
      `import { openSystem } from '${pathToFileURL(bundle)}index.js'${more}`,
    );
  const { own, packages } = opening('; await (await openSystem({ inspect: true })).close()');
  t.equal(own - opening('').own, 2);
  t.same(packages, []);
});

t.test('the bundle: --version loads few files, and no package', async (t) => {
  const { own, packages } = loadedFiles(join(bundle, 'cli/main.js'), '--version');
  t.ok(own > 0 && own <= 5, `${own} files`);
  t.same(packages, []);
});

t.test('the bundle: classes and functions have the names that they have in the sources', async (t) => {
  const [ours, theirs] = await Promise.all([import(index), import(`${pathToFileURL(bundle)}index.js`)]);
  t.same(Object.keys(theirs).sort(), Object.keys(ours).sort());
  for (const [name, value] of Object.entries(ours))
    if (typeof value === 'function') t.equal(theirs[name].name, value.name, name);
});
