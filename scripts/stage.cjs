// A place of its own for a build that must not disturb build/Release: a directory that looks like the package.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');

exports.root = root;

/** Make build/<name>, in which node-gyp finds the sources. Returns its path. */
exports.stage = (name) => {
  const directory = path.join(root, 'build', name);
  fs.mkdirSync(directory, { recursive: true });
  for (const entry of ['binding.gyp', 'package.json', 'src-native', 'node_modules']) {
    const link = path.join(directory, entry);
    if (!fs.existsSync(link)) fs.symlinkSync(path.join('../..', entry), link);
  }
  return directory;
};
