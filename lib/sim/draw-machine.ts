/** A machine, drawn from the seed: a tree of ports and switches with drives, and what is stacked on them. */

import { hex } from '../base/words.js';
import type { MachineInput } from '../machine/machine.js';
import type { Random } from './random.js';

type FunctionInput = MachineInput['functions'][number];
type NvmeInput = NonNullable<FunctionInput['nvme']>;

const KIB = 1024;
const ACS_REDIRECT = 0x1d;
const KERNELS = ['6.1', '6.2', '6.6', '6.12', '6.16', '6.17', '7.0', '7.1', '7.2', '7.2.13'];
/** On the kernel's list of host bridges, and not. */
const HOST_BRIDGES = [0x2020, 0x29c0];
const CMB_SIZES = [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB];
const NAMESPACE_BYTES = 512 * KIB;

export function drawMachine(random: Random): MachineInput {
  const drives = random.between(2, 4);
  const acs = random.chance(0.2) ? ACS_REDIRECT : 'none';
  const blockSize = random.chance(0.7) ? 512 : 4096;
  const subsystem = random.chance(0.15);
  const nvmes = Array.from({ length: drives }, () => drawNvme(random, blockSize));
  if (subsystem) nvmes[1] = { ...nvmes[1]!, namespaces: nvmes[0]!.namespaces! };
  const switched = random.chance(0.7) ? random.between(1, drives) : 0;
  const functions = [hostBridge(random), ...placeDrives(nvmes, switched, acs)];
  return {
    version: 1,
    name: 'drawn',
    kernel: random.pick(KERNELS),
    cpu: {
      vendor: random.chance(0.5) ? 'GenuineIntel' : 'AuthenticAMD',
      family: random.chance(0.5) ? 6 : 0x19,
    },
    iommu: random.pick(['none', 'none', 'translating', 'unsupported']),
    memremapAlign: 4096,
    ioTimeout: random.pick([1, 30]),
    useCmbSqes: random.chance(0.5),
    hostBridges: [
      { bus: 0, peerRouting: random.chance(0.8), busOffset: random.chance(0.2) ? 0x1000_0000 : 0 },
    ],
    functions,
    subsystems: subsystem ? [{ name: 'nvme-subsys0', controllers: ['nvme0', 'nvme1'] }] : [],
    arrays: drawArrays(random, drives, subsystem),
  };
}

function hostBridge(random: Random): FunctionInput {
  return {
    bdf: '00:00.0',
    type: 'conventional',
    vendor: 0x8086,
    device: random.pick(HOST_BRIDGES),
    class: 0x060000,
  };
}

/** The first `switched` drives are below one switch, each other one below a root port of its own. */
function placeDrives(
  nvmes: readonly NvmeInput[],
  switched: number,
  acs: FunctionInput['acs'],
): FunctionInput[] {
  const rootPort = (n: number): FunctionInput => ({
    bdf: `00:${hex(n, 2)}.0`,
    type: 'root-port',
    vendor: 0x1b36,
    device: 0x0c,
    acs,
  });
  const functions: FunctionInput[] = [];
  let bus = 1;
  if (switched > 0) {
    const up = `${hex(bus++, 2)}:00.0`;
    functions.push(rootPort(1), {
      ...{ bdf: up, type: 'upstream-port', upstream: '00:01.0', vendor: 0x104c, device: 0x8232 },
    });
    const inner = bus++;
    for (let i = 0; i < switched; i++) {
      const port = `${hex(inner, 2)}:${hex(i, 2)}.0`;
      functions.push({
        ...{ bdf: port, type: 'downstream-port', upstream: up, vendor: 0x104c, device: 0x8233, acs },
      });
    }
    for (let i = 0; i < switched; i++)
      functions.push(driveAt(`${hex(bus++, 2)}:00.0`, `${hex(inner, 2)}:${hex(i, 2)}.0`, nvmes[i]!, i));
  }
  for (let i = switched; i < nvmes.length; i++) {
    const port = rootPort(2 + i);
    functions.push(port, driveAt(`${hex(bus++, 2)}:00.0`, port.bdf, nvmes[i]!, i));
  }
  return functions;
}

function driveAt(bdf: string, upstream: string, nvme: NvmeInput, i: number): FunctionInput {
  return {
    ...{ bdf, type: 'endpoint', upstream, vendor: 0x1b36, device: 0x10 },
    nvme: { ...nvme, name: `nvme${i}` },
  };
}

function drawNvme(random: Random, blockSize: 512 | 4096): NvmeInput {
  const cmb = random.chance(0.8)
    ? {
        size: random.pick(CMB_SIZES),
        ...{ sqs: random.chance(0.5), cqs: random.chance(0.5), lists: random.chance(0.5) },
        ...{ rds: random.chance(0.95), wds: random.chance(0.95) },
      }
    : null;
  return {
    ...{ cmb, mdts: 4096 << random.below(9), sgls: random.chance(0.5), queues: random.between(1, 4) },
    namespaces: [{ nsid: 1, size: NAMESPACE_BYTES, blockSize, metadata: random.chance(0.1) ? 8 : 0 }],
  };
}

/** Over the last two drives, if nothing else is over them. */
function drawArrays(random: Random, drives: number, subsystem: boolean): NonNullable<MachineInput['arrays']> {
  if (!random.chance(0.2) || (subsystem && drives < 4) || drives < 3) return [];
  const members = [`nvme${drives - 2}n1`, `nvme${drives - 1}n1`];
  const level = random.pick(['raid0', 'raid1', 'linear', 'raid10'] as const);
  return [{ name: 'md0', level, chunk: 4096 << random.below(5), members }];
}
