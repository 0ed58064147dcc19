import type { MachineInput } from './machine.js';
import type { PresetName } from './preset-names.js';

/*
 * The machines that are included in the package. This file is data, apart from a few helpers: each function below
 * builds a part of a machine, and each row of the table is a machine.
 */

type FunctionInput = MachineInput['functions'][number];
type NvmeInput = NonNullable<FunctionInput['nvme']>;

/** What Linux sets on ports where it isolates devices: source validation, request and completion redirect, upstream forwarding. */
const ACS_REDIRECT = 0x1d;

const INTEL = { vendor: 'GenuineIntel', family: 6 };
const ZEN = { vendor: 'AuthenticAMD', family: 0x19 };

/** 00:00.0, by which the kernel identifies a host bridge. This one (Q35) is not on any list. */
const UNLISTED: FunctionInput = hostBridge(0x8086, 0x29c0);
/** Xeon Scalable (Sky Lake-E): on the kernel's list, for any two root ports. */
const LISTED: FunctionInput = hostBridge(0x8086, 0x2020);
const AMD: FunctionInput = hostBridge(0x1022, 0x1480);

function hostBridge(vendor: number, device: number): FunctionInput {
  return { bdf: '00:00.0', type: 'conventional', vendor, device, class: 0x060000 };
}

function rootPort(bdf: string, acs: FunctionInput['acs'] = 'none'): FunctionInput {
  return { bdf, type: 'root-port', vendor: 0x1b36, device: 0x000c, acs };
}

/** A switch: its upstream port, and a downstream port for each BDF. */
function pciSwitch(above: string, up: string, down: string[], acs: FunctionInput['acs'] = 'none') {
  const port = (bdf: string): FunctionInput => ({
    bdf,
    type: 'downstream-port',
    upstream: up,
    vendor: 0x104c,
    device: 0x8233,
    acs,
  });
  const upstreamPort: FunctionInput = {
    bdf: up,
    type: 'upstream-port',
    upstream: above,
    vendor: 0x104c,
    device: 0x8232,
  };
  return [upstreamPort, ...down.map(port)];
}

/** A drive with one namespace of 1 GiB (sparse) and a CMB of 16 MiB, unless specified otherwise. */
function drive(bdf: string, upstream: string, cmb: NvmeInput['cmb'] = { size: '16MiB' }): FunctionInput {
  return {
    bdf,
    type: 'endpoint',
    upstream,
    vendor: 0x1b36,
    device: 0x0010,
    nvme: { cmb, namespaces: [{ nsid: 1, size: '1GiB' }] },
  };
}

interface SwitchOptions {
  readonly host?: FunctionInput;
  readonly acs?: FunctionInput['acs'];
  readonly cmb?: NvmeInput['cmb'];
}

/** Two drives under one switch: 03:00.0 and 04:00.0. */
function underOneSwitch({ host = UNLISTED, acs = 'none', cmb = { size: '16MiB' } }: SwitchOptions = {}) {
  return [
    host,
    rootPort('00:01.0', acs),
    ...pciSwitch('00:01.0', '01:00.0', ['02:00.0', '02:01.0'], acs),
    drive('03:00.0', '02:00.0', cmb),
    drive('04:00.0', '02:01.0', cmb),
  ];
}

/** Two drives with a CMB, and two more endpoints, under one switch: 03:00.0 to 06:00.0. */
function fourBelowOneSwitch(...more: readonly FunctionInput[]) {
  return [
    UNLISTED,
    rootPort('00:01.0'),
    ...pciSwitch('00:01.0', '01:00.0', ['02:00.0', '02:01.0', '02:02.0', '02:03.0']),
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0'),
    ...more,
  ];
}

/** Two drives, each on its own root port: 01:00.0 and 02:00.0. */
function onRootPorts(host: FunctionInput) {
  return [
    host,
    rootPort('00:01.0'),
    rootPort('00:02.0'),
    drive('01:00.0', '00:01.0'),
    drive('02:00.0', '00:02.0'),
  ];
}

/** A drive whose namespace is shared with other controllers; without a CMB. */
function port(bdf: string, upstream: string): FunctionInput {
  return drive(bdf, upstream, null);
}

/** The root complex of a host bridge that is not on any list does not forward TLPs: a wrong mapping fails. */
const NO_PEERS: MachineInput['hostBridges'] = [{ bus: 0, peerRouting: false }];
const PEERS: MachineInput['hostBridges'] = [{ bus: 0, peerRouting: true }];

type Row = Omit<MachineInput, 'version' | 'name' | 'description'> & { readonly description: string };

