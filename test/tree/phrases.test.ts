/**
 * Phrases that a reader of plain English stumbles over, or that name a thing differently from everywhere else. They are
 * looked for in README and docs, and in the strings (help, errors, receipts) and comments of lib, examples and test.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

/** What must not stand there, and what stands for it. */
const RULES: readonly (readonly [phrase: RegExp, instead: string])[] = [
  [/asked for wrongly/i, 'usage error'],
  [/is no stdin or stdout/i, 'not supported as stdin/stdout'],
  [/is none of what/i, 'is not an allowed value'],
  [/must be no end of it/i, 'cannot be the source or a destination'],
  [/the question does not arise/i, 'blank means not applicable'],
  [/machines that come along/i, 'built-in machines'],
  [/\bthe house\b/i, 'source layout'],
  [/has nothing but its name/i, 'has no stable identifier'],
  [/\bchar devices?\b/i, 'character device'],
  [/(?<!host[- ]bridge.{0,80})allow-list/i, 'host bridge allow-list'],
  [/by what was sent of it|what was sent does not/i, 'data captured on it'],
  [/the same command goes on/i, 'run the same command again'],
  [/\bno word on the|\bsays nothing of the pair/i, 'does not show whether the pair works'],
  [/those there cannot/i, 'none of them is'],
  [/the shell at hand/i, 'the running shell'],
  [/behind compinit/i, 'after compinit'],
  [/has no O_DIRECT/i, 'does not support O_DIRECT'],
  [/Too small: expected|Invalid input: expected/, 'a sentence of our own'],
];

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** As it is read: strings that are joined with + are one, and so are the lines of a comment or a paragraph. */
function asRead(text: string): string {
  return text
    .replace(/(['"`]) \+\s*['"`]/g, '')
    .replace(/\n\s*(\*|\/\/) /g, ' ')
    .replace(/\s+/g, ' ');
}

function found(text: string): string[] {
  return RULES.flatMap(([phrase, instead]) => {
    const [there] = phrase.exec(text) ?? [];
    return there === undefined ? [] : [`“${there}”: write “${instead}”`];
  });
}

function filesIn(folder: string, ending: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name))
    .map((name) => join(folder, name));
}

t.test('each phrase is found, also across lines and joined strings', async (t) => {
  for (const [text, instead] of [
    ['What is asked\n * for wrongly', 'usage error'],
    ["'it is no stdin ' +\n    'or stdout here'", 'not supported as stdin/stdout'],
    ['the kernel has an allow-list', 'host bridge allow-list'],
    ['/** A char\n   * device. */', 'character device'],
    ["'Too small: expected number to be >=1'", 'a sentence of our own'],
  ] as const) {
    t.match(found(asRead(text)), [new RegExp(`write “${instead}”`)], text);
  }
  t.same(found(asRead('the host bridge is not on the allow-list; a character device')), []);
});

t.test('they stand nowhere', async (t) => {
  const files = [
    'README.md',
    ...filesIn('docs', /\.md$/),
    ...['lib', 'examples', 'test'].flatMap((folder) => filesIn(folder, /\.(ts|mjs|js)$/)),
  ].filter((file) => file !== join('test', 'tree', 'phrases.test.ts'));
  t.ok(files.length > 300, 'there is something to look at');
  const there = files.flatMap((file) =>
    found(asRead(readFileSync(join(root, file), 'utf8'))).map((what) => `${file}: ${what}`),
  );
  t.strictSame(there, []);
});
