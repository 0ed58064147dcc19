import { disksOf, type MachineDisk } from './disks.js';
import { unknown } from './rules.js';
import { type ArrayLevel, invalid, type Machine, type MachineArray, partitionName } from './schema.js';

/*
 * Checks that everything on a machine's drives fits together: partitions, multipath heads, md arrays. Each rule
 * throws ERR_MACHINE_INVALID for the first problem.
 *
 *     md0 ─┬─▶ nvme0n1p1 ─▶ nvme0n1 ─▶ controller nvme0            a plain disk
 *          └─▶ nvme1n1 ─┬─▶ controller nvme1                       a head of subsystem nvme-subsys1
 *                       └─▶ controller nvme2
 */

export function checkStacks(machine: Machine): void {
  checkSubsystems(machine);
  for (const disk of disksOf(machine)) checkPartitions(disk);
  checkArrays(machine);
}

/** Claims a name; no other object of its kind may have it. */
function claimName(taken: Set<string>, name: string, where: string): void {
  if (taken.has(name)) {
    throw invalid(`${where}.name`, `there are two of the name ${name}`, 'Rename one of them.');
  }
  taken.add(name);
}

function checkSubsystems(machine: Machine): void {
  const controllers = new Map(
    machine.functions.flatMap(({ nvme }) => (nvme === null ? [] : [[nvme.name, nvme]])),
  );
  const names = new Set<string>();
  const owner = new Map<string, string>();
  machine.subsystems.forEach((subsystem, i) => {
    const where = `subsystems[${i}]`;
    claimName(names, subsystem.name, where);
    const alike = new Map<number, string>();
    for (const name of subsystem.controllers) {
      const nvme = controllers.get(name);
      if (nvme === undefined) throw unknown(`${where}.controllers`, 'controller', name, controllers.keys());
      const other = owner.get(name);
      if (other !== undefined) {
        throw invalid(
          `${where}.controllers`,
          `${name} is in ${other} already`,
          'A controller is in one subsystem.',
        );
      }
      owner.set(name, subsystem.name);
      for (const namespace of nvme.namespaces) {
        const said = JSON.stringify(namespace);
        if ((alike.get(namespace.nsid) ?? said) !== said) {
          throw invalid(
            where,
            `${name} describes namespace ${namespace.nsid} in another way than the controller before it`,
            'What several controllers lead to is one namespace: describe it alike.',
          );
        }
        alike.set(namespace.nsid, said);
      }
    }
  });
  for (const { name } of machine.subsystems) {
    const number = name.replace('-subsys', '');
    if (!controllers.has(number) || owner.get(number) === name) continue;
    throw invalid(
      'subsystems',
      `the disks of ${name} would have the names of those of the controller ${number}, which is not in it`,
      'Give the subsystem the number of one of its controllers.',
    );
  }
}

function checkPartitions({ name, namespace }: MachineDisk): void {
  const { size, blockSize, partitions } = namespace;
  const where = `the partitions of ${name}`;
  let end = 0;
  let before = '';
  const numbers = new Set<number>();
  for (const partition of partitions.toSorted((a, b) => a.start - b.start)) {
    const part = partitionName(name, partition.number);
    if (numbers.has(partition.number))
      throw invalid(where, `${part} is described twice`, 'Number them differently.');
    numbers.add(partition.number);
    if (partition.start % blockSize !== 0 || partition.size % blockSize !== 0) {
      throw invalid(
        where,
        `${part} does not begin and end at blocks of ${blockSize} bytes`,
        'Use whole blocks.',
      );
    }
    if (partition.start < end) throw invalid(where, `${part} overlaps ${before}`, 'Move one of them.');
    end = partition.start + partition.size;
    before = part;
    if (end > size)
      throw invalid(where, `${part} ends at ${end}, beyond the disk's ${size} bytes`, 'Make it smaller.');
  }
}

/** Minimum number of members of each level. */
const LEAST: Record<ArrayLevel, number> = {
  linear: 1,
  raid0: 1,
  raid1: 1,
  raid4: 3,
  raid5: 3,
  raid6: 4,
  raid10: 2,
};

function checkArrays(machine: Machine): void {
  const sizes = new Map<string, number>();
  const diskOf = new Map<string, string>();
  const zoned = new Set<string>();
  for (const { name, namespace } of disksOf(machine)) {
    sizes.set(name, namespace.size);
    if (namespace.zoned !== null) zoned.add(name);
    for (const { number, size } of namespace.partitions) {
      const part = partitionName(name, number);
      sizes.set(part, size);
      diskOf.set(part, name);
    }
  }
  const names = new Set<string>();
  const used = new Map<string, string>();
  machine.arrays.forEach((array, i) => {
    const where = `arrays[${i}]`;
    claimName(names, array.name, where);
    checkShape(array, where);
    for (const member of array.members) {
      const size = sizes.get(member);
      if (size === undefined)
        throw unknown(`${where}.members`, 'namespace, head or partition', member, sizes.keys());
      const disk = diskOf.get(member) ?? member;
      const parts = [...diskOf].flatMap(([part, of]) => (of === member ? [part] : []));
      const by = [member, disk, ...parts].map((name) => used.get(name)).find((name) => name !== undefined);
      if (by !== undefined) {
        throw invalid(`${where}.members`, `${member} is in ${by} already`, 'Use each part of a drive once.');
      }
      if (zoned.has(member)) {
        throw invalid(`${where}.members`, `${member} is zoned`, 'md takes no such member: use another.');
      }
      checkRoom(member, size, { array, where });
    }
    for (const member of array.members) used.set(member, array.name);
  });
}

function checkRoom(
  member: string,
  size: number,
  { array, where }: { readonly array: MachineArray; readonly where: string },
): void {
  if (size === 0) {
    throw invalid(`${where}.members`, `${member} has size 0`, 'md takes no such member: use another.');
  }
  if (size < array.chunk && asksForChunk(array)) {
    throw invalid(
      `${where}.members`,
      `${member} is smaller than a chunk (${array.chunk} bytes)`,
      'Use smaller chunks.',
    );
  }
}

function asksForChunk({ level }: MachineArray): boolean {
  return level !== 'raid1' && level !== 'linear';
}

function checkShape(array: MachineArray, where: string): void {
  const { level, chunk, members } = array;
  if (members.length < LEAST[level]) {
    throw invalid(
      `${where}.members`,
      `${level} takes at least ${LEAST[level]}`,
      'Add members, or change the level.',
    );
  }
  if (new Set(members).size < members.length) {
    throw invalid(`${where}.members`, 'one of them is described twice', 'Use each part of a drive once.');
  }
  if (!Number.isInteger(Math.log2(chunk / 4096))) {
    throw invalid(`${where}.chunk`, `${chunk} is not a power of two times 4096`, 'Use 4096, 8192, …');
  }
}
