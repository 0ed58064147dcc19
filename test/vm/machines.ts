import { type Machine, type MachineInput, parseMachine } from '../../lib/backend/emulator/machine.js';
import { presets } from '../../lib/backend/emulator/presets.js';

type Input = MachineInput['functions'][number];

const rootPort = (bdf: string): Input => ({ bdf, type: 'root-port', vendor: 0x1b36, device: 0x000c });
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

function machine(name: string, description: string, functions: Input[]): Machine {
  return parseMachine({
    version: 1,
    name,
    description,
    cpu: { vendor: 'GenuineIntel', family: 6 },
    hostBridges: [{ bus: 0, peerRouting: false }],
    functions: [
      { bdf: '00:00.0', type: 'conventional', vendor: 0x8086, device: 0x29c0, class: 0x060000 },
      ...functions,
    ],
  } satisfies MachineInput);
}

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
};

/** A preset or one of our own, by name. */
export function machineByName(name: string): Machine {
  const known: Record<string, Machine> = own;
  const found = known[name] ?? (presets as Record<string, Machine>)[name];
  if (found === undefined) throw new Error(`no machine is called ${name}`);
  return found;
}
