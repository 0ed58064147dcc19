/** `--kernel`: what another kernel would say, and from which on it says something else. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { diagnose, KERNEL_RELEASES, openSystem } from '../../lib/index.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../fixtures/sysfs-tree.js';
import { p2pdma, runCli } from '../helpers/cli.js';

interface Described {
  kernel?: string;
  functions: { bdf: string; vendor: number; device: number }[];
}

/** Two drives on root ports of a Xeon whose root bus begins with an accelerator (DSA). */
async function accelerated(t: Test, kernel: string): Promise<string> {
  const system = await openSystem({ machine: 'root-ports' });
  const machine = system.snapshot() as unknown as Described;
  await system.close();
  const described = structuredClone(machine);
  Object.assign(described.functions.find(({ bdf }) => bdf === '0000:00:00.0')!, {
    vendor: 0x8086,
    device: 0x0b25,
  });
  described.kernel = kernel;
  const file = join(t.testdir(), 'accelerated.json');
  writeFileSync(file, JSON.stringify(described));
  return file;
}

t.test('explain as another kernel would', async (t) => {
  const machine = await accelerated(t, '6.12.117');
  const asked = (kernel: string) =>
    p2pdma('explain', 'nvme0', 'nvme1', '--machine', machine, '--kernel', kernel);
  t.match(
    p2pdma('explain', 'nvme0', 'nvme1', '--machine', machine).stdout,
    /not on the kernel.s\s+host bridge\s+allow-list[\s\S]*rules of Linux 6\.12\.117/,
  );
  t.match(asked('7.1.2').stdout, /NOT_SUPPORTED[\s\S]*Linux 7\.2,\s+7\.1\.3 has this host\s+bridge/);
  t.match(asked('7.1.3').stdout, /THRU_HOST_BRIDGE[\s\S]*rules of Linux 7\.1\.3/);
  t.match(asked('6.6.0-28.oe2403.x86_64').stdout, /UNKNOWN[\s\S]*openEuler[\s\S]*9 October 2026/);
  const bad = asked('soon');
  t.equal(bad.status, 2);
  t.match(bad.stderr, /'soon' is not a kernel release[\s\S]*7\.2/);
});

t.test('from which kernel on an array takes peer memory', async (t) => {
  const system = await openSystem({ machine: 'switch' });
  const machine = structuredClone(system.snapshot()) as unknown as { arrays: object[] };
  await system.close();
  machine.arrays = [{ name: 'md0', level: 'raid1', members: ['nvme0n1', 'nvme1n1'] }];
  const file = join(t.testdir(), 'array.json');
  writeFileSync(file, JSON.stringify(machine));
  const { stdout } = p2pdma('explain', '--machine', file, '--kernel', 'all');
  t.match(stdout, /nvme0 ◀─ md0, 1 more +no +no +no +bus +bus +bus\n/, stdout);
  const broken = p2pdma('explain', '--machine', 'mirror', '--kernel', 'all').stdout;
  t.match(broken, /nvme0 ◀─ nvme2, \d more +no +no +no +no +no +\?\n/);
  t.match(broken, /nvme0 ◀─ md0, 1 more +no +no +no +no +no +no\n/, 'one leg is out of reach');
  const heads = p2pdma('explain', '--machine', 'multipath', '--kernel', 'all').stdout;
  t.match(heads, /nvme0 ◀─ nvme2, 5 more +no +no +no +bus +bus +bus\n/, 'with the head');
});