export const presetTable: Readonly<Record<PresetName, Row>> = {
  switch: {
    description: 'Two drives with a 16 MiB CMB under one switch: peer-to-peer over the bus.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: underOneSwitch(),
  },
  'nested-switches': {
    description: 'A switch under a switch: three drives, near and far, all peer-to-peer over the bus.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: [
      UNLISTED,
      rootPort('00:01.0'),
      ...pciSwitch('00:01.0', '01:00.0', ['02:00.0', '02:01.0']),
      drive('03:00.0', '02:00.0'),
      ...pciSwitch('02:01.0', '04:00.0', ['05:00.0', '05:01.0']),
      drive('06:00.0', '05:00.0'),
      drive('07:00.0', '05:01.0'),
    ],
  },
  'multi-function': {
    description: 'Two NVMe controllers that are functions of one device: peer-to-peer inside the device.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: [UNLISTED, rootPort('00:01.0'), drive('01:00.0', '00:01.0'), drive('01:00.1', '00:01.0')],
  },
  'root-ports': {
    description: 'Each drive on a root port of its own, host bridge not on the allow-list: not supported.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: onRootPorts(UNLISTED),
  },
  'root-ports-listed': {
    description:
      'Each drive on a root port of its own, host bridge on the allow-list: through the host bridge.',
    cpu: INTEL,
    hostBridges: PEERS,
    functions: onRootPorts(LISTED),
  },
  zen: {
    description: 'Each drive on a root port of its own, AMD Zen: through the host bridge.',
    cpu: ZEN,
    hostBridges: PEERS,
    functions: onRootPorts(AMD),
  },
  acs: {
    description: 'One switch whose ports redirect (ACS), host bridge not on the allow-list: not supported.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: underOneSwitch({ acs: ACS_REDIRECT }),
  },
  'acs-listed': {
    description:
      'One switch whose ports redirect (ACS), host bridge on the allow-list: through the host bridge.',
    cpu: INTEL,
    hostBridges: PEERS,
    functions: underOneSwitch({ host: LISTED, acs: ACS_REDIRECT }),
  },
  iommu: {
    description: 'As acs-listed, with an IOMMU that translates: through the host bridge, by IOVA.',
    cpu: INTEL,
    iommu: 'translating',
    hostBridges: PEERS,
    functions: underOneSwitch({ host: LISTED, acs: ACS_REDIRECT }),
  },
  'iommu-switch': {
    description:
      'As switch, with an IOMMU that translates: peer traffic stays below the switch and never meets it.',
    cpu: INTEL,
    iommu: 'translating',
    hostBridges: NO_PEERS,
    functions: underOneSwitch(),
  },
  'iommu-unsupported': {
    description: 'As switch, with DMA operations that know no peer-to-peer: host memory only.',
    cpu: INTEL,
    iommu: 'unsupported',
    hostBridges: NO_PEERS,
    functions: underOneSwitch(),
  },
  'bus-offset': {
    description: 'As switch, on a host bridge whose bus addresses differ from the CPU’s.',
    cpu: INTEL,
    hostBridges: [{ bus: 0, busOffset: '-0x1800000000', peerRouting: false }],
    functions: underOneSwitch(),
  },
  'no-cmb': {
    description: 'Two drives without a CMB under one switch: host memory only.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: underOneSwitch({ cmb: null }),
  },
  'small-cmb': {
    description: 'As switch, with a CMB of only 1 MiB, on a kernel that can register it.',
    cpu: INTEL,
    // Memory is hot-plugged in units of pages (POWER with a hash MMU); an x86 kernel skips this CMB.
    memremapAlign: 4096,
    hostBridges: NO_PEERS,
    functions: underOneSwitch({ cmb: { size: '1MiB' } }),
  },
  'misaligned-cmb': {
    description:
      'As small-cmb, on a kernel that registers memory by 2 MiB: the CMB is skipped without a message.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: underOneSwitch({ cmb: { size: '1MiB' } }),
  },
  'cmb-read-only': {
    description: 'As switch, but data cannot be written from the CMB (no WDS), so it is not published.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: underOneSwitch({ cmb: { size: '16MiB', wds: false } }),
  },
  'four-drives': {
    description: 'Four drives under one switch, two with a CMB: one to read from and three to write to.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: fourBelowOneSwitch(drive('05:00.0', '02:02.0', null), drive('06:00.0', '02:03.0', null)),
  },
  mirror: {
    description:
      'As switch, with a mirror (md raid1) of which one leg is on a root port of its own, which the CMBs do not reach.',
    kernel: '7.2',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: [...underOneSwitch(), rootPort('00:02.0'), drive('05:00.0', '00:02.0', null)],
    arrays: [{ name: 'md0', level: 'raid1', members: ['nvme1n1', 'nvme2n1'] }],
  },
  multipath: {
    description:
      'As switch, with a third drive of two ports: its namespace is an NVMe multipath head with two paths.',
    cpu: INTEL,
    hostBridges: NO_PEERS,
    functions: fourBelowOneSwitch(port('05:00.0', '02:02.0'), port('06:00.0', '02:03.0')),
    subsystems: [{ controllers: ['nvme2', 'nvme3'] }],
  },
};
