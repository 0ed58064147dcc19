// Counts the leaves of TAP output by file. The line of a subtest is not counted, because it only repeats the results of
// its points.
'use strict';

/**
 * The counts of each outermost subtest of `text`, by its name; points outside all subtests count for `''`.
 * @returns {Map<string, { passed: number, failed: number, skipped: number }>}
 */
exports.countsByFile = (text) => {
  const files = new Map();
  let own = none();
  for (const { depth, not, rest, repeats } of points(text)) {
    if (!repeats) own[kind(not, rest)]++;
    if (depth > 0) continue;
    const name = repeats ? nameOf(rest) : '';
    files.set(name, add(files.get(name) ?? none(), own));
    // A file that fails after its last point (it crashes or hangs) has no failed point.
    if (repeats && not && own.failed === 0) files.get(name).failed++;
    own = none();
  }
  return files;
};

/** The names of the points that failed, without those of the subtests that hold them. */
exports.failedNames = (text) =>
  points(text)
    .filter(({ not, rest, repeats }) => !repeats && kind(not, rest) === 'failed')
    .map(({ rest }) => nameOf(rest) ?? 'a point without a name');

/** The test points; `repeats` says that one is the line of a subtest. */
function points(text) {
  const found = [];
  let above = 0;
  for (const line of text.split('\n')) {
    const point = /^( *)(?:(not )?ok \d+\b(.*)|1\.\.\d+)/.exec(line);
    if (point === null) continue;
    const [, { length: depth }, not, rest] = point;
    if (rest === undefined) {
      if (!line.endsWith('1..0')) above = depth;
      continue;
    }
    found.push({ depth, not, rest, repeats: above > depth });
    above = depth;
  }
  return found;
}

function nameOf(rest) {
  return /- (.*?)(?: # .*)?$/.exec(rest)?.[1];
}

exports.none = none;
exports.add = add;

function none() {
  return { passed: 0, failed: 0, skipped: 0 };
}

function add(a, b) {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

function kind(not, rest) {
  if (/ # (SKIP|TODO)\b/i.test(rest)) return 'skipped';
  return not ? 'failed' : 'passed';
}