t.test('one kernel after another', async (t) => {
  const machine = await accelerated(t, '6.12.117');
  const text = runCli(['explain', '--machine', machine, '--kernel', 'all', '--color', 'never'], {
    env: { COLUMNS: '80' },
  }).stdout;
  t.match(
    text,
    [
      'memory ◀─ DMA by        6.2  7.1  7.1.3   7.2     7.3     7.4',
      'nvme0 ◀─ nvme0, 1 more  own  own  own     own     own     own',
      'nvme0 ◀─ nvme1, 1 more  no   no   bridge  bridge  bridge  bridge',
    ].join('\n'),
  );
  t.match(text, 'This machine has Linux 6.12.117.');
  t.ok(
    text
      .split('\n')
      .slice(1)
      .every((line) => line.length <= 80),
  );
  const same = p2pdma('explain', '--machine', 'switch', '--kernel', 'all').stdout;
  t.match(same, 'Of these pairs none depends on the kernel.');
  const bare = p2pdma('explain', '--machine', 'no-cmb', '--kernel', 'all').stdout;
  t.match(bare, 'no function has p2pmem; answered as if every drive had');
  const data = JSON.parse(
    p2pdma('explain', 'nvme0', 'nvme1', '--machine', machine, '--kernel', 'all', '--json').stdout,
  );
  t.equal(data.kernel, '6.12.117');
  t.same(
    data.releases.map(
      ({ kernel, providers }: { kernel: string; providers: { clients: { mapType: string }[] }[] }) => [
        kernel,
        providers[0]!.clients[0]!.mapType,
      ],
    ),
    KERNEL_RELEASES.map((kernel) => [
      kernel,
      ['6.2.0', '7.1.0'].includes(kernel) ? 'NOT_SUPPORTED' : 'THRU_HOST_BRIDGE',
    ]),
  );
});

t.test('what is not known under a kernel is explained below the table', async (t) => {
  const text = (machine: string) =>
    runCli(['explain', '--machine', machine, '--kernel', 'all', '--color', 'never'], {
      env: { COLUMNS: '80' },
    }).stdout;
  const said = text('root-ports');
  t.match(said, /nvme0 ◀─ nvme1, 1 more {2}no {3}no {3}no {5}no {3}no {3}\?\n/);
  t.match(said.replaceAll(/\s+/g, ' '), /\? \(nvme0 ◀─ nvme1, Linux 7\.4\): .* 9 October 2026/);
  t.ok(said.split('\n').every((line) => line.length <= 80));
  t.notMatch(text('switch'), '? (', 'nothing is unknown there');
});

t.test('topo, doctor and snapshot as another kernel', async (t) => {
  const machine = await accelerated(t, '6.12.117');
  t.match(p2pdma('topo', '--machine', machine).stdout, /host bridge .* not on the allow-list/);
  t.match(
    p2pdma('topo', '--machine', machine, '--kernel', '7.2').stdout,
    /host bridge .*[0-9a-f] {2}on the allow-list/,
  );
  t.equal(JSON.parse(p2pdma('topo', '--machine', machine, '--kernel', '7.2', '--json').stdout).kernel, '7.2');
  t.equal(p2pdma('doctor', '--machine', machine).status, 2);
  const after = p2pdma('doctor', '--machine', machine, '--kernel', '7.2.1');
  t.equal(after.status, 0, after.stdout);
  t.match(after.stdout, /as if it ran Linux 7\.2\.1/);
  t.equal(JSON.parse(p2pdma('snapshot', '--machine', machine, '--kernel', '7.2').stdout).kernel, '7.2');
  await t.rejects(diagnose({ machine, kernel: 'soon' }), { code: 'ERR_INVALID_ARG_VALUE' });
});

t.test('of a captured tree, the rest of its kernel stays what it is', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const text = p2pdma('snapshot', '--root', root, '--kernel', '7.3').stdout;
  t.match(JSON.parse(text), {
    kernel: '7.3',
    description: /Captured from Linux 6\.12\.117, CONFIG_PCI_P2PDMA=y; described as with Linux 7\.3/,
  });
  const old = p2pdma('doctor', '--root', root, '--kernel', '5.15.0-25-generic');
  t.equal(old.status, 2);
  t.match(old.stdout, /Linux 5\.15\.0-25-generic gives programs no peer-to-peer memory/);
});

