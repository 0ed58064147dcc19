import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function read(test: Test, change: Partial<TreeDescription> = {}) {
  return readSysfs(writeSysfsTree(test.testdir({}), { ...twoDrivesBelowASwitch(), ...change }));
}

t.test('a namespace: its function, its queue, nothing in the way', async (t) => {
  const sysfs = read(t);
  for (const name of ['nvme1n1', '/dev/nvme1n1', '/dev/ng1n1', '/dev/../dev/nvme1n1']) {
    t.match(
      sysfs.blockInfo(name),
      {
        kind: 'namespace',
        name: 'nvme1n1',
        device: '/dev/nvme1n1',
        stack: ['nvme1n1'],
        controller: 'nvme1',
        client: { bdf: '0000:04:00.0' },
        size: GIB,
        readOnly: false,
        limits: {
          logicalBlockSize: 4096,
          dmaAlignment: 4,
          maxTransfer: 512 * 1024,
          maxSegments: 127,
          pciP2pdma: true,
        },
        noP2pReason: null,
        unproven: null,
        fileSystem: null,
      },
      name,
    );
  }
});

t.test('a partition takes peer-to-peer memory as its disk does, and has the disk’s queue', async (t) => {
  t.match(read(t).blockInfo('/dev/nvme0n1p2'), {
    kind: 'block',
    size: 512 * MIB,
    stack: ['nvme0n1p2', 'nvme0n1'],
    client: { bdf: '0000:03:00.0' },
    limits: { dmaAlignment: 4, pciP2pdma: true },
    noP2pReason: null,
  });
});

t.test(
  'what stacks on a drive refuses: the topmost layer is named, the drives below are found',
  async (t) => {
    const sysfs = read(t);
    const dm = sysfs.blockInfo('/dev/mapper/vg-data');
    t.match(dm, { name: 'dm-0', stack: ['dm-0', 'nvme0n1p1', 'nvme0n1'], client: { bdf: '0000:03:00.0' } });
    t.match(dm?.noP2pReason, /dm-0 \(vg-data\) is a device-mapper device/);
    t.equal(dm?.limits.pciP2pdma, false);
    t.equal(sysfs.blockInfo('/dev/vg/data')?.name, 'dm-0');

    const md = sysfs.blockInfo('md0');
    t.same(
      md?.disks.map(({ name, client }) => [name, client?.bdf]),
      [
        ['nvme0n1', '0000:03:00.0'],
        ['nvme1n1', '0000:04:00.0'],
      ],
    );
    t.equal(md?.client, null, 'two drives are no single client');
    t.match(md?.noP2pReason, /md0 \(raid1\)/);

    const head = sysfs.blockInfo('nvme2n1');
    t.match(head, {
      kind: 'namespace',
      stack: ['nvme2n1', 'nvme2c2n1'],
      client: { bdf: '0000:05:00.0' },
      controller: 'nvme2',
    });
    t.match(head?.noP2pReason, /multipath head.*nvme_core\.multipath=N/);

    const loop = sysfs.blockInfo('/dev/loop0');
    t.match(loop, {
      stack: ['loop0', 'nvme0n1p2', 'nvme0n1'],
      client: null,
      disks: [{ controller: 'nvme0' }],
    });
    t.match(loop?.noP2pReason, /loop device/);

    t.match(sysfs.blockInfo('nvme3n1'), { client: null, controller: 'nvme3', noP2pReason: /over tcp/ });
    t.match(sysfs.blockInfo('vda'), { controller: null, noP2pReason: /not an NVMe disk/ });
  },
);

t.test(
  'a multipath head over a network is refused for its network: plain disks would not help',
  async (t) => {
    const { nvme } = twoDrivesBelowASwitch();
    const connected = (name: string, transport: string) => ({
      ...{ name, on: { transport, address: 'traddr=192.0.2.1' } },
      namespaces: [{ nsid: 1, bytes: GIB, subsystem: 4 }],
    });
    const sysfs = read(t, { nvme: [...nvme!, connected('nvme4', 'tcp')] });
    t.match(sysfs.blockInfo('nvme4n1'), {
      stack: ['nvme4n1', 'nvme4c4n1'],
      client: null,
      limits: { pciP2pdma: false },
      noP2pReason: 'nvme4n1 is reached over tcp: no PCI function here does its DMA',
    });
  },
);

