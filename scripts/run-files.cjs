// Runs compiled test files, each with a plain Node: they print TAP themselves. tap's command is not used, because it
// makes every process that a test starts load its hooks. That took two thirds of the time of tests that start many
// processes.
'use strict';

const { spawn } = require('node:child_process');
const path = require('node:path');
const { add, countsByFile, failedNames, none } = require('./tap-counts.cjs');

const root = path.join(__dirname, '..');
/** The timeout that tap has for a file (.taprc). */
const PATIENCE = 600_000;

/** What failed in all files so far, a line each. A runner that keeps only the end of a long output still shows it. */
const failed = [];
exports.failedSoFar = () => failed.map((line) => `FAILED ${line}`).join('\n');

/** Calls `work` on each job, with at most `width` at a time. */
exports.inParallel = async (jobs, width, work) => {
  const left = [...jobs];
  const worker = async () => {
    for (let job = left.shift(); job !== undefined; job = left.shift()) await work(job);
  };
  await Promise.all(Array.from({ length: width }, worker));
};

/**
 * Runs one file in its own process and returns the counts of its outermost tests. The output of failed tests is printed
 * unchanged.
 * @param options.node which Node runs it
 * @param options.title what it is called in the output
 */
exports.runFile = (file, { node = process.execPath, title }) => {
  const began = performance.now();
  const child = spawn(node, ['--enable-source-maps', file], {
    cwd: root,
    env: { ...process.env, TAP_TIMEOUT: String(PATIENCE / 1000) },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group, so that a process that hangs is killed together with its children.
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
      // A crash before the first point, or after the last, is a failure that no test point shows.
      if (counts.failed === 0 && (status !== 0 || counts.passed + counts.skipped === 0)) {
        counts.failed = 1;
        points.set('', add(points.get('') ?? none(), { ...none(), failed: 1 }));
      }
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      console.log(
        `${title}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped, ${seconds} s`,
      );
      if (counts.failed > 0) {
        const end = `ended with ${signal ?? status}`;
        console.log(`${failures(said)}\n${noise.trim()}\n${end}`);
        remember(title, failedNames(said), end);
      }
      resolve(points);
    });
  });
};

function remember(title, names, end) {
  for (const name of names.length > 0 ? names : [end]) failed.push(`${title}: ${name}`);
}

/** Each failed test point with the lines below it. */
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
