import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { checkPermissions, udevCommands } from '../../../lib/explain/doctor/drive-checks.js';
import { HERE, type LiveFacts, type MachineFacts } from '../../../lib/explain/doctor/facts.js';
import {
  checkAddon,
  checkIoUring,
  checkKernel,
  checkLockedMemory,
} from '../../../lib/explain/doctor/host-checks.js';
import { type Diagnosis, diagnose, type Finding, openSystem } from '../../../lib/index.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

/** Two drives below a switch and nothing that needs a word. */
function healthy(): TreeDescription {
  const tree = twoDrivesBelowASwitch();
  tree.functions = tree.functions.filter(({ bdf }) => !['0000:05:00.0', '0000:00:02.0'].includes(bdf));
  tree.nvme = tree.nvme!.filter(({ name }) => name === 'nvme0' || name === 'nvme1');
  return tree;
}

function root(t: Test, change: (tree: TreeDescription) => void = () => {}): string {
  const tree = healthy();
  change(tree);
  return writeSysfsTree(t.testdir({}), tree);
}

function of({ findings }: Diagnosis, check: Finding['check']) {
  return findings.filter((finding) => finding.check === check);
}

t.test('a machine without a fault', async (t) => {
  const diagnosis = await diagnose({ root: root(t) });
  t.equal(diagnosis.verdict, 'works');
  t.ok(diagnosis.findings.every(({ level, remedy }) => level === 'ok' && remedy === null));
  t.match(of(diagnosis, 'kernel'), [{ fact: /^Linux 6\.12\.117/ }]);
  t.match(of(diagnosis, 'config'), [{ fact: /=y \(a function has p2pmem\)/ }]);
  t.match(of(diagnosis, 'cmb'), [{ fact: /nvme0 16 MiB \(15\.9 MiB free\)/ }, { fact: /no CMB.*nvme1/ }]);
  t.match(of(diagnosis, 'pairs'), [{ fact: '1 pair on the bus: nvme0 ◀─ nvme1' }]);
  t.match(of(diagnosis, 'host-bridge'), [
    { fact: /not on the kernel’s host bridge allow-list; no pair needs it/ },
  ]);
  t.match(diagnosis.unchecked, [{ check: 'addon' }, { check: 'permissions' }]);
});

t.test('the presets: the verdict follows from what the streams can do', async (t) => {
  const expected = {
    switch: 'works',
    'nested-switches': 'works',
    'four-drives': 'works',
    'root-ports': 'impossible',
    'root-ports-listed': 'works',
    zen: 'works',
    acs: 'impossible',
    'acs-listed': 'limited',
    'iommu-switch': 'works',
    'iommu-unsupported': 'impossible',
    'no-cmb': 'impossible',
    'misaligned-cmb': 'impossible',
    'cmb-read-only': 'impossible',
  } as const;
  for (const [machine, verdict] of Object.entries(expected)) {
    t.equal((await diagnose({ machine })).verdict, verdict, machine);
    const system = await openSystem({ machine });
    const [a, b] = [await system.target('nvme0n1'), await system.target('nvme1n1')];
    t.equal(system.route([a, b]).provider === null, verdict === 'impossible', `${machine}: streams agree`);
    await system.close();
  }
});

