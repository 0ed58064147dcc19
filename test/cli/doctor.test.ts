import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openSystem } from '../../lib/index.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma, runCli } from '../helpers/cli.js';

function run(args: readonly string[], env: Record<string, string> = {}) {
  return runCli(args, { env });
}

function captured(t: Test, change: (tree: TreeDescription) => void = () => {}): string {
  const tree = twoDrivesBelowASwitch();
  change(tree);
  return writeSysfsTree(t.testdir({}), tree);
}

function acs(tree: TreeDescription): void {
  for (const fn of tree.functions) if (fn.type === 'downstream-port') fn.acs = 0x1d;
}

function longest(text: string): number {
  return Math.max(...text.split('\n').map((line) => line.length));
}

t.test('doctor: exit codes, words, JSON', async (t) => {
  const works = p2pdma('doctor', '--machine', 'switch');
  t.equal(works.status, 0, works.stderr);
  t.match(
    works.stdout,
    /^emulated machine 'switch': its drives end with this process\np2pdma doctor: the emulated machine 'switch'\n/,
  );
  t.match(works.stdout, /\npeer-to-peer DMA works here\n$/);
  const limited = p2pdma('doctor', '--root', captured(t));
  t.equal(limited.status, 1);
  t.match(limited.stdout, /\npeer-to-peer DMA works here, with limits: 4 warnings\n$/);
  const impossible = p2pdma('doctor', '--root', captured(t, acs), '--json');
  t.equal(impossible.status, 2);
  const diagnosis = JSON.parse(impossible.stdout);
  t.match(diagnosis, { verdict: 'impossible', exitCode: 2 });
  t.match(
    diagnosis.findings.find((f: { check: string }) => f.check === 'acs'),
    { level: 'warning', remedy: /pci=disable_acs_redir=0000:02:00\.0;0000:02:01\.0/ },
  );
  t.match(p2pdma('doctor', '--root', '/no/such/tree'), { status: 2, stderr: /ERR_BACKEND_UNAVAILABLE/ });
});

t.test('doctor and explain fit the terminal; lines to paste stay whole', async (t) => {
  const root = captured(t, acs);
  for (const COLUMNS of ['80', '120']) {
    const { stdout } = run(['doctor', '--root', root], { COLUMNS });
    const commands = stdout.split('\n').filter((line) => line.startsWith('    ') && /sudo|echo/.test(line));
    t.ok(
      commands.some((line) =>
        /^ {4}echo 'GRUB_CMDLINE_LINUX=.*disable_acs_redir=0000:02:00\.0;0000:02:01\.0/.test(line),
      ),
    );
    const rest = stdout
      .split('\n')
      .slice(1)
      .filter((line) => !commands.includes(line));
    t.ok(longest(rest.join('\n')) <= Number(COLUMNS), `doctor, ${COLUMNS} columns`);
    for (const args of [['explain'], ['explain', 'nvme0', 'nvme1', 'nvme2n1']]) {
      const text = run([...args, '--root', root], { COLUMNS }).stdout;
      t.ok(longest(text) <= Number(COLUMNS), `${args.join(' ')}, ${COLUMNS} columns`);
    }
  }
});

t.test('explain: hop by hop', async (t) => {
  const bus = p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'switch').stdout.split('\n');
  t.same(
    bus.filter((line) => /^ {3}[▲◆▼]/.test(line)).map((line) => line.trim().split(/ {2,}/)),
    [
      ['▲', '0000:04:00.0', 'nvme1', 'does the DMA'],
      ['▲', '0000:02:01.0', 'downstream port'],
      ['◆', '0000:01:00.0', 'upstream port', 'the common bridge: turns round here'],
      ['▼', '0000:02:00.0', 'downstream port'],
      ['▼', '0000:03:00.0', 'nvme0', 'the memory is here'],
    ],
  );
  const up = p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'acs').stdout;
  t.match(up, /▲ {2}0000:02:01\.0 {2}downstream port {2}ACS redirects peer traffic up\n/);
  t.match(
    up,
    /◆ {2}0000:00 +host bridge +does not pass it on \(8086:29c0, not on the kernel’s host bridge allow-list\)/,
  );
  t.match(up, /▲ {2}0000:00:01\.0 {2}root port +ACS redirects, but above the common bridge/);
  t.match(up, /rule +host-bridge-not-listed\n/);
  t.match(up, /paste +"pci=disable_acs_redir=0000:02:00\.0;0000:02:01\.0"\n/);
  t.match(up, /remedy.*isolation/);
  t.match(p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'zen').stdout, /passes it on .*AMD Zen/);
});

