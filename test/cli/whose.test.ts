/**
 * Whatever a command says of an emulated machine says so: text and pictures begin with one line, each JSON object has
 * `backend` and `machine`. Of this machine there is no such line.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildProgram, leaves } from '../../lib/cli/program.js';
import { openSystem } from '../../lib/index.js';
import { presets } from '../../lib/machine/presets.js';
import { runCli } from '../helpers/cli.js';

t.setTimeout(180_000);

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-whose-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const a = join(folder, 'a');
writeFileSync(a, Buffer.alloc(1024 * 1024, 'p2pdma '));

const LINE = "emulated machine 'switch': its drives end with this process";
const MARK = { backend: 'emulator', machine: 'switch' };

function p2pdma(words: readonly string[], machine: readonly string[] = ['--machine', 'switch']) {
  return runCli([...words, ...machine], { cwd: folder });
}

/** Each command that has a machine: words, and the exit code. */
const COMMANDS: Record<string, readonly [words: string[], status?: number]> = {
  list: [['list']],
  topo: [['topo', '--route', 'nvme0n1', 'nvme1n1']],
  explain: [['explain']],
  'explain pair': [['explain', 'nvme0', 'nvme1']],
  doctor: [['doctor'], 1],
  copy: [['copy', a, 'nvme1n1', '--verify']],
  'copy plan': [['copy', a, 'nvme1n1', '--dry-run']],
  'trace copy': [['trace', 'copy', a, 'nvme1n1']],
  bench: [['bench', 'nvme0n1', '--bytes', '1MiB', '--rounds', '1', '--chunks', '64K', '--svg', 'bench.svg']],
  sim: [['sim', '--seeds', '2']],
};

t.test('every command with a machine is here', async (t) => {
  const all = leaves(await buildProgram()).filter(({ options }) =>
    options.some(({ long }) => long === '--machine'),
  );
  const here = new Set(
    Object.values(COMMANDS).map(([words]) => words.slice(0, words[0] === 'trace' ? 2 : 1).join(' ')),
  );
  const names = all.map((one) => (one.parent?.name() === 'trace' ? 'trace copy' : one.name()));
  t.same(names.sort(), [...here, 'snapshot'].sort());
});

for (const [name, [words, status]] of Object.entries(COMMANDS)) {
  t.test(`${name}: text and JSON`, async (t) => {
    const text = p2pdma(words);
    if (status === undefined) t.equal(text.status, 0, text.stderr);
    t.equal(text.stdout.split('\n')[0], LINE);
    const data = p2pdma([...words, '--json']);
    t.match(JSON.parse(data.stdout), MARK);
    for (const line of data.stderr.trim().split('\n').filter(Boolean)) t.match(JSON.parse(line), MARK);
  });
}

t.test('pictures', async (t) => {
  for (const format of ['svg', 'dot']) {
    const { stdout } = p2pdma(['topo', '--format', format]);
    t.match(
      stdout,
      format === 'svg' ? />emulated machine &#39;switch&#39;: its|>emulated machine 'switch': its/ : LINE,
    );
    t.match(stdout, format === 'svg' ? /^<svg/ : /^digraph/, 'nothing in front of it');
  }
  t.match(JSON.parse(p2pdma(['topo', '--format', 'json']).stdout), MARK);
  t.match(
    readFileSync(join(folder, 'bench.svg'), 'utf8'),
    /emulated machine .*: its drives end with this process/,
  );
});

t.test('demo', async (t) => {
  const { stdout, status } = p2pdma(['demo', a], []);
  t.equal(status, 0);
  t.equal(stdout.split('\n')[0], LINE);
});

t.test('snapshot: a machine description has its name, and says what it was taken of', async (t) => {
  const { stdout } = p2pdma(['snapshot', '--name', 'other']);
  const machine = JSON.parse(stdout);
  t.match(machine, { name: 'other', description: /emulated machine 'switch'/, emulated: true });
  const again = await openSystem({ machine });
  t.match(again.snapshot({ name: 'third' }), { description: machine.description }, 'not once more each time');
  await again.close();
  const worded = await openSystem({ machine: { ...presets.switch, description: machine.description } });
  const taken = worded.snapshot() as { description: string };
  t.equal(
    taken.description.split('Taken of the emulated machine').length,
    3,
    'the words are nothing that is read',
  );
  await worded.close();
});

t.test('errors: the machine is said on stderr too, which may be all that is read', async (t) => {
  const text = p2pdma(['copy', 'nvme9n1', 'nvme1n1', '--quiet']);
  t.equal(text.stderr.split('\n')[0], LINE);
  t.match(text.stderr.split('\n')[1], /^error ENOENT/);
  t.equal(text.stdout, '');
  const data = p2pdma(['copy', 'nvme9n1', 'nvme1n1', '--json']);
  t.match(JSON.parse(data.stderr), { type: 'error', code: 'ENOENT', ...MARK });
  const early = p2pdma(['list', '--json'], ['--machine', 'nowhere']);
  t.match(JSON.parse(early.stderr), { code: 'ERR_MACHINE_INVALID', backend: null, machine: null });
});

t.test('--backend emulator alone is the machine that it names', async (t) => {
  t.equal(p2pdma(['list'], ['--backend', 'emulator']).stdout.split('\n')[0], LINE);
});

t.test('drives that are kept in files do not end with the process', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const machine = system.snapshot({ name: 'mine' }) as unknown as {
    functions: { nvme: { namespaces: { store: string; file: string | null }[] } | null }[];
  };
  t.equal(system.notice, LINE);
  await system.close();
  const spaces = machine.functions.flatMap(({ nvme }) => nvme?.namespaces ?? []);
  const said = async () => {
    const one = await openSystem({ machine });
    await one.close();
    return one.notice;
  };
  Object.assign(spaces[0]!, { store: 'file', file: join(folder, 'x.img') });
  t.equal(
    await said(),
    `emulated machine 'mine': its drives end with this process, but for those kept in files: nvme0n1 in '${join(folder, 'x.img')}'`,
  );
  Object.assign(spaces[1]!, { store: 'file', file: join(folder, 'y.img') });
  t.match(await said(), /^emulated machine 'mine': its drives are kept in files: nvme0n1 in .*, nvme1n1 in /);
});

t.test('this machine', { skip: process.platform !== 'linux' && 'not Linux' }, async (t) => {
  for (const words of [['list'], ['topo'], ['explain'], ['copy', a, join(folder, 'b')]]) {
    t.notMatch(p2pdma(words, []).stdout, /emulated machine/);
    const { stdout, stderr } = p2pdma([...words, '--json'], []);
    t.match(JSON.parse(stdout), { backend: 'native', machine: null }, stderr);
  }
});
