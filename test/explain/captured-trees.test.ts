/** What the command says of trees that somebody captured, whatever is in them. */
import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import t, { type Test } from 'tap';
import { diagnose, openSystem } from '../../lib/index.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { runCli } from '../helpers/cli.js';

const COMMANDS = [
  ['list'],
  ['topo', '--route', 'nvme0n1', 'nvme1n1'],
  ['explain', 'nvme0', 'nvme1n1', '/mnt/xfs/disk.img'],
  ['doctor'],
  ['snapshot'],
];

/** What hangs or is ended by a signal throws. */
const p2pdma = (...args: string[]) => runCli([...args, '--color', 'never']);

function tree(t: Test): string {
  const root = writeSysfsTree(
    t.testdir({ root: {}, secret: 'eui.secret' }).concat('/root'),
    twoDrivesBelowASwitch(),
  );
  for (const name of ['wwid', 'uuid', 'serial']) {
    writeFileSync(join(root, 'sys/class/block/nvme0n1', name), `${name} of nvme0n1`);
  }
  return root;
}

function filesOf(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

/** In this process, so that its start does not count. A command with the same tree has ended before. */
async function withoutWaiting(t: Test, root: string): Promise<void> {
  const began = performance.now();
  const system = await openSystem({ root });
  system.explainAll();
  system.locate('nvme0n1');
  system.route(['nvme0n1', 'nvme1n1']);
  system.snapshot();
  await system.close();
  await diagnose({ root });
  t.ok(performance.now() - began < 10_000, `all questions took ${Math.round(performance.now() - began)} ms`);
}

t.test('a FIFO in the place of wwid, or of everything, makes nobody wait', async (t) => {
  for (const which of [/\/wwid$/, /./]) {
    const root = tree(t);
    const files = filesOf(root).filter((path) => which.test(path));
    for (const file of files) rmSync(file);
    execFileSync('mkfifo', files);
    for (const command of COMMANDS) {
      const { status, stderr } = p2pdma(...command, '--root', root);
      t.type(status, 'number', `${command.join(' ')} with FIFOs for ${which}: ${stderr}`);
    }
    if (which.test('/wwid') && !which.test('x')) await withoutWaiting(t, root);
  }
});

t.test('a link out of the tree leads nowhere', async (t) => {
  const root = tree(t);
  const names = ['wwid', 'uuid', 'model', 'serial', 'nsid', 'size', 'cpuinfo', 'mountinfo', 'osrelease'];
  const files = filesOf(root).filter((path) => names.includes(basename(path)));
  for (const file of files) {
    rmSync(file);
    symlinkSync(join(root, '../secret'), file);
  }
  for (const command of COMMANDS) {
    const { status, stdout } = p2pdma(...command, '--root', root);
    t.type(status, 'number', command.join(' '));
    t.notMatch(stdout, 'secret', command.join(' '));
  }
  await withoutWaiting(t, root);
});

/** Two drives on two root ports, below nothing common; ACS as it may be. */
function twoRootPorts(
  t: Test,
  more: Partial<TreeDescription> & { acs?: number; switched?: boolean },
): string {
  const { acs, switched, ...description } = more;
  const port = {
    type: 'root-port',
    vendor: 0x1022,
    device: 0x14a5,
    ...(acs === undefined ? {} : { acs }),
  } as const;
  const drive = { type: 'endpoint', class: 0x010802 } as const;
  return writeSysfsTree(t.testdir({}), {
    functions: [
      {
        bdf: '0000:00:00.0',
        upstream: null,
        type: 'conventional',
        vendor: 0x1022,
        device: 0x14a4,
        class: 0x060000,
      },
      { bdf: '0000:00:01.0', upstream: null, ...port },
      { bdf: '0000:00:02.0', upstream: null, ...port },
      {
        bdf: '0000:01:00.0',
        upstream: '0000:00:01.0',
        ...drive,
        p2pmem: { size: 2 ** 24, available: 2 ** 24, published: true },
      },
      { bdf: '0000:02:00.0', upstream: switched ? '0000:00:01.0' : '0000:00:02.0', ...drive },
    ],
    nvme: [
      { name: 'nvme0', on: { bdf: '0000:01:00.0' }, namespaces: [{ nsid: 1, bytes: 2 ** 30 }] },
      { name: 'nvme1', on: { bdf: '0000:02:00.0' }, namespaces: [{ nsid: 1, bytes: 2 ** 30 }] },
    ],
    release: '6.12.1',
    config: { p2pdma: true, at: 'boot' },
    iommu: { units: [], groupType: 'DMA' },
    ...description,
  });
}

const ZEN = { vendor: 'AuthenticAMD', family: 0x19 };

t.test('without a common bridge nobody asks ACS: that it could not be read changes nothing', async (t) => {
  const root = twoRootPorts(t, { cpu: ZEN, configBytes: 64 });
  const system = await openSystem({ root });
  t.match(system.explain('nvme0', ['nvme1']).clients[0], {
    mapType: 'THRU_HOST_BRIDGE',
    distance: 4,
    rule: 'cpu-zen',
    acsKnown: true,
  });
  t.match(system.route(['nvme0n1', 'nvme1n1']), { transport: 'p2p-host-bridge' });
  const { stdout } = p2pdma('explain', '--root', root);
  t.match(stdout, /^nvme0 0000:01:00\.0 +own \? +bridge 4$/m);
  const { findings } = await diagnose({ root });
  t.match(
    findings.find(({ check }) => check === 'pairs'),
    { level: 'ok', fact: /through the host bridge/ },
  );
  t.match(
    findings.find(({ check }) => check === 'acs'),
    { level: 'ok' },
  );
});

t.test('without /proc/cpuinfo what the CPU decides is not known', async (t) => {
  const root = twoRootPorts(t, {});
  const system = await openSystem({ root });
  t.match(system.explain('nvme0', ['nvme1']), {
    distance: -1,
    clients: [{ mapType: 'UNKNOWN', distance: -1, rule: 'cpu-unknown', remedy: /cpuinfo/ }],
  });
  t.match(system.explain('nvme0', ['nvme0']).clients[0], { mapType: 'BUS_ADDR' }, 'the rest is');
  t.match(p2pdma('explain', '--root', root).stdout, /^nvme0 0000:01:00\.0 +own +unknown$/m);
  t.match(p2pdma('explain', 'nvme0', 'nvme1', '--root', root).stdout, /not known whether it passes it on/);
  t.match(
    p2pdma('topo', '--route', 'nvme0', 'nvme1', '--root', root).stdout,
    /not known whether peer-to-peer/,
  );
  const doctor = p2pdma('doctor', '--root', root);
  t.match(doctor, { status: 1, stdout: /1 pair not known[\s\S]*Capture \/proc\/cpuinfo/ });
  t.notMatch(doctor.stdout, /^problem/m);
  t.match(p2pdma('snapshot', '--root', root).stdout, /the CPU is not known/);

  const known = await openSystem({ root: twoRootPorts(t, { cpu: { vendor: 'GenuineIntel', family: 6 } }) });
  t.match(known.explain('nvme0', ['nvme1']).clients[0], { mapType: 'NOT_SUPPORTED' });
  const redirects = await openSystem({ root: twoRootPorts(t, { acs: 0x1c, switched: true }) });
  t.match(redirects.explain('nvme0', ['nvme1']).clients[0], {
    mapType: 'UNKNOWN',
    kernelParameter: 'pci=disable_acs_redir=0000:00:01.0',
  });
});

t.test('a snapshot is read by its own reader, and says what it left out', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const drive = tree.functions.find(({ bdf }) => bdf === '0000:03:00.0');
  const GIB = 2 ** 30;
  const cmb = { location: 2, size: (2 << 12) | (6 << 8) | 0x1f };
  tree.nvme![0]!.cmb = cmb;
  tree.nvme![1]!.namespaces.push({ nsid: 2, bytes: 0 });
  drive!.p2pmem = { size: 128 * GIB, available: 128 * GIB, published: true };
  for (const [address, kept] of [
    [128 * GIB, true],
    [96 * GIB, false],
  ] as const) {
    drive!.bars![1] = { index: 2, address, size: 128 * GIB, prefetchable: true };
    const root = writeSysfsTree(t.testdir({}), tree);
    const { status, stdout, stderr } = p2pdma('snapshot', '--root', root);
    t.equal(status, 0, stderr);
    const machine = JSON.parse(stdout);
    t.match(machine.description, 'namespace nvme1n2 of nvme1 (0 bytes)');
    t.match(machine.description, 'nvme3 (no PCI function)');
    t.equal(/the CMB of nvme0 .*BAR 2/.test(machine.description), !kept, machine.description);
    const file = join(root, 'machine.json');
    writeFileSync(file, stdout);
    const list = p2pdma('list', '--machine', file);
    t.equal(list.status, 0, list.stderr);
    if (kept) t.match(list.stdout, /nvme0 .*128 GiB/);
  }
});