t.test('explain: all providers and drives', async (t) => {
  const { stdout } = p2pdma('explain', '--machine', 'four-drives');
  t.match(stdout, /\nprovider +nvme0 +nvme1 +nvme2 +nvme3\nnvme0 0000:03:00\.0 +own +bus 4 +bus 4 +bus 4\n/);
  const { providers } = JSON.parse(p2pdma('explain', '--machine', 'four-drives', '--json').stdout);
  t.match(providers, [{ provider: '0000:03:00.0', clients: [{}, {}, {}, {}] }, { provider: '0000:04:00.0' }]);
  const asIf = p2pdma('explain', '--machine', 'no-cmb').stdout;
  t.match(asIf, /no function has p2pmem; answered as if every drive had\n\nprovider +nvme0 +nvme1\nnvme0/);
  const both = p2pdma('explain', '--root', captured(t, acs)).stdout;
  t.match(both, /all of them|disable_acs_redir=0000:02:00\.0;0000:02:01\.0/);
  t.match(both, /left out, because no PCI function here does their DMA: nvme3 \(tcp\)/);
  const wide = { COLUMNS: '40' };
  t.match(
    run(['explain', '--machine', 'four-drives'], wide).stdout,
    /provider +nvme0 +nvme1\n[\s\S]*provider +nvme2 +nvme3\n/,
  );
  t.match(
    p2pdma('explain', 'nvme0', '--machine', 'switch').stdout,
    /0000:03:00\.0 +BUS_ADDR +0[\s\S]*0000:04:00\.0 +BUS_ADDR +4/,
  );
});

t.test('explain: whatever people have in hand', async (t) => {
  const root = captured(t);
  const ask = (...names: string[]) =>
    JSON.parse(p2pdma('explain', ...names, '--root', root, '--json').stdout);
  for (const name of ['nvme1', '04:00.0', 'nvme1n1', '/dev/nvme1n1', '/dev/nvme1', '/mnt/with blank/file']) {
    t.match(ask('nvme0', name), {
      provider: '0000:03:00.0',
      clients: [{ asked: name, bdf: '0000:04:00.0', distance: 4 }],
    });
  }
  t.match(ask('/mnt/xfs/file', 'nvme1'), { provider: '0000:03:00.0' });
  t.match(ask('nvme0', '/dev/vg/data').clients, [
    { bdf: '0000:03:00.0', stack: ['dm-0', 'nvme0n1p1', 'nvme0n1'], refusal: /device-mapper/ },
  ]);
  t.match(ask('nvme0', 'md0').clients, [
    { bdf: '0000:03:00.0', refusal: /md array/ },
    { bdf: '0000:04:00.0' },
  ]);
  t.match(ask('nvme0', 'nvme2n1').clients, [
    { bdf: '0000:05:00.0', refusal: /multipath head/, distance: -1 },
  ]);
  t.match(ask('nvme0', 'nvme3', '/tmp/file'), {
    distance: -1,
    clients: [],
    unreachable: [
      { asked: 'nvme3', reason: /over tcp/ },
      { asked: '/tmp/file', reason: /tmpfs/ },
    ],
  });
  t.match(p2pdma('explain', 'nvme0', 'nvme9n1', '--root', root), {
    status: 2,
    stderr: /client: there is no .*'nvme9n1'/,
  });
  t.match(p2pdma('explain', 'md0', 'nvme1', '--root', root), { status: 2, stderr: /several PCI functions/ });
  t.match(p2pdma('explain', 'nvme3', 'nvme1', '--root', root), { status: 2, stderr: /provider/ });
});

