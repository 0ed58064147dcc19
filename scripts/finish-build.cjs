// Runs after tsc and finishes the build. It makes the command executable and puts it where npx looks first: otherwise
// each `npx p2pdma` here would install the folder into npm's cache, and two at a time would conflict. It removes
// compiled files whose source no longer exists, because they would still be tested and packed. And what is packed names
// no source maps, because they are not packed, and can be read by TypeScript before 5.7, for which Uint8Array has no
// parameter (the one that is taken away is the one that is meant without it), nor zod, which users do not have. At the end it
// bundles the page, the library and the command.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const dist = path.join(root, 'dist');
const compiled = /\.(d\.ts|js|js\.map)$/;

const command = path.join(dist, 'bundle/cli/main.js');
require('./plain-types.cjs');
const bin = path.join(root, 'node_modules/.bin');
if (process.platform !== 'win32' && fs.existsSync(bin)) {
  const link = path.join(bin, 'p2pdma');
  const made = `${link}-${process.pid}`;
  fs.symlinkSync(path.relative(bin, command), made);
  fs.renameSync(made, link);
}
for (const folder of ['lib', 'examples']) {
  for (const name of fs.readdirSync(path.join(dist, folder), { recursive: true })) {
    if (name.endsWith('.js')) without(/^\/\/# sourceMappingURL=.*\n?/m, path.join(dist, folder, name));
    if (name.endsWith('.d.ts')) without(/(?<=\bUint8Array)<ArrayBufferLike>/g, path.join(dist, folder, name));
  }
}
for (const folder of ['lib', 'test', 'examples', 'bench']) {
  for (const name of fs.readdirSync(path.join(dist, folder), { recursive: true })) {
    const source = path.join(root, folder, name.replace(compiled, '.ts'));
    if (compiled.test(name) && !fs.existsSync(source)) fs.rmSync(path.join(dist, folder, name));
  }
}
Promise.all([require('./bundle-page.cjs').bundlePage(), require('./bundle.cjs').bundle()]).catch(
  ({ message }) => {
    console.error(message);
    process.exitCode = 1;
  },
);

function without(words, file) {
  const text = fs.readFileSync(file, 'utf8');
  const plain = text.replace(words, '');
  if (plain === text) return;
  const made = `${file}-${process.pid}`;
  fs.writeFileSync(made, plain, { mode: fs.statSync(file).mode });
  fs.renameSync(made, file);
}