t.test(
  'no I/O as another kernel: the one that runs does it',
  { skip: process.platform !== 'linux' },
  async (t) => {
    await t.rejects(openSystem({ backend: 'native', kernel: '7.2' }), {
      code: /ERR_INVALID_ARG_VALUE|ERR_BACKEND_UNAVAILABLE/,
      message: /option kernel: I\/O here is done by the running kernel/,
    });
    const system = await openSystem({ backend: 'native', kernel: '7.2', inspect: true });
    t.equal(system.topology.kernel?.text, '7.2');
    await system.close();
  },
);

t.test('--kernel proposed: beside what is queued, and marked as not merged', async (t) => {
  const text = runCli(['explain', '--machine', 'acs-listed', '--kernel', 'proposed', '--color', 'never'], {
    env: { COLUMNS: '80' },
  }).stdout;
  t.match(text, /PROPOSED, NOT MERGED[\s\S]*9 October 2026/);
  t.match(text, /memory ◀─ DMA by +queue +plain +ATS +RO +both/);
  t.match(text, /An HMAT .*[\s\S]*is not\s+known/);
  const data = JSON.parse(
    p2pdma('explain', 'nvme0', 'nvme1', '--machine', 'acs-listed', '--kernel', 'proposed', '--json').stdout,
  );
  t.match(data, { kernel: 'proposed', merged: false, basedOn: '7.4' });
  const [client] = data.providers[0].clients;
  t.match(
    client,
    { mapType: 'THRU_HOST_BRIDGE', proposed: { hmat: 'not known' } },
    'the verdict is the queue’s',
  );
  t.same(
    client.proposed.classes.map(({ mapType }: { mapType: string }) => mapType),
    ['THRU_HOST_BRIDGE', 'THRU_HOST_BRIDGE', 'THRU_HOST_BRIDGE', 'THRU_HOST_BRIDGE'],
  );
  t.equal(p2pdma('explain', '--machine', 'switch', '--kernel', 'proposed', '--try').status, 2);
  for (const args of [['--kernel', 'all'], []]) {
    const { stdout } = p2pdma('explain', '--machine', 'acs-listed', ...args, '--json');
    t.notMatch(stdout, /proposed/, 'never unless it is asked for');
  }
  t.match(p2pdma('doctor', '--machine', 'switch', '--kernel', 'proposed'), {
    status: 2,
    stderr: /'proposed' is not a kernel release/,
  });
});

t.test('what is not known with the patches is explained below their table', async (t) => {
  const ofSwitch = p2pdma('explain', '--machine', 'switch', '--kernel', 'proposed').stdout;
  const ofPorts = p2pdma('explain', '--machine', 'root-ports', '--kernel', 'proposed').stdout;
  t.match(ofPorts, /nvme0 ◀─ nvme1, 1 more +\? +\? +\? +\? +\?\n/);
  t.match(
    ofPorts.replaceAll(/\s+/g, ' '),
    /\? \(nvme0 ◀─ nvme1\): Traffic .* host bridge allow-list is not known/,
  );
  t.notMatch(ofSwitch, '? (', 'nothing is unknown there');
});

t.test(
  'a verdict that the list leaves open names what settles it, also where ACS sends the traffic up',
  async (t) => {
    const { stdout } = p2pdma('explain', '--machine', 'acs', '--kernel', '7.4');
    t.match(
      stdout.replaceAll(/\s+/g, ' '),
      /`p2pdma explain --try` settles it: .* Or boot with "pci=disable_acs_redir=/,
    );
    t.notMatch(stdout, 'all of them', 'the parameter is not said twice');
  },
);

t.test('a kernel that is known to corrupt is not passed over in silence', async (t) => {
  const asked = (kernel: string) =>
    p2pdma('explain', '--machine', 'switch', '--kernel', kernel).stdout.replaceAll(/\s+/g, ' ');
  for (const kernel of ['6.18', '6.18.38', '6.19-rc7']) {
    t.match(
      asked(kernel),
      `Linux ${kernel} has a known bug: reads and writes of NVMe drives can transfer wrong data`,
    );
  }
  for (const kernel of ['6.12.117', '6.17', '6.19', '7.2']) t.notMatch(asked(kernel), 'known bug', kernel);
});
