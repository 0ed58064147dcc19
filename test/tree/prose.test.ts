/** Nothing in lib reads a sentence that lib wrote: what a program needs of it is a fact beside it (a kind, a code, a field). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

/** What our objects call their words. A bare `text` is the contents of a file; a member `text` is a sentence. */
const WORDS =
  'reason|message|hint|description|note|unusable|demand|remedy|refusal|fact|aside|why|answered|did|unproven';
const MEMBER = '(?:[A-Za-z_$]\\w*(?:\\(\\))?[?!]?\\.)';
const SENTENCE = `(?:${MEMBER}*(?:${WORDS})|${MEMBER}+text)\\b`;
const ASKS = 'match|matchAll|search|startsWith|endsWith|includes|indexOf|replace|replaceAll|split|slice';
const PROSE = new RegExp(
  `\\.(?:test|exec|startsWith|endsWith|includes)\\(${SENTENCE}[?!]*\\s*[,)]|(?<![\\w.])${SENTENCE}[?!]?\\.(?:${ASKS})\\(`,
);

/** Words that others wrote, and that nothing but the words can tell apart. */
const EXCEPTIONS: readonly { readonly file: string; readonly code: string; readonly reason: string }[] = [
  {
    file: 'cli/main.ts',
    code: 'message.replace(/, write$/, ',
    reason: 'the message is that of Node, whose system call is of no use to a reader',
  },
];

function strays(files: Readonly<Record<string, string>>): string[] {
  return Object.entries(files).flatMap(([file, source]) =>
    source.split('\n').flatMap((line, i) => {
      if (/^\s*(\*|\/[/*])/.test(line) || !PROSE.test(line)) return [];
      const excepted = EXCEPTIONS.some((one) => one.file === file && line.includes(one.code));
      return excepted ? [] : [`${file}:${i + 1}: ${line.trim()}`];
    }),
  );
}

const lib = fileURLToPath(new URL('../../../lib', import.meta.url));

t.test('the checker sees a sentence that is read, and nothing else', async (t) => {
  for (const line of [
    'const row = remedies.find(({ when }) => when.test(reason));',
    'if (/RDS|WDS/.test(cmb.unusable)) return 1;',
    'const said = notes.some((note) => note.startsWith(text));',
    "return description.startsWith('Taken');",
    "if (error.message.includes('ENOENT')) return null;",
    "const [first] = error?.hint?.split(' ');",
    "if (cmb.unusable?.text.startsWith('BAR')) return 1;",
    'const m = /x/.exec(verdict.reason);',
    'asides.filter((a) => !why.includes(a));',
  ]) {
    t.same(strays({ 'x.ts': `a;\n${line}\n` }), [`x.ts:2: ${line}`], line);
  }
  for (const line of [
    "for (const line of text.split('\\n')) {",
    'if (/^x/.test(text)) return 1;',
    'return printable(verdict.reason);',
    "switch (note.kind) { case 'unpublished': }",
    "// message.startsWith('x')",
    'if (kinds.includes(note.kind)) return 1;',
  ]) {
    t.same(strays({ 'x.ts': line }), [], line);
  }
});

t.test('lib', async (t) => {
  const names = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(lib, name), 'utf8')]));
  t.ok(names.length > 150);
  t.same(strays(files), []);
  for (const { file, code, reason } of EXCEPTIONS) t.match(files[file], code, `still needed: ${reason}`);
});