t.test('each thing that is wrong, with its remedy', async (t) => {
  type Row = [
    what: string,
    change: (tree: TreeDescription) => void,
    verdict: Diagnosis['verdict'],
    finding: {
      check: Finding['check'];
      level: string;
      fact: RegExp;
      remedy?: RegExp | null;
      commands?: RegExp;
    },
  ];
  const fn = (tree: TreeDescription, bdf: string) => tree.functions.find((f) => f.bdf === bdf)!;
  const rows: Row[] = [
    [
      'an old kernel',
      (tree) => {
        tree.release = '5.10.0-20-amd64';
      },
      'impossible',
      {
        check: 'kernel',
        level: 'problem',
        fact: /5\.10\.0-20-amd64 gives programs no peer-to-peer memory/,
        remedy: /6\.2 or newer/,
      },
    ],
    [
      'no CONFIG_PCI_P2PDMA, as /boot says',
      (tree) => {
        tree.config = { p2pdma: false, at: 'boot' };
        delete fn(tree, '0000:03:00.0').p2pmem;
      },
      'impossible',
      {
        check: 'config',
        level: 'problem',
        fact: /without CONFIG_PCI_P2PDMA \(\/boot\/config-6\.12\.117\)/,
        commands: /scripts\/config .*-e PCI_P2PDMA/,
      },
    ],
    [
      'the same in /proc/config.gz, and a CMB that cannot be used for it',
      (tree) => {
        tree.config = { p2pdma: false, at: 'proc' };
        delete fn(tree, '0000:03:00.0').p2pmem;
      },
      'impossible',
      { check: 'cmb', level: 'warning', fact: /nvme0 \(16 MiB\).*\/proc\/config\.gz/, remedy: /above/ },
    ],
    [
      'a kernel without any configuration to read',
      (tree) => {
        delete tree.config;
        delete fn(tree, '0000:03:00.0').p2pmem;
      },
      'impossible',
      { check: 'config', level: 'warning', fact: /not known/, commands: /zgrep PCI_P2PDMA/ },
    ],
    [
      'a CMB that takes no reads',
      (tree) => {
        fn(tree, '0000:03:00.0').p2pmem!.published = false;
        tree.nvme![0]!.cmb!.size = (16 << 12) | (2 << 8) | 0x17;
      },
      'impossible',
      { check: 'cmb', level: 'warning', fact: /RDS/, remedy: /Use the memory of another/ },
    ],
    [
      'a CMB beyond its BAR',
      (tree) => {
        delete fn(tree, '0000:03:00.0').p2pmem;
        tree.nvme![0]!.cmb!.location = 2 + (512 << 12);
      },
      'impossible',
      { check: 'cmb', level: 'warning', fact: /outside BAR 2/, remedy: /firmware.*memory of another/ },
    ],
    [
      'a CMB that the kernel did not register',
      (tree) => {
        delete fn(tree, '0000:03:00.0').p2pmem;
      },
      'impossible',
      { check: 'cmb', level: 'warning', fact: /did not register/, commands: /dmesg|journalctl/ },
    ],
    [
      'a CMB that does not fit memory hot-plug',
      (tree) => {
        delete fn(tree, '0000:03:00.0').p2pmem;
        tree.nvme![0]!.cmb!.size = (1 << 12) | (2 << 8) | 0x1f;
      },
      'impossible',
      { check: 'cmb', level: 'warning', fact: /not a multiple of 2 MiB/, remedy: /pieces of 2 MiB/ },
    ],
    [
      'a pool that others hold',
      (tree) => {
        fn(tree, '0000:03:00.0').p2pmem!.available = 65536;
      },
      'limited',
      { check: 'cmb', level: 'warning', fact: /nearly all taken: nvme0/, commands: /p2pmem\/allocate/ },
    ],
    [
      'ACS in both downstream ports',
      (tree) => {
        fn(tree, '0000:02:00.0').acs = 0x1d;
        fn(tree, '0000:02:01.0').acs = 0x1d;
      },
      'impossible',
      {
        check: 'acs',
        level: 'warning',
        fact: /0000:02:00\.0 and 0000:02:01\.0/,
        remedy: /"pci=disable_acs_redir=0000:02:00\.0;0000:02:01\.0" .*isolation/,
        commands: /\\"pci=disable_acs_redir=0000:02:00\.0;0000:02:01\.0\\"/,
      },
    ],
    [
      'ACS, with a CPU that passes peer traffic on',
      (tree) => {
        fn(tree, '0000:02:00.0').acs = 0x1d;
        tree.cpu = { vendor: 'AuthenticAMD', family: 0x19 };
      },
      'limited',
      { check: 'pairs', level: 'warning', fact: /sent round by the host bridge/, remedy: /ACS/ },
    ],
    [
      'captured without root',
      (tree) => {
        tree.configBytes = 64;
      },
      'limited',
      { check: 'acs', level: 'warning', fact: /only root sees them/, remedy: /as root/ },
    ],
    [
      'drives on root ports of their own',
      (tree) => {
        tree.functions = twoDrivesBelowASwitch().functions.filter(({ bdf }) => bdf !== '0000:04:00.0');
        tree.nvme = twoDrivesBelowASwitch().nvme!.filter(({ name }) => name === 'nvme0' || name === 'nvme2');
        delete tree.nvme[1]!.namespaces[0]!.subsystem;
        delete tree.blocks;
        tree.mounts = [];
      },
      'impossible',
      {
        check: 'host-bridge',
        level: 'warning',
        fact: /8086:29c0.*not on the kernel’s host bridge allow-list/,
        remedy: /switch/,
      },
    ],
    [
      'a multipath head',
      (tree) => {
        tree.nvme![1]!.namespaces[0]!.subsystem = 1;
        tree.blocks = [];
        tree.mounts = [];
      },
      // The only pair has the head.
      'impossible',
      {
        check: 'multipath',
        level: 'warning',
        fact: /nvme1n1/,
        remedy: /plain disks/,
        commands: /options nvme_core multipath=N/,
      },
    ],
    [
      'a drive over a network',
      (tree) => {
        tree.nvme!.push(twoDrivesBelowASwitch().nvme!.find(({ name }) => name === 'nvme3')!);
      },
      'limited',
      { check: 'fabrics', level: 'warning', fact: /nvme3n1 \(tcp\)/ },
    ],
    [
      'one drive only',
      (tree) => {
        tree.nvme = [tree.nvme![0]!];
        tree.blocks = [];
        tree.mounts = [];
      },
      'limited',
      { check: 'drives', level: 'warning', fact: /nvme0 is the only NVMe drive/ },
    ],
    [
      'no drive',
      (tree) => {
        tree.nvme = [];
        tree.blocks = [];
        tree.mounts = [];
        delete fn(tree, '0000:03:00.0').p2pmem;
      },
      'impossible',
      { check: 'drives', level: 'problem', fact: /no NVMe controller/, commands: /lspci/ },
    ],
    [
      'a PowerPC IOMMU',
      (tree) => {
        tree.iommu!.units = ['iommu-phb0000'];
      },
      'impossible',
      { check: 'iommu', level: 'problem', fact: /does not take peer memory/ },
    ],
  ];
  for (const [what, change, verdict, { commands, ...finding }] of rows) {
    await t.test(what, async (t) => {
      const diagnosis = await diagnose({ root: root(t, change) });
      t.equal(diagnosis.verdict, verdict);
      const candidates = of(diagnosis, finding.check).filter((f) => finding.fact.test(f.fact));
      t.equal(candidates.length, 1, JSON.stringify(diagnosis.findings, null, 1));
      t.match(candidates[0], finding);
      if (commands !== undefined) t.match(candidates[0]!.commands.join('\n'), commands);
    });
  }
});

