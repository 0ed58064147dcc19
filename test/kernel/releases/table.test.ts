import t from 'tap';
import { parseRelease } from '../../../lib/backend/kernel-release.js';
import { calcMapTypeAndDist, hostBridgeVerdict } from '../../../lib/kernel/pci-p2pdma.js';
import {
  HOST_BRIDGE,
  HOST_BRIDGE_VERBOSE,
  LOG_COMMAND,
  MESSAGES,
  NOT_SHARED,
  refusalInLog,
} from '../../../lib/kernel/releases/log.js';
import {
  CMB_ALIGN_SKIP,
  misalignedFate,
  NON_MAPPABLE_BARS,
  PROVIDER_WITHOUT_POOL,
  SEARCH_NEEDS_POOL,
} from '../../../lib/kernel/releases/memory.js';
import { holds, type Rule } from '../../../lib/kernel/releases/rule.js';
import {
  MD,
  MULTIPATH_HEAD,
  RDMA_HOST,
  refusesPeersWithEinval,
  USERSPACE,
} from '../../../lib/kernel/releases/table.js';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';
import { INTEL, TestMachine } from '../../helpers/pci-fixture.js';

const OE = '6.6.0-28.0.0.34.oe2403.x86_64';
const AN8 = '6.18.2-1.an8.x86_64';
/** The queue for 7.4 is what `7.4` is here. */
const RELEASES = [
  '6.2.0',
  '6.8.0',
  '6.12.117',
  '6.16.0',
  '6.17.0',
  '7.0.0',
  '7.1.2',
  '7.1.3',
  '7.2.0',
  '7.3.0',
  '7.4',
];
const ALL = [...RELEASES, OE, AN8];

interface Cpu {
  vendor: string;
  family: number;
}

/** Two drives on root ports of one host bridge, or of two, whose first device is this. */
function pair(
  kernel: string | null,
  vendor: number,
  device: number,
  options: { cpu?: Cpu; two?: boolean } = {},
) {
  const machine = new TestMachine(options.cpu ?? INTEL, kernel ?? '');
  const left = machine.bridge(0, 0);
  machine.add(left, { bdf: '0000:00:00.0', vendor, device });
  let right = left;
  if (options.two) {
    right = machine.bridge(0, 0x80);
    machine.add(right, { bdf: '0000:80:00.0', vendor, device });
  }
  const p0 = machine.add(left, { bdf: '0000:00:01.0', type: 'root-port' });
  const p1 = machine.add(right, { bdf: options.two ? '0000:80:02.0' : '0000:00:02.0', type: 'root-port' });
  const a = machine.add(p0, { bdf: '0000:01:00.0' });
  const b = machine.add(p1, { bdf: options.two ? '0000:81:00.0' : '0000:02:00.0' });
  return { verdict: calcMapTypeAndDist(machine, a, b), bridge: hostBridgeVerdict(machine, left) };
}

const SHORT = {
  PCI_P2PDMA_MAP_THRU_HOST_BRIDGE: 'y',
  PCI_P2PDMA_MAP_NOT_SUPPORTED: 'n',
  PCI_P2PDMA_MAP_UNKNOWN: '?',
  PCI_P2PDMA_MAP_BUS_ADDR: 'bus',
} as const;

