import type { BootOptions, GuestTest } from './boot.js';
import type { Survey } from './guest/survey.test.js';
import type { Series } from './kernel.js';
import { machineByName } from './machines.js';
import { scenariosOf } from './scenarios.js';

/** What is booted: a machine, and the test files that run in it. A suite of the library is named from here too. */
export interface Plan
  extends Pick<
    BootOptions,
    'machine' | 'tests' | 'limitSeconds' | 'data' | 'memoryMiB' | 'kernelArgs' | 'driveOptions'
  > {
  /** Of a machine's plans, which one; for `--only`. */
  readonly name: string;
  /** Which kernel; default: the referee, 6.12. */
  readonly series?: Series;
  /** Booted only with --kernels: its kernel has to be fetched, and boots for half a minute. */
  readonly optional?: boolean;
  /** It measures: no other guest beside it. */
  readonly alone?: boolean;
}

const survey = [{ file: 'guest/survey.test.js' }, { file: 'guest/snapshot.test.js', limitSeconds: 300 }];

/** Scenarios first, while nothing was decided yet about any pair; those that take drives away last. */
function withScenarios(machine: string, ...between: GuestTest[]): Pick<Plan, 'machine' | 'tests'> {
  const file = 'guest/scenarios.test.js';
  const last = scenariosOf(machine).some(({ after }) => after) ? [{ file, args: ['after'] }] : [];
  return { machine: machineByName(machine), tests: [{ file, limitSeconds: 300 }, ...between, ...last] };
}

/** Machines that are booted for their scenarios alone. */
const forScenarios = [
  'no-cmb',
  'small-cmb',
  'misaligned-cmb',
  'two-mib-cmb',
  'one-cmb',
  'zen-bridges',
  'blocks-4k',
  'iommu-switch',
].map((name) => ({ name, ...withScenarios(name) }));

/** The scenarios on the other kernels: what a release changes shows where a pair is allowed and where it is not. */
const otherKernels: readonly Series[] = ['6.1', 'stock-6.1', 'stock-7.2', 'stock-7.3'];
const onOtherKernels = otherKernels.flatMap((series) =>
  ['switch', 'root-ports', 'kinds'].map(
    (machine): Plan => ({
      name: `${machine} on ${series}`,
      series,
      ...withScenarios(machine),
      ...(series.startsWith('stock') ? { optional: true, memoryMiB: 1536 } : {}),
    }),
  ),
);

/** The long ones first, so that the last two end together. */
export const plans: readonly Plan[] = [
  {
    name: 'copies',
    machine: machineByName('four-drives'),
    limitSeconds: 1800,
    tests: [{ file: 'guest/copies.test.js', limitSeconds: 1500 }],
  },
  {
    name: 'errors',
    machine: machineByName('four-drives'),
    tests: [{ file: 'guest/errors.test.js', limitSeconds: 600 }],
  },
  {
    name: 'conformance',
    machine: machineByName('four-drives'),
    limitSeconds: 2400,
    tests: ['namespaces', 'ext4', 'xfs'].map((kind) => ({
      file: 'guest/conformance.test.js',
      args: [kind],
      limitSeconds: 800,
    })),
  },
  {
    name: 'switch',
    machine: machineByName('switch'),
    tests: [
      { file: 'guest/smoke.test.js' },
      { file: 'guest/unaligned.test.js' },
      { file: 'guest/tools.test.js', limitSeconds: 600 },
      { file: 'guest/facts.test.js' },
    ],
  },
  { name: 'scenarios', ...withScenarios('switch') },
  {
    name: 'before-6.2',
    series: '6.1',
    machine: machineByName('switch'),
    tests: [{ file: 'guest/before-6.2.test.js' }],
  },
  {
    name: 'without-p2pdma',
    series: 'stock-6.1',
    optional: true,
    memoryMiB: 1536,
    machine: machineByName('switch'),
    tests: [{ file: 'guest/without-p2pdma.test.js' }],
  },
  {
    name: 'root-ports',
    ...withScenarios('root-ports', { file: 'guest/facts-root-ports.test.js' }),
  },
  { name: 'nested-switches', ...withScenarios('nested-switches', ...survey) },
  { name: 'multi-function', ...withScenarios('multi-function', ...survey) },
  { name: 'zen', ...withScenarios('zen', ...survey) },
  {
    name: 'multi-function-acs',
    ...withScenarios('multi-function-acs', ...survey),
    data: {
      'nvme0 nvme0 nvme1': 'pwrite errno 121',
      'nvme0 nvme1 nvme0': 'pread errno 121',
      'nvme1 nvme0 nvme1': 'pread errno 121',
      'nvme1 nvme1 nvme0': 'pwrite errno 121',
    } satisfies Survey,
  },
  {
    name: 'switch-and-port',
    ...withScenarios('switch-and-port', ...survey),
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
  ...forScenarios,
  {
    // A CMB as of NVMe 1.3: the drive shows it without being asked, and has no register to enable it.
    name: 'legacy-cmb',
    ...withScenarios('two-mib-cmb'),
    driveOptions: { 'legacy-cmb': 'on' },
  },
  ...onOtherKernels,
  {
    name: 'filesystems',
    machine: machineByName('metadata'),
    tests: [{ file: 'guest/filesystems.test.js', limitSeconds: 600 }],
  },
  {
    name: 'multipath',
    machine: machineByName('multipath'),
    tests: [{ file: 'guest/multipath.test.js' }],
  },
  {
    name: 'namespaces',
    ...withScenarios('kinds', { file: 'guest/namespaces.test.js', limitSeconds: 600 }),
  },
  {
    name: 'stacked',
    machine: machineByName('four-drives'),
    tests: [{ file: 'guest/stacked.test.js', limitSeconds: 600 }],
  },
  {
    name: 'native',
    machine: machineByName('switch'),
    // Natively last: it takes a drive away.
    tests: [{ file: 'guest/fabrics.test.js' }, { file: 'guest/native.test.js' }],
  },
  {
    name: 'beside',
    alone: true,
    machine: machineByName('switch'),
    limitSeconds: 1200,
    tests: [{ file: 'guest/beside.test.js', limitSeconds: 900 }],
  },
];