t.test('IOMMU groups that were not captured', async (t) => {
  const at = root(t);
  for (const dir of ['sys/kernel/iommu_groups', 'sys/class/iommu'])
    rmSync(join(at, dir), { recursive: true });
  const diagnosis = await diagnose({ root: at });
  t.equal(diagnosis.verdict, 'limited');
  t.match(of(diagnosis, 'iommu'), [{ level: 'warning', fact: /not known/, remedy: /iommu_groups/ }]);
});

t.test('more that only proc and sys say', async (t) => {
  const at = root(t, (tree) => {
    tree.functions.find(({ bdf }) => bdf === '0000:02:00.0')!.acs = 0x1d;
  });
  writeFileSync(join(at, 'proc/cmdline'), 'ro pci=disable_acs_redir=0000:02:00.0,0000:02:01.0 quiet\n');
  writeFileSync(join(at, 'proc/sys/kernel/io_uring_disabled'), '2\n');
  writeFileSync(
    join(at, 'proc/self/limits'),
    'Limit                     Soft Limit           Hard Limit           Units     \n' +
      'Max locked memory         65536                65536                bytes     \n',
  );
  const sysfs = join(
    at,
    'sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0/nvme/nvme1',
  );
  writeFileSync(join(sysfs, 'state'), 'dead\n');
  const diagnosis = await diagnose({ root: at });
  t.match(of(diagnosis, 'acs'), [
    { level: 'warning', fact: /comma.*semicolons.*‘0000:02:01\.0’/ },
    { level: 'warning', fact: /although the boot line has disable_acs_redir=0000:02:00\.0/ },
  ]);
  t.match(of(diagnosis, 'io_uring'), [
    {
      level: 'warning',
      fact: /switched off \(kernel\.io_uring_disabled=2\).*thread/,
      commands: ['sudo sysctl -w kernel.io_uring_disabled=0'],
    },
  ]);
  t.match(of(diagnosis, 'memlock'), [{ level: 'ok', fact: /64 KiB/ }]);
  t.match(of(diagnosis, 'drives'), [
    { level: 'warning' },
    { level: 'warning', fact: 'not live: nvme1 (dead)' },
  ]);
});

t.test(
  'the GRUB line adds the parameter to what is there, with its quotes',
  { skip: process.platform === 'win32' },
  async (t) => {
    const diagnosis = await diagnose({ machine: 'acs' });
    const [command] = of(diagnosis, 'acs')[0]!.commands;
    const file = join(t.testdir({ grub: 'GRUB_CMDLINE_LINUX="quiet splash"\n' }), 'grub');
    const here = command!.replace('sudo tee -a /etc/default/grub', `tee -a ${file}`);
    t.not(here, command);
    const shown = spawnSync('sh', ['-c', `${here} >/dev/null; . ${file}; printf %s "$GRUB_CMDLINE_LINUX"`], {
      encoding: 'utf8',
    });
    t.equal(shown.stdout, 'quiet splash "pci=disable_acs_redir=0000:02:00.0;0000:02:01.0"');
  },
);

t.test('no tree, no machine', async (t) => {
  await t.rejects(diagnose({ root: '/no/such/tree' }), { code: 'ERR_BACKEND_UNAVAILABLE' });
  await t.rejects(diagnose({ machine: 'nowhere' }), { code: 'ERR_MACHINE_INVALID' });
  const empty = t.testdir({ sys: {} });
  t.equal((await diagnose({ root: empty })).verdict, 'impossible');
});