/** y: through the host bridge; n: refused; ?: not known here. One letter for each of ALL. */
const HOSTS: readonly (readonly [what: string, vendor: number, device: number, two: boolean, row: string])[] =
  [
    //                                          6.2 6.8 .117 6.16 6.17 7.0 7.1.2 7.1.3 7.2 7.3 7.4 oe an8
    ['Xeon Scalable', 0x8086, 0x2030, true, '    y   y   y    y    y    y   y     y     y   y   y   y  y'],
    ['Xeon since Ice Lake', 0x8086, 0x09a2, true, 'y y y y y y y y y y y y y'],
    ['Xeon E5 v3, one bridge', 0x8086, 0x2f00, false, 'y y y y y y y y y y y y y'],
    ['Xeon E5 v3, two bridges', 0x8086, 0x2f00, true, 'n n n n n n n n n n n n n'],
    ['a Xeon that no list has', 0x8086, 0x0a0b, true, 'n n n n n n n n n n ? ? ?'],
    ['DSA first on its bus', 0x8086, 0x0b25, true, 'n n n n n n n y y y y ? ?'],
    ['QAT 6xxx first on its bus', 0x8086, 0x4948, true, 'n n n n n n n y y y y ? ?'],
    ['Google', 0x1ae0, 0x1234, true, 'n n n n n n y y y y y ? ?'],
    ['Vera Rubin', 0x10de, 0x2f96, true, 'n n n n n n n n n y y ? ?'],
    ['Zhaoxin KX-7000, one bridge', 0x1d17, 0x1007, false, 'n n n n n n n n n n y y y'],
    ['Zhaoxin KX-7000, two bridges', 0x1d17, 0x1007, true, 'n n n n n n n n n n n n n'],
    ['Zhaoxin KH-50000, two bridges', 0x1d17, 0x1008, true, 'n n n n n n n n n n y y y'],
    ['Haswell for desktops, one bridge', 0x8086, 0x0c08, false, 'n n n n n n n n n n y ? ?'],
    ['Haswell for desktops, two bridges', 0x8086, 0x0c08, true, 'n n n n n n n n n n n n n'],
    ['Broadwell Xeon, one bridge', 0x8086, 0x6f00, false, 'n n n n n n n n n n y ? ?'],
    ['Yitian 710', 0x1ded, 0x8000, true, 'n n n n n n n n n n y ? ?'],
  ];

t.test('host bridges, release by release', async (t) => {
  for (const [what, vendor, device, two, row] of HOSTS) {
    const got = ALL.map((kernel) => SHORT[pair(kernel, vendor, device, { two }).verdict.mapType]);
    t.same(got, row.trim().split(/\s+/), what);
  }
});

t.test(
  'processors: AMD from Zen on passes whatever the release; Hygon and Zhaoxin are asked for their bridge',
  async (t) => {
    for (const kernel of ALL) {
      const of = (vendor: string, family: number) =>
        SHORT[pair(kernel, 0x1022, 0x1450, { cpu: { vendor, family }, two: true }).verdict.mapType];
      t.equal(of('AuthenticAMD', 0x19), 'y', `Zen, ${kernel}`);
      const other = kernel === '7.4' || kernel === OE || kernel === AN8 ? '?' : 'n';
      t.equal(of('HygonGenuine', 0x18), other, `Hygon, ${kernel}`);
      t.equal(of('  Shanghai  ', 7), other, `Zhaoxin’s CPU alone, ${kernel}`);
    }
  },
);

t.test(
  'a release that is not known: what every kernel lists passes, of all else that is not known',
  async (t) => {
    const of = (vendor: number, device: number) =>
      SHORT[pair(null, vendor, device, { two: true }).verdict.mapType];
    t.equal(of(0x8086, 0x2030), 'y');
    t.equal(of(0x8086, 0x0b25), '?');
    t.equal(of(0x8086, 0x0a0b), '?');
    t.equal(of(0x8086, 0x2f00), 'n', 'listed everywhere, for one bridge only');
  },
);

t.test('kernels that may have the accelerators by backport', async (t) => {
  const of = (kernel: string) => SHORT[pair(kernel, 0x8086, 0x0b25).verdict.mapType];
  t.equal(of('6.18.39'), '?');
  t.equal(of('6.12.118'), '?');
  t.equal(of('7.0.12'), '?');
  t.equal(of('6.12.117+deb12-amd64'), 'n', 'read, and not there');
  t.equal(of('7.1'), 'y', 'a series is its newest patch level');
  t.equal(of('7.2.0-rc1'), 'y', 'a candidate has what its release has');
});

