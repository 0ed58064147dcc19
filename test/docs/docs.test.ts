/**
 * The documents say what is: nothing stands between two fences that no test looks at.
 *
 *     sh       runs here                         text   what the commands above it print
 *     console  runs on an emulated machine       (none) a drawing
 *     js       runs                              ts     declarations, in what is generated (docs-generated.test.ts)
 *     shell    for a machine of its own, which test/vm boots: there it runs, here it is compared with that
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { presets } from '../../lib/machine/presets.js';
import { type Block, blocksOf, rehearse, runJs, runSh, sessionsOf } from '../helpers/doc-blocks.js';
import { machineToQemu } from '../vm/machine.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
const read = (name: string) => readFileSync(join(root, name), 'utf8');

// The blocks import 'p2pdma', which resolves from inside the package.
const folder = mkdtempSync(join(root, 'dist', 'docs-'));
t.teardown(() => rmSync(folder, { recursive: true }));

// Without a runner there is nobody else who is patient.
t.setTimeout(300_000);

/** README.md has a test of its own. */
const files = ['SECURITY.md', 'bench/README.md', ...docs.map((name) => `docs/${name}`)];

for (const file of files) {
  t.test(file, async (t) => {
    const text = read(file);
    const blocks = blocksOf(text);
    t.not(text.trim(), '');
    for (const [i, block] of blocks.entries()) {
      await t.test(`line ${block.line}: ${block.language}`, async (t) => check(t, file, blocks, i));
    }
  });
}

function check(t: Test, file: string, blocks: readonly Block[], i: number): void {
  const { language, body } = blocks[i]!;
  const before = blocks[i - 1]?.language;
  const session = () => sessionsOf(blocks.slice(i, i + 2), language)[0]!;
  switch (language) {
    case 'sh':
      return runSh(t, session());
    case 'console':
      return rehearse(t, session());
    case 'js':
      return runJs(t, body, join(folder, `${file.replaceAll('/', '-')}-${i}.mjs`));
    case 'text':
      // How it is compared is said there.
      t.ok(before === 'sh' || before === 'console' || before === 'shell', 'it stands behind commands');
      return;
    case '':
      t.match(body, /[│─▶]/, 'a drawing');
      t.notMatch(body, /^\s*(\$|npx|npm|sudo|p2pdma) /m, 'and nothing to type');
      return;
    case 'ts':
      t.equal(file, 'docs/api.md');
      return;
    case 'shell':
      return onAMachineOfItsOwn(t, file, body);
    default:
      t.fail(`nobody knows how to check a block of '${language}'`);
  }
}

function onAMachineOfItsOwn(t: Test, file: string, body: string): void {
  if (file === 'docs/fabrics.md') {
    const guest = read('test/vm/guest/fabrics.test.ts');
    t.match(guest, "sessionsOf(blocksOf(document), 'shell')", 'all of this document’s run in the guest');
    t.match(guest, "readFileSync('/repo/docs/fabrics.md', 'utf8')");
    return;
  }
  const words = body.replaceAll('\\\n', ' ').trim().split(/\s+/);
  t.equal(words[0], 'qemu-system-x86_64');
  const machine = machineToQemu(presets.switch, '.').join(' ');
  t.match(words.join(' '), machine, `its machine is 'switch' as test/vm boots it:\n${machine}`);
}

t.test('links lead somewhere', async (t) => {
  for (const file of ['README.md', 'CHANGELOG.md', 'NOTICES.md', ...files]) {
    const text = read(file).replaceAll(/^```[\s\S]*?^```/gm, '');
    for (const [, target, , anchor] of text.matchAll(/\]\((?!https?:)([^)#\s]*)(#([^)\s]*))?\)/g)) {
      const path = target === '' ? file : join(file, '..', target!);
      const there = spawnSync('test', ['-e', join(root, path)]).status === 0;
      t.ok(there, `${file} links to ${path}`);
      if (anchor === undefined || !there) continue;
      t.ok(anchors(read(path)).has(anchor), `${file} links to ${path}#${anchor}`);
    }
  }
});

/** As GitHub makes them of headings; of several that are alike, the later ones have a number. */
function anchors(text: string): Set<string> {
  const all = new Set<string>();
  for (const [, heading] of text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)) {
    const plain = heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-');
    let name = plain;
    for (let n = 1; all.has(name); n++) name = `${plain}-${n}`;
    all.add(name);
  }
  return all;
}

t.test('every document is linked from the README', async (t) => {
  const readme = read('README.md');
  for (const name of docs) t.match(readme, `(docs/${name})`);
});

t.test('performance.md has the goals that npm run bench checks', async (t) => {
  const table = read('docs/performance.md');
  for (const suite of ['emulator', 'native']) {
    const source = read(`bench/${suite}/figures.ts`);
    const call =
      /\bat(Least|Most)\(\s*(?:'(.*?)'|"(.*?)"|`(.*?)`),[^;]*?, ([\d.]+|goals?(?:\.\w+)?)(?:, '\S+')?,?\s*\)/g;
    const figures = [...source.matchAll(call)];
    t.equal(figures.length, source.match(/\bat(Least|Most)\(/g)!.length, `${suite}: all are found`);
    for (const [, kind, single, double, template, goal] of figures) {
      const name = single ?? double ?? template!;
      const words = name.split(/\$\{.*?\}/).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      const bound = goal!.startsWith('goal') ? '[\\d.]+' : goal!.replace('.', '\\.');
      const row = new RegExp(
        `^\\| ${words.join('.*')} \\| ${kind === 'Least' ? '≥' : '≤'} ${bound}[ ×µms|,]`,
        'm',
      );
      t.ok(row.test(table), `${name}: ${goal}`);
    }
  }
});
