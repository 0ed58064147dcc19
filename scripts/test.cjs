// npm test [-- file…]: the tests under tap; at the end a table by suite, and as the last line, whatever failed, in the
// plain form that any CI understands: `N passed, N failed, N skipped`.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { add, countsByFile, none } = require('./tap-counts.cjs');
const { suiteOf, table } = require('./suites.cjs');

const root = path.join(__dirname, '..');
const output = path.join(root, 'dist/test.tap');
fs.rmSync(output, { force: true });
const tap = path.join(root, 'node_modules/.bin/tap');
const { status } = spawnSync(process.execPath, [tap, `--output-file=${output}`, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});

const suites = new Map();
let total = none();
for (const [file, counts] of countsByFile(fs.existsSync(output) ? fs.readFileSync(output, 'utf8') : '')) {
  const suite = suiteOf(file.replace(/^dist\/test\//, ''));
  suites.set(suite, add(suites.get(suite) ?? none(), counts));
  total = add(total, counts);
}
if (suites.size > 0) console.log(`\n${table(new Map([[`Node ${process.versions.node}`, suites]]))}`);
else console.error('no test has run');
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.passed === 0 ? 1 : (status ?? 1);
