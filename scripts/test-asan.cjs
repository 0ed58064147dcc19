// npm run test:asan: build the addon with AddressSanitizer and run the native tests on it (after npm run build).
'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { compile, compiler } = require('./build-addon.cjs');

const root = path.join(__dirname, '..');
const cxx = compiler();
/** The folder in which node-gyp-build is told to look for the addon. */
const folder = path.join(root, 'build/asan');
const addon = path.join(folder, 'build/Release/p2pdma.node');

main().catch(({ message }) => {
  console.error(`test:asan: ${message}`);
  process.exit(1);
});

async function main() {
  const flags = ['-fsanitize=address', '-fno-omit-frame-pointer', '-g', '-O1'];
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
  const runtime = execFileSync(cxx, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  return {
    ...process.env,
    P2PDMA_PREBUILD: folder,
    LD_PRELOAD: fs.realpathSync(runtime),
    // Node itself does not free all memory at exit, so leak detection is off. The tests count our own allocations.
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:exitcode=99',
    P2PDMA_ASAN: '1',
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
  if (maps.includes(addon) && /libasan/.test(maps)) return;
  throw new Error('the addon that loads is not the one built with AddressSanitizer');
}

function testFiles() {
  // The tests in sysfs/ are not included, because the sysfs reader does not use the addon.
  const names = fs.readdirSync(dist('test/native'));
  return names.filter((name) => name.endsWith('.test.js')).map((name) => dist('test/native', name));
}
