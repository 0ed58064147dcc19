/** The addon is taken if it was built from these sources, and refused before anything of it is called if not. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { skipNative } from '../helpers/native.js';

const module = new URL('../../lib/native/addon.js', import.meta.url).href;

/** What loading says, in a process of its own. */
function load(env: NodeJS.ProcessEnv = {}, flags: string[] = []) {
  const code = `import(${JSON.stringify(module)}).then(({ loadAddon }) => loadAddon()).then(
    (addon) => console.log(JSON.stringify({ interface: addon.interface })),
    ({ code, message, hint }) => console.log(JSON.stringify({ code, message, hint })));`;
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', code], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  });
  return JSON.parse(stdout || JSON.stringify({ stderr }));
}

/** A folder in which node-gyp-build finds `code` in the addon's place. */
function standIn(folder: string, code: string): [NodeJS.ProcessEnv, string[]] {
  mkdirSync(join(folder, 'build/Release'), { recursive: true });
  writeFileSync(join(folder, 'build/Release/p2pdma.node'), 'not read');
  const hook = join(folder, 'hook.cjs');
  writeFileSync(hook, `require('module')._extensions['.node'] = (m) => { m.exports = ${code}; };`);
  return [{ P2PDMA_PREBUILD: folder }, ['--require', hook]];
}

t.test('the addon of these sources', { skip: skipNative }, async (t) => {
  t.type(load().interface, 'number');
});

const noAddon = process.platform === 'linux' ? false : 'the addon is for Linux';
for (const [what, code, says] of [
  [
    'another number',
    '{ interface: 0, counters() { process.exit(7); } }',
    /its interface is 0, \d+ is needed/,
  ],
  ['no number', '{ counters() { process.exit(7); } }', /its interface is not numbered/],
] as const) {
  t.test(`an addon with ${what} of its interface`, { skip: noAddon }, async (t) => {
    const said = load(...standIn(t.testdir(), code));
    t.equal(said.code, 'ERR_BACKEND_UNAVAILABLE');
    t.match(said.message, says);
    t.match(said.hint, /Build it here: node \S*scripts\/build-addon\.cjs/);
  });
}
