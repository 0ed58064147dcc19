// npm run test:asan: build the addon with AddressSanitizer and run the native tests on it (after npm run build).
'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { headers } = require('./install.cjs');
const { root, stage } = require('./stage.cjs');

const directory = stage('asan');
run(
  process.execPath,
  [
    require.resolve('node-gyp/bin/node-gyp.js'),
    ...['rebuild', '-C', directory, '--loglevel=warn', '--', '-Dp2pdma_asan=1'],
  ],
  { env: { ...process.env, ...headers() } },
);

const runtime = execFileSync(process.env.CXX ?? 'g++', ['-print-file-name=libasan.so'], {
  encoding: 'utf8',
}).trim();
const env = {
  ...process.env,
  P2PDMA_PREBUILD: directory,
  LD_PRELOAD: fs.realpathSync(runtime),
  // Node itself leaves memory to the end of the process; the tests count what is ours.
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:exitcode=99',
  P2PDMA_ASAN: '1',
};
const tests = path.join(root, process.env.P2PDMA_DIST ?? 'dist', 'test/backend/native');
// The sysfs reader's tests do not touch the addon.
const readers = /^(sysfs|pci-config|mountinfo|snapshot)/;
const files = fs.readdirSync(tests).filter((name) => name.endsWith('.test.js') && !readers.test(name));

const loaded =
  'require("node-gyp-build")(process.cwd()); console.log(require("fs").readFileSync("/proc/self/maps", "utf8"))';
const maps = execFileSync(process.execPath, ['-e', loaded], { cwd: root, env, encoding: 'utf8' });
if (!maps.includes(`${directory}/`) || !/libasan/.test(maps)) {
  console.error('test:asan: the addon that loads is not the one built with AddressSanitizer');
  process.exit(1);
}
for (const file of files) {
  console.log(`# ${file}`);
  run(process.execPath, ['--enable-source-maps', path.join(tests, file)], { env });
}

function run(command, args, options = {}) {
  const { status, signal } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (status !== 0) {
    console.error(`test:asan: ${path.basename(args[0])} ended with ${signal ?? status}`);
    process.exit(1);
  }
}