t.test('list: fabrics, multipath, partitions, what lies on top', async (t) => {
  const root = captured(t);
  const { stdout } = p2pdma('list', '--root', root);
  t.match(stdout, /nvme0n1p1 256 MiB, held by dm-0\n/);
  t.match(stdout, /nvme0n1p2 512 MiB, mounted on \/mnt\/xfs\n/);
  t.match(stdout, /no peer-to-peer: nvme2n1 is an NVMe multipath head/);
  t.match(stdout, /nvme3 +\(tcp\) +nvme3n1[\s\S]*over tcp: no PCI function here does its DMA/);
  const { controllers } = JSON.parse(p2pdma('list', '--root', root, '--json').stdout);
  t.match(controllers, [
    { namespaces: [{ multipath: false, partitions: [{ name: 'nvme0n1p1', inUse: 'held by dm-0' }, {}] }] },
    { namespaces: [{ inUse: /mounted on \/mnt\/with blank/ }] },
    { namespaces: [{ multipath: true, noP2pReason: /multipath head/ }] },
    { bdf: null, transport: 'tcp', namespaces: [{ noP2pReason: /tcp/ }] },
  ]);
});

t.test('snapshot: a round trip', async (t) => {
  const variants: [name: string, change: (tree: TreeDescription) => void][] = [
    ['as it is', () => {}],
    ['ACS', acs],
    [
      'ACS and Zen',
      (tree) => {
        acs(tree);
        tree.cpu = { vendor: 'AuthenticAMD', family: 0x19 };
      },
    ],
    [
      'a listed host bridge',
      (tree) => {
        tree.functions[0]!.device = 0x09a2;
      },
    ],
    [
      'captured without root',
      (tree) => {
        tree.configBytes = 64;
      },
    ],
    [
      'links lost',
      (tree) => {
        tree.layout = 'plain';
      },
    ],
    [
      'another memory that is no drive’s',
      (tree) => {
        const fn = tree.functions.find(({ bdf }) => bdf === '0000:02:01.0')!;
        fn.bars = [{ index: 0, address: 0x900000000, size: 4 * 2 ** 20, prefetchable: true }];
        fn.p2pmem = { size: 4 * 2 ** 20, available: 4 * 2 ** 20, published: true };
      },
    ],
  ];
  const ONLY_NATIVE = ". NVMe commands go to its paths, which take it: engine 'passthrough'";
  for (const [name, change] of variants) {
    const root = captured(t, change);
    const taken = p2pdma('snapshot', '--root', root);
    t.equal(taken.status, 0, taken.stderr);
    const file = join(root, 'machine.json');
    writeFileSync(file, taken.stdout);
    const said = p2pdma('explain', '--root', root, '--json').stdout;
    t.ok(said.includes(ONLY_NATIVE), `${name}: the engine that an emulated machine does not have is offered`);
    const there = JSON.parse(said.replaceAll(ONLY_NATIVE, ''));
    const here = JSON.parse(p2pdma('explain', '--machine', file, '--json').stdout);
    t.match(there, { backend: 'native', machine: null });
    t.match(here, { backend: 'emulator', machine: 'snapshot' });
    t.same(here.providers, there.providers, `${name}: the same matrix, hop by hop`);
    t.ok(here.providers.length > 0);
    t.equal(
      p2pdma('doctor', '--machine', file).stdout.includes('impossible'),
      here.providers[0].clients.every(
        (c: { bdf: string; distance: number }) => c.distance < 0 || c.bdf === here.providers[0].provider,
      ),
      `${name}: doctor`,
    );
  }
});

