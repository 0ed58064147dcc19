import { type Machine, type MachineInput, parseMachine } from '../../lib/machine/machine.js';
import { presets } from '../../lib/machine/presets.js';

type Input = MachineInput['functions'][number];

const rootPort = (bdf: string, acs: Input['acs'] = 'none'): Input => ({
  bdf,
  type: 'root-port',
  vendor: 0x1b36,
  device: 0x000c,
  acs,
});
const upstreamPort = (bdf: string, upstream: string): Input => ({
  bdf,
  type: 'upstream-port',
  upstream,
  vendor: 0x104c,
  device: 0x8232,
});
const downstreamPort = (bdf: string, upstream: string): Input => ({
  bdf,
  type: 'downstream-port',
  upstream,
  vendor: 0x104c,
  device: 0x8233,
});
const drive = (bdf: string, upstream: string, size: string | null = '16MiB'): Input => ({
  bdf,
  type: 'endpoint',
  upstream,
  vendor: 0x1b36,
  device: 0x0010,
  nvme: { cmb: size === null ? null : { size }, namespaces: [{ nsid: 1, size: '1GiB' }] },
});

const INTEL = { vendor: 'GenuineIntel', family: 6 };
const ZEN = { vendor: 'AuthenticAMD', family: 0x19 };

function machine(
  name: string,
  description: string,
  functions: Input[],
  more: Pick<MachineInput, 'cpu' | 'hostBridges'> = {
    cpu: INTEL,
    hostBridges: [{ bus: 0, peerRouting: false }],
  },
): Machine {
  return parseMachine({
    version: 1,
    name,
    description,
    ...more,
    functions: [
      { bdf: '00:00.0', type: 'conventional', vendor: 0x8086, device: 0x29c0, class: 0x060000 },
      ...functions,
    ],
  } satisfies MachineInput);
}

/** What Linux sets on ports where it isolates devices. */
const ACS_REDIRECT = 0x1d;

/** Machines that are booted and are not among the presets. */
const own = {
  /** A switch with two drives, and a third drive on a root port beside it. */
  'switch-and-port': machine('switch-and-port', 'two drives under a switch, one on another root port', [
    rootPort('00:01.0'),
    rootPort('00:02.0'),
    upstreamPort('01:00.0', '00:01.0'),
    downstreamPort('02:00.0', '01:00.0'),
    downstreamPort('02:01.0', '01:00.0'),
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0'),
    drive('05:00.0', '00:02.0'),
  ]),
  /** The smallest CMB that an x86 kernel registers. */
  'two-mib-cmb': machine('two-mib-cmb', 'two drives under a switch, each with a CMB of 2 MiB', [
    rootPort('00:01.0'),
    upstreamPort('01:00.0', '00:01.0'),
    downstreamPort('02:00.0', '01:00.0'),
    downstreamPort('02:01.0', '01:00.0'),
    drive('03:00.0', '02:00.0', '2MiB'),
    drive('04:00.0', '02:01.0', '2MiB'),
  ]),
  /** Only one drive has memory to give. */
  'one-cmb': machine('one-cmb', 'three drives under a switch, one of them with a CMB', [
    rootPort('00:01.0'),
    upstreamPort('01:00.0', '00:01.0'),
    downstreamPort('02:00.0', '01:00.0'),
    downstreamPort('02:01.0', '01:00.0'),
    downstreamPort('02:02.0', '01:00.0'),
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0', null),
    drive('05:00.0', '02:02.0', null),
  ]),
  /** QEMU's switch ports know no ACS; its root ports do, and a root port is a common bridge too. */
  'multi-function-acs': machine(
    'multi-function-acs',
    'two functions under a root port that redirects (ACS)',
    [rootPort('00:01.0', ACS_REDIRECT), drive('01:00.0', '00:01.0'), drive('01:00.1', '00:01.0')],
  ),
  /** Redirected by ACS, and from one host bridge to another: an AMD Zen passes both on. */
  'zen-bridges': machine(
    'zen-bridges',
    'AMD Zen: two functions under a root port that redirects (ACS), a third drive on another host bridge',
    [
      rootPort('00:01.0', ACS_REDIRECT),
      drive('01:00.0', '00:01.0'),
      drive('01:00.1', '00:01.0'),
      rootPort('80:01.0'),
      drive('81:00.0', '80:01.0'),
    ],
    { cpu: ZEN, hostBridges: [0, 0x80].map((bus) => ({ bus, peerRouting: true })) },
  ),
  /** A third drive whose blocks have protection information. */
  metadata: machine('metadata', 'three drives under a switch, the third with metadata', [
    rootPort('00:01.0'),
    upstreamPort('01:00.0', '00:01.0'),
    downstreamPort('02:00.0', '01:00.0'),
    downstreamPort('02:01.0', '01:00.0'),
    downstreamPort('02:02.0', '01:00.0'),
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0'),
    {
      ...drive('05:00.0', '02:02.0'),
      nvme: { cmb: { size: '16MiB' }, namespaces: [{ nsid: 1, size: '256MiB', metadata: 8 }] },
    },
  ]),
  /** Namespaces of each kind: two plain ones, a zoned one, one of size 0, and one with metadata beside its blocks. */
  kinds: machine('kinds', 'five drives under a switch, three of them with namespaces of another kind', [
    rootPort('00:01.0'),
    upstreamPort('01:00.0', '00:01.0'),
    ...[
      { size: '1GiB' },
      { size: '1GiB' },
      { size: '256MiB', zoned: { zoneSize: '16MiB' } },
      { size: 0, extendedLba: { metadata: 8 } },
      { size: '256MiB', metadata: 8 as const },
    ].flatMap((kind, i) => {
      const port = `02:0${i}.0`;
      const nvme = { cmb: { size: '16MiB' }, namespaces: [{ nsid: 1, ...kind }] };
      return [downstreamPort(port, '01:00.0'), { ...drive(`0${3 + i}:00.0`, port), nvme }];
    }),
  ]),
  /** Logical blocks of 4096 bytes, and two namespaces on one drive. */
  'blocks-4k': machine(
    'blocks-4k',
    'two drives under a switch with blocks of 4096 bytes, one with two namespaces',
    [
      rootPort('00:01.0'),
      upstreamPort('01:00.0', '00:01.0'),
      downstreamPort('02:00.0', '01:00.0'),
      downstreamPort('02:01.0', '01:00.0'),
      {
        ...drive('03:00.0', '02:00.0'),
        nvme: { cmb: { size: '16MiB' }, namespaces: [{ nsid: 1, size: '1GiB', blockSize: 4096 }] },
      },
      {
        ...drive('04:00.0', '02:01.0'),
        nvme: {
          cmb: { size: '16MiB' },
          namespaces: [1, 2].map((nsid) => ({ nsid, size: '512MiB', blockSize: 4096 })),
        },
      },
    ],
  ),
};

/** A preset or one of our own, by name. */
export function machineByName(name: string): Machine {
  const known: Record<string, Machine> = own;
  const found = known[name] ?? (presets as Record<string, Machine>)[name];
  if (found === undefined) throw new Error(`no machine is called ${name}`);
  return found;
}
