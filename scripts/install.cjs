// npm's install step: use the prebuilt addon if this machine can load it, else build it. Never fails:
// without the addon the emulator works, and openSystem({ backend: 'native' }) says what is missing.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');

function main() {
  if (process.platform !== 'linux') return;
  const fromSource = process.env.npm_config_build_from_source;
  if (fromSource !== 'true' && fromSource !== 'p2pdma' && loads() && !outdated()) return;
  const failure = build();
  if (failure === null) return;
  console.log(`p2pdma: the native addon was not built (${failure}); the emulator works without it.`);
}

/** In a process of its own: what does not load may crash. */
function loads() {
  const code = `require('node-gyp-build')(${JSON.stringify(root)})`;
  return spawnSync(process.execPath, ['-e', code], { cwd: root, stdio: 'ignore' }).status === 0;
}

/** Built here, from sources that have changed since. */
function outdated() {
  const built = modified(path.join(root, 'build/Release/p2pdma.node'));
  if (built === 0) return false;
  const sources = path.join(root, 'src-native');
  return fs.readdirSync(sources).some((name) => modified(path.join(sources, name)) > built);
}

function modified(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Null, or in a few words why not. */
function build() {
  const [command, ...args] = nodeGyp();
  const env = { ...process.env, ...headers() };
  const { status, error, stderr } = spawnSync(command, [...args, 'rebuild'], {
    cwd: root,
    env,
    encoding: 'utf8',
  });
  if (error !== undefined) return `node-gyp: ${error.message}`;
  if (status === 0) return loads() ? null : 'it was compiled but does not load';
  const lines = (stderr ?? '')
    .split('\n')
    .filter((line) => !/^gyp (WARN|info)|^gyp ERR! (build error|System|node|cwd)/.test(line));
  const telling =
    lines.find((line) => /: (fatal )?error:|not found|No such file|Could not find/i.test(line)) ??
    lines.find((line) => /^gyp ERR! stack Error/.test(line)) ??
    `node-gyp ended with ${status}`;
  return telling
    .replace(/^gyp ERR! (stack |find Python )?(Error: )?/, '')
    .trim()
    .slice(0, 200);
}

/** Node's own headers, where its distribution has them beside it: then nothing need be downloaded. */
function headers() {
  if (process.env.npm_config_nodedir) return {};
  const prefix = path.join(path.dirname(fs.realpathSync(process.execPath)), '..');
  const complete = ['node_api.h', 'common.gypi'].every((name) =>
    fs.existsSync(path.join(prefix, 'include/node', name)),
  );
  return complete ? { npm_config_nodedir: prefix } : {};
}

/** npm brings a node-gyp along and says where it is. */
function nodeGyp() {
  if (process.env.npm_config_node_gyp) return [process.execPath, process.env.npm_config_node_gyp];
  try {
    return [process.execPath, require.resolve('node-gyp/bin/node-gyp.js', { paths: [root] })];
  } catch {
    return ['node-gyp'];
  }
}

exports.headers = headers;
if (require.main === module) main();
