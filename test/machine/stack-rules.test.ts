/** What lies on a machine's drives has to fit together: each rule refuses, where it is broken, and nothing else does. */
import t from 'tap';
import { type MachineInput, parseMachine } from '../../lib/machine/machine.js';

const KIB = 2 ** 10;
const MIB = 2 ** 20;

type Namespace = NonNullable<NonNullable<MachineInput['functions'][number]['nvme']>['namespaces']>[number];

/** Three drives, nvme0 to nvme2, each on a root port of its own. */
function machine(more: Partial<MachineInput>, change: Record<number, Partial<Namespace>> = {}): MachineInput {
  const ids = [0, 1, 2];
  const ports = ids.map((i) => ({
    bdf: `00:0${i + 1}.0`,
    type: 'root-port' as const,
    vendor: 1,
    device: 1,
  }));
  const drives = ids.map((i) => ({
    bdf: `0${i + 1}:00.0`,
    type: 'endpoint' as const,
    upstream: `00:0${i + 1}.0`,
    vendor: 1,
    device: 2,
    nvme: { namespaces: [{ nsid: 1, size: MIB, ...change[i] }] },
  }));
  return {
    version: 1,
    name: 'stacks',
    hostBridges: [{ bus: 0 }],
    functions: [...ports, ...drives],
    ...more,
  };
}

const parts = (...places: [number: number, start: number, size: number][]): Partial<Namespace> => ({
  partitions: places.map(([number, start, size]) => ({ number, start, size })),
});

const array = (members: string[], more: object = {}) => ({
  name: 'md0',
  level: 'raid1' as const,
  members,
  ...more,
});

t.test('what fits together is taken as it is', async (t) => {
  const halves = parts([2, 512 * KIB, 512 * KIB], [1, 4 * KIB, 508 * KIB]);
  for (const [what, input] of Object.entries({
    'partitions side by side, in any order': machine({}, { 0: halves }),
    'a head of two paths that are described alike': machine({
      subsystems: [{ name: 'nvme-subsys0', controllers: ['nvme0', 'nvme1'] }],
    }),
    'a mirror of a head and a drive': machine({
      subsystems: [{ name: 'nvme-subsys0', controllers: ['nvme0', 'nvme1'] }],
      arrays: [array(['nvme0n1', 'nvme2n1'])],
    }),
    'two arrays of the halves of one drive': machine(
      {
        arrays: [array(['nvme0n1p1', 'nvme1n1']), array(['nvme0n1p2', 'nvme2n1'], { name: 'md1' })],
      },
      { 0: halves },
    ),
    'a member as large as a chunk': machine({
      arrays: [array(['nvme0n1', 'nvme1n1'], { level: 'raid0', chunk: MIB })],
    }),
    'a mirror has no chunks': machine({ arrays: [array(['nvme0n1', 'nvme1n1'], { chunk: 2 * MIB })] }),
    'one member, where the level takes one': machine({ arrays: [array(['nvme0n1'], { level: 'raid0' })] }),
  })) {
    t.doesNotThrow(() => parseMachine(input), what);
  }
});

const subsystem = (name: string, ...controllers: string[]) => ({ name, controllers });

t.test('what does not is refused, with its place', async (t) => {
  for (const [path, says, input] of [
    ['subsystems[0].controllers', /nvme9/, machine({ subsystems: [subsystem('nvme-subsys0', 'nvme9')] })],
    [
      'subsystems[1].controllers',
      /nvme0 is in nvme-subsys0 already/,
      machine({ subsystems: [subsystem('nvme-subsys0', 'nvme0'), subsystem('nvme-subsys1', 'nvme0')] }),
    ],
    [
      'subsystems[1].name',
      /two of the name nvme-subsys0/,
      machine({ subsystems: [subsystem('nvme-subsys0', 'nvme0'), subsystem('nvme-subsys0', 'nvme1')] }),
    ],
    [
      'subsystems[0]',
      /nvme1 describes namespace 1 in another way/,
      machine({ subsystems: [subsystem('nvme-subsys0', 'nvme0', 'nvme1')] }, { 1: { size: 2 * MIB } }),
    ],
    [
      'subsystems',
      /names of those of the controller nvme2, which is not in it/,
      machine({ subsystems: [subsystem('nvme-subsys2', 'nvme0', 'nvme1')] }),
    ],
    [
      'the partitions of nvme0n1',
      /nvme0n1p1 is described twice/,
      machine({}, { 0: parts([1, 4096, 4096], [1, 8192, 4096]) }),
    ],
    [
      'the partitions of nvme0n1',
      /nvme0n1p2 overlaps nvme0n1p1/,
      machine({}, { 0: parts([1, 4096, 8192], [2, 8192, 4096]) }),
    ],
    [
      'the partitions of nvme0n1',
      /nvme0n1p1 ends at 1052672, beyond the disk's 1048576 bytes/,
      machine({}, { 0: parts([1, 4096, MIB]) }),
    ],
    [
      'the partitions of nvme0n1',
      /blocks of 4096 bytes/,
      machine({}, { 0: { ...parts([1, 512, 4096]), blockSize: 4096 } }),
    ],
    ['arrays[1].name', /two of the name md0/, machine({ arrays: [array(['nvme0n1']), array(['nvme1n1'])] })],
    ['arrays[0].members', /nvme9n1/, machine({ arrays: [array(['nvme0n1', 'nvme9n1'])] })],
    [
      'arrays[0].members',
      /nvme0n1 has size 0/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1'])] }, { 0: { size: 0, extendedLba: {} } }),
    ],
    [
      'arrays[0].members',
      /nvme1n1 is zoned/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1'])] }, { 1: { zoned: { zoneSize: 65_536 } } }),
    ],
    ['arrays[0].members', /described twice/, machine({ arrays: [array(['nvme0n1', 'nvme0n1'])] })],
    [
      'arrays[1].members',
      /nvme0n1 is in md0 already/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1']), array(['nvme0n1'], { name: 'md1' })] }),
    ],
    [
      'arrays[1].members',
      /nvme0n1p1 is in md0 already/,
      machine(
        { arrays: [array(['nvme0n1']), array(['nvme0n1p1'], { name: 'md1' })] },
        { 0: parts([1, 4096, 4096]) },
      ),
    ],
    [
      'arrays[1].members',
      /nvme0n1 is in md0 already/,
      machine(
        { arrays: [array(['nvme0n1p1']), array(['nvme0n1'], { name: 'md1' })] },
        { 0: parts([1, 4096, 4096]) },
      ),
    ],
    [
      'arrays[0].members',
      /nvme0n1 is smaller than a chunk \(2097152 bytes\)/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1'], { level: 'raid0', chunk: 2 * MIB })] }),
    ],
    [
      'arrays[0].chunk',
      /12288 is not a power of two times 4096/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1'], { chunk: 12288 })] }),
    ],
    [
      'arrays[0].members',
      /raid5 takes at least 3/,
      machine({ arrays: [array(['nvme0n1', 'nvme1n1'], { level: 'raid5' })] }),
    ],
    [
      'arrays[0].members',
      /raid10 takes at least 2/,
      machine({ arrays: [array(['nvme0n1'], { level: 'raid10' })] }),
    ],
  ] as const) {
    t.throws(() => parseMachine(input), { code: 'ERR_MACHINE_INVALID', path, message: says }, `${says}`);
  }
});
