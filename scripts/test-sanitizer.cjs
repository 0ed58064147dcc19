// npm run test:asan, npm run test:tsan: build the addon with AddressSanitizer or ThreadSanitizer and run native tests on it
// (after npm run build). Node itself is not built with either: a fault, or a race between two threads, is seen only where
// both accesses are the addon's own code, or calls to the C library.
'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { compile, compiler } = require('./build-addon.cjs');

const root = path.join(__dirname, '..');
const cxx = compiler();

const SANITIZERS = {
  address: {
    runtime: 'libasan.so',
    // Node itself does not free all memory at exit, so leak detection is off. The tests count our own allocations.
    options: { ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:exitcode=99', P2PDMA_ASAN: '1' },
    // The tests in sysfs/ are not included, because the sysfs reader does not use the addon.
    tests: null,
  },
  // What it sees: the pool's threads, the watcher of an eventfd, worker threads, teardown. What it does not see: what V8 and libuv
  // synchronise by their own atomics, and what the kernel writes into the rings.
  thread: {
    runtime: 'libtsan.so',
    // V8 keeps the order of its own jobs by atomics that are not seen, so calls from Node itself are not judged.
    options: { TSAN_OPTIONS: 'exitcode=99:ignore_noninstrumented_modules=1', P2PDMA_ASAN: '1' },
    tests: ['engine', 'pump', 'lifecycle', 'no-libuv'],
  },
};

const kind = process.argv[2];
const sanitizer = SANITIZERS[kind];
/** The folder in which node-gyp-build is told to look for the addon. */
const folder = path.join(root, 'build', kind);
const addon = path.join(folder, 'build/Release/p2pdma.node');

main().catch(({ message }) => {
  console.error(`test-sanitizer ${kind}: ${message}`);
  process.exit(1);
});

async function main() {
  const flags = [`-fsanitize=${kind}`, '-fno-omit-frame-pointer', '-g', '-O1'];
  await compile(cxx, addon, { flags, libraries: [] });
  const env = environment();
  checkLoaded(env);
  for (const file of testFiles()) {
    console.log(`# ${path.basename(file)}`);
    const { status, signal } = spawnSync(process.execPath, ['--enable-source-maps', file], {
      cwd: root,
      stdio: 'inherit',
      env,
    });
    if (status !== 0) throw new Error(`${path.basename(file)} ended with ${signal ?? status}`);
  }
}

function environment() {
  const { runtime, options } = sanitizer;
  const library = execFileSync(cxx, [`-print-file-name=${runtime}`], { encoding: 'utf8' }).trim();
  return {
    ...process.env,
    TAP_TIMEOUT: '600',
    P2PDMA_PREBUILD: folder,
    LD_PRELOAD: fs.realpathSync(library),
    ...options,
  };
}

function dist(...names) {
  return path.join(root, process.env.P2PDMA_DIST ?? 'dist', ...names);
}

function checkLoaded(env) {
  const library = JSON.stringify(dist('lib/native/addon.js'));
  const code = `import(${library}).then(({ loadAddon }) => {
    loadAddon();
    console.log(require('fs').readFileSync('/proc/self/maps', 'utf8'));
  })`;
  const maps = execFileSync(process.execPath, ['-e', code], { cwd: root, env, encoding: 'utf8' });
  if (maps.includes(addon) && maps.includes(sanitizer.runtime)) return;
  throw new Error(`the addon that loads is not the one built for ${sanitizer.runtime}`);
}

function testFiles() {
  const names = fs.readdirSync(dist('test/native')).filter((name) => name.endsWith('.test.js'));
  const wanted = sanitizer.tests?.map((name) => `${name}.test.js`) ?? names;
  return wanted.map((name) => dist('test/native', name));
}
