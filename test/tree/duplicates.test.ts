/**
 * No helper is written twice: six lines of code that are the same in two files of lib belong into one. Imports and exports,
 * comments, blank lines, lone brackets and members without a value (a class has to name those of its interface) do not count.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const RUN = 6;
const MEMBER = /^(readonly |declare )*\w+\??: [^=()]+;$/;

const MAP_SG =
  'mirrors of three kernel files, each of which has a function with the parameters of dma_map_sg()';

/** Pairs of files that may, and why. */
const EXCUSED: Readonly<Record<string, string>> = {
  'kernel/dma-direct.ts kernel/dma-iommu.ts': MAP_SG,
  'kernel/dma-direct.ts kernel/dma-mapping.ts': MAP_SG,
  'kernel/dma-iommu.ts kernel/dma-mapping.ts': MAP_SG,
  'streams/file-writable.ts streams/watched-readable.ts':
    'the properties of fs.ReadStream and fs.WriteStream: two classes, one over Readable and one over Writable',
};

interface Line {
  readonly text: string;
  readonly number: number;
}

/** The lines that count. */
function codeOf(source: string): Line[] {
  const lines: Line[] = [];
  let comment = false;
  let importing = false;
  for (const [i, raw] of source.split('\n').entries()) {
    const text = raw.trim().replace(/\s+/g, ' ');
    if (text.startsWith('/*')) comment = true;
    const skip = comment || text.startsWith('//') || !/\w/.test(text) || MEMBER.test(text);
    if (comment && text.endsWith('*/')) comment = false;
    if (skip) {
      if (importing && /^\} from |;$/.test(text)) importing = false;
      continue;
    }
    if (/^(import|export (type )?\{)/.test(text)) importing = true;
    if (!importing) lines.push({ text, number: i + 1 });
    if (importing && text.endsWith(';')) importing = false;
  }
  return lines;
}

/** `a.ts:3 ~ b.ts:17: text of the first line`, once for each pair of files. */
function repeated(
  files: Readonly<Record<string, string>>,
  excused: Readonly<Record<string, string>> = {},
): string[] {
  const places = new Map<string, { file: string; line: Line }[]>();
  for (const [file, source] of Object.entries(files)) {
    const code = codeOf(source);
    for (let i = 0; i + RUN <= code.length; i++) {
      const run = code.slice(i, i + RUN);
      const key = run.map(({ text }) => text).join('\n');
      places.set(key, [...(places.get(key) ?? []), { file, line: run[0]! }]);
    }
  }
  const pairs = new Map<string, string>();
  for (const found of places.values()) {
    for (const [i, a] of found.entries()) {
      for (const b of found.slice(i + 1)) {
        const pair = [a.file, b.file].sort().join(' ');
        if (a.file === b.file || pair in excused || pairs.has(pair)) continue;
        pairs.set(pair, `${a.file}:${a.line.number} ~ ${b.file}:${b.line.number}: ${a.line.text}`);
      }
    }
  }
  return [...pairs.values()];
}

const lib = fileURLToPath(new URL('../../../lib', import.meta.url));

function sources(): Record<string, string> {
  const names = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(lib, name), 'utf8')]));
}

t.test('the checker sees what is the same, and nothing else', async (t) => {
  const six = ['a(1);', 'b(2);', 'c(3);', 'd(4);', 'e(5);', 'f(6);'];
  const within = (lines: readonly string[]) =>
    `function x() {\n${lines.map((line) => `  ${line}`).join('\n')}\n}\n`;
  t.match(repeated({ one: within(six), two: `// else\n${within(six)}` }), [/^one:\d ~ two:\d: /]);
  const spaced = [...six.slice(0, 3), '', '// in between', '}', ...six.slice(3)];
  t.equal(
    repeated({ one: `${six.join('\n')}\n`, two: spaced.join('\n') }).length,
    1,
    'lines that do not count',
  );
  t.same(repeated({ one: six.slice(0, 5).join('\n'), two: six.slice(0, 5).join('\n') }), [], 'five');
  t.same(repeated({ one: [...six, ...six].join('\n') }), [], 'one file');
  const imports = `import {\n  a,\n  b,\n  c,\n  d,\n  e,\n  f,\n  g,\n} from './x.js';\n`;
  t.same(repeated({ one: imports, two: imports }), [], 'imports');
  t.equal(repeated({ one: `${imports}${six.join('\n')}`, two: six.join('\n') }).length, 1, 'behind imports');
});

t.test('lib', async (t) => {
  const files = sources();
  t.ok(Object.keys(files).length > 150);
  t.same(repeated(files, EXCUSED), []);
  t.equal(repeated(files).length, Object.keys(EXCUSED).length, 'no excuse that nobody needs');
});
