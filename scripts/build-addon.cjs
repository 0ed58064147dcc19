// node scripts/build-addon.cjs [--optional]: compile the native addon for this machine into build/Release, unless an
// addon exists there or as a prebuild, loads, and is as new as its sources. It only needs a C++17 compiler ($CXX, else
// g++ or c++): the headers of Node-API are a package. --optional: if something is missing, print what it is and exit
// successfully.
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.join(__dirname, '..');
const sources = path.join(root, 'src-native');
const built = path.join(root, 'build/Release/p2pdma.node');

const COMPILE = [
  ...[
    '-std=c++17',
    '-O2',
    '-fPIC',
    '-Wall',
    '-Wextra',
    '-fno-exceptions',
    '-fno-rtti',
    '-fvisibility=hidden',
  ],
  ...['-ffunction-sections', '-fdata-sections', '-D_GNU_SOURCE'],
  ...['-DNAPI_VERSION=8', '-DNAPI_DISABLE_CPP_EXCEPTIONS', '-DNODE_ADDON_API_DISABLE_DEPRECATED'],
];
const LINK = ['-shared', '-pthread', '-Wl,--as-needed', '-Wl,--gc-sections'];
const OWN_LIBRARY = ['-static-libgcc', '-static-libstdc++', '-Wl,--exclude-libs,ALL'];
const EXPORTS = `-Wl,--version-script=${path.join(sources, 'exports.map')}`;

/**
 * Compiles all of src-native into one file.
 * @param cxx the compiler
 * @param options.flags for compiling and linking
 * @param options.libraries how to link the C++ and C libraries
 * @throws Error: a short reason why it cannot be compiled
 */
exports.compile = async (cxx, output, { flags = [], libraries = OWN_LIBRARY } = {}) => {
  fs.mkdirSync(path.dirname(output), { recursive: true });
  const place = fs.mkdtempSync(`${output}.`);
  try {
    const names = fs.readdirSync(sources).filter((name) => name.endsWith('.cc'));
    const objects = names.map((name) => path.join(place, `${name}.o`));
    const include = ['node-api-headers', 'node-addon-api'].map((name) => `-I${headers(name)}`);
    await inParallel(names, (name, i) =>
      run(cxx, [...COMPILE, ...flags, ...include, '-c', path.join(sources, name), '-o', objects[i]]),
    );
    const made = path.join(place, 'p2pdma.node');
    await run(cxx, [...flags, ...objects, ...LINK, EXPORTS, ...libraries, '-o', made]);
    fs.renameSync(made, output);
  } finally {
    fs.rmSync(place, { recursive: true, force: true });
  }
};

/** Finds an installed C++ compiler. */
exports.compiler = () => {
  const candidates = process.env.CXX ? [process.env.CXX] : ['g++', 'c++', 'clang++'];
  const found = candidates.find((name) => spawnSync(name, ['--version']).status === 0);
  if (found === undefined) throw new Error(`there is no ${candidates.join(', no ')}: install a C++ compiler`);
  return found;
};

/** Returns an absolute path: node-addon-api gives its path relative to the working directory. */
function headers(name) {
  return path.resolve(require(name).include_dir);
}

async function inParallel(names, work) {
  const queue = [...names.entries()];
  const lane = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await work(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, lane));
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
    child.on('error', (error) => reject(new Error(`${command}: ${error.message}`)));
    child.on('close', (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(telling(said) ?? `${command} ended with ${signal ?? status}`));
    });
  });
}

/** Finds the line of the compiler's output that describes the error. */
function telling(said) {
  const line = said.split('\n').find((text) => /error:|not found|No such file|cannot/i.test(text));
  return line?.trim().slice(0, 200);
}

/** Why the addon does not load; null: it loads. It is tried in a separate process, because loading a broken addon may crash. */
function loadFailure(file) {
  const { status, signal, stderr } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(file)})`], {
    encoding: 'utf8',
  });
  if (status === 0) return null;
  return /^Error: (.*)/m.exec(stderr)?.[1] ?? `loading it ended with ${signal ?? status}`;
}

function upToDate() {
  const file = found();
  if (file === null || loadFailure(file) !== null) return false;
  if (file !== built) return true;
  const made = fs.statSync(built).mtimeMs;
  return fs.readdirSync(sources).every((name) => fs.statSync(path.join(sources, name)).mtimeMs <= made);
}

/** The addon file that would be loaded; null: there is none. */
function found() {
  try {
    return require('node-gyp-build').resolve(root);
  } catch {
    return null;
  }
}

async function build() {
  if (process.platform !== 'linux' || upToDate()) return;
  await exports.compile(exports.compiler(), built);
  const failure = loadFailure(built);
  if (failure !== null) throw new Error(`it was compiled but does not load: ${failure}`);
}

if (require.main === module) {
  build().catch(({ message }) => {
    const optional = process.argv.includes('--optional');
    console.error(`p2pdma: the native addon was not built: ${message}`);
    if (optional)
      console.error('p2pdma: all that needs no addon works: looking at this machine, and emulated ones.');
    else process.exit(1);
  });
}
