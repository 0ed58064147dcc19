// The suites by which tests are counted, and the table of results.
'use strict';

/** The suites that run on every Node version (scripts/matrix.cjs). */
const SUITES = {
  conformance: /^conformance\//,
  invariants: /^invariants\./,
  faults: /^faults\./,
  'fs-equality': /^fs-equality\./,
  hunt: /^hunt\//,
  copies: /^(copy|streams)\/|^stress\./,
  'native backend': /^native\//,
  'emulator and kernel': /^(backend|emulator|machine|kernel)\//,
};

exports.SUITES = SUITES;

/** Runs the same test on each runtime, including Bun and Deno. Its outermost tests are named after the runtimes. */
const SMOKE = 'runtimes/smoke.test.js';
exports.SMOKE = SMOKE;

/** The suite of a test file. The path is relative to test/. */
exports.suiteOf = (file) =>
  Object.keys(SUITES).find((suite) => SUITES[suite].test(file)) ??
  (file === SMOKE ? 'smoke' : 'command, documents, packages');

/**
 * suite × runtime, in Markdown: passed / failed / skipped.
 * @param results by runtime, then by suite: { passed, failed, skipped }
 */
exports.table = (results) => {
  const suites = [...new Set([...results.values()].flatMap((counts) => [...counts.keys()]))].sort(inOrder);
  const cell = (counts) => (counts ? `${counts.passed} / ${counts.failed} / ${counts.skipped}` : '–');
  const rows = [
    ['passed / failed / skipped', ...results.keys()],
    ...suites.map((suite) => [suite, ...[...results.values()].map((counts) => cell(counts.get(suite)))]),
  ];
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const lines = rows.map((row) => `| ${row.map((text, i) => text.padEnd(widths[i])).join(' | ')} |`);
  lines.splice(1, 0, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`);
  return lines.join('\n');
};

function inOrder(a, b) {
  const order = [...Object.keys(SUITES), a, b];
  return order.indexOf(a) - order.indexOf(b);
}
