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

/**
 * What is loaded at need comes after the library, or after the command's program if only the command loads it. The bundler does
 * not know this, and would put each set of modules that some of these parts share into a file of its own. Which parts there are
 * is asked of it first: while it bundles, it finds them in no fixed order, and the files would not be the same each time.
 */
async function afterTheRest() {
  const { metafile } = await build({ ...options, outdir: target });
  const parts = new Map();
  for (const [importer, { imports }] of Object.entries(metafile.inputs)) {
    const from = path.resolve(importer);
    if (!from.startsWith(lib) || from === main) continue;
    for (const { path: part, kind, external } of imports) {
      if (kind !== 'dynamic-import' || external) continue;
      const inCommand = from.startsWith(path.join(lib, 'cli/')) && parts.get(path.resolve(part)) !== index;
      parts.set(path.resolve(part), inCommand ? path.join(lib, 'cli/program.js') : index);
    }
  }
  return {
    name: 'after-the-rest',
    setup({ onLoad }) {
      onLoad({ filter: /\.js$/ }, ({ path: file }) =>
        parts.has(file)
          ? { contents: `${fs.readFileSync(file, 'utf8')}\nimport ${JSON.stringify(parts.get(file))};\n` }
          : undefined,
      );
    },
  };
}

exports.bundle = async () => {
  const { outputFiles, metafile } = await build({
    ...options,
    outbase: lib,
    outdir: target,
    splitting: true,
    plugins: [await afterTheRest()],
    minifyWhitespace: true,
    charset: 'utf8',
  });
  const packages = new Set(
    Object.keys(metafile.inputs).flatMap((name) => /node_modules\/((?:@.+?\/)?.+?)\//.exec(name)?.[1] ?? []),
  );
  if ([...packages].join() !== exports.BUNDLED.join())
    throw new Error(`the bundle holds ${[...packages].join(', ')}`);
  // A process that runs the bundle meanwhile finds what it imports: the entries come last, and then the old files go.
  const entriesLast = outputFiles.sort((a, b) => Number(isEntry(a.path)) - Number(isEntry(b.path)));
  for (const { path: file, text } of entriesLast) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const made = `${file}-${process.pid}`;
    fs.writeFileSync(made, withOwnNames(text), { mode: file.endsWith('main.js') ? 0o755 : 0o644 });
    fs.renameSync(made, file);
  }
  const kept = new Set(outputFiles.map((file) => file.path));
  for (const name of fs.readdirSync(target, { recursive: true })) {
    const file = path.join(target, name);
    if (name.endsWith('.js') && !kept.has(file)) fs.rmSync(file);
  }
};

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
