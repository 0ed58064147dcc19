// npm run prebuild [-- arch…]: the addon for each architecture, N-API and stripped, into prebuilds/linux-<arch>/.
// What this machine is not is cross-compiled with Debian's compilers.
'use strict';

const { spawnSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const { headers } = require('./install.cjs');
const { root, stage } = require('./stage.cjs');

// To npm a script called "prebuild" is also what runs before "build". That is not what it is here for.
if (isHook()) process.exit(0);

const architectures = {
  x64: { prefix: 'x86_64-linux-gnu-', debian: 'g++-x86-64-linux-gnu' },
  arm64: { prefix: 'aarch64-linux-gnu-', debian: 'g++-aarch64-linux-gnu' },
};

const wanted = process.argv.slice(2);
for (const arch of wanted.length > 0 ? wanted : Object.keys(architectures)) prebuild(arch);

function prebuild(arch) {
  const { prefix, debian } = architectures[arch];
  const env = { ...process.env, ...headers() };
  let strip = 'strip';
  if (arch !== process.arch) {
    if (spawnSync(`${prefix}g++`, ['--version']).status !== 0) {
      console.error(`prebuild: linux-${arch} needs ${prefix}g++ (apt-get install ${debian})`);
      process.exit(1);
    }
    Object.assign(env, { CC: `${prefix}gcc`, CXX: `${prefix}g++`, AR: `${prefix}ar`, LINK: `${prefix}g++` });
    strip = `${prefix}strip`;
  }
  const { status } = spawnSync(
    process.execPath,
    [
      require.resolve('prebuildify/bin.js'),
      ...['--napi', '--strip', '--strip-bin', strip, '--tag-libc', 'glibc', '--quiet'],
      ...['--arch', arch, '--target', process.versions.node],
      ...['--cwd', stage(`prebuild-${arch}`), '--out', root],
    ],
    { env, cwd: root, stdio: 'inherit' },
  );
  if (status !== 0) {
    console.error(`prebuild: linux-${arch} failed; see it with: npx node-gyp rebuild --arch=${arch}`);
    process.exit(1);
  }
  console.log(`prebuilds/linux-${arch}`);
}

/** Did `npm run build` call this? npm's process title, found among the ancestors, is its command line. */
function isHook() {
  try {
    for (let pid = process.ppid; pid > 1; ) {
      const title = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      if (/^npm (run|run-script|rum|urn) /.test(title)) return !/ prebuild\b/.test(title);
      pid = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    }
    return false;
  } catch {
    // No /proc: not Linux, for which alone there are prebuilds.
    return true;
  }
}