t.test('snapshot: of an emulated machine, and a copy on it', async (t) => {
  const first = p2pdma('snapshot', '--machine', 'nested-switches', '--name', 'rack 7').stdout;
  const file = join(t.testdir({ 'machine.json': first }), 'machine.json');
  t.equal(JSON.parse(first).name, 'rack 7');
  t.equal(p2pdma('snapshot', '--machine', file).stdout, first);
  const copied = p2pdma(
    'copy',
    'nvme0n1',
    'nvme1n1',
    '--machine',
    file,
    '--end',
    '65535',
    '--verify',
    '--json',
  );
  t.match(JSON.parse(copied.stdout), { transport: 'p2p-bus', verified: true });
});

t.test('snapshot: serial numbers only when asked for', async (t) => {
  const root = captured(t);
  t.notMatch(p2pdma('snapshot', '--root', root).stdout, /SECRET/);
  const whole = p2pdma('snapshot', '--root', root, '--with-serials').stdout;
  t.match(JSON.parse(whole).functions.at(-1).nvme, { serial: 'SECRET-nvme2' });
  const file = join(t.testdir({ 'machine.json': whole }), 'machine.json');
  t.notMatch(p2pdma('snapshot', '--machine', file).stdout, /SECRET/, 'nor from a snapshot that has them');
  t.match(p2pdma('snapshot', '--machine', file, '--with-serials').stdout, /SECRET-nvme2/);
  await t.rejects(
    async () => (await openSystem({ machine: 'switch' })).snapshot({ withSerials: 1 } as never),
    {
      code: 'ERR_INVALID_ARG_TYPE',
    },
  );
});

t.test('only looking never opens, and needs no addon', { skip: process.platform !== 'linux' }, async (t) => {
  const system = await openSystem({ root: captured(t), inspect: true });
  await t.rejects(system.target('nvme0n1'), { code: 'ERR_BACKEND_UNAVAILABLE' });
  await system.close();
  const here = await openSystem({ inspect: true });
  t.equal(here.backend, 'native');
  await t.rejects(here.target('/dev/null'), { message: /inspection only/, hint: /inspect/ });
  await here.close();
});

t.test('what comes from outside is printed escaped', async (t) => {
  const nasty = '\u001b[31mred\u009b2J\u202eback';
  const root = captured(t, (tree) => {
    tree.nvme![0]!.model = nasty;
    tree.blocks![0]!.dmName = nasty;
    tree.blocks![3]!.name = 'vda';
    tree.mounts![1]!.mountPoint = `/mnt/${nasty}`;
    tree.iommu!.groupType = `DMA\u001b]0;x\u0007`;
  });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const bad = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/;
  for (const args of [
    ['list'],
    ['doctor'],
    ['explain'],
    ['explain', 'nvme0', 'dm-0'],
    ['explain', 'nvme0', nasty],
    ['snapshot'],
    ['topo'],
    ['topo', '--format', 'svg'],
    ['topo', '--format', 'dot'],
    ['topo', '--route', 'nvme0', nasty],
    [nasty],
    ['list', nasty],
    ['list', `--${nasty}`],
  ]) {
    for (const json of args.includes('--format') ? [[]] : [[], ['--json']]) {
      const { stdout, stderr } = p2pdma(...args, '--root', root, ...json);
      t.notMatch(stdout + stderr, bad, [...args, ...json].join(' '));
    }
  }
  t.match(p2pdma('list', '--root', root).stdout, /\/mnt\/\\x1b\[31mred\\x9b2J\\u\{202e\}back/);
});

t.test('an IOMMU that cannot map peer memory: explain and doctor say what a copy does', async (t) => {
  const { notes, clients } = JSON.parse(
    p2pdma('explain', 'nvme0', 'nvme1', 'nvme1n1', '--machine', 'iommu-unsupported', '--json').stdout,
  );
  t.match(notes, [
    { kind: 'no-peer-mapping', text: /cannot map peer memory.*copies go through host memory/ },
  ]);
  t.equal(clients[0].refusal, notes[0].refusal, 'the note says what the client’s refusal says');
  t.match(clients, [{ refusal: /cannot map peer memory/ }, { refusal: /IOMMU driver .* cannot map/ }]);
  const words = p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'iommu-unsupported').stdout;
  t.match(words, /refused +the DMA operations of this machine cannot map peer memory/);
  t.match(words, /^provider nvme0 0000:03:00\.0, distance 4, but refused for all of these$/m);
  t.match(words, /^0000:04:00\.0 +refused +4 +clear/m, 'no map type that no transfer will have');
  const matrix = p2pdma('explain', '--machine', 'iommu-unsupported').stdout;
  t.match(matrix, /nvme0 0000:03:00\.0 +refused +refused\n/);
  t.equal(matrix.match(/cannot map peer memory/g)?.length, 1, 'said once');
  const { status, stdout } = p2pdma('doctor', '--machine', 'iommu-unsupported');
  t.equal(status, 2);
  t.match(stdout, /problem +pairs +2 pairs refused, whatever the way/);
});

