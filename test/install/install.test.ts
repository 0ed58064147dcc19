/** The addon of an installed package: used where it came prebuilt, built by one command where not, and missed in words. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { plainNode } from '../helpers/plain-node.js';

t.setTimeout(240_000);

const root = packageRoot();
const skip = process.platform === 'linux' ? false : 'the addon is for Linux';
const prebuilt = `prebuilds/linux-${process.arch}/p2pdma.glibc.node`;
const compiler = ['g++', 'c++', 'clang++'].some((name) => spawnSync(name, ['--version']).status === 0);
const noCompiler = { ...process.env, CXX: '/nonexistent/c++' };

/** The package as a user has it after npm unpacked it: no build/, prebuilds only if wanted. */
function unpacked(t: { teardown(fn: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), 'p2pdma-install-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const entry of ['package.json', 'src-native', 'scripts/build-addon.cjs']) {
    cpSync(join(root, entry), join(directory, entry), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  copyLib(directory);
  return directory;
}

function copyLib(directory: string): void {
  const lib = dirname(fileURLToPath(new URL('../../lib/index.js', import.meta.url)));
  mkdirSync(join(directory, 'dist'), { recursive: true });
  cpSync(lib, join(directory, 'dist/lib'), { recursive: true });
}

function build(directory: string, env: NodeJS.ProcessEnv, ...args: string[]) {
  const words = ['scripts/build-addon.cjs', ...args];
  return spawnSync(process.execPath, words, { cwd: directory, env, encoding: 'utf8' });
}

/** What opening natively says: the engine, or the error. */
function open(directory: string, nodeArgs: readonly string[] = [], env = process.env) {
  const module = join(directory, 'dist/lib/native/backend.js');
  const code = `
    const { openNative } = await import(${JSON.stringify(module)});
    try {
      const backend = await openNative();
      console.log(JSON.stringify({ engine: backend.engine }));
      await backend.close();
    } catch ({ code, message, hint }) {
      console.log(JSON.stringify({ code, message, hint }));
    }`;
  const args = [...nodeArgs, '--input-type=module', '-e', code];
  const output = execFileSync(...plainNode(args), {
    cwd: directory,
    env,
    encoding: 'utf8',
    stdio: 'pipe',
  });
  return JSON.parse(output) as { engine?: string; code?: string; message?: string; hint?: string };
}

t.test(
  'no prebuilt addon, and nothing built: what was looked for, and what builds it',
  { skip },
  async (t) => {
    const directory = unpacked(t);
    const said = open(directory);
    t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE');
    t.match(said.message, `in '${directory}' there is no build/Release/p2pdma.node, no ${prebuilt}`);
    t.match(said.hint, /Build it here: node scripts\/build-addon\.cjs .*machine: 'switch'/);
    t.notMatch(said.hint, /npm rebuild/);
  },
);

t.test(
  'no compiler: the command fails and says so; when it is optional it says so only',
  { skip },
  async (t) => {
    const directory = unpacked(t);
    const failed = build(directory, noCompiler);
    t.equal(failed.status, 1);
    t.match(failed.stderr, /the native addon was not built: there is no \/nonexistent\/c\+\+/);
    const optional = build(directory, noCompiler, '--optional');
    t.equal(optional.status, 0);
    t.match(optional.stderr, /was not built: .*\n.*all that needs no addon works/);
    t.notOk(existsSync(join(directory, 'build/Release/p2pdma.node')));
  },
);

t.test(
  'what the hint says builds it',
  { skip: skip || (compiler ? false : 'no C++ compiler') },
  async (t) => {
    const directory = unpacked(t);
    const { hint } = open(directory);
    const [, script] = /node (\S+)/.exec(hint!)!;
    const { status, stderr } = spawnSync(process.execPath, [script!], { cwd: directory, encoding: 'utf8' });
    t.equal(status, 0, stderr);
    t.equal(stderr, '');
    t.match(open(directory), { engine: /^(uring|threads)$/ });

    t.equal(build(directory, noCompiler).status, 0, 'what is there and loads is left alone');
    writeFileSync(join(directory, 'src-native/changed.h'), '');
    t.equal(build(directory, noCompiler).status, 1, 'what is older than its sources is built again');
  },
);

t.test(
  'a source that does not compile is named',
  { skip: skip || (compiler ? false : 'no C++ compiler') },
  async (t) => {
    const directory = unpacked(t);
    writeFileSync(join(directory, 'src-native/broken.cc'), '#error on purpose\n');
    const { status, stderr } = build(directory, process.env);
    t.equal(status, 1);
    t.match(stderr, /broken\.cc:1:2: error: #error on purpose/);
  },
);

const noPrebuilt = existsSync(join(root, prebuilt)) ? false : `no ${prebuilt}: npm run prebuild`;

t.test('a prebuilt addon: it is used, and nothing is built', { skip: skip || noPrebuilt }, async (t) => {
  const directory = unpacked(t);
  cpSync(join(root, prebuilt), join(directory, prebuilt), { recursive: true });
  const { status, stderr } = build(directory, noCompiler);
  t.equal(status, 0);
  t.equal(stderr, '');
  t.notOk(existsSync(join(directory, 'build')));
  t.match(open(directory), { engine: /^(uring|threads)$/ });
});

t.test('a file that does not load: what dlopen said', { skip }, async (t) => {
  const directory = unpacked(t);
  mkdirSync(join(directory, dirname(prebuilt)), { recursive: true });
  writeFileSync(join(directory, prebuilt), 'no addon');
  const said = open(directory);
  t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE');
  t.match(said.message, `${prebuilt}' does not load: `);
  t.match(said.message, /file too short|invalid ELF header/);
});

t.test('a bundle that left the addon out: how to mark the package external', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'p2pdma-bundle-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'package.json'), '{ "name": "an-app", "type": "module" }');
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  copyLib(directory);
  const said = open(directory);
  t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE');
  t.match(said.message, `dist/lib/native/addon-file.js' is not inside the package p2pdma`);
  t.match(said.hint, /esbuild --external:p2pdma, rollup and webpack externals: \['p2pdma'\], ncc -e p2pdma/);
});

t.test('addons are not allowed: said in words', { skip }, async (t) => {
  const directory = unpacked(t);
  const file = join(directory, 'build/Release/p2pdma.node');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, 'no addon');
  for (const flags of [['--no-addons'], [permissionFlag(), '--allow-fs-read=*']]) {
    const said = open(directory, flags);
    t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE', flags.join(' '));
    t.match(said.message, /may not load addons \(--no-addons, or --permission without --allow-addons\)/);
  }
});

/** Its name until Node 23.5. */
function permissionFlag(): string {
  return process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
}

function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}
