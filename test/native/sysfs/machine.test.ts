import { rmSync, writeFileSync } from 'node:fs';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import type { UnusableCmb } from '../../../lib/backend/backend.js';
import type { PciDev } from '../../../lib/backend/topology.js';
import { calcMapTypeAndDist } from '../../../lib/kernel/pci-p2pdma-distance.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { SysfsTree } from '../../../lib/native/sysfs/tree.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { runningTree } from '../../helpers/running-tree.js';

const MIB = 2 ** 20;

function read(test: Test, change: Partial<TreeDescription> = {}) {
  return readSysfs(writeSysfsTree(test.testdir(), { ...twoDrivesBelowASwitch(), ...change }));
}

t.test('a person who prints the topology sees all of it', async (t) => {
  const { topology } = read(t);
  for (const shown of [inspect(topology, { depth: 8 }), inspect(topology.functions[1])]) {
    t.notMatch(shown, /Getter/);
    t.match(shown, /portType: 'root-port'/);
  }
  t.match(inspect(topology), /unknowns: \[/);
});

function chain(dev: PciDev | null): string[] {
  return dev === null ? [] : [dev.bdf, ...chain(dev.upstream)];
}

t.test('a captured tree gives the topology of the machine it came from', async (t) => {
  const { topology } = read(t);
  t.same(topology.cpu, { vendor: 'GenuineIntel', family: 6 });
  t.equal(topology.iommu, 'translating');
  t.same(
    topology.functions.map(({ bdf, portType, acs }) => [bdf, portType, acs]),
    [
      ['0000:00:00.0', 'conventional', 'none'],
      ['0000:00:01.0', 'root-port', 'none'],
      ['0000:00:02.0', 'root-port', 'none'],
      ['0000:01:00.0', 'upstream-port', 'none'],
      ['0000:02:00.0', 'downstream-port', 0],
      ['0000:02:01.0', 'downstream-port', 0],
      ['0000:03:00.0', 'endpoint', 'none'],
      ['0000:04:00.0', 'endpoint', 'none'],
      ['0000:05:00.0', 'endpoint', 'none'],
    ],
  );
  const drive = topology.find('03:00.0')!;
  t.same(chain(drive), ['0000:03:00.0', '0000:02:00.0', '0000:01:00.0', '0000:00:01.0']);
  t.match(drive, {
    id: 0x300,
    devfn: 0,
    vendor: 0x1b36,
    device: 0x10,
    class: 0x010802,
    numaNode: 0,
    iommuGroup: 12,
  });
  t.same(drive.p2pmem, { size: 16 * MIB, available: 16646144, published: true });
  t.same(drive.bars, [
    {
      index: 0,
      kind: 'memory',
      cpuAddress: 0xfe000000,
      busAddress: 0xfe000000,
      size: 0x4000,
      prefetchable: false,
    },
    null,
    {
      index: 2,
      kind: 'memory',
      cpuAddress: 2 ** 35,
      busAddress: 2 ** 35,
      size: 16 * MIB,
      prefetchable: true,
    },
    null,
    null,
    null,
  ]);
  t.equal(topology.find('0000:04:00.0')?.numaNode, null);
  t.equal(topology.find('0000:04:00.0')?.p2pmem, null);
  t.equal(topology.find('0000:09:00.0'), null);
  t.equal(topology.hostBridges.length, 1);
  t.equal(topology.hostBridges[0]?.firstDevice?.bdf, '0000:00:00.0');
  t.equal(drive.hostBridge, topology.hostBridges[0]);
  t.same(topology.unknowns, []);
});

for (const layout of ['plain', 'flat'] as const) {
  t.test(`a tree that lost its symlinks (${layout}) gives the same topology`, async (t) => {
    const want = read(t);
    const got = readSysfs(writeSysfsTree(t.testdir({ other: {} }), { ...twoDrivesBelowASwitch(), layout }));
    t.same(
      got.topology.functions.map((dev) => [
        chain(dev),
        dev.portType,
        dev.acs,
        dev.bars,
        dev.iommuGroup,
        dev.p2pmem,
      ]),
      want.topology.functions.map((dev) => [
        chain(dev),
        dev.portType,
        dev.acs,
        dev.bars,
        dev.iommuGroup,
        dev.p2pmem,
      ]),
    );
    t.equal(got.topology.iommu, 'translating');
    t.same(
      got.controllers.filter((c) => c.pdev !== null).map((c) => [c.name, c.pdev?.bdf, c.namespaces]),
      want.controllers.filter((c) => c.pdev !== null).map((c) => [c.name, c.pdev?.bdf, c.namespaces]),
    );
    const info = got.blockInfo('/dev/nvme0n1p1');
    t.match(info, {
      size: 256 * MIB,
      stack: ['nvme0n1p1', 'nvme0n1'],
      controller: 'nvme0',
      noP2pReason: null,
    });
    t.match(got.blockInfo('md0')?.noP2pReason, /md0 \(raid1\) is an md array/);
    t.match(got.blockInfo('nvme2n1')?.noP2pReason, /multipath head/);
    t.equal(got.blockInfo('/mnt/xfs/file')?.client?.bdf, '0000:03:00.0');
  });
}

t.test(
  'without root, 64 bytes of configuration space: ACS is unknown, port types come from the places',
  async (t) => {
    const { topology } = read(t, { configBytes: 64 });
    t.same(
      topology.functions.map(({ bdf, portType }) => [bdf, portType]),
      read(t).topology.functions.map(({ bdf, portType }) => [bdf, portType]),
    );
    t.equal(topology.find('02:00.0')?.acs, 'unknown');
    t.equal(topology.find('00:00.0')?.acs, 'none', 'a conventional function has no place for ACS');
    t.match(
      topology.unknowns.find(({ file }) => file.endsWith('0000:02:00.0/config'))?.why,
      /64 bytes.*root/,
    );
    t.match(calcMapTypeAndDist(topology, topology.find('03:00.0')!, topology.find('04:00.0')!), {
      mapType: 'PCI_P2PDMA_MAP_UNKNOWN',
      acsKnown: false,
    });
  },
);

t.test('a capture of 256 bytes leaves ACS unknown', async (t) => {
  const { topology } = read(t, { configBytes: 256 });
  t.equal(topology.find('02:00.0')?.portType, 'downstream-port');
  t.equal(topology.find('02:00.0')?.acs, 'unknown');
});

t.test(
  'of a running machine, no more configuration space is read than ACS needs, and the answer is the same',
  async (t) => {
    const tree = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
    const bytes = new Map<string, number>();
    const running = runningTree(new SysfsTree(tree).files, (path, content) => {
      if (path.at(-1) === 'config') bytes.set(path.at(-2)!, content.bytes.length);
    });
    const { functions } = readSysfs(running).topology;
    const whole = readSysfs(tree).topology.functions;
    t.same(
      functions.map(({ bdf, portType, acs, bars }) => [bdf, portType, acs, bars]),
      whole.map(({ bdf, portType, acs, bars }) => [bdf, portType, acs, bars]),
    );
    t.equal(
      bytes.get('0000:00:00.0'),
      64,
      'a conventional function without a list of capabilities: the header',
    );
    t.ok(bytes.get('0000:02:00.0')! < 1024, 'a port: as far as its ACS capability');
  },
);

t.test('the verdict is there for any two functions of a captured tree, with or without p2pmem', async (t) => {
  const { topology } = read(t);
  for (const provider of topology.functions) {
    for (const client of topology.functions) {
      const verdict = calcMapTypeAndDist(topology, provider, client);
      t.ok(verdict.reason.length > 0, `${provider.bdf} ${client.bdf}: ${verdict.rule}`);
    }
  }
  const [a, b, c] = ['03:00.0', '04:00.0', '05:00.0'].map((bdf) => topology.find(bdf)!);
  t.match(calcMapTypeAndDist(topology, a!, b!), { mapType: 'PCI_P2PDMA_MAP_BUS_ADDR', distance: 4 });
  t.match(calcMapTypeAndDist(topology, b!, a!), { mapType: 'PCI_P2PDMA_MAP_BUS_ADDR', distance: 4 });
  t.match(calcMapTypeAndDist(topology, b!, c!), { mapType: 'PCI_P2PDMA_MAP_NOT_SUPPORTED' });
});

t.test('ACS redirection in a downstream port is seen', async (t) => {
  const tree = twoDrivesBelowASwitch();
  tree.functions.find(({ bdf }) => bdf === '0000:02:01.0')!.acs = 0x1d;
  const { topology } = readSysfs(writeSysfsTree(t.testdir(), tree));
  const verdict = calcMapTypeAndDist(topology, topology.find('03:00.0')!, topology.find('04:00.0')!);
  t.equal(verdict.mapType, 'PCI_P2PDMA_MAP_NOT_SUPPORTED');
  t.same(
    verdict.acs.map(({ bdf }) => bdf),
    ['0000:02:01.0'],
  );
});

t.test('bus addresses come from the BARs of the configuration space', async (t) => {
  const tree = twoDrivesBelowASwitch();
  tree.functions[6]!.bars![1]!.busAddress = 0x80000000;
  const { topology } = readSysfs(writeSysfsTree(t.testdir(), tree));
  t.match(topology.find('03:00.0')!.bars[2], { cpuAddress: 0x800000000, busAddress: 0x80000000 });
});

t.test('each root bus is a host bridge; domains made by drivers have longer numbers', async (t) => {
  const nvme = { type: 'endpoint', class: 0x010802 } as const;
  const { topology } = readSysfs(
    writeSysfsTree(t.testdir(), {
      functions: [
        { bdf: '0000:00:1f.0', upstream: null, type: 'conventional' },
        { bdf: '0000:00:03.1', upstream: null, type: 'root-port' },
        { bdf: '0000:80:01.0', upstream: null, type: 'root-port' },
        { bdf: '0000:81:00.0', upstream: '0000:80:01.0', ...nvme },
        { bdf: '10000:00:01.0', upstream: null, type: 'root-port' },
        { bdf: '10000:01:00.0', upstream: '10000:00:01.0', ...nvme },
      ],
    }),
  );
  t.same(
    topology.hostBridges.map(({ domain, bus, firstDevice }) => [domain, bus, firstDevice?.bdf]),
    [
      [0, 0, '0000:00:03.1'],
      [0, 0x80, '0000:80:01.0'],
      [0x10000, 0, '10000:00:01.0'],
    ],
    'the first device is the one with the lowest devfn',
  );
  t.equal(topology.find('10000:01:00.0')?.id, 0x100000100);
});

t.test('controllers: PCIe and fabrics, their namespaces and CMB', async (t) => {
  const { controllers, topology } = read(t);
  t.same(
    controllers.map(({ name, transport, pdev }) => [name, transport, pdev?.bdf]),
    [
      ['nvme0', 'pcie', '0000:03:00.0'],
      ['nvme1', 'pcie', '0000:04:00.0'],
      ['nvme2', 'pcie', '0000:05:00.0'],
      ['nvme3', 'tcp', undefined],
    ],
  );
  const [nvme0, nvme1, nvme2] = controllers;
  t.equal(nvme0!.pdev, topology.find('03:00.0'));
  t.equal(nvme0!.model, 'QEMU NVMe Ctrl');
  t.same(nvme0!.cmb, { size: 16 * MIB, published: true, unusable: null });
  t.match(nvme0!.cmbRegisters, { bar: 2, offset: 0, size: 16 * MIB, rds: true, wds: true });
  t.equal(nvme1!.cmb, null);
  t.match(nvme1!.namespaces, [{ name: 'nvme1n1', nsid: 1, size: 2 ** 30, logicalBlockSize: 4096 }]);
  t.match(nvme2!.namespaces, [{ name: 'nvme2n1' }], 'the head is what one opens, not its hidden path');
});

t.test('a CMB that the kernel does not publish says why', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const drive = tree.functions[6]!;
  const why = (change: () => void): UnusableCmb | null | undefined => {
    change();
    return readSysfs(writeSysfsTree(t.testdir({}), tree)).controllers[0]!.cmb?.unusable;
  };
  t.match(
    why(() => {
      drive.p2pmem!.published = false;
      tree.nvme![0]!.cmb = { location: 2, size: (16 << 12) | (2 << 8) | 0x0f };
    }),
    { kind: 'no-data', text: /write data \(WDS\)/ },
  );
  t.match(
    why(() => {
      delete drive.p2pmem;
    }),
    { kind: 'not-registered', text: /did not register/ },
  );
  t.match(
    why(() => {
      tree.nvme![0]!.cmb = { location: 2, size: (17 << 12) | (1 << 8) | 0x1f };
    }),
    { kind: 'misaligned', text: /not a multiple of 2 MiB/ },
  );
  t.match(
    why(() => {
      tree.nvme![0]!.cmb = { location: 2 + (512 << 12), size: (16 << 12) | (2 << 8) | 0x1f };
    }),
    { kind: 'outside-bar', text: 'the CMB lies outside BAR 2' },
  );
  t.match(
    why(() => {
      tree.config = { p2pdma: false, at: 'boot' };
    }),
    { kind: 'no-p2pdma', text: /CONFIG_PCI_P2PDMA/ },
  );
});

