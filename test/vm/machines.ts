import { type Machine, type MachineInput, parseMachine } from '../../lib/backend/emulator/machine.js';

const CMB = { size: '16MiB' };
const NAMESPACES = [{ nsid: 1, size: '64MiB' }];
const CPU = { vendor: 'GenuineIntel', family: 6 };
const HOST_BRIDGE = {
  bdf: '00:00.0',
  type: 'root-complex-endpoint',
  upstream: null,
  vendor: 0x8086,
  device: 0x29c0,
  class: 0x060000,
} as const;

type Input = MachineInput['functions'][number];
const rootPort = (bdf: string): Input => ({
  bdf,
  type: 'root-port',
  upstream: null,
  vendor: 0x1b36,
  device: 0x000c,
});
const up = (bdf: string, upstream: string): Input => ({
  bdf,
  type: 'upstream-port',
  upstream,
  vendor: 0x104c,
  device: 0x8232,
});
const down = (bdf: string, upstream: string): Input => ({
  bdf,
  type: 'downstream-port',
  upstream,
  vendor: 0x104c,
  device: 0x8233,
});
const drive = (bdf: string, upstream: string, cmb: { size: string } | null = CMB): Input => ({
  bdf,
  type: 'endpoint',
  upstream,
  vendor: 0x1b36,
  device: 0x0010,
  nvme: { cmb, mdts: '512KiB', namespaces: NAMESPACES },
});

const machine = (
  name: string,
  description: string,
  functions: Input[],
  more: Partial<MachineInput> = {},
): Machine =>
  parseMachine({
    version: 1,
    name,
    description,
    cpu: CPU,
    hostBridges: [{ bus: 0 }],
    functions: [HOST_BRIDGE, ...functions],
    ...more,
  } satisfies MachineInput);

const switched = [
  rootPort('00:01.0'),
  up('01:00.0', '00:01.0'),
  down('02:00.0', '01:00.0'),
  down('02:01.0', '01:00.0'),
];

/** Machines for the referee that the emulator has no preset for, or has with hardware that QEMU does not. */
export const vmMachines = {
  /** Two drives under one switch, each with a CMB. */
  switch: machine('switch', 'two drives under one switch', [
    ...switched,
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0'),
  ]),
  /** The same and a third drive: someone else's memory between two. */
  'three-drives': machine('three-drives', 'three drives under one switch', [
    ...switched,
    down('02:02.0', '01:00.0'),
    drive('03:00.0', '02:00.0'),
    drive('04:00.0', '02:01.0'),
    drive('05:00.0', '02:02.0'),
  ]),
  'root-ports': machine('root-ports', 'two drives, each on a root port of its own', [
    rootPort('00:01.0'),
    rootPort('00:02.0'),
    drive('01:00.0', '00:01.0'),
    drive('02:00.0', '00:02.0'),
  ]),
} as const;
