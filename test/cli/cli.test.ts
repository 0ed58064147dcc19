import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { main, p2pdma } from '../helpers/cli.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-cli-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);

t.test('copy: two image files of 256 MiB, peer to peer, verified', async (t) => {
  writeFileSync(file('a'), randomBytes(16 * 1024 * 1024));
  truncateSync(file('a'), 256 * 1024 * 1024);
  const { status, stdout, stderr } = p2pdma(
    'copy',
    file('a'),
    file('b'),
    '--backend',
    'emulator',
    '--verify',
    '--json',
  );
  t.equal(status, 0, stderr);
  for (const line of stderr.trim().split('\n')) t.match(JSON.parse(line), { type: 'progress' });
  t.match(JSON.parse(stdout), {
    bytes: 268435456,
    backend: 'emulator',
    provider: '0000:03:00.0',
    transport: 'p2p-bus',
    unproven: null,
    path: { internal: 268435456, peerBus: 268435456, hostBridge: 0, hostDram: 0 },
    verified: true,
    digest: /^sha256:[0-9a-f]{64}$/,
  });
  t.ok(readFileSync(file('a')).equals(readFileSync(file('b'))), 'identical files');
  rmSync(file('b'));
});

t.test('copy: ranges, chunks, depth, provider, an odd length', async (t) => {
  const bytes = randomBytes(1_000_003);
  writeFileSync(file('odd'), bytes);
  for (const provider of ['nvme0', 'nvme1', '0000:04:00.0', '04:00.0', 'none']) {
    const run = p2pdma(
      ...[
        'copy',
        file('odd'),
        file('part'),
        '--machine',
        'switch',
        '--json',
        '--start',
        '8',
        '--end',
        '999999',
      ],
      ...['--chunk', '64KiB', '--depth', '2', '--provider', provider],
    );
    t.equal(run.status, 0, run.stderr);
    t.match(JSON.parse(run.stdout), {
      bytes: 999992,
      transport: provider === 'none' ? 'host-memory' : 'p2p-bus',
    });
    t.ok(readFileSync(file('part')).equals(bytes.subarray(8, 1_000_000)), provider);
  }
});

t.test('copy: a shift that drives cannot do is done by the CPU, and said', async (t) => {
  const run = p2pdma('copy', file('odd'), file('part'), '--machine', 'switch', '--json', '--start', '5');
  t.match(JSON.parse(run.stdout), {
    transport: 'host-memory',
    reason: /not a multiple of the DMA alignment/,
  });
  t.ok(readFileSync(file('part')).equals(readFileSync(file('odd')).subarray(5)));
});

t.test('copy: for people, without colour and progress when it is not a terminal', async (t) => {
  const content = 'hello, drives!\n\n'.repeat(1024);
  writeFileSync(file('small'), content);
  const { status, stdout, stderr } = p2pdma(
    'copy',
    file('small'),
    file('c1'),
    file('c2'),
    '--machine',
    'four-drives',
    '--verify',
  );
  t.equal(status, 0, stderr);
  t.equal(stderr, '');
  t.notMatch(stdout, '\u001b');
  t.match(stdout, /\[ CMB of nvme0 0000:03:00\.0 \] ══ PCIe, peer to peer ══▶ c1\n.*══▶ c2/);
  t.match(stdout, /host DRAM: untouched/, 'of whole blocks');
  const digest = createHash('sha256').update(content).digest('hex');
  t.match(stdout, new RegExp(`verified +identical, sha256:${digest}`));
  t.equal(readFileSync(file('c2'), 'utf8'), content);
  t.same(p2pdma('copy', file('small'), file('c1'), '--machine', 'switch', '--quiet'), {
    status: 0,
    stdout: '',
    stderr: '',
  });
});

