/** The arrangement of the sources: no part outgrows the others, and the tests stand where what they test stands. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
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

/** Folders of test whose subject is not one folder of lib. */
const NOT_OF_LIB: Readonly<Record<string, string>> = {
  conformance: 'one suite for every backend',
  docs: 'README and docs',
  hunt: 'random programs against the kernel and a model',
  install: 'the package as npm installs it',
  'node-fs': 'the streams and handles beside those of node:fs',
  runtimes: 'the same test on each runtime',
  system: 'the file lib/system.ts',
  tree: 'the sources as a whole',
  'vm/guest': 'what runs in a booted Linux',
  'vm/self': 'what compares a booted Linux with the emulator',
};

function foldersWith(folder: string, ending: string): string[] {
  const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  return [...new Set(names.filter((name) => name.endsWith(ending)).map(dirname))].sort();
}

t.test('test mirrors lib, folder by folder', async (t) => {
  const mirrored = (folder: string) => folder !== '.' && !(folder in NOT_OF_LIB);
  t.strictSame(foldersWith('test', '.test.ts').filter(mirrored), foldersWith('lib', '.ts').filter(mirrored));
});

t.test('each exception from that is one', async (t) => {
  const [ofTest, ofLib] = [foldersWith('test', '.test.ts'), foldersWith('lib', '.ts')];
  for (const folder of Object.keys(NOT_OF_LIB)) {
    t.ok(
      ofTest.includes(folder) && !ofLib.includes(folder),
      `test/${folder} has tests, and lib no such folder`,
    );
  }
});
