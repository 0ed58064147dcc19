import type { BootOptions } from './boot.js';
import type { Survey } from './guest/survey.test.js';
import { machineByName } from './machines.js';

/** What is booted: a machine, and the test files that run in it. A suite of the library is named from here too. */
export interface Plan
  extends Pick<BootOptions, 'machine' | 'tests' | 'limitSeconds' | 'data' | 'memoryMiB' | 'kernelArgs'> {
  /** Of a machine's plans, which one; for `--only`. */
  readonly name: string;
}

const survey = [{ file: 'guest/survey.test.js' }];

export const plans: readonly Plan[] = [
  {
    name: 'switch',
    machine: machineByName('switch'),
    tests: [
      { file: 'guest/smoke.test.js' },
      { file: 'guest/unaligned.test.js' },
      { file: 'guest/facts.test.js' },
    ],
  },
  {
    name: 'root-ports',
    machine: machineByName('root-ports'),
    tests: [{ file: 'guest/facts-root-ports.test.js' }],
  },
  { name: 'nested-switches', machine: machineByName('nested-switches'), tests: survey },
  { name: 'multi-function', machine: machineByName('multi-function'), tests: survey },
  { name: 'zen', machine: machineByName('zen'), tests: survey },
  {
    name: 'switch-and-port',
    machine: machineByName('switch-and-port'),
    tests: survey,
    data: {
      'nvme0 nvme0 nvme2': 'pwrite errno 121',
      'nvme0 nvme1 nvme2': 'pwrite errno 121',
      'nvme0 nvme2 nvme0': 'pread errno 121',
      'nvme0 nvme2 nvme1': 'pread errno 121',
      'nvme1 nvme0 nvme2': 'pwrite errno 121',
      'nvme1 nvme1 nvme2': 'pwrite errno 121',
      'nvme1 nvme2 nvme0': 'pread errno 121',
      'nvme1 nvme2 nvme1': 'pread errno 121',
      'nvme2 nvme0 nvme1': 'pread errno 121',
      'nvme2 nvme0 nvme2': 'pread errno 121',
      'nvme2 nvme1 nvme0': 'pread errno 121',
      'nvme2 nvme1 nvme2': 'pread errno 121',
      'nvme2 nvme2 nvme0': 'pwrite errno 121',
      'nvme2 nvme2 nvme1': 'pwrite errno 121',
    } satisfies Survey,
  },
  {
    name: 'conformance',
    machine: machineByName('four-drives'),
    limitSeconds: 1300,
    tests: ['namespaces', 'ext4', 'xfs'].map((kind) => ({
      file: 'guest/conformance.test.js',
      args: [kind],
      nodeFlags: [],
      limitSeconds: 400,
    })),
  },
  {
    name: 'copies',
    machine: machineByName('four-drives'),
    limitSeconds: 1000,
    tests: [{ file: 'guest/copies.test.js', nodeFlags: [], limitSeconds: 800 }],
  },
];
