import { mkdirSync, writeFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import t, { type Test } from 'tap';
import { openEmulator } from '../../../lib/emulator/boot.js';
import { diagnose, openSystem } from '../../../lib/index.js';
import { type MachineInput, parseMachine } from '../../../lib/machine/machine.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { snapshotMachine } from '../../../lib/native/sysfs/snapshot.js';
import {
  type TreeDescription,
  type TreeFunction,
  type TreeNvme,
  twoDrivesBelowASwitch,
  writeSysfsTree,
} from '../../fixtures/sysfs-tree.js';

const MIB = 2 ** 20;

function read(test: Test, change: Partial<TreeDescription> = {}) {
  return readSysfs(writeSysfsTree(test.testdir({}), { ...twoDrivesBelowASwitch(), ...change }));
}

t.test('a captured machine is one the emulator takes', async (t) => {
  for (const change of [
    {},
    { configBytes: 64 },
    { configBytes: 256 },
    { layout: 'plain' },
    { layout: 'flat' },
  ] as const) {
    const sysfs = read(t, change);
    const machine = parseMachine(JSON.parse(JSON.stringify(snapshotMachine(sysfs))));
    t.same(
      machine.functions.map(({ bdf, upstream, acs, type }) => [bdf, upstream, acs, type]),
      sysfs.topology.functions.map((dev) => [dev.bdf, dev.upstream?.bdf ?? null, dev.acs, dev.portType]),
    );
    t.match(machine, { iommu: 'translating', cpu: { vendor: 'GenuineIntel', family: 6 } });
    t.match(
      machine.functions.find(({ bdf }) => bdf === '0000:03:00.0'),
      {
        iommuGroup: 12,
        bars: [
          { index: 0, address: 0xfe000000 },
          { index: 2, address: 0x800000000, size: 16 * MIB, prefetchable: true },
        ],
        nvme: {
          name: 'nvme0',
          model: 'QEMU NVMe Ctrl',
          mdts: MIB,
          cmb: { size: 16 * MIB, bar: 2, offset: 0, rds: true, wds: true },
          namespaces: [{ nsid: 1, size: 2 ** 30, blockSize: 512 }],
        },
        p2pmem: { size: 16 * MIB, available: 16646144, published: true },
      },
    );
  }
});

t.test(
  'with use_cmb_sqes=N the described drives leave their whole CMB free, as the machine does',
  async (t) => {
    const root = writeSysfsTree(t.testdir({}), twoDrivesBelowASwitch());
    const parameters = `${root}/sys/module/nvme/parameters`;
    mkdirSync(parameters, { recursive: true });
    for (const [text, useCmbSqes] of [
      ['Y\n', true],
      ['N\n', false],
    ] as const) {
      writeFileSync(`${parameters}/use_cmb_sqes`, text);
      const described = snapshotMachine(readSysfs(root)) as MachineInput;
      t.match(described, { useCmbSqes });
      const system = await openSystem({ machine: described });
      const pool = system.controllers.find(({ name }) => name === 'nvme0')!.pdev!.p2pmem!;
      t.equal(pool.size, 16 * MIB);
      t.equal(pool.available === pool.size, !useCmbSqes, `${pool.available} bytes are free`);
      t.match(system.snapshot(), { useCmbSqes }, 'what the emulator says of itself keeps it');
      await system.close();
    }
  },
);

interface MemoryShape {
  readonly name: string;
  readonly change: (lender: TreeFunction, drive: TreeNvme, tree: TreeDescription) => void;
  /** What `list` shows of nvme0 in the tree; of the snapshot too, unless something is `left out`. */
  readonly cmb: { size: number; published: boolean } | null;
  readonly verdict: 'limited' | 'impossible';
  /** What the description names as left out. */
  readonly says?: RegExp;
  readonly assumes?: string;
  /** The memory is not in the description: there is none in the emulated machine. */
  readonly lost?: true;
}

const p2pmem = (size: number, published = true) => ({ size, available: size, published });
const withoutRegisters = (drive: TreeNvme) => {
  delete drive.cmb;
};

const MEMORY_SHAPES: readonly MemoryShape[] = [
  { name: 'as it is', change: () => {}, cmb: { size: 16 * MIB, published: true }, verdict: 'limited' },
  {
    name: 'registers, and the kernel registered nothing',
    change: (lender) => delete lender.p2pmem,
    cmb: { size: 16 * MIB, published: false },
    verdict: 'impossible',
  },
  {
    name: 'registers, and a p2pmem of size 0',
    change: (lender) => {
      lender.p2pmem = p2pmem(0);
    },
    cmb: { size: 16 * MIB, published: false },
    verdict: 'impossible',
  },
  {
    name: 'registers, not published',
    change: (lender) => {
      lender.p2pmem = p2pmem(16 * MIB, false);
    },
    cmb: { size: 16 * MIB, published: false },
    verdict: 'impossible',
  },
  {
    name: 'registers that allow no data, published all the same',
    change: (_, drive) => {
      drive.cmb = { location: 2, size: (16 << 12) | (2 << 8) | 0x01 };
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
  },
  ...[4 * MIB, 3 * MIB].map(
    (size): MemoryShape => ({
      name: `registers, ${size} bytes of it registered`,
      change: (lender) => {
        lender.p2pmem = p2pmem(size);
      },
      cmb: { size, published: true },
      verdict: 'limited',
    }),
  ),
  {
    name: 'registers, and more p2pmem than they say',
    change: (lender) => {
      lender.p2pmem = p2pmem(32 * MIB);
    },
    cmb: { size: 32 * MIB, published: true },
    verdict: 'limited',
    says: /left out: 16777216 of the 33554432 bytes of the p2pmem of nvme0 \(beyond its CMB\), /,
  },
  {
    name: 'registers, and nearly all of it taken',
    change: (lender) => {
      lender.p2pmem = { ...p2pmem(16 * MIB), available: 4096 };
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: what held 16773120 of the 16777216 bytes of the p2pmem of nvme0, /,
  },
  {
    name: 'registers, and no BARs',
    change: (lender) => delete lender.bars,
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the CMB of nvme0 \(16777216 bytes at 0 in BAR 2, where there is no room\), /,
    lost: true,
  },
  ...[16 * MIB, 4 * MIB, 3 * MIB].map(
    (size): MemoryShape => ({
      name: `no registers, a p2pmem of ${size} bytes`,
      change: (lender, drive) => {
        withoutRegisters(drive);
        lender.p2pmem = p2pmem(size);
      },
      cmb: { size, published: true },
      verdict: 'limited',
      assumes: `the CMB registers of nvme0 not known: taken for ${size} bytes at the start of BAR 2`,
    }),
  ),
  {
    name: 'no registers, not published',
    change: (lender, drive) => {
      withoutRegisters(drive);
      lender.p2pmem = p2pmem(16 * MIB, false);
    },
    cmb: { size: 16 * MIB, published: false },
    verdict: 'impossible',
    assumes: 'the CMB registers of nvme0 not known: taken for 16777216 bytes at the start of BAR 2',
  },
  {
    name: 'no registers and no BARs',
    change: (lender, drive) => {
      withoutRegisters(drive);
      delete lender.bars;
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 \(16777216 bytes, for which no BAR has room\), /,
    lost: true,
  },
  {
    name: 'no registers, larger than every BAR',
    change: (lender, drive) => {
      withoutRegisters(drive);
      lender.p2pmem = p2pmem(32 * MIB);
    },
    cmb: { size: 32 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 \(33554432 bytes, for which no BAR has room\), /,
    lost: true,
  },
  {
    name: 'no registers, room only beside the registers in BAR 0',
    change: (lender, drive) => {
      withoutRegisters(drive);
      lender.bars = [{ index: 0, address: 0x800000000, size: 32 * MIB }];
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 /,
    lost: true,
  },
  {
    name: 'no registers, in a BAR at no multiple of its size',
    change: (lender, drive) => {
      withoutRegisters(drive);
      lender.bars![1]!.address += 4 * MIB;
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 .*, BAR 2 of 0000:03:00.0/,
    lost: true,
  },
  {
    name: 'no registers, not whole pages',
    change: (lender, drive) => {
      withoutRegisters(drive);
      lender.p2pmem = p2pmem(16 * MIB - 512);
    },
    cmb: { size: 16 * MIB - 512, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 \(16776704 bytes, not whole pages\), /,
    lost: true,
  },
  {
    name: 'lost beside much else: the memory comes first',
    change: (lender, drive, tree) => {
      withoutRegisters(drive);
      delete lender.bars;
      for (let nsid = 2; nsid < 20; nsid++) drive.namespaces.push({ nsid, bytes: 0 });
      tree.nvme!.reverse();
    },
    cmb: { size: 16 * MIB, published: true },
    verdict: 'limited',
    says: /left out: the p2pmem of nvme0 .* and \d+ more/,
    lost: true,
  },
  {
    name: 'what may be a CMB',
    change: (lender, drive, tree) => {
      withoutRegisters(drive);
      delete lender.p2pmem;
      lender.bars![1]!.size = MIB;
      tree.release = '6.14.0';
    },
    cmb: { size: MIB, published: false },
    verdict: 'impossible',
    says: /left out: what may be a CMB of nvme0 \(1048576 bytes\), /,
    lost: true,
  },
];

t.test('peer memory: doctor says of a snapshot what it says of the tree, or the loss is named', async (t) => {
  for (const { name, change, cmb, verdict, says, assumes, lost } of MEMORY_SHAPES) {
    const tree = twoDrivesBelowASwitch();
    change(tree.functions.find(({ bdf }) => bdf === '0000:03:00.0')!, tree.nvme![0]!, tree);
    const root = writeSysfsTree(t.testdir({}), tree);
    const machine = JSON.parse(JSON.stringify(snapshotMachine(readSysfs(root)))) as MachineInput;
    const [there, here] = [await diagnose({ root }), await diagnose({ machine })];
    t.equal(there.verdict, verdict, `${name}: the tree`);
    t.equal(here.verdict, lost ? 'impossible' : verdict, `${name}: its snapshot`);

    const description = String(machine.description);
    if (says === undefined)
      t.notMatch(description, /left out: .*(CMB|p2pmem) of/, `${name}: nothing is lost`);
    else t.match(description, says, name);
    if (assumes === undefined) t.notMatch(description, 'not known', `${name}: nothing is assumed`);
    else t.match(description, `; ${assumes}; `, name);
    const systems = [await openSystem({ root }), await openSystem({ machine })];
    const [seen, emulated] = systems.map((system) => {
      const found = system.controllers.find((one) => one.name === 'nvme0')!.cmb;
      return found === null ? null : { size: found.size, published: found.published };
    });
    t.same(seen, cmb, `${name}: the tree's CMB`);
    if (lost) t.equal(emulated, null, `${name}: no CMB is made up`);
    else t.equal(emulated!.published, cmb!.published, `${name}: whether the CMB is published`);
    if (says === undefined) t.same(emulated, seen, `${name}: the CMB of the snapshot`);
    for (const system of systems) await system.close();
  }
});

t.test('memory of a drive whose registers were not captured moves data, and is given back', async (t) => {
  const tree = twoDrivesBelowASwitch();
  delete tree.nvme![0]!.cmb;
  tree.functions.find(({ bdf }) => bdf === '0000:03:00.0')!.p2pmem = p2pmem(3 * MIB);
  const root = writeSysfsTree(t.testdir({}), tree);
  const machine = JSON.parse(JSON.stringify(snapshotMachine(readSysfs(root)))) as MachineInput;
  t.match(machine, { memremapAlign: MIB }, 'a kernel that registers 3 MiB has this granule');
  const system = await openSystem({ machine });
  await pipeline(
    system.createReadStream('nvme0n1', { end: 2 * MIB - 1, highWaterMark: MIB }),
    system.createWriteStream('nvme1n1'),
  );
  t.match(system.metrics(), { path: { internal: 2 * MIB, peerBus: 2 * MIB, hostDram: 0 } });
  await system.close();

  const backend = await openEmulator({ machine });
  const lender = backend.topology.find('0000:03:00.0')!;
  backend.memory.mmapP2pmem(lender, 2 * MIB);
  t.match(lender.p2pmem, { available: MIB });
  const nothing = { iovas: 0, pages: 0, requests: 0, handles: 0 };
  t.match(await backend.close(), { ...nothing, slots: 1 }, 'what was never unmapped is told');
  t.equal(lender.p2pmem, null, 'and its memory is gone with the machine');
});

t.test('no serial numbers unless asked for', async (t) => {
  const sysfs = read(t);
  t.notMatch(JSON.stringify(snapshotMachine(sysfs)), /SECRET/);
  const machine = parseMachine(snapshotMachine(sysfs, { withSerials: true, name: 'rack 7' }));
  t.equal(machine.name, 'rack 7');
  t.equal(machine.functions.find(({ nvme }) => nvme?.name === 'nvme0')?.nvme?.serial, 'SECRET-nvme0');
});

t.test('what bus addresses differ by is the host bridge’s offset', async (t) => {
  const tree = twoDrivesBelowASwitch();
  for (const bar of tree.functions.flatMap((fn) => fn.bars ?? [])) bar.busAddress = bar.address - 0xc0000000;
  const machine = parseMachine(snapshotMachine(readSysfs(writeSysfsTree(t.testdir({}), tree))));
  t.equal(machine.hostBridges[0]?.busOffset, -0xc0000000);
});

t.test('details that a description refuses are left out', async (t) => {
  const tree = twoDrivesBelowASwitch();
  tree.functions[4]!.bars = [{ index: 0, address: 0xfe300000, size: 0x3000 }];
  tree.functions[5]!.bars = [{ index: 0, address: 0xfe000000, size: 0x4000 }];
  tree.functions[7]!.bars = [{ index: 0, address: 0xfe100000, size: 0x1000 }];
  tree.functions[1]!.type = 'endpoint';
  tree.functions[3]!.type = 'root-complex-endpoint';
  tree.nvme![0]!.cmb = { location: 5, size: (16 << 12) | (2 << 8) | 0x1f };
  const machine = parseMachine(snapshotMachine(readSysfs(writeSysfsTree(t.testdir({}), tree))));
  t.match(machine.functions[1], { type: 'unknown', class: 0x060400 });
  t.same(machine.functions[4]?.bars, []);
  t.equal(machine.functions[6]?.nvme?.cmb, null);
});

t.test('this machine', { skip: process.platform !== 'linux' && 'not Linux' }, async (t) => {
  const sysfs = readSysfs('/');
  if (sysfs.topology.functions.length === 0) return t.pass('it shows no PCI functions');
  t.equal(parseMachine(snapshotMachine(sysfs)).functions.length, sysfs.topology.functions.length);
});

t.test(
  'heads, arrays and the partitions that they are made of are kept, and copies go as there',
  async (t) => {
    const tree = twoDrivesBelowASwitch();
    const [first, second, third] = tree.nvme!;
    first!.namespaces = [{ nsid: 1, bytes: 256 * MIB, partitions: [64 * MIB, 64 * MIB] }];
    second!.namespaces = [{ nsid: 1, bytes: 256 * MIB, subsystem: 1 }];
    third!.namespaces = [{ nsid: 1, bytes: 256 * MIB, subsystem: 1 }];
    const root = writeSysfsTree(t.testdir({}), {
      ...tree,
      release: '6.12.117',
      mounts: [],
      blocks: [
        { name: 'vda', bytes: 256 * MIB },
        { name: 'md0', bytes: 64 * MIB, slaves: ['nvme0n1p2'], level: 'raid1', chunk: 0 },
        { name: 'md1', bytes: 64 * MIB, slaves: ['nvme0n1p1', 'vda'], level: 'raid0', chunk: 65536 },
      ],
    });
    const machine = parseMachine(JSON.parse(JSON.stringify(snapshotMachine(readSysfs(root)))));
    t.match(machine, {
      subsystems: [{ name: 'nvme-subsys1', controllers: [second!.name, third!.name] }],
      arrays: [{ name: 'md0', level: 'raid1', members: ['nvme0n1p2'] }],
      description: /left out: .*md1 \(raid0 over nvme0n1p1, vda\)/,
    });
    t.same(machine.functions.find(({ nvme }) => nvme?.name === 'nvme0')!.nvme!.namespaces[0]!.partitions, [
      { number: 2, start: 65 * MIB, size: 64 * MIB },
    ]);
    // What the machine refuses, its description refuses: the head before 7.2 whatever the way, then for one of its paths.
    for (const [kernel, transport] of [
      ['6.12.117', 'host-memory'],
      ['7.2', 'p2p-bus'],
    ] as const) {
      const [there, here] = [await openSystem({ root, kernel }), await openSystem({ machine, kernel })];
      for (const system of [there, here]) {
        const [first] = system.explain('nvme0', ['nvme1n1']).clients;
        const why = kernel === '7.2' ? /each leg of nvme1n1 \(multipath\)/ : /is an NVMe multipath head/;
        t.match(first!.refusal, why, `${system.backend} ${kernel}: the head`);
        const route = system.route(['nvme0n1', 'md0']);
        t.equal(route.transport, transport, `${system.backend} ${kernel}: the array`);
      }
      await there.close();
      await here.close();
    }
  },
);

t.test('metadata: the emulator refuses passthrough where the machine does', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const [first, second, third] = tree.nvme!;
  first!.namespaces[0]!.metadata = 8;
  second!.namespaces[0]!.metadata = 64;
  third!.namespaces[0]!.metadata = null;
  const sysfs = readSysfs(writeSysfsTree(t.testdir({}), tree));
  t.same(
    sysfs.controllers.slice(0, 3).map(({ namespaces }) => namespaces[0]!.metadataBytes),
    [8, 64, null],
  );
  const machine = JSON.parse(JSON.stringify(snapshotMachine(sysfs))) as { description: string };
  t.match(machine.description, /; metadata of nvme2n1 not known: taken for none/);
  t.match(machine.description, /; 64 bytes of metadata per block of nvme1n1: taken for 8/);
  t.notMatch(machine.description, /nvme0n1/);

  const system = await openSystem({ machine });
  const read = { opcode: 2, cdw12: 0, data: Buffer.alloc(4096) };
  for (const [name, refused] of [
    ['nvme0n1', true],
    ['nvme1n1', true],
    ['nvme2n1', false],
  ] as const) {
    const target = await system.target(name, { write: true });
    const sent = target.passthrough({ ...read, cdw12: name === 'nvme1n1' ? 0 : 7 });
    if (refused) await t.rejects(sent, { code: 'EOPNOTSUPP', message: /8 bytes of metadata/ }, name);
    else await t.resolves(sent, name);
    await target.close();
  }
  t.match(JSON.stringify(system.snapshot()), /"metadata":8/, 'and a snapshot of that one has it too');
  await system.close();
});