t.test('a file: its filesystem, the device below, and what may bounce', async (t) => {
  const sysfs = read(t);
  t.match(sysfs.blockInfo('/mnt/xfs/dir/file'), {
    kind: 'file',
    name: 'nvme0n1p2',
    fileSystem: 'xfs',
    mountPoint: '/mnt/xfs',
    client: { bdf: '0000:03:00.0' },
    size: null,
    noP2pReason: null,
    unproven: null,
  });
  t.match(sysfs.blockInfo('/mnt/with blank/f'), {
    name: 'nvme1n1',
    unproven: /data=journal/,
    dioAlignProves: false,
  });
  t.match(sysfs.blockInfo('/home/f'), { name: 'vda', unproven: /ext4/, dioAlignProves: true });
  t.match(sysfs.blockInfo('/tmp/f'), { name: null, device: null, noP2pReason: /tmpfs/, client: null });
  t.equal(sysfs.blockInfo('/mnt/xfsx/f')?.mountPoint, '/', 'a mount point is whole components');
});

t.test('btrfs has no device number: its source names the device, sysfs all of them', async (t) => {
  const tree = twoDrivesBelowASwitch();
  tree.mounts = [{ on: 'nvme0n1p2', mountPoint: '/b', type: 'btrfs' }];
  const root = writeSysfsTree(t.testdir({}), tree);
  t.match(readSysfs(root).blockInfo('/b/f'), { name: 'nvme0n1p2', noP2pReason: null, unproven: /btrfs/ });
  mkdirSync(`${root}/sys/fs/btrfs/1-2/devices/nvme0n1p2`, { recursive: true });
  mkdirSync(`${root}/sys/fs/btrfs/1-2/devices/nvme1n1`);
  t.match(readSysfs(root).blockInfo('/b/f'), {
    client: null,
    noP2pReason: /spreads over nvme0n1p2 and nvme1n1/,
  });
});

t.test('a file on overlayfs is on what its layer is on', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const on = (options: string) => ({ on: 'overlay', mountPoint: '/merged', type: 'overlay', options });
  const at = (options: string, name: string) => {
    tree.mounts = [
      { on: 'vda', mountPoint: '/', type: 'ext4' },
      { on: 'nvme0n1p2', mountPoint: '/mnt/xfs', type: 'xfs' },
      on(options),
    ];
    return readSysfs(writeSysfsTree(t.testdir({ [name]: {} }), tree)).blockInfo('/merged/file');
  };
  t.match(at('rw,lowerdir=/mnt/xfs/low,upperdir=/mnt/xfs/up,workdir=/mnt/xfs/work', 'one'), {
    kind: 'file',
    fileSystem: 'overlay',
    directFileSystem: 'xfs',
    mountPoint: '/merged',
    client: { bdf: '0000:03:00.0' },
    noP2pReason: null,
    unproven: null,
  });
  t.match(at('rw,lowerdir=/low,upperdir=/mnt/xfs/up,workdir=/mnt/xfs/work', 'two'), {
    client: { bdf: '0000:03:00.0' },
    noP2pReason: null,
    unproven:
      /^the kernel does not say which layer of overlayfs '\/merged\/file' is in; it seems to be \/mnt\/xfs\/up/,
  });
  t.match(at('rw,lowerdir=/mnt/xfs/low,upperdir=/up,workdir=/work', 'three'), {
    noP2pReason: /vda is not an NVMe disk/,
  });
  t.match(
    at('rw,lowerdir=low,upperdir=up', 'four'),
    { noP2pReason: /layers of overlayfs/ },
    'named from elsewhere',
  );
});

t.test('who uses a device: mounts, also of its partitions, holders, swap', async (t) => {
  const sysfs = read(t);
  t.match(sysfs.blockInfo('nvme0n1')?.inUse, {
    mountPoints: ['/mnt/xfs'],
    holders: ['dm-0'],
    swap: false,
    words: 'mounted on /mnt/xfs; held by dm-0',
  });
  t.match(sysfs.blockInfo('nvme0n1p1')?.inUse, { mountPoints: [], holders: ['dm-0'] });
  t.match(sysfs.blockInfo('vda')?.inUse, {
    mountPoints: ['/'],
    swap: true,
    words: 'mounted on /; used as swap',
  });
  t.equal(sysfs.blockInfo('nvme3n1')?.inUse.words, null);
  t.equal(sysfs.blockInfo('/mnt/xfs/f')?.inUse.words, null);
});