t.test('explain: the verdict as JSON and in words', async (t) => {
  const json = p2pdma('explain', 'nvme0', 'nvme1', '0000:03:00.0', '--machine', 'acs', '--json');
  t.equal(json.status, 0, json.stderr);
  const { clients, ...rest } = JSON.parse(json.stdout);
  t.same(rest, {
    backend: 'emulator',
    machine: 'acs',
    kernel: '6.12',
    provider: '0000:03:00.0',
    distance: -1,
    notes: [],
  });
  t.match(clients[0], { bdf: '0000:04:00.0', distance: -1, mapType: 'NOT_SUPPORTED', acsKnown: true });
  t.same(clients[0].acs, ['0000:02:00.0', '0000:02:01.0']);
  t.match(clients[0].remedy, 'pci=disable_acs_redir=0000:02:00.0;0000:02:01.0');
  t.match(clients[0].remedy, /isolation/);
  t.match(clients[1], { bdf: '0000:03:00.0', distance: 0, mapType: 'BUS_ADDR', acs: [], remedy: null });
  const words = p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'switch');
  t.match(words.stdout, /0000:04:00\.0 +BUS_ADDR +4 +clear/);
  const port = p2pdma('explain', '02:00.0', 'nvme1', '--machine', 'switch');
  t.match(port.stdout, /provides no p2pmem; answered as if it did/);
});

t.test('list and topo', async (t) => {
  const { controllers } = JSON.parse(p2pdma('list', '--machine', 'no-cmb', '--json').stdout);
  t.match(controllers, [
    {
      name: 'nvme0',
      bdf: '0000:03:00.0',
      transport: 'pcie',
      cmb: null,
      namespaces: [{ name: 'nvme0n1', nsid: 1 }],
    },
    { name: 'nvme1' },
  ]);
  t.match(
    p2pdma('list', '--machine', 'switch').stdout,
    /nvme1 +0000:04:00\.0 +nvme1n1 +1 GiB +512 +16 MiB, 15\.9 MiB free/,
  );
  t.match(p2pdma('list', '--machine', 'cmb-read-only').stdout, /16 MiB, not published$/m);
  const tree = p2pdma('topo', '--machine', 'nested-switches').stdout;
  t.match(tree, /│ {2}└─ 0000:03:00\.0 {2}nvme0 {2}CMB 16 MiB {2}nvme0n1 1 GiB/);
  t.match(p2pdma('topo', '--machine', 'acs').stdout, /downstream-port {2}ACS redirects peer traffic up/);
  const { functions } = JSON.parse(p2pdma('topo', '--machine', 'switch', '--json').stdout);
  t.match(functions.at(-1), {
    bdf: '0000:04:00.0',
    upstream: '0000:02:01.0',
    p2pmem: { size: 16777216, published: true },
  });
});

t.test('mistakes: two lines, an exit code, nothing written', async (t) => {
  for (const [status, pattern, ...args] of [
    [2, /^error ENOENT: .*'\/no\/such'\n\S.*\n$/, 'copy', '/no/such', file('never'), '--machine', 'switch'],
    [2, /^error EISDIR: .*\n\S.*\n$/, 'copy', folder, file('never'), '--machine', 'switch'],
    [2, /^error ENOENT: .*nvme7n1.*\n\S.*\n$/, 'copy', 'nvme7n1', 'nvme1n1', '--machine', 'switch'],
    [
      2,
      /^error ERR_CHUNK_TOO_LARGE: .*67108864.*\n\S.*\n$/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--chunk',
      '64MiB',
      '--machine',
      'switch',
    ],
    [
      2,
      /^error ERR_OUT_OF_RANGE: option --depth: .*0.*\n\S.*\n$/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--depth',
      '0',
      '--machine',
      'switch',
    ],
    [
      2,
      /^error ERR_OUT_OF_RANGE: .*--end.*1073741824 is beyond the last byte of .*\n\S.*\n$/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--end',
      '1g',
      '--machine',
      'switch',
    ],
    [
      2,
      /^error ENOENT: .*no\/such.*\n.*--svg.*\n$/,
      'bench',
      'nvme0n1',
      '--svg',
      '/no/such',
      '--machine',
      'switch',
    ],
    [2, /Give a whole number of 1 or more/, 'trace', 'copy', 'a', 'b', '--requests', '0'],
    [
      2,
      /^error ERR_OUT_OF_RANGE: .*start.*2147483648.*\n\S.*\n$/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--start',
      '2g',
      '--machine',
      'switch',
    ],
    [2, /^error ERR_OVERLAP: .*\n\S.*\n$/, 'copy', 'nvme0n1', 'nvme0n1', '--machine', 'switch'],
    [
      1,
      /^error ERR_P2P_REQUIRED: .*no drive has a CMB.*\n\S.*\n$/,
      'copy',
      'nvme0n1',
      'nvme1n1',
      '--require-p2p',
      '--machine',
      'no-cmb',
    ],
    [2, /^error ERR_MACHINE_INVALID: .*'nowhere'\n.*switch.*\n$/, 'list', '--machine', 'nowhere'],
    [2, /^error ENOENT: .*\n\S.*\n$/, 'list', '--machine', './nowhere.json'],
    [
      2,
      /^error ERR_INVALID_ARG_VALUE: .*nvme9.*\n.*nvme0, nvme1.*\n$/,
      'explain',
      'nvme9',
      'nvme0',
      '--machine',
      'switch',
    ],
    [2, /^error ERR_INVALID_ARG_VALUE: p2pdma has no command 'copi'\n.*copy/, 'copi'],
    [2, /copy has no option '--verfy'\n.*--verify/, 'copy', 'a', 'b', '--verfy'],
    [2, /Give a size/, 'copy', 'a', 'b', '--chunk', 'big'],
    [2, /copy needs <dst\.\.\.>\n/, 'copy', 'a'],
  ] as const) {
    const run = p2pdma(...args);
    t.equal(run.status, status, args.join(' '));
    // Whose it is stands in front, once a machine is open (cli-whose.test.ts).
    t.match(run.stderr.replace(/^emulated machine .*\n/, ''), pattern, args.join(' '));
    t.equal(run.stdout, '', args.join(' '));
  }
  t.throws(() => readFileSync(file('never')), { code: 'ENOENT' });
});

