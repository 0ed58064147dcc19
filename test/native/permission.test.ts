/** Under Node's permission model the addon opens nothing that node:fs would not open. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { skipNative } from '../helpers/native.js';
import { plainNode } from '../helpers/plain-node.js';

const index = new URL('../../lib/index.js', import.meta.url).href;
const dist = new URL('../../../', import.meta.url).pathname;
const flag = process.allowedNodeEnvironmentFlags.has('--permission')
  ? '--permission'
  : '--experimental-permission';

t.test('a path that was not granted is neither read nor written', { skip: skipNative }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'p2pdma-permission-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const [source, target] = [join(directory, 'source'), join(directory, 'target')];
  writeFileSync(source, 'bytes');
  /** A copy under --permission with these grants: its bytes, or its error. */
  const copy = (...grants: string[]) => {
    const file = join(directory, 'copy.mjs');
    writeFileSync(
      file,
      `const { openSystem } = await import(${JSON.stringify(index)});
      const system = await openSystem({ backend: 'native' });
      try {
        console.log(JSON.stringify({ bytes: (await system.pipeline(${JSON.stringify(source)}, ${JSON.stringify(target)})).bytes }));
      } catch ({ code, hint, path }) {
        console.log(JSON.stringify({ code, hint, path }));
      }
      await system.close();`,
    );
    const always = [dist, file, '/sys', '/proc', '/etc'].map(
      (path) => `--allow-fs-read=${path.replace(/\/$/, '')}${path === file ? '' : '/*'}`,
    );
    const args = [flag, '--allow-addons', ...always, ...grants, file];
    const { status, stdout, stderr } = spawnSync(...plainNode(args), { encoding: 'utf8' });
    t.equal(status, 0, stderr);
    return JSON.parse(stdout || 'null');
  };
  t.match(copy(), { code: 'EACCES', path: source, hint: `--allow-fs-read=${source}` });
  t.match(copy(`--allow-fs-read=${directory}/*`), {
    code: 'EACCES',
    path: target,
    hint: `--allow-fs-write=${target}`,
  });
  t.notOk(existsSync(target), 'and nothing was made');
  t.match(copy(`--allow-fs-read=${directory}/*`, `--allow-fs-write=${target}`), { bytes: 5 });
  t.equal(readFileSync(target, 'utf8'), 'bytes');
});
