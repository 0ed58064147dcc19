#!/usr/bin/env node
// npm run prebuild [-- arch…]: build the native addon for each architecture into prebuilds/linux-<arch>, for glibc
// (2.17 or later) and for musl. prebuildify names, strips and places the files. Instead of node-gyp it calls this file
// again, since the addon only needs a compiler with these flags. Other architectures are cross-compiled with Debian's
// compilers. Both variants are compiled with glibc's headers: the C library types that the addon uses have the kernel's
// own layout, or are opaque and no larger in musl, and both libraries have the names that it uses.
// test/install/prebuilds.test.ts checks these names, and test/install/other-platforms.test.ts runs what can be run.
'use strict';

const { spawnSync } = require('node:child_process');
const { mkdirSync, readFileSync } = require('node:fs');
const path = require('node:path');
const { promisify } = require('node:util');
const prebuildify = require('prebuildify');
const { compile } = require('./build-addon.cjs');

const root = path.join(__dirname, '..');

// npm also runs a script called "prebuild" before "build". In that case it must do nothing.
if (process.argv[2] !== 'rebuild' && isHook()) process.exit(0);

const architectures = {
  x64: { prefix: 'x86_64-linux-gnu-', debian: 'g++-x86-64-linux-gnu', flags: [] },
  // Without this flag, atomics come from a library that asks glibc which processor this is.
  arm64: { prefix: 'aarch64-linux-gnu-', debian: 'g++-aarch64-linux-gnu', flags: ['-mno-outline-atomics'] },
};

/** Since C++20, std::string is compiled here instead of linked from a library that was compiled with exceptions. */
const PORTABLE = ['-std=c++20', '-fno-stack-protector', '-U_FORTIFY_SOURCE'];
const libcs = {
  glibc: { flags: ['-DP2PDMA_PREBUILT', '-DP2PDMA_OLD_GLIBC'] },
  // Link no C library by name: the addon uses the one that the process already has.
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

const [command, ...rest] = process.argv.slice(2);
const work = command === 'rebuild' ? rebuild() : prebuildAll(command === undefined ? [] : [command, ...rest]);
work.catch(({ message }) => {
  console.error(`prebuild: ${message}`);
  process.exit(1);
});

async function prebuildAll(wanted) {
  for (const arch of wanted.length > 0 ? wanted : Object.keys(architectures)) {
    const { prefix, debian } = architectures[arch];
    if (spawnSync(`${prefix}g++`, ['--version']).status !== 0) {
      throw new Error(`linux-${arch} needs ${prefix}g++ (apt-get install ${debian})`);
    }
    for (const libc of Object.keys(libcs)) {
      await prebuild(arch, libc);
      console.log(`prebuilds/linux-${arch}/p2pdma.${libc}.node`);
    }
  }
}

/** Builds in a separate directory, so that build/Release is not changed. */
function prebuild(arch, libc) {
  const cwd = path.join(root, 'build', `prebuild-${arch}-${libc}`);
  mkdirSync(cwd, { recursive: true });
  return promisify(prebuildify)({
    ...{ arch, libc, tagLibc: true, napi: true, targets: [process.versions.node], name: 'p2pdma' },
    ...{ strip: true, stripBin: `${architectures[arch].prefix}strip` },
    ...{ cwd, out: root, nodeGyp: __filename, quiet: false },
  });
}

/** Replaces node-gyp: compiles into build/Release of the working directory. */
async function rebuild() {
  const { prefix, flags } = architectures[process.env.PREBUILD_ARCH];
  const { flags: forIt, libraries } = libcs[process.env.PREBUILD_LIBC];
  await compile(`${prefix}g++`, path.resolve('build/Release/p2pdma.node'), {
    flags: [...PORTABLE, ...flags, ...forIt],
    libraries,
  });
}

/** Was this called by `npm run build`? npm's process title, found among the ancestors, is its command line. */
function isHook() {
  try {
    for (let pid = process.ppid; pid > 1; ) {
      const title = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      if (/^npm (run|run-script|rum|urn) /.test(title)) return !/ prebuild\b/.test(title);
      pid = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    }
    return false;
  } catch {
    // There is no /proc, so this is not Linux. Prebuilds exist only for Linux.
    return true;
  }
}