t.test('a CMB whose registers the kernel does not show: its BAR is named for what it may be', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const drive = tree.functions[6]!;
  delete drive.p2pmem;
  delete tree.nvme![0]!.cmb;
  const cmbOf = (
    release: string,
    bar: { size: number; address?: number; prefetchable?: boolean; index?: number },
  ) => {
    drive.bars = [drive.bars![0]!, { index: 2, address: 0x800000000, prefetchable: true, ...bar }];
    return readSysfs(writeSysfsTree(t.testdir({}), { ...tree, release })).controllers[0]!.cmb;
  };
  t.match(cmbOf('6.12.117', { size: MIB }), {
    size: MIB,
    published: false,
    unusable: {
      kind: 'perhaps-misaligned',
      text: /^BAR 2 may be a CMB, whose registers the kernel does not show: its size, 1048576 bytes, is not a multiple of 2 MiB, and the kernel skips it without a message$/,
    },
  });
  t.match(
    cmbOf('6.12.117', { size: 4 * MIB, address: 0x800100000 })?.unusable?.text,
    /does not start at a multiple of 2 MiB/,
  );
  t.equal(cmbOf('6.12.117', { size: 2 * MIB }), null, 'that would not have been skipped');
  t.equal(
    cmbOf('6.12.117', { size: 0x4000, prefetchable: false, index: 4 }),
    null,
    'an MSI-X table is not prefetchable',
  );
  t.equal(cmbOf('6.8.0', { size: MIB }), null, 'that kernel shows the registers of any CMB');
  tree.config = { p2pdma: false, at: 'boot' };
  t.match(cmbOf('6.1.0-56-amd64', { size: 16 * MIB }), {
    size: 16 * MIB,
    published: false,
    unusable: {
      kind: 'no-p2pdma',
      text: 'BAR 2 may be a CMB, whose registers a kernel without CONFIG_PCI_P2PDMA does not show',
    },
  });
  tree.config = { p2pdma: true, at: 'boot' };
  tree.nvme![0]!.cmb = { location: 2, size: (1 << 12) | (2 << 8) | 0x1f };
  t.match(
    cmbOf('6.8.0', { size: MIB })?.unusable?.text,
    /not a multiple of 2 MiB: the kernel fails to register it/,
  );
  t.match(cmbOf('7.2.0', { size: MIB })?.unusable?.text, /not a multiple of 2 MiB: the kernel skips it/);
});

