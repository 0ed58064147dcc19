/**
 * Describes what is on a machine's drives: multipath heads, md arrays, and the partitions of which arrays consist. As always in
 * a description, heads get new names made of subsystem and namespace id.
 */
import type { BlockDevices, BlockDir, Layer } from './devices.js';
import type { Sysfs, SysfsController } from './machine.js';

interface Partition {
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

export interface Stacks {
  readonly subsystems: { readonly name: string; readonly controllers: readonly string[] }[];
  readonly arrays: {
    readonly name: string;
    readonly level: string;
    readonly chunk?: number;
    readonly members: readonly string[];
  }[];
  /** Keyed by the disk's name in sysfs. */
  readonly partitions: ReadonlyMap<string, readonly Partition[]>;
}

/** The minimum number of members in a description; a degraded array may have fewer. */
const LEAST: Readonly<Record<string, number>> = {
  ...{ linear: 1, raid0: 1, raid1: 1, raid10: 2, raid4: 3, raid5: 3, raid6: 4 },
};

/** `left` is called with what a description cannot contain. */
export function describeStacks(
  { devices }: Sysfs,
  controllers: readonly SysfsController[],
  left: string[],
): Stacks {
  const reader = new StackReader(devices, left);
  for (const controller of controllers) reader.addDisks(controller);
  const found = reader.arrays();
  const partitions = new Map<string, Partition[]>();
  for (const { partition, disk } of found.flatMap(({ members }) => members)) {
    if (partition !== null) partitions.set(disk, [...(partitions.get(disk) ?? []), partition]);
  }
  return {
    subsystems: reader.subsystems(controllers),
    arrays: found.map((array) => ({ ...array, members: array.members.map(({ name }) => name) })),
    partitions,
  };
}

interface Member {
  /** The name in the description. */
  readonly name: string;
  readonly disk: string;
  readonly partition: Partition | null;
}

type FoundArray = Omit<Stacks['arrays'][number], 'members'> & { readonly members: readonly Member[] };

class StackReader {
  readonly #devices: BlockDevices;
  readonly #left: string[];
  readonly #subsystems = new Map<string, string[]>();
  /** Disks' names in the description, by their names in sysfs. */
  readonly #names = new Map<string, string>();
  readonly #holders = new Set<string>();

  constructor(devices: BlockDevices, left: string[]) {
    this.#devices = devices;
    this.#left = left;
  }

  addDisks(controller: SysfsController): void {
    for (const { name, nsid } of controller.namespaces) {
      const disk = this.#devices.byName(name);
      if (disk === null) continue;
      const head = /^nvme\d+/.exec(name)![0];
      const isHead = this.#devices.layer(disk).kind === 'multipath-head';
      if (isHead) this.#addPath(head.replace('nvme', 'nvme-subsys'), controller.name);
      this.#names.set(name, `${isHead ? head : controller.name}n${nsid}`);
      for (const holder of this.#devices.inUse(disk).holders) this.#holders.add(holder);
    }
  }

  #addPath(subsystem: string, controller: string): void {
    const paths = this.#subsystems.get(subsystem) ?? [];
    this.#subsystems.set(subsystem, [...new Set([...paths, controller])]);
  }

  subsystems(controllers: readonly SysfsController[]): Stacks['subsystems'] {
    return [...this.#subsystems].flatMap(([name, paths]) => {
      const first = name.replace('-subsys', '');
      const taken = controllers.some((one) => one.name === first) && !paths.includes(first);
      if (!taken) return [{ name, controllers: paths }];
      this.#left.push(`${name} of ${paths.join(', ')}, whose number another controller has`);
      return [];
    });
  }

  arrays(): FoundArray[] {
    return [...this.#holders].sort().flatMap((holder) => {
      const device = this.#devices.byName(holder);
      const layer = device === null ? null : this.#devices.layer(device);
      return layer?.kind === 'md' ? this.#array(device!, layer) : [];
    });
  }

  #array({ name, dir }: BlockDir, { level = 'unknown', below }: Layer): FoundArray[] {
    const members = below.flatMap((one) => this.#memberOf(one.name) ?? []);
    if (members.length < below.length || members.length < (LEAST[level] ?? Number.POSITIVE_INFINITY)) {
      this.#left.push(`${name} (${level} over ${below.map((one) => one.name).join(', ')})`);
      return [];
    }
    const chunk = dir.dir('md')?.number('chunk_size', { optional: true }) ?? null;
    const striped = chunk !== null && chunk >= 4096 && Number.isInteger(Math.log2(chunk));
    return [{ name, level, ...(striped ? { chunk } : {}), members }];
  }

  /** Null: it is not part of a drive that is described. */
  #memberOf(name: string): Member | null {
    const known = this.#names.get(name);
    if (known !== undefined) return { name: known, disk: name, partition: null };
    const device = this.#devices.byName(name);
    const layer = device === null ? null : this.#devices.layer(device);
    const disk = layer?.kind === 'partition' ? (layer.below[0]?.name ?? null) : null;
    const on = disk === null ? undefined : this.#names.get(disk);
    const partition = device === null || on === undefined ? null : partitionOf(device);
    return partition === null ? null : { name: `${on}p${partition.number}`, disk: disk!, partition };
  }
}

function partitionOf({ dir }: BlockDir): Partition | null {
  const number = dir.number('partition', { min: 1, max: 255 });
  const [start, sectors] = [dir.number('start'), dir.number('size')];
  if (number === null || start === null || sectors === null || sectors === 0) return null;
  return { number, start: start * 512, size: sectors * 512 };
}
