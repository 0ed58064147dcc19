// After tsc: what it leaves undone. The command is executable; what was compiled from a source that is gone goes too,
// or it would still be tested and packed.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const dist = path.join(root, 'dist');
const compiled = /\.(d\.ts|js|js\.map)$/;

fs.chmodSync(path.join(dist, 'lib/cli/main.js'), 0o755);
for (const folder of ['lib', 'test', 'examples', 'bench']) {
  for (const name of fs.readdirSync(path.join(dist, folder), { recursive: true })) {
    const source = path.join(root, folder, name.replace(compiled, '.ts'));
    if (compiled.test(name) && !fs.existsSync(source)) fs.rmSync(path.join(dist, folder, name));
  }
}
