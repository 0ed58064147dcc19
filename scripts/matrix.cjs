// node scripts/matrix.cjs [--others] [runtime…]: run the suites that check whether bytes are right on each Node version of
// test/runtimes/versions.json, and the smoke test on Bun and Deno as well (after npm run build; because of Node-API,
// one addon works for all). --others leaves out the Node that runs this: npm test has those suites too. The table is
// printed at the end and written to dist/matrix.json; the exit code is 1 if anything failed.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { failedSoFar, inParallel, runFile } = require('./run-files.cjs');
const { names, runtime, versions } = require('./runtimes.cjs');
const { add, none } = require('./tap-counts.cjs');
const { SMOKE, SUITES, suiteOf, table } = require('./suites.cjs');

const root = path.join(__dirname, '..');
const dist = path.join(root, process.env.P2PDMA_DIST ?? 'dist');

const own = process.versions.node;
const args = process.argv.slice(2);
main(
  args.filter((arg) => arg !== '--others'),
  args.includes('--others'),
).catch((error) => {
  console.error(`matrix: ${error.message}`);
  process.exit(1);
});

async function main(asked, others) {
  const all = asked.length > 0 ? asked : names;
  const nodes = all.filter((name) => name.startsWith('node') && !(others && versions[name] === own));
  const binaries = new Map(nodes.map((name) => [name, runtime(name)]));
  const files = fs
    .readdirSync(path.join(dist, 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.js') && suiteOf(file) in SUITES)
    .sort();
  const jobs = nodes.flatMap((name) => files.map((file) => ({ name, file })));
  const results = new Map(all.map((name) => [titleOf(name), new Map()]));
  const count = (name, file, counts) => {
    const suites = results.get(titleOf(name));
    suites?.set(suiteOf(file), add(suites.get(suiteOf(file)) ?? none(), counts));
  };
  await inParallel(jobs, os.availableParallelism(), async ({ name, file }) => {
    const points = await runFile(path.join(dist, 'test', file), {
      node: binaries.get(name),
      title: `${name} ${file}`,
    });
    for (const counts of points.values()) count(name, file, counts);
  });
  const smoke = await runFile(path.join(dist, 'test', SMOKE), { title: `each ${SMOKE}` });
  for (const [name, counts] of smoke) count(name || all[0], SMOKE, counts);
  console.log(`\n${table(results)}`);
  if (failedSoFar() !== '') console.log(failedSoFar());
  const plain = Object.fromEntries([...results].map(([name, suites]) => [name, Object.fromEntries(suites)]));
  fs.writeFileSync(path.join(dist, 'matrix.json'), `${JSON.stringify(plain, null, 2)}\n`);
  const failed = [...results.values()].some((suites) =>
    [...suites.values()].some((counts) => counts.failed > 0),
  );
  process.exitCode = failed ? 1 : 0;
}

/** `node26` → `Node 26.12.1` */
function titleOf(name) {
  return `${name[0].toUpperCase()}${name.slice(1).replace(/\d+$/, '')} ${versions[name]}`;
}
