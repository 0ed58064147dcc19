// The last line of npm test, in the plain form that any CI understands: `N passed, N failed, N skipped`.
'use strict';

const { readFileSync } = require('node:fs');

const totals =
  readFileSync(process.argv[2], 'utf8')
    .match(/^# \{ total: .*\}$/gm)
    ?.at(-1) ?? '';
const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(totals)?.[1] ?? 0);
if (count('pass') === 0) {
  console.error('no test has run');
  process.exit(1);
}
console.log(`${count('pass')} passed, ${count('fail')} failed, ${count('skip')} skipped`);
