// node scripts/matrix.cjs [runtime…]: the suites that say whether bytes are right, on each Node of
// test/runtimes/versions.json, and the smoke test on Bun and Deno as well (after npm run build; Node-API: one addon serves
// all). A table at the end, and in dist/matrix.json; exit code 1 if anything failed.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { names, runtime, versions } = require('./runtimes.cjs');
const { add, countsByFile, none } = require('./tap-counts.cjs');
const { SMOKE, SUITES, suiteOf, table } = require('./suites.cjs');

const root = path.join(__dirname, '..');
const dist = path.join(root, process.env.P2PDMA_DIST ?? 'dist');
/** As long as tap gives a file (.taprc). */
const PATIENCE = 600_000;

main(process.argv.slice(2)).catch((error) => {
  console.error(`matrix: ${error.message}`);
  process.exit(1);
});

async function main(asked) {
  const all = asked.length > 0 ? asked : names;
  const nodes = all.filter((name) => name.startsWith('node'));
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
    for (const counts of (await run(binaries.get(name), name, file)).values()) count(name, file, counts);
  });
  for (const [name, counts] of await run(process.execPath, 'each', SMOKE))
    count(name || all[0], SMOKE, counts);
  console.log(`\n${table(results)}`);
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

async function inParallel(jobs, width, work) {
  const left = [...jobs];
  const worker = async () => {
    for (let job = left.shift(); job !== undefined; job = left.shift()) await work(job);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** The counts of one file, run in a process of its own, by its outermost tests; what failed is printed as it was said. */
function run(binary, name, file) {
  const began = performance.now();
  const child = spawn(binary, ['--enable-source-maps', path.join(dist, 'test', file)], {
    cwd: root,
    env: { ...process.env, TAP_TIMEOUT: String(PATIENCE / 1000) },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group: what hangs is ended with its children.
    detached: true,
  });
  let said = '';
  let noise = '';
  child.stdout.on('data', (text) => {
    said += text;
  });
  child.stderr.on('data', (text) => {
    noise += text;
  });
  const patience = setTimeout(() => {
    noise += `\nstill running after ${PATIENCE / 1000} s`;
    process.kill(-child.pid, 'SIGKILL');
  }, PATIENCE);
  return new Promise((resolve) => {
    child.on('close', (status, signal) => {
      clearTimeout(patience);
      const points = countsByFile(said);
      const counts = [...points.values()].reduce(add, none());
      // A crash before the first point, or after the last, is a failure that no point shows.
      if (counts.failed === 0 && (status !== 0 || counts.passed + counts.skipped === 0)) {
        counts.failed = 1;
        points.set('', add(points.get('') ?? none(), { ...none(), failed: 1 }));
      }
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const { passed, failed, skipped } = counts;
      console.log(`${name} ${file}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`);
      if (failed > 0) console.log(`${failures(said)}\n${noise.trim()}\nended with ${signal ?? status}`);
      resolve(points);
    });
  });
}

/** Each failed point with what stands below it. */
function failures(tap) {
  const found = [];
  let depth = null;
  for (const line of tap.split('\n')) {
    const point = /^( *)(not )?ok /.exec(line);
    if (point !== null) depth = point[2] ? point[1].length : null;
    else if (depth !== null && !line.startsWith(' '.repeat(depth + 2))) depth = null;
    if (depth !== null) found.push(line);
  }
  return found.join('\n');
}