t.test('this machine', { skip: process.platform !== 'linux' && 'not Linux' }, async (t) => {
  const { backend, machine, notice, what, verdict, findings, unchecked } = await diagnose();
  t.same(
    { backend, machine, notice, what },
    { backend: 'native', machine: null, notice: null, what: 'this machine' },
  );
  t.match(verdict, /^(works|limited|impossible)$/);
  t.same(unchecked, []);
  t.ok(findings.length > 4);
});

// --- what only this machine can be asked, asked of made-up ones ---

const clear: LiveFacts = {
  addon: null,
  noExternalBuffers: null,
  noIoUring: null,
  door: (bdf) => `/sys/devices/pci0000:00/${bdf}/p2pmem/allocate`,
  refusal: () => null,
  uid: 1000,
};

async function live(
  t: Test,
  facts: Partial<LiveFacts>,
  more: Partial<MachineFacts> = {},
): Promise<MachineFacts> {
  const system = await openSystem({ root: root(t), inspect: true });
  return {
    ...HERE,
    kind: 'live',
    what: 'this machine',
    machine: system.context.backend,
    pairs: () => system.explainAll(),
    kernel: null,
    iommuWhy: null,
    states: new Map(),
    limits: { ioUringDisabled: 0, ioUringGroup: -1, lockedMemory: Number.POSITIVE_INFINITY, seccomp: false },
    mirrors: [],
    live: { ...clear, ...facts },
    close: async () => undefined,
    ...more,
  };
}

t.test('permissions', async (t) => {
  t.match(checkPermissions(await live(t, {})), [
    { level: 'ok', fact: /user 1000 may open .*p2pmem\/allocate/ },
  ]);
  const closed = checkPermissions(await live(t, { refusal: () => 'EACCES' }));
  t.match(closed, [
    { level: 'problem', fact: /0000:03:00\.0\/p2pmem\/allocate \(EACCES\)/, commands: udevCommands },
    { level: 'problem', fact: /\/dev\/nvme0n1 and \/dev\/nvme1n1/, commands: [/usermod -aG disk/] },
  ]);
  const door = checkPermissions(
    await live(t, { refusal: (path) => (path.endsWith('allocate') ? 'EROFS' : null) }),
  );
  t.match(door, [{ level: 'problem', fact: /read-only/, commands: [/-v \/sys:\/sys/] }]);
  const hidden = await live(t, { refusal: (path) => (path === '/dev/nvme1n1' ? 'ENOENT' : null) });
  t.match(checkPermissions(hidden), [{ level: 'warning', commands: [/--device \/dev\/nvme1n1/] }]);
});

t.test('the udev rule is one: matches, then one assignment', async (t) => {
  const [rule] = /'(.*)'/.exec(udevCommands[0]!)!.slice(1);
  const parts = rule!.split(', ');
  for (const part of parts) t.match(part, /^[A-Z]+(==|!=|\+=)"[^"]+"$/);
  t.same(
    parts.map((part) => /^[A-Z]+/.exec(part)![0]),
    ['ACTION', 'SUBSYSTEM', 'DRIVER', 'TEST', 'RUN'],
  );
});

t.test('io_uring, locked memory, addon', async (t) => {
  const limits = { ioUringDisabled: null, ioUringGroup: null, lockedMemory: 65536, seccomp: true };
  t.match(checkIoUring(await live(t, { noIoUring: 'EPERM: operation not permitted' }, { limits })), [
    { level: 'warning', fact: /seccomp filter \(EPERM/, commands: [/--security-opt seccomp=/] },
  ]);
  const grouped = { ...limits, ioUringDisabled: 1, ioUringGroup: 44 };
  t.match(checkIoUring(await live(t, { noIoUring: 'EPERM' }, { limits: grouped })), [
    { level: 'warning', commands: [/kernel\.io_uring_group/] },
  ]);
  t.match(checkIoUring(await live(t, {}, { limits: grouped })), [{ level: 'ok', fact: /a ring opened/ }]);
  t.match(checkIoUring(await live(t, {}, { live: null, limits: grouped })), [
    { fact: /root and group 44 only/ },
  ]);
  const old = { release: '5.4.0', version: [5, 4] } as unknown as MachineFacts['kernel'];
  t.match(checkLockedMemory(await live(t, {}, { limits, kernel: old })), [
    { level: 'warning', fact: /64 KiB/, commands: [/LimitMEMLOCK=infinity/] },
  ]);
  t.match(checkAddon(await live(t, { addon: { why: 'no', hint: 'build it' } })), [
    { level: 'problem', fact: 'no', remedy: 'build it' },
  ]);
  t.match(checkAddon(await live(t, { noExternalBuffers: 'Electron' })), [{ level: 'problem' }]);
  t.match(checkKernel(await live(t, {})), [{ fact: /emulated/ }]);
});
