// npm run release [-- --dry-run] [-- --tested]: checks, builds, packs, tries and publishes this version, with provenance,
// and writes the tarball and its lists of contents (SBOM, as CycloneDX and SPDX) to dist/release.
// --dry-run does all of it but publish: what would be refused is printed, and a prebuilt addon that is newer than its
// sources is used again. --tested: the checks and the tests have just run here; leave them out.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { BUNDLED } = require('./bundle.cjs');

const root = path.join(__dirname, '..');
const target = path.join(root, 'dist/release');
const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));

/**
 * Why this version must not be published, in sentences.
 * @param state.manifest package.json
 * @param state.changelog the text of CHANGELOG.md
 * @param state.changed what `git status --porcelain` prints
 * @param state.tags the tags of the repository
 */
exports.refusals = ({ manifest: { repository, version }, changelog, changed, tags }) => {
  const found = [];
  const { hostname } = new URL(repository.url.replace(/^git\+/, ''));
  if (/\.(invalid|example|test|localhost)$/.test(hostname)) {
    found.push(`package.json names no real address: set repository, homepage and bugs (now ${hostname}).`);
  }
  const [first] = changelog.match(/^## .*$/m) ?? ['nothing'];
  if (first !== `## ${version}`) {
    found.push(`CHANGELOG.md begins with '${first}', but this is version ${version}.`);
  }
  if (changed.trim() !== '') found.push('There are changes that are not committed.');
  if (tags.includes(`v${version}`)) found.push(`There is a tag v${version} already: raise the version.`);
  return found;
};

/** The names of what is installed with the package, by its lock file. */
exports.installed = ({ packages }) =>
  Object.entries(packages)
    .filter(([place, { dev }]) => place !== '' && dev !== true)
    .map(([place]) => place.replace(/^.*node_modules\//, ''))
    .sort();

function main(dryRun, tested) {
  const refusals = exports.refusals({
    ...{ manifest, changelog: fs.readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8') },
    ...{ changed: output('git', ['status', '--porcelain']), tags: output('git', ['tag']).split('\n') },
  });
  if (refusals.length > 0 && !dryRun) throw new Error(`not published.\n${refusals.join('\n')}`);

  if (!tested) {
    step('npm', ['run', 'lint']);
    step('npm', ['test']);
  }
  if (!dryRun || !prebuilt()) step('npm', ['run', 'prebuild']);
  step('npm', ['run', 'build']);
  fs.rmSync(target, { recursive: true, force: true });
  fs.mkdirSync(target, { recursive: true });
  const tarball = pack();
  for (const format of ['cyclonedx', 'spdx']) sbom(format);
  step(process.execPath, ['dist/test/install/matrix.js', tarball]);
  const publish = ['publish', tarball, '--provenance', '--access', 'public', '--silent'];
  step('npm', dryRun ? [...publish, '--dry-run'] : publish);

  for (const name of fs.readdirSync(target)) {
    const { size } = fs.statSync(path.join(target, name));
    console.log(`dist/release/${name}: ${Math.round(size / 1000)} kB`);
  }
  if (!dryRun)
    console.log(`${manifest.name} ${manifest.version} is published: now tag it v${manifest.version}.`);
  else if (refusals.length === 0) console.log('All is ready. Nothing was published.');
  else
    console.log(
      `Nothing was published, and would not be yet:\n${refusals.map((why) => `- ${why}`).join('\n')}`,
    );
}

function step(command, args) {
  console.log(
    `> ${[command === process.execPath ? 'node' : command, ...args].join(' ').replaceAll(`${root}/`, '')}`,
  );
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0)
    throw new Error(`${command} ${args[0]} failed: ${error?.message ?? `exit code ${status}`}`);
}

function output(command, args, cwd = root) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/** Is each prebuilt addon there, and newer than what it is made from? */
function prebuilt() {
  const native = fs.readdirSync(path.join(root, 'src-native')).map((name) => `src-native/${name}`);
  const sources = [...native, 'scripts/prebuild.cjs', 'scripts/build-addon.cjs'];
  const newest = Math.max(...sources.map((name) => fs.statSync(path.join(root, name)).mtimeMs));
  const files = ['x64', 'arm64'].flatMap((arch) =>
    ['glibc', 'musl'].map((libc) => path.join(root, `prebuilds/linux-${arch}/p2pdma.${libc}.node`)),
  );
  return files.every((file) => fs.existsSync(file) && fs.statSync(file).mtimeMs > newest);
}

function pack() {
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', target];
  const [{ filename, files }] = JSON.parse(output('npm', pack));
  const addons = files.filter((file) => file.path.endsWith('.node'));
  if (addons.length !== 4) throw new Error(`the tarball has ${addons.length} addons, not 4`);
  return path.join(target, filename);
}

/**
 * From a package.json without what only a clone needs, and with what is bundled: `npm sbom --omit=dev` leaves out what a
 * development dependency depends on as well.
 */
function sbom(format) {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'p2pdma-sbom-'));
  try {
    const folder = path.join(work, manifest.name);
    fs.mkdirSync(folder);
    const { devDependencies, scripts, ...published } = manifest;
    const bundled = Object.fromEntries(BUNDLED.map((name) => [name, devDependencies[name]]));
    const dependencies = { ...published.dependencies, ...bundled };
    fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ ...published, dependencies }));
    fs.copyFileSync(path.join(root, 'package-lock.json'), path.join(folder, 'package-lock.json'));
    output('npm', ['install', '--package-lock-only', '--offline', '--ignore-scripts', '--no-audit'], folder);
    const text = output('npm', ['sbom', '--package-lock-only', `--sbom-format=${format}`], folder);
    const { components, packages } = JSON.parse(text);
    const names = (components ?? packages).map(({ name }) => name).filter((name) => name !== manifest.name);
    const lock = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
    const expected = [...exports.installed(lock), ...BUNDLED].sort();
    if (names.sort().join() !== expected.join()) {
      throw new Error(`the SBOM has ${names.join(', ')}; users get ${expected.join(', ')}`);
    }
    fs.writeFileSync(path.join(target, `${manifest.name}-${manifest.version}.${format}.json`), text);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

if (require.main === module) {
  const options = process.argv.slice(2);
  const unknown = options.find((option) => !['--dry-run', '--tested'].includes(option));
  try {
    if (unknown !== undefined) throw new Error(`no option ${unknown}: there are --dry-run and --tested`);
    main(options.includes('--dry-run'), options.includes('--tested'));
  } catch ({ message }) {
    console.error(`release: ${message}`);
    process.exit(1);
  }
}
