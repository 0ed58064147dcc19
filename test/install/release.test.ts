/** The release script: what it refuses to publish. `.ci/run` makes a release without publishing it. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

interface State {
  readonly manifest: { readonly version: string; readonly repository: { readonly url: string } };
  readonly changelog: string;
  readonly changed: string;
  readonly tags: readonly string[];
}
const root = fileURLToPath(new URL('../../../', import.meta.url));
const script = join(root, 'scripts/release.cjs');
const { refusals, installed } = createRequire(import.meta.url)(script) as {
  refusals(state: State): string[];
  installed(lock: { packages: Record<string, { dev?: boolean }> }): string[];
};

const READY: State = {
  manifest: { version: '1.2.3', repository: { url: 'git+https://git.somewhere.org/p2pdma.git' } },
  changelog: '# Changelog\n\n## 1.2.3\n\n- text\n\n## 1.2.2\n',
  changed: '',
  tags: ['v1.2.2', ''],
};

t.test('nothing is refused where all is ready', async (t) => {
  t.strictSame(refusals(READY), []);
});

t.test('each thing that is refused, and all of them together', async (t) => {
  const address = { ...READY.manifest, repository: { url: 'git+https://repository.invalid/p2pdma.git' } };
  const wrong: readonly [Partial<State>, RegExp][] = [
    [{ manifest: address }, /^package.json names no real address: .*\(now repository\.invalid\)\.$/],
    [
      { changelog: '## Unreleased\n\n## 1.2.3\n' },
      /^CHANGELOG.md begins with '## Unreleased', .* version 1\.2\.3\.$/,
    ],
    [{ changelog: '' }, /^CHANGELOG.md begins with 'nothing'/],
    [{ changed: ' M README.md\n' }, /^There are changes that are not committed\.$/],
    [{ tags: ['v1.2.3'] }, /^There is a tag v1\.2\.3 already/],
  ];
  for (const [state, words] of wrong) {
    const found = refusals({ ...READY, ...state });
    t.equal(found.length, 1);
    t.match(found[0], words);
  }
  const changelog = '## Unreleased';
  t.equal(refusals({ manifest: address, changelog, changed: ' M a', tags: ['v1.2.3'] }).length, 4);
});

t.test('what is installed with the package: not what only a clone needs, nested ones too', async (t) => {
  const packages = {
    '': {},
    'node_modules/b': {},
    'node_modules/b/node_modules/@c/a': {},
    'node_modules/d': { dev: true },
  };
  t.strictSame(installed({ packages }), ['@c/a', 'b']);
});

t.test('an option that it does not have: nothing is done', async (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--dryrun'], { encoding: 'utf8' });
  t.equal(status, 1);
  t.equal(stdout, '');
  t.equal(stderr, 'release: no option --dryrun: there are --dry-run and --tested\n');
});

t.test('nothing is published past it', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const { status, stderr } = spawnSync('sh', ['-c', scripts.prepublishOnly], { encoding: 'utf8' });
  t.equal(status, 1);
  t.equal(stderr, 'To publish: npm run release\n');
});