t.test('what is not known says the state of the table, why, and what settles it', async (t) => {
  const oe = pair(OE, 0x8086, 0x0a0b);
  t.match(oe.verdict, {
    mapType: 'PCI_P2PDMA_MAP_UNKNOWN',
    rule: 'host-bridge-list-unknown',
    possible: ['PCI_P2PDMA_MAP_THRU_HOST_BRIDGE', 'PCI_P2PDMA_MAP_NOT_SUPPORTED'],
    reason: /not known: Linux 6\.6\.0-\S+ is openEuler’s.*; the list known here is of 9 October 2026\./,
    remedy: /`p2pdma explain --try` settles it.*dmesg \| grep -i whitelist/,
  });
  t.match(oe.bridge, {
    passes: 'unknown',
    rule: 'host-bridge-list-unknown',
    why: /openEuler.*9 October 2026/,
  });
  t.match(pair('7.5.1', 0x8086, 0x0a0b).verdict.reason, /Linux 7\.5\.1 is newer than this table/);
  t.match(pair('6.18.39', 0x8086, 0x0b25).verdict, {
    reason: /may have it by backport/,
    remedy: /The list of Linux 7\.2, 7\.1\.3 has this host bridge/,
  });
});

t.test('what a newer kernel lists is said where this one does not', async (t) => {
  const old = pair('6.12.117', 0x8086, 0x0b25, { two: true });
  t.match(old.verdict, {
    rule: 'host-bridge-not-listed',
    remedy: /^The list of Linux 7\.2, 7\.1\.3 has these host bridges.*PCIe switch/,
  });
  t.match(old.bridge, {
    passes: 'no',
    why: 'not on the kernel’s host bridge allow-list; Linux 7.2, 7.1.3 has it',
  });
  t.match(
    pair('7.3.0', 0x8086, 0x0c08).verdict.remedy,
    /Linux 7\.4 \(queued, not released on 9 October 2026\)/,
  );
  const never = pair('7.3.0', 0x8086, 0x0c08, { two: true }).verdict.remedy;
  t.notMatch(never, /7\.4/, 'two bridges: no newer kernel helps');
  t.notMatch(pair('6.12.117', 0x8086, 0x0a0b).verdict.remedy, /list of/);
});

t.test('which line a refusal leaves in the log, by release', async (t) => {
  const said = (kernel: string | null, commonBridge: boolean) =>
    refusalInLog(parseRelease(kernel), { commonBridge });
  for (const kernel of ['6.2.0', '6.8.0-52-generic', '6.12.117', '7.2.0', '7.3.0']) {
    t.match(
      said(kernel, true),
      /“Host bridge not in P2PDMA whitelist” with the bridge that is not on the host bridge allow-list/,
      kernel,
    );
    t.match(
      said(kernel, false),
      /Without a common bridge, it does not say which bridge is not on the host bridge allow-list\.$/,
      kernel,
    );
  }
  t.match(said('7.4', false), /of the queue for 7\.4 perhaps, “Host bridge not in P2PDMA whitelist”/);
  t.match(said(null, false), /Host bridge not in P2PDMA whitelist/);
  t.match(pair(OE, 0x8086, 0x0a0b).verdict.remedy, said(OE, false), 'and the remedy says it');
  // What is to be found is found by the command that is given.
  const pattern = new RegExp(/'(.+)'/.exec(LOG_COMMAND)![1]!, 'i');
  for (const { text } of MESSAGES) t.match(text, pattern);
  for (const { text } of [NOT_SHARED, HOST_BRIDGE]) t.match(text, /whitelist/);
});

t.test('a misaligned CMB, by release', async (t) => {
  const fate = (kernel: string | null) => misalignedFate(parseRelease(kernel));
  t.match(fate('6.12.117'), /skips it without a message/);
  t.match(fate('6.8.0'), /WARNING of memory hot-plug/);
  t.match(fate('5.14.0-503.el9'), /with or without a message/);
  t.match(fate(null), /with or without a message/);
});