t.test('an empty tree, and no tree at all', async (t) => {
  for (const root of [t.testdir({}), '/nonexistent/tree', `${t.testdirName}\0`]) {
    const sysfs = readSysfs(root);
    t.same(sysfs.topology.functions, []);
    t.same(sysfs.controllers, []);
    t.equal(sysfs.topology.iommu, 'unknown');
    t.ok(sysfs.topology.unknowns.length > 0);
    t.equal(sysfs.kernel.release, null);
    t.equal(sysfs.blockInfo('nvme0n1'), null);
  }
});

t.test('p2pmem is read anew when asked, and a function knows its directory', async (t) => {
  const root = writeSysfsTree(t.testdir(), twoDrivesBelowASwitch());
  const sysfs = readSysfs(root);
  const drive = sysfs.topology.find('03:00.0')!;
  writeFileSync(`${sysfs.directory(drive.bdf)}/p2pmem/available`, '4096\n');
  t.equal(sysfs.p2pmem(drive)?.available, 4096);
  t.equal(drive.p2pmem?.available, 16646144);
  t.equal(sysfs.directory('0000:77:00.0'), null);
  rmSync(sysfs.directory(drive.bdf)!, { recursive: true });
  t.equal(sysfs.directory(drive.bdf), null, 'a drive that was removed has none any more');
  t.equal(sysfs.p2pmem(drive), null);
});