t.test('a kernel without P2PDMA, or with DMA mapping that cannot, refuses for every drive', async (t) => {
  for (const at of ['proc', 'boot'] as const) {
    const tree = twoDrivesBelowASwitch();
    delete tree.functions[6]!.p2pmem;
    tree.config = { p2pdma: false, at };
    const sysfs = readSysfs(writeSysfsTree(t.testdir({}), tree));
    t.match(sysfs.blockInfo('nvme1n1')?.noP2pReason, /without CONFIG_PCI_P2PDMA/, at);
    t.match(sysfs.blockInfo('md0')?.noP2pReason, /md array/, 'what is nearest comes first');
  }
  const other = read(t, { iommu: { units: ['iommu-phb0001'], groupType: 'DMA' } });
  t.equal(other.topology.iommu, 'unsupported');
  t.match(other.blockInfo('nvme1n1')?.noP2pReason, /DMA mapping/);
});

t.test('what is not there', async (t) => {
  const sysfs = read(t);
  for (const name of [
    'nvme9n1',
    '/dev/nope',
    '/dev',
    '',
    '.',
    '..',
    '../nvme0n1',
    'a\0b',
    'nvme0n1/../nvme1n1',
    '/dev/mapper/',
  ]) {
    const info = sysfs.blockInfo(name);
    t.ok(info === null || info.kind === 'file', JSON.stringify(name));
  }
});

t.test('a stack that contains itself ends', async (t) => {
  const root = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
  const slaves = `${root}/sys/devices/virtual/block/dm-0/slaves`;
  symlinkSync('../../dm-0', `${slaves}/dm-0`);
  symlinkSync('../../md0', `${slaves}/md0`);
  t.match(readSysfs(root).blockInfo('md0')?.stack, ['md0', 'dm-0', 'nvme0n1p1', 'nvme0n1', 'nvme1n1']);
});

t.test('links below a captured dev/ are followed by name', async (t) => {
  const root = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
  mkdirSync(`${root}/dev/disk/by-id`, { recursive: true });
  symlinkSync('../../nvme1n1', `${root}/dev/disk/by-id/nvme-QEMU_1`);
  t.equal(readSysfs(root).blockInfo('/dev/disk/by-id/nvme-QEMU_1')?.name, 'nvme1n1');
});

t.test('limits that the queue does not tell are cautious', async (t) => {
  const root = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
  const queue = `${root}/sys/class/block/nvme1n1/queue`;
  for (const name of ['logical_block_size', 'dma_alignment', 'max_sectors_kb', 'max_segments']) {
    writeFileSync(`${queue}/${name}`, 'x');
  }
  const sysfs = readSysfs(root);
  t.same(sysfs.blockInfo('nvme1n1')?.limits, {
    logicalBlockSize: 4096,
    dmaAlignment: 4096,
    maxTransfer: 128 * 1024,
    maxSegments: 32,
    pciP2pdma: true,
  });
  t.ok(
    sysfs.topology.unknowns.some(
      ({ file, why }) => file.endsWith('nvme1n1/queue/dma_alignment') && /"x"/.test(why),
    ),
  );
});

t.test(
  'this machine: files, devices, files to be',
  { skip: process.platform !== 'linux' && 'not Linux' },
  async (t) => {
    const sysfs = readSysfs('/');
    t.equal(sysfs.live, true);
    const dir = t.testdir({ file: 'hello' });
    copyFileSync(`${dir}/file`, `${dir}/copy`);
    t.match(sysfs.blockInfo(`${dir}/file`), { kind: 'file', size: 5 });
    t.match(sysfs.blockInfo(`${dir}/yet-to-be`), { kind: 'file', size: null });
    t.equal(sysfs.blockInfo(`${dir}/no/such`), null);
    t.equal(sysfs.blockInfo('/dev/null'), null);
    t.equal(sysfs.blockInfo('/dev/no-such-device'), null);
    const { fileSystem, mountPoint } = sysfs.blockInfo(`${dir}/file`)!;
    t.type(fileSystem, 'string');
    t.type(mountPoint, 'string');
  },
);
