/**
 * The emulator never stands in for this machine. Where the addon cannot be loaded, whoever named no machine gets
 * ERR_BACKEND_UNAVAILABLE from everything that would do I/O, on any platform; what only looks still reads this machine.
 * Before, a backup of /dev/nvme0n1 held an emulated drive's zeros, with a receipt and exit code 0.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { plainNode } from '../helpers/plain-node.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const index = new URL('../../lib/index.js', import.meta.url).href;
const main = join(root, 'dist/lib/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-no-stand-in-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, 'a'), 'abc');
// Some sixty processes.
t.setTimeout(180_000);

/** What `node` is told, so that the addon cannot be loaded. Data is code in front of the program. */
const WITHOUT_ADDON: Record<string, string[]> = {
  '--no-addons': ['--no-addons'],
  '--permission': [permission(), '--allow-fs-read=*', `--allow-fs-write=${folder}`],
  darwin: ['--no-addons', '--import', pretendToBe('darwin')],
  win32: ['--no-addons', '--import', pretendToBe('win32')],
};

function permission(): string {
  return process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
}

function pretendToBe(platform: string): string {
  const code = `Object.defineProperty(process, 'platform', { value: ${JSON.stringify(platform)} })`;
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

function node(flags: readonly string[], ...words: string[]) {
  return spawnSync(...plainNode([...flags, ...words]), { cwd: folder, encoding: 'utf8' });
}

const ASKED = [
  ['openSystem()', 'p2pdma.openSystem()'],
  ["openSystem({ backend: 'auto' })", "p2pdma.openSystem({ backend: 'auto' })"],
  ["openSystem({ backend: 'native' })", "p2pdma.openSystem({ backend: 'native' })"],
  ["pipeline('/dev/nvme0n1', file)", "p2pdma.pipeline('/dev/nvme0n1', 'b', { end: 65535, verify: true })"],
  ['pipeline(file, file)', "p2pdma.pipeline('a', 'b')"],
  ["planCopy('a', 'b')", "p2pdma.planCopy('a', 'b')"],
  [
    "createReadStream('nvme0n1')",
    "new Promise((resolve, reject) => p2pdma.createReadStream('nvme0n1').on('error', reject).on('data', resolve))",
  ],
  [
    "createWriteStream('nvme0n1')",
    "new Promise((resolve, reject) => p2pdma.createWriteStream('nvme0n1').on('error', reject).on('finish', resolve).end('x'))",
  ],
] as const;

for (const [how, flags] of Object.entries(WITHOUT_ADDON)) {
  t.test(`${how}: the library`, async (t) => {
    const questions = ASKED.map(([what, code]) => `[${JSON.stringify(what)}, () => ${code}]`);
    const program = `
      const p2pdma = await import(${JSON.stringify(index)});
      for (const [what, ask] of [${questions}]) {
        const said = await ask().then(() => 'was done', (error) => error);
        console.log(JSON.stringify({ what, code: said.code ?? said, message: said.message, hint: said.hint }));
      }
      const emulated = await p2pdma.openSystem({ machine: 'switch' });
      const asked = await p2pdma.openSystem({ backend: 'emulator' });
      console.log(JSON.stringify({ what: 'named', code: [emulated.backend, asked.backend, asked.machine].join() }));
      await Promise.all([emulated.close(), asked.close()]);
    `;
    const run = node(flags, '--input-type=module', '-e', program);
    t.equal(run.status, 0, run.stderr);
    const answers = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    t.equal(answers.length, ASKED.length + 1);
    for (const { what, code, message, hint } of answers.slice(0, -1)) {
      t.equal(code, 'ERR_BACKEND_UNAVAILABLE', `${what}: ${message}`);
      t.ok(message.length > 20 && hint.length > 20, `${what}: the cause in words, and a remedy`);
    }
    t.equal(answers.at(-1).code, 'emulator,emulator,switch', 'what is asked for is had');
    t.same(readdirSync(folder), ['a'], 'nothing was made');
  });

  if (how === 'win32') continue;
  t.test(`${how}: the command`, async (t) => {
    for (const words of [
      ['copy', '/dev/nvme0n1', 'b', '--bytes', '1MiB', '--verify', '--require-p2p'],
      ['copy', 'a', '/dev/nvme0n1', '--verify'],
      ['copy', 'a', 'c'],
      ['copy', 'a', 'c', '--dry-run'],
      ['bench', 'a'],
      ['trace', 'copy', 'a', 'c'],
    ]) {
      const run = node(flags, main, ...words, '--json');
      t.equal(run.status, 1, `${words.join(' ')}: ${run.stdout}`);
      t.equal(run.stdout, '');
      t.match(JSON.parse(run.stderr.trim().split('\n').at(-1)!), {
        type: 'error',
        code: 'ERR_BACKEND_UNAVAILABLE',
      });
    }
    t.same(readdirSync(folder), ['a'], 'nothing was made');
  });
}

const LOOKING = [['list'], ['topo'], ['explain'], ['doctor'], ['snapshot']];

t.test(
  'what only looks reads this machine without the addon',
  { skip: process.platform !== 'linux' && 'not Linux' },
  async (t) => {
    for (const how of ['--no-addons', '--permission']) {
      for (const words of LOOKING) {
        const run = node(WITHOUT_ADDON[how]!, main, ...words);
        t.notMatch(run.stdout, /emulated machine/, `${how} ${words}`);
        t.not(run.stdout, '', `${how} ${words}: ${run.stderr}`);
        if (words[0] !== 'doctor') t.equal(run.status, 0, `${how} ${words}: ${run.stderr}`);
      }
    }
  },
);

t.test('where there is no Linux, what only looks says so, and how to try it', async (t) => {
  for (const words of LOOKING) {
    const run = node(WITHOUT_ADDON.darwin!, main, ...words);
    const said = run.stdout + run.stderr;
    t.match(said, /this is darwin(, which has no Linux sysfs to look at|: peer-to-peer DMA needs Linux)/);
    t.match(said, /--machine '?switch/, said);
    t.not(run.status, 0, said);
  }
  t.equal(node(WITHOUT_ADDON.darwin!, main, 'list', '--machine', 'switch').status, 0);
});
