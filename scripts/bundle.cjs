// Bundles what users get: the library and the command. Node resolves, reads and compiles each file of its own, which costs
// more than what is in it; so there is one file for all that the library loads at once, one for the command, and one for each
// part that is loaded at need, as in the sources.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { build } = require('esbuild');

const root = path.join(__dirname, '..');
const lib = path.join(root, 'dist/lib');
const target = path.join(root, 'dist/bundle');
const index = path.join(lib, 'index.js');
const main = path.join(lib, 'cli/main.js');
const { dependencies, peerDependencies } = JSON.parse(
  fs.readFileSync(path.join(root, 'package.json'), 'utf8'),
);

/**
 * The packages that go in: of zod, little is used. Those that package.json depends on stay outside, where a package manager can
 * replace them.
 */
exports.BUNDLED = ['zod'];

const options = {
  entryPoints: [index, main],
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: [...Object.keys(dependencies), ...Object.keys(peerDependencies)],
  legalComments: 'none',
  logLevel: 'warning',
  write: false,
  metafile: true,
};

const PROGRAM = path.join(lib, 'cli/program.js');
/**
 * No sources: what the command shares with the library, what both backends are made of, and what else of the emulator other
 * parts need, in one file each.
 */
const SHARED = path.join(lib, 'shared.js');
const BACKENDS = path.join(lib, 'backends.js');
const DRIVERS = path.join(lib, 'drivers.js');
const NATIVE = path.join(lib, 'native/backend.js');
const EMULATOR = path.join(lib, 'emulator/boot.js');

/**
 * What is loaded at need comes after what is loaded before it anyway: the library, or the command's program if only the command
 * loads it; then what both backends are made of, and the native backend, for parts that need some of it. The bundler does not
 * know this, and would put each set of modules that some of these parts share into a file of its own: with the library, seven
 * files would be loaded, and with the native backend thirteen more. Which parts there are is asked of it first: while it bundles,
 * it finds them in no fixed order, and the files would not be the same each time.
 */
async function afterTheRest() {
  const { metafile } = await build({ ...options, outdir: target });
  const { after, made } = orderOf(graphOf(metafile));
  return {
    name: 'after-the-rest',
    setup({ onLoad, onResolve }) {
      onResolve({ filter: /\.js$/ }, ({ path: file }) => (made.has(file) ? { path: file } : undefined));
      onLoad({ filter: /\.js$/ }, ({ path: file }) => {
        if (made.has(file)) return { contents: made.get(file).map(importing).join('') };
        if (!after.has(file)) return undefined;
        return { contents: `${fs.readFileSync(file, 'utf8')}\n${after.get(file).map(importing).join('')}` };
      });
    },
  };
}

/** `after`: what each part that is loaded at need comes after. `made`: the files that are no sources, and what is in each. */
function orderOf(graph) {
  const parts = partsOf(graph);
  const library = reached(graph, index);
  const native = without(reached(graph, NATIVE), library);
  const command = [...parts].filter(([, first]) => first === SHARED).map(([part]) => reached(graph, part));
  const shared = both(library, new Set(command.flatMap((files) => [...files])));
  const backends = both(native, reached(graph, EMULATOR));
  // A part of the command may check its options without the library.
  const rest = without(library, new Set([...shared, ...reached(graph, path.join(lib, 'base/zod.js'))]));
  const onlyNative = without(native, backends);
  const emulator = without(reached(graph, EMULATOR), new Set([...library, ...backends]));
  const others = [...parts.keys()]
    .map((part) => reached(graph, part))
    .filter((files) => !files.has(EMULATOR));
  const drivers = both(emulator, new Set(others.flatMap((files) => [...files])));
  const after = new Map();
  for (const [part, first] of parts) {
    const needs = (files) => both(reached(graph, part), files).size > 0;
    const inLibrary = needs(rest) ? [index] : [];
    const inBackend = part !== NATIVE && needs(onlyNative) ? [NATIVE] : needs(backends) ? [BACKENDS] : [];
    const inDrivers = needs(drivers) ? [DRIVERS] : [];
    after.set(part, [first, ...inLibrary, ...inBackend, ...inDrivers]);
  }
  const made = new Map([
    [SHARED, [...shared].sort()],
    [BACKENDS, [index, ...[...backends].sort()]],
    [DRIVERS, [BACKENDS, ...[...drivers].sort()]],
  ]);
  return { after, made };
}

