/** Which layers of a block stack take peer memory depends on the kernel. */
import { mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import t, { type Test } from 'tap';
import { diagnose, openSystem } from '../../../lib/index.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { p2pdma } from '../../helpers/cli.js';

const GIB = 2 ** 30;

function arrays(): TreeDescription {
  const tree = twoDrivesBelowASwitch();
  const md = (name: string, level: string, slaves: string[]) => ({ name, bytes: GIB, slaves, level });
  return {
    ...tree,
    blocks: [
      ...tree.blocks!,
      md('md1', 'raid0', ['nvme0n1', 'nvme1n1']),
      md('md2', 'raid5', ['nvme0n1', 'nvme1n1']),
      md('md3', 'raid1', ['nvme0n1', 'nvme1n1']),
      md('md4', 'raid1', ['nvme0n1', 'nvme2n1']),
      md('md5', 'raid0', ['nvme0n1', 'vda']),
    ],
  };
}

/** The function's own directory below sys/devices. */
function directoryOf(root: string, bdf: string): string {
  return relative(
    realpathSync(join(root, 'sys/devices')),
    realpathSync(join(root, 'sys/bus/pci/devices', bdf)),
  );
}

function read(t: Test, release: string, tree = arrays()) {
  return readSysfs(writeSysfsTree(t.testdir({}), { ...tree, release }));
}

/** Without the links that a function has to all others. */
function briefly(root: string, name: string, kernel?: string) {
  const info = readSysfs(root, kernel).blockInfo(name);
  return { client: info?.client?.bdf ?? null, noP2pReason: info?.noP2pReason };
}

t.test('md and multipath heads: refused before 7.2, as their members from then on', async (t) => {
  const before = read(t, '7.1.3');
  for (const name of ['md1', 'md2', 'md3'])
    t.match(before.blockInfo(name)?.noP2pReason, /is an md array/, name);
  t.match(before.blockInfo('md1')?.noP2pReason, /it does from Linux 7\.2 on/);
  t.match(
    before.blockInfo('nvme2n1')?.noP2pReason,
    /multipath head.*multipath=N.*it does from Linux 7\.2 on/,
  );
  const after = read(t, '7.2.0');
  t.match(after.blockInfo('nvme2n1'), {
    noP2pReason: null,
    client: { bdf: '0000:05:00.0' },
    limits: { pciP2pdma: true },
  });
  t.match(after.blockInfo('md1'), {
    noP2pReason: null,
    layers: [{ name: 'md1', kind: 'md', level: 'raid0' }],
  });
  t.match(after.blockInfo('md2')?.noP2pReason, /md2 \(raid5\) is an md array/, 'parity is made by the CPU');
  t.match(after.blockInfo('md5')?.noP2pReason, /vda is not an NVMe disk/, 'a member that does not');
  t.match(after.blockInfo('dm-0')?.noP2pReason, /device-mapper/, 'device mapper never does');
  const redHat = read(t, '6.12.0-124.el10.x86_64');
  t.match(redHat.blockInfo('md1')?.noP2pReason, /as far as is known/);
});

t.test('each leg must be reachable, of a mirror for sure', async (t) => {
  const root = writeSysfsTree(t.testdir({}), { ...arrays(), release: '7.2.0' });
  const system = await openSystem({ root });
  const refusals = (name: string) => system.explain('nvme0', [name]).clients.map(({ refusal }) => refusal);
  t.same(refusals('md3'), [null, null], 'both below the switch');
  const [first] = refusals('md4');
  t.match(
    first,
    /each leg of md4 \(raid1\) must be reachable from the provider, and 0000:05:00\.0 cannot reach .* report such a write as done, and the members would differ/,
  );
  t.same(refusals('md1'), [null, null], 'raid0 says what failed');
  t.match(system.route(['nvme0n1', 'md3']), { transport: 'p2p-bus', provider: '0000:03:00.0' });
  t.match(system.route(['nvme0n1', 'md4']), {
    transport: 'host-memory',
    reason: /each leg of md4 .*members would differ\. Traffic between 0000:05:00\.0/,
  });
  t.match(system.route(['nvme0n1', 'md1']), { transport: 'p2p-bus' });
  await system.close();
  const older = await openSystem({ root, kernel: '7.1.3' });
  t.match(older.explain('nvme0', ['md3']).clients[0]!.refusal, /md3 \(raid1\) is an md array/);
  await older.close();
});

function addCard(root: string, name: string, under: string): void {
  const dir = join('sys/devices', under, 'infiniband', name);
  mkdirSync(join(root, dir), { recursive: true });
  mkdirSync(join(root, 'sys/class/infiniband'), { recursive: true });
  symlinkSync(join('../../..', dir), join(root, 'sys/class/infiniband', name));
}

t.test('NVMe over RDMA: from 7.1 on by the one card on PCI', async (t) => {
  const tree = arrays();
  const far: NonNullable<TreeDescription['nvme']>[number] = {
    name: 'nvme4',
    on: { transport: 'rdma', address: 'traddr=192.0.2.1' },
    namespaces: [{ nsid: 1, bytes: GIB }],
  };
  tree.nvme = [...tree.nvme!, far];
  const root = writeSysfsTree(t.testdir({}), { ...tree, release: '7.1.0' });
  const of = (kernel?: string) => briefly(root, 'nvme4n1', kernel);
  t.match(of('7.0.9'), {
    client: null,
    noP2pReason: 'nvme4n1 is reached over rdma: no PCI function here does its DMA',
  });
  t.match(of(), { client: null, noP2pReason: /no RDMA card is visible on PCI$/ });
  addCard(root, 'rxe0', 'virtual');
  t.match(of()?.noP2pReason, /no RDMA card is visible on PCI \(rxe and siw/);
  addCard(root, 'mlx5_0', directoryOf(root, '0000:05:00.0'));
  t.match(of(), { client: null, noP2pReason: /sysfs does not say which of mlx5_0, rxe0/ });
});

t.test('NVMe over RDMA: its card is the client', async (t) => {
  const tree = arrays();
  tree.nvme = [
    ...tree.nvme!,
    {
      name: 'nvme4',
      on: { transport: 'rdma', address: 'traddr=192.0.2.1' },
      namespaces: [{ nsid: 1, bytes: GIB }],
    },
  ];
  const root = writeSysfsTree(t.testdir({}), { ...tree, release: '7.1.0' });
  addCard(root, 'mlx5_0', directoryOf(root, '0000:05:00.0'));
  t.same(briefly(root, 'nvme4n1'), { client: '0000:05:00.0', noP2pReason: null });
});

t.test('the same where the controller is named, and in list and doctor', async (t) => {
  const tree = arrays();
  const on = { transport: 'rdma', address: 'traddr=192.0.2.1' };
  tree.nvme = [...tree.nvme!, { name: 'nvme4', on, namespaces: [{ nsid: 1, bytes: GIB }] }];
  const root = writeSysfsTree(t.testdir({}), { ...tree, release: '7.1.0' });
  addCard(root, 'mlx5_0', directoryOf(root, '0000:05:00.0'));
  const asked = async (kernel: string, name: string) => {
    const system = await openSystem({ root, kernel });
    const answer = system.explain('nvme0', [name]);
    await system.close();
    return answer;
  };
  for (const name of ['nvme4', '/dev/nvme4', 'nvme4n1']) {
    t.match(
      (await asked('7.1.0', name)).clients,
      [{ asked: name, bdf: '0000:05:00.0', refusal: null }],
      name,
    );
    const older = await asked('7.0.9', name);
    t.same(older.clients, []);
    t.match(older.unreachable, [{ reason: /reached over rdma: no PCI function here does its DMA/ }], name);
  }
  t.match(
    (await asked('7.2.0', 'nvme3')).unreachable,
    [{ reason: /nvme3 is reached over tcp/ }],
    'tcp as it is',
  );
  const facts = async (kernel: string) =>
    (await diagnose({ root, kernel })).findings.map(({ fact }) => fact).join('\n');
  t.match(await facts('7.0.9'), /does the DMA of nvme3n1 \(tcp\) and nvme4n1 \(rdma\)/);
  t.match(await facts('7.1.0'), /does the DMA of nvme3n1 \(tcp\): /);
  t.match(p2pdma('list', '--root', root).stdout, /over rdma: 0000:05:00\.0 does its DMA/);
  t.match(p2pdma('explain', '--root', root).stdout, /a card does their DMA; ask by name: nvme4 \(rdma\)/);
});

const KERNELS = [
  ...['6.2.0', '6.8.0', '6.12.117', '6.16.0', '6.17.0', '7.0.0', '7.1.2', '7.1.3', '7.2.0', '7.3.0', '7.4'],
  ...['6.6.0-28.0.0.34.oe2403.x86_64', '6.18.2-1.an8.x86_64'],
];

t.test('which layer takes peer memory, release by release', async (t) => {
  const tree = arrays();
  const far = (name: string, transport: string) => ({
    ...{ name, on: { transport, address: 'traddr=192.0.2.1' }, namespaces: [{ nsid: 1, bytes: GIB }] },
  });
  tree.nvme = [...tree.nvme!, far('nvme4', 'rdma')];
  const root = writeSysfsTree(t.testdir({}), tree);
  addCard(root, 'mlx5_0', directoryOf(root, '0000:05:00.0'));
  for (const [what, name, row] of [
    //                                 6.2 6.8 .117 6.16 6.17 7.0 7.1.2 7.1.3 7.2 7.3 7.4 oe an8
    ['a namespace', 'nvme1n1', '       y   y   y    y    y    y   y     y     y   y   y   y  y'],
    ['its partition', 'nvme0n1p1', 'y y y y y y y y y y y y y'],
    ['dm (LVM, crypt)', 'dm-0', 'n n n n n n n n n n n n n'],
    ['md raid0', 'md1', 'n n n n n n n n y y y n n'],
    ['md raid5', 'md2', 'n n n n n n n n n n n n n'],
    ['md raid0 with a disk that is no NVMe', 'md5', 'n n n n n n n n n n n n n'],
    ['a multipath head', 'nvme2n1', 'n n n n n n n n y y y n n'],
    ['NVMe over RDMA', 'nvme4n1', 'n n n n n n y y y y y n n'],
    ['NVMe over TCP', 'nvme3n1', 'n n n n n n n n n n n n n'],
    ['loop', 'loop0', 'n n n n n n n n n n n n n'],
  ] as const) {
    const got = KERNELS.map((kernel) => (briefly(root, name, kernel).noP2pReason === null ? 'y' : 'n'));
    t.same(got, row.trim().split(/\s+/), what);
  }
});
