import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = packageRoot();
const skip = process.platform === 'linux' ? false : 'the addon is for Linux';

/** The package as a user has it after npm unpacked it: no build/, prebuilds only if wanted. */
function unpacked(t: { teardown(fn: () => void): void }, prebuilds: boolean): string {
  const directory = mkdtempSync(join(tmpdir(), 'p2pdma-install-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const entry of ['package.json', 'binding.gyp', 'src-native', 'scripts/install.cjs']) {
    cpSync(join(root, entry), join(directory, entry), { recursive: true });
  }
  if (prebuilds) cpSync(join(root, 'prebuilds'), join(directory, 'prebuilds'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  return directory;
}

/** Compiled lib/, by reference: only where it looks for the addon matters. */
function withLib(directory: string): string {
  const lib = dirname(fileURLToPath(new URL('../../lib/errors.js', import.meta.url)));
  mkdirSync(join(directory, 'dist'));
  cpSync(lib, join(directory, 'dist/lib'), { recursive: true });
  return join(directory, 'dist/lib/backend/native/native-backend.js');
}

const noCompiler = {
  ...process.env,
  CC: '/nonexistent/cc',
  CXX: '/nonexistent/c++',
  PATH: dirname(process.execPath),
};

function install(directory: string, env: NodeJS.ProcessEnv) {
  return spawnSync(process.execPath, ['scripts/install.cjs'], { cwd: directory, env, encoding: 'utf8' });
}

function open(module: string, env: NodeJS.ProcessEnv) {
  const code = `
    const { openNative } = await import(${JSON.stringify(module)});
    try {
      const backend = await openNative();
      console.log(backend.engine);
      await backend.close();
    } catch ({ code, message, hint }) {
      console.log(JSON.stringify({ code, message, hint }));
    }`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', code], {
    env,
    encoding: 'utf8',
  }).trim();
}

t.test(
  'no prebuilt addon and no toolchain: installs all the same, and the backend says why not',
  { skip },
  async (t) => {
    const directory = unpacked(t, false);
    const { status, stdout } = install(directory, noCompiler);
    t.equal(status, 0);
    t.match(stdout, /^p2pdma: the native addon was not built \(.+\); the emulator works without it\.\n$/);
    t.notOk(existsSync(join(directory, 'build/Release/p2pdma.node')));
    const said = JSON.parse(open(withLib(directory), noCompiler));
    t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE');
    t.match(said.message, /could not be loaded: No native build was found/);
    t.match(said.hint, /C\+\+ toolchain.*npm rebuild p2pdma/);
  },
);

t.test('a toolchain and no prebuilt addon: it is built', { skip }, async (t) => {
  if (spawnSync('make', ['--version']).status !== 0 || spawnSync('c++', ['--version']).status !== 0) {
    t.comment('skipped: no C++ toolchain');
    return;
  }
  const directory = unpacked(t, false);
  const { status, stdout } = install(directory, process.env);
  t.equal(status, 0);
  t.equal(stdout, '');
  t.ok(existsSync(join(directory, 'build/Release/p2pdma.node')));
  t.match(open(withLib(directory), noCompiler), /^(uring|threads)$/);

  // What is there and loads is left alone; what is older than its sources is built again.
  const start = Date.now();
  t.equal(install(directory, noCompiler).stdout, '');
  t.ok(Date.now() - start < 5000);
  writeFileSync(join(directory, 'src-native/changed.h'), '');
  t.match(install(directory, noCompiler).stdout, /not built/);
});

const prebuilt = join(root, `prebuilds/linux-${process.arch}`);
const noPrebuilt =
  existsSync(prebuilt) && readdirSync(prebuilt).length > 0
    ? skip
    : skip || `no ${prebuilt}: npm run prebuild`;

t.test('a prebuilt addon and no toolchain: it is used', { skip: noPrebuilt }, async (t) => {
  const directory = unpacked(t, true);
  const { status, stdout } = install(directory, noCompiler);
  t.equal(status, 0);
  t.equal(stdout, '');
  t.notOk(existsSync(join(directory, 'build')));
  t.match(open(withLib(directory), noCompiler), /^(uring|threads)$/);
});

function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}