/** The modules that are loaded at need, and what is there before each. */
function partsOf(graph) {
  const parts = new Map();
  for (const [from, imports] of graph) {
    if (!from.startsWith(lib)) continue;
    for (const { file, atNeed } of imports) {
      if (!atNeed) continue;
      const inCommand = from.startsWith(path.join(lib, 'cli/')) && parts.get(file) !== index;
      parts.set(file, from === main ? SHARED : inCommand ? PROGRAM : index);
    }
  }
  return parts;
}

function both(some, others) {
  return new Set([...some].filter((file) => others.has(file)));
}

function without(some, others) {
  return new Set([...some].filter((file) => !others.has(file)));
}

function importing(file) {
  return `import ${JSON.stringify(file)};\n`;
}

/** What each module of the bundle imports, without packages that stay outside. */
function graphOf({ inputs }) {
  const imported = ({ imports }) =>
    imports
      .filter(({ external }) => !external)
      .map(({ path: file, kind }) => ({ file: path.resolve(file), atNeed: kind === 'dynamic-import' }));
  return new Map(Object.entries(inputs).map(([file, input]) => [path.resolve(file), imported(input)]));
}

/** The modules that are loaded with this one. */
function reached(graph, start) {
  const found = new Set();
  const ahead = [start];
  for (let file = ahead.pop(); file !== undefined; file = ahead.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    ahead.push(
      ...graph
        .get(file)
        .filter(({ atNeed }) => !atNeed)
        .map((one) => one.file),
    );
  }
  return found;
}

exports.bundle = async () => {
  const { outputFiles, metafile } = await build({
    ...options,
    outbase: lib,
    outdir: target,
    splitting: true,
    plugins: [await afterTheRest()],
    minifyWhitespace: true,
  });
  const packages = new Set(
    Object.keys(metafile.inputs).flatMap((name) => /node_modules\/((?:@.+?\/)?.+?)\//.exec(name)?.[1] ?? []),
  );
  if ([...packages].join() !== exports.BUNDLED.join())
    throw new Error(`the bundle holds ${[...packages].join(', ')}`);
  // A process that runs the bundle meanwhile finds what it imports: the entries come last, and then the old files go.
  const files = withoutFacades(outputFiles);
  const entriesLast = files.sort((a, b) => Number(isEntry(a.path)) - Number(isEntry(b.path)));
  for (const { path: file, text } of entriesLast) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const made = `${file}-${process.pid}`;
    fs.writeFileSync(made, withOwnNames(text), { mode: file.endsWith('main.js') ? 0o755 : 0o644 });
    fs.renameSync(made, file);
  }
  const kept = new Set(files.map((file) => file.path));
  for (const name of fs.readdirSync(target, { recursive: true })) {
    const file = path.join(target, name);
    if (name.endsWith('.js') && !kept.has(file)) fs.rmSync(file);
  }
};

/** A file in which there is nothing but another's names: the bundler makes one for each part whose modules other parts need too. */
const FACADE =
  /^import\{(?<taken>[\w$,]+)\}from"\.\/(?<from>chunk-\w+\.js)";(?:import"\.\/chunk-\w+\.js";)*export\{(?<given>[\w$,]+)\};\n$/;

/** Whoever imports a facade at need imports what is behind it, which is one file less to read. */
function withoutFacades(outputFiles) {
  const behind = new Map();
  for (const { path: file, text } of outputFiles) {
    const { taken, from, given } = FACADE.exec(text)?.groups ?? {};
    if (!isEntry(file) && from !== undefined && taken === given) behind.set(path.basename(file), from);
  }
  const atNeed = /\bimport\("(\.\.?\/)([\w-]+\.js)"\)/g;
  const files = outputFiles.map(({ path: file, text }) => ({
    path: file,
    text: text.replaceAll(atNeed, (all, folder, name) =>
      behind.has(name) ? `import("${folder}${behind.get(name)}")` : all,
    ),
  }));
  const named = (name) =>
    files.some(({ text }) => text.includes(`"./${name}"`) || text.includes(`"../${name}"`));
  return files.filter(({ path: file }) => !behind.has(path.basename(file)) || named(path.basename(file)));
}

/**
 * A class that names itself gets a second name from the bundler (`var System = class _System`), which users would see. (Its
 * option keepNames gives each function its name anew wherever it is made, which costs a small copy more than a tenth.)
 */
function withOwnNames(text) {
  const names = [...text.matchAll(/\bclass _(\w+)/g)].map(([, name]) => name);
  return names.reduce((made, name) => made.replaceAll(new RegExp(`\\b_${name}\\b`, 'g'), name), text);
}

function isEntry(file) {
  return !/-[0-9A-Z]{8}\.js$/.test(file);
}
