// npm run prebuild [-- arch…]: the native addon for each architecture into prebuilds/linux-<arch>, for glibc (from 2.17 on)
// and for musl. What this machine is not is cross-compiled with Debian's compilers. Both are compiled with glibc's headers:
// what the addon uses of a C library is the kernel's own layout, or opaque and no larger in musl, by names that both
// have. test/install/prebuilds.test.ts holds it to those names.
'use strict';

const { spawnSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { compile } = require('./build-addon.cjs');

// To npm a script called "prebuild" is also what runs before "build". That is not what it is here for.
if (isHook()) process.exit(0);

const architectures = {
  x64: { prefix: 'x86_64-linux-gnu-', debian: 'g++-x86-64-linux-gnu', flags: [] },
  // Without: atomics by a library that asks glibc which processor this is.
  arm64: { prefix: 'aarch64-linux-gnu-', debian: 'g++-aarch64-linux-gnu', flags: ['-mno-outline-atomics'] },
};

/** C++20: from there on std::string is compiled here, and not taken from a library that was compiled to throw. */
const PORTABLE = ['-std=c++20', '-fno-stack-protector', '-U_FORTIFY_SOURCE', '-Wl,--strip-all'];
const libcs = {
  glibc: { flags: ['-DP2PDMA_PREBUILT', '-DP2PDMA_OLD_GLIBC'] },
  // No C library by name: the one that the process has.
  musl: {
    flags: ['-DP2PDMA_PREBUILT'],
    libraries: [
      '-nodefaultlibs',
      '-Wl,--exclude-libs,ALL',
      '-Wl,-Bstatic',
      '-lstdc++',
      '-lgcc',
      '-Wl,-Bdynamic',
    ],
  },
};

const wanted = process.argv.slice(2);
main().catch(({ message }) => {
  console.error(`prebuild: ${message}`);
  process.exit(1);
});

async function main() {
  for (const arch of wanted.length > 0 ? wanted : Object.keys(architectures)) await prebuild(arch);
}

async function prebuild(arch) {
  const { prefix, debian, flags } = architectures[arch];
  const cxx = `${prefix}g++`;
  if (spawnSync(cxx, ['--version']).status !== 0) {
    throw new Error(`linux-${arch} needs ${cxx} (apt-get install ${debian})`);
  }
  for (const [libc, { flags: forIt, libraries }] of Object.entries(libcs)) {
    const file = path.join('prebuilds', `linux-${arch}`, `p2pdma.${libc}.node`);
    await compile(cxx, path.join(__dirname, '..', file), {
      flags: [...PORTABLE, ...flags, ...forIt],
      libraries,
    });
    console.log(file);
  }
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
