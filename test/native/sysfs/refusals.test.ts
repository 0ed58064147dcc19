/** Which layers of a block stack take peer memory depends on the kernel. */
import { mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import t, { type Test } from 'tap';
import { openSystem } from '../../../lib/index.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

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
  t.match(of(), { client: null, noP2pReason: /no RDMA card on PCI is to be seen$/ });
  const at = (name: string, under: string) => {
    const dir = join('sys/devices', under, 'infiniband', name);
    mkdirSync(join(root, dir), { recursive: true });
    mkdirSync(join(root, 'sys/class/infiniband'), { recursive: true });
    symlinkSync(join('../../..', dir), join(root, 'sys/class/infiniband', name));
  };
  at('rxe0', 'virtual');
  t.match(of()?.noP2pReason, /no RDMA card on PCI is to be seen \(rxe and siw/);
  at('mlx5_0', directoryOf(root, '0000:05:00.0'));
  t.match(of(), { client: null, noP2pReason: /sysfs does not tell which of mlx5_0, rxe0/ });
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
  const dir = join('sys/devices', directoryOf(root, '0000:05:00.0'), 'infiniband/mlx5_0');
  mkdirSync(join(root, dir), { recursive: true });
  mkdirSync(join(root, 'sys/class/infiniband'), { recursive: true });
  symlinkSync(join('../../..', dir), join(root, 'sys/class/infiniband/mlx5_0'));
  t.same(briefly(root, 'nvme4n1'), { client: '0000:05:00.0', noP2pReason: null });
});
