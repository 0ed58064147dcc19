/** What every text has in common is spelt in one place: numbers in hex, sizes, PCI addresses, names below /dev, near names, sums by path. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

interface Rule {
  /** What it looks like where somebody spells it out. */
  readonly pattern: RegExp;
  /** The one file of lib that may. */
  readonly home: string;
  /** What to call instead. */
  readonly use: string;
  /** Files where it is part of something else. */
  readonly also?: readonly string[];
}

const RULES: readonly Rule[] = [
  { pattern: /toString\(16\)/, home: 'base/words.ts', use: 'hex(), hexNumber()' },
  { pattern: /0x\$\{/, home: 'base/words.ts', use: 'hexNumber()' },
  { pattern: /\} ?[KMGTP]iB\b/, home: 'base/words.ts', use: 'size()' },
  { pattern: /\/ ?(1024|2 ?\*\* ?[1234]0|MIB)\)?\.toFixed/, home: 'base/words.ts', use: 'size()' },
  { pattern: /[`'"](0000:\$\{|0000:'? ?\+)/, home: 'backend/names.ts', use: 'normalizeBdf()' },
  {
    pattern: /\[01\]\[0-9a-f|\{2\}:\[|\bbdf\.split\(/i,
    home: 'backend/names.ts',
    use: 'parseBdf(), isBdf(), PCI_ADDRESS',
  },
  {
    pattern: /'\/dev\/'\.length|slice\(5\)|replace\((\/\^?\\\/dev\\\/|'\/dev\/')/,
    home: 'backend/names.ts',
    use: 'bareName()',
  },
  { pattern: /\[kmgt\]\)|\bkib: /i, home: 'base/words.ts', use: 'readSize()' },
  {
    pattern: /% (HOTPLUG_GRANULE|(\w+\.)?(compatAlign|memremapAlign|align)) [!=]==|MEMREMAP_COMPAT_ALIGN = /,
    home: 'backend/hardware.ts',
    use: 'misaligned(), MEMREMAP_COMPAT_ALIGN',
  },
  { pattern: /[`'"]did you mean/i, home: 'base/nearest.ts', use: 'didYouMean()' },
  { pattern: /hostBridge: 0\b/, home: 'backend/path-bytes.ts', use: 'zeroPath()' },
];

/** `file:line: use X`, for each line that spells out what has a home elsewhere. */
function strays(files: Readonly<Record<string, string>>): string[] {
  return Object.entries(files).flatMap(([file, source]) =>
    source.split('\n').flatMap((line, i) => {
      if (/^\s*(\*|\/[/*])/.test(line)) return [];
      const broken = RULES.filter(
        ({ pattern, home, also = [] }) => ![home, ...also].includes(file) && pattern.test(line),
      );
      return broken.map(({ use }) => `${file}:${i + 1}: use ${use}`);
    }),
  );
}

const lib = fileURLToPath(new URL('../../../lib', import.meta.url));

t.test('the checker sees each of them, where it stands and not where it is at home', async (t) => {
  const spelt = [
    ["const a = n.toString(16).padStart(4, '0');", 'hex(), hexNumber()'],
    [`const a = \`0x\${hex(n)}\`;`, 'hexNumber()'],
    [`const a = \`\${n / MIB} MiB\`;`, 'size()'],
    [`const a = (n / 2 ** 20).toFixed(1) + unit;`, 'size()'],
    [`const a = \`0000:\${short}\`;`, 'normalizeBdf()'],
    [
      'const BDF = /^([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f]).([0-7])$/;',
      'parseBdf(), isBdf(), PCI_ADDRESS',
    ],
    ['const a = /^[0-9a-f]{2}:[0-9a-f]{2}.[0-7]$/.test(lower);', 'parseBdf(), isBdf(), PCI_ADDRESS'],
    ["const [domain, bus] = bdf.split(':');", 'parseBdf(), isBdf(), PCI_ADDRESS'],
    ['const SIZE = /^([0-9]+)([kmgt])(i?b)?$/i;', 'readSize()'],
    ['const UNITS = { b: 1, kib: 2 ** 10, mib: 2 ** 20 };', 'readSize()'],
    ['if (start % mm.compatAlign !== 0) return -EINVAL;', 'misaligned(), MEMREMAP_COMPAT_ALIGN'],
    ['export const MEMREMAP_COMPAT_ALIGN = 0x200000;', 'misaligned(), MEMREMAP_COMPAT_ALIGN'],
    [`const a = path.replace(/^\\/dev\\//, '');`, 'bareName()'],
    ["const a = path.slice('/dev/'.length);", 'bareName()'],
    [`const a = \`Did you mean '\${name}'?\`;`, 'didYouMean()'],
    ['const a = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };', 'zeroPath()'],
  ] as const;
  for (const [line, use] of spelt) t.same(strays({ 'x.ts': `a;\n${line}\n` }), [`x.ts:2: use ${use}`], line);
  t.same(strays({ 'x.ts': ` * n.toString(16) in a comment\n// and 0x\${here}\n` }), []);
  t.same(strays({ 'base/words.ts': 'return value.toString(16);' }), []);
});

t.test('lib', async (t) => {
  const names = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(lib, name), 'utf8')]));
  t.ok(names.length > 150);
  t.same(strays(files), []);
  for (const { pattern, home } of RULES) {
    if (!/toFixed|\[KMGTP\]|0000/.test(pattern.source)) t.match(files[home], pattern, `${home} is the home`);
  }
});