t.test('two machines at once are refused', async (t) => {
  const root = captured(t);
  for (const command of ['list', 'topo', 'explain', 'doctor', 'snapshot']) {
    for (const args of [
      ['--root', root, '--machine', 'switch'],
      ['--root', root, '--backend', 'emulator'],
      ['--machine', 'switch', '--backend', 'native'],
    ]) {
      const { status, stdout, stderr } = p2pdma(command, ...args);
      t.match(
        { status, stdout, stderr },
        { status: 2, stdout: '', stderr: /^error ERR_INVALID_ARG_VALUE: --/ },
      );
    }
  }
});

t.test('misspelt commands and options', async (t) => {
  t.match(p2pdma('docter'), { status: 2, stderr: /Did you mean 'doctor'\?/ });
  t.match(p2pdma('snapshoot'), { status: 2, stderr: /Did you mean 'snapshot'\?/ });
  t.match(p2pdma('doctor', '--rooot', '/'), { status: 2, stderr: /Did you mean '--root'\?/ });
  t.match(p2pdma('snapshot', '--with-serial'), { status: 2, stderr: /Did you mean '--with-serials'\?/ });
  t.match(p2pdma('explain', '--machne', 'switch'), { status: 2, stderr: /Did you mean '--machine'\?/ });
});

t.test('a machine file that is huge, deep or no machine is refused quickly', async (t) => {
  const folder = t.testdir({
    'deep.json': '['.repeat(100_000),
    'cycle.json': JSON.stringify({
      version: 1,
      name: 'x',
      cpu: { vendor: null, family: null },
      iommu: 'none',
      hostBridges: [{ domain: 0, bus: 0 }],
      functions: [
        { bdf: '01:00.0', type: 'upstream-port', upstream: '02:00.0', vendor: 1, device: 1 },
        { bdf: '02:00.0', type: 'downstream-port', upstream: '01:00.0', vendor: 1, device: 1 },
      ],
    }),
    'huge.json': '{"version": 1, "name": "',
  });
  truncateSync(join(folder, 'huge.json'), 100 * 2 ** 20);
  for (const name of ['deep', 'cycle', 'huge']) {
    for (const command of name === 'huge' ? ['doctor', 'explain', 'snapshot'] : ['explain']) {
      const began = performance.now();
      const { status, stdout, stderr } = p2pdma(command, '--machine', join(folder, `${name}.json`));
      t.match({ status, stderr }, { status: 2, stderr: /ERR_MACHINE_INVALID/ }, `${command}, ${name}`);
      t.equal(stdout, '');
      t.ok(performance.now() - began < 5000, `${name}: ${Math.round(performance.now() - began)} ms`);
    }
  }
  const cyclic: Record<string, unknown> = { version: 1, name: 'x' };
  cyclic.cpu = { vendor: cyclic };
  await t.rejects(openSystem({ machine: cyclic }), { code: 'ERR_MACHINE_INVALID' });
});
