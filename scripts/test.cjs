// npm test [-- file…]: run the compiled tests (all, or dist/test/….test.js), two at a time. At the end it prints a
// table by suite. The last line always has the plain form that any CI understands: `N passed, N failed, N skipped`.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { failedSoFar, inParallel, runFile } = require('./run-files.cjs');
const { suiteOf, table } = require('./suites.cjs');
const { add, none } = require('./tap-counts.cjs');

const root = path.join(__dirname, '..');
const tests = path.join(root, 'dist/test');

main(process.argv.slice(2).map((file) => path.relative(tests, path.resolve(file))));

async function main(asked) {
  const suites = new Map();
  let total = none();
  await inParallel(asked.length > 0 ? asked : all(), os.availableParallelism(), async (file) => {
    const points = await runFile(path.join(tests, file), { title: file });
    for (const counts of points.values()) {
      suites.set(suiteOf(file), add(suites.get(suiteOf(file)) ?? none(), counts));
      total = add(total, counts);
    }
  });
  console.log(`\n${table(new Map([[`Node ${process.versions.node}`, suites]]))}`);
  if (failedSoFar() !== '') console.log(failedSoFar());
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
}

/** Tests that run in a booted Linux are started by vm.test.js. */
function all() {
  return fs
    .readdirSync(tests, { recursive: true })
    .filter((file) => file.endsWith('.test.js') && !file.startsWith(`vm${path.sep}`))
    .sort();
}