/** y, n, ? for each of ALL. */
const RULES: readonly (readonly [Rule, string])[] = [
  //                 6.2 6.8 .117 6.16 6.17 7.0 7.1.2 7.1.3 7.2 7.3 7.4 oe an8
  [USERSPACE, '      y   y   y    y    y    y   y     y     y   y   y   y  y'],
  [RDMA_HOST, 'n n n n n n y y y y y n n'],
  [MULTIPATH_HEAD, 'n n n n n n n n y y y n n'],
  [MD, 'n n n n n n n n y y y n n'],
  [CMB_ALIGN_SKIP, 'n n y y y y y y y y y n y'],
  [PROVIDER_WITHOUT_POOL, 'n n n n n y y y y y y n n'],
  [NON_MAPPABLE_BARS, 'n n n n n y y y y y y n n'],
  [SEARCH_NEEDS_POOL, 'n n n n n n n n n n y n n'],
  [HOST_BRIDGE_VERBOSE.rule, 'n n n n n n n n n n y n n'],
  [HOST_BRIDGE.rule, 'y y y y y y y y y y n y y'],
];

t.test('block layers and CMBs, release by release', async (t) => {
  const letter = { yes: 'y', no: 'n', unknown: '?' } as const;
  for (const [rule, row] of RULES) {
    t.same(
      ALL.map((kernel) => letter[holds(rule, parseRelease(kernel))]),
      row.trim().split(/\s+/),
      rule.what,
    );
  }
  t.equal(holds(CMB_ALIGN_SKIP, parseRelease('6.6.86')), 'no');
  t.equal(holds(CMB_ALIGN_SKIP, parseRelease('6.6.87.2-microsoft-standard-WSL2')), 'yes');
  t.equal(holds(CMB_ALIGN_SKIP, parseRelease('6.13.9')), 'no');
  t.equal(holds(MD, parseRelease('6.12.0-124.el10')), 'unknown', 'Red Hat carries subsystems over');
});

t.test('what is stacked on drives, release by release', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const drives = ['nvme0n1', 'nvme1n1'];
  const bytes = 2 ** 30;
  const blocks = [
    ...tree.blocks!.filter(({ name }) => name === 'dm-0' || name === 'loop0'),
    ...['raid0', 'raid1', 'raid10', 'raid5', 'linear'].map((level, i) => ({
      ...{ name: `md${i}`, bytes, slaves: drives, level },
    })),
  ];
  const root = writeSysfsTree(t.testdir({}), { ...tree, blocks });
  const NEVER = ALL.map(() => 'n').join(' ');
  // 6.2 6.8 .117 6.16 6.17 7.0 7.1.2 7.1.3 7.2 7.3 7.4 oe an8
  const SINCE_7_2 = 'n n n n n n n n y y y n n';
  for (const [name, row] of [
    ['nvme1n1', ALL.map(() => 'y').join(' ')],
    ['nvme2n1', SINCE_7_2],
    ['md0', SINCE_7_2],
    ['md1', SINCE_7_2],
    ['md2', SINCE_7_2],
    ['md3', NEVER],
    ['md4', NEVER],
    ['dm-0', NEVER],
    ['loop0', NEVER],
    ['nvme3n1', NEVER],
  ] as const) {
    const got = ALL.map((kernel) =>
      readSysfs(root, kernel).blockInfo(name)!.noP2pReason === null ? 'y' : 'n',
    );
    t.same(got, row.split(' '), name);
  }
});

t.test('which errno refuses a pair', async (t) => {
  const letter = (kernel: string) =>
    ({ true: 'EINVAL', false: 'EREMOTEIO', null: '?' })[`${refusesPeersWithEinval(parseRelease(kernel))}`];
  t.same(ALL.map(letter), [
    ...Array.from({ length: 4 }, () => 'EREMOTEIO'),
    ...Array.from({ length: 7 }, () => 'EINVAL'),
    ...['EREMOTEIO', 'EINVAL'],
  ]);
  const of = (text: string | null) => refusesPeersWithEinval(parseRelease(text));
  for (const kernel of ['6.2.0', '6.8.0-52-generic', '6.12.117', '6.16.12', OE])
    t.equal(of(kernel), false, kernel);
  for (const kernel of [
    '6.17.0-rc1',
    '6.17.0-35-generic',
    '7.0.0-22-generic',
    '7.1.2',
    '7.2.0',
    '7.4',
    AN8,
  ]) {
    t.equal(of(kernel), true, kernel);
  }
  t.equal(of('something'), null, 'not known');
  t.equal(of('6.12.0-124.el10'), null, 'Red Hat’s may have the newer block layer');
});
