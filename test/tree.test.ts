/** The arrangement of the sources: no part outgrows the others, and the tests stand where what they test stands. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../', import.meta.url));
const lib = join(root, 'lib');
const sources = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
);
const linesOf = (name: string) => readFileSync(join(lib, name), 'utf8').split('\n').length - 1;

t.test('no part of lib is more than a fifth of it', async (t) => {
  const parts = new Map<string, number>();
  for (const name of sources) {
    const [part] = name.split(sep);
    parts.set(part!, (parts.get(part!) ?? 0) + linesOf(name));
  }
  const all = [...parts.values()].reduce((sum, lines) => sum + lines);
  for (const [part, lines] of parts) t.ok(lines <= all / 5, `${part}: ${lines} of ${all} lines`);
});

t.test('the two stream classes can be held in the head', async (t) => {
  for (const name of ['streams/read-stream.ts', 'streams/write-stream.ts']) {
    t.ok(linesOf(name) <= 350, `${name}: ${linesOf(name)} lines`);
  }
});

t.test('a test in a folder of a part tests that part', async (t) => {
  const parts = new Set(sources.map((name) => name.split(sep)[0]!));
  const folders = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && parts.has(name.split(sep)[0]!))
    .map(dirname);
  const strange = [...new Set(folders)].filter((folder) => !existsSync(join(lib, folder)));
  t.strictSame(
    strange.map((folder) => relative('.', folder)),
    [],
  );
});