t.test('machine JSON with a mistake: where it is', async (t) => {
  const machine = JSON.parse(
    readFileSync(new URL('../../../test/fixtures/machine-two-drives.json', import.meta.url), 'utf8'),
  );
  writeFileSync(file('good.json'), JSON.stringify(machine));
  t.match(p2pdma('list', '--machine', file('good.json')).stdout, /nvme1n1/);
  machine.functions.push(machine.functions[0]);
  writeFileSync(file('bad.json'), JSON.stringify(machine));
  const { status, stderr } = p2pdma('list', '--machine', file('bad.json'));
  t.equal(status, 2);
  t.match(stderr, /^error ERR_MACHINE_INVALID: .*functions\[\d\].*\n\S.*\n$/);
  writeFileSync(file('torn.json'), '{"version": 1,');
  t.match(p2pdma('list', '--machine', file('torn.json')).stderr, /ERR_MACHINE_INVALID/);
});

t.test('a reader that goes away ends it quietly', async (t) => {
  writeFileSync(file('piped'), 'hello');
  const machine = ['--machine', 'switch'];
  for (const [status, ...args] of [
    [0, 'topo', '--machine', 'nested-switches'],
    [0, 'topo', ...machine, '--format', 'svg'],
    [0, 'list', ...machine],
    [0, 'explain', ...machine],
    [2, 'doctor', '--machine', 'acs'],
    [0, 'snapshot', ...machine],
    [0, 'copy', file('piped'), file('piped-on'), ...machine],
    [0, 'copy', file('piped'), file('piped-on'), ...machine, '--json', '--verify'],
    [1, 'copy', file('piped'), file('piped-on'), '--machine', 'no-cmb', '--require-p2p'],
    [0, 'trace', 'copy', file('piped'), file('piped-on'), ...machine],
    [0, 'bench', 'nvme0n1', ...machine, '--bytes', '1MiB', '--rounds', '1'],
    [0, 'demo', file('piped')],
    [0, 'completion', 'bash'],
    [0, 'help', 'copy'],
    [0, '--version'],
  ] as const) {
    await quiet(t, status, args);
  }
});

async function quiet(t: Test, wanted: number, args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const status = await new Promise((resolve) => child.once('close', resolve));
  if (wanted !== 1 && !args.includes('--json')) t.equal(stderr, '', args.join(' '));
  t.equal(status, wanted, `${args.join(' ')}: ${stderr}`);
}

t.test('npm start: a real file, the route, the receipt', async (t) => {
  const { status, stdout, stderr } = p2pdma('demo', file('odd'));
  t.equal(status, 0, stderr);
  t.match(stdout, /odd ──▶ \[ CMB of nvme0 0000:03:00\.0 \] ══ PCIe, peer to peer ══▶ nvme1n1/);
  t.match(stdout, /verified +identical/);
  t.match(stdout, /transport +p2p-bus/);
});