t.test(
  'doctor exits for the snapshot as for the tree where the CMB is not lent as its registers say',
  async (t) => {
    const MIB = 2 ** 20;
    for (const [p2pmem, code, shown] of [
      [undefined, 2, '16 MiB, not published'],
      [{ size: 16 * MIB, available: 16 * MIB, published: false }, 2, '16 MiB, not published'],
      [{ size: 3 * MIB, available: 3 * MIB, published: true }, 1, '3 MiB, '],
    ] as const) {
      const tree = twoDrivesBelowASwitch();
      const drive = tree.functions.find(({ bdf }) => bdf === '0000:03:00.0')!;
      if (p2pmem === undefined) delete drive.p2pmem;
      else drive.p2pmem = p2pmem;
      const root = writeSysfsTree(t.testdir({}), tree);
      const file = join(root, 'machine.json');
      writeFileSync(file, p2pdma('snapshot', '--root', root).stdout);
      for (const of of [
        ['--root', root],
        ['--machine', file],
      ]) {
        t.equal(p2pdma('doctor', ...of).status, code, of.join(' '));
        t.match(p2pdma('list', ...of).stdout, new RegExp(`nvme0 .* ${shown}`), of.join(' '));
      }
    }
  },
);

t.test('a tree without PCI has no snapshot, and says so', async (t) => {
  const root = writeSysfsTree(t.testdir({}), { functions: [] });
  const { status, stdout, stderr } = p2pdma('snapshot', '--root', root);
  t.equal(stdout, '');
  t.match(stderr, /ERR_MACHINE_INVALID: no PCI function/);
  t.not(status, 0);
});
