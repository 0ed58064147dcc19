import { type Fault, headName, type Machine, type NamespaceDescription, namespaceName } from './schema.js';

/** A disk that one can open, and what it is made of. */
export interface MachineDisk {
  readonly name: string;
  /** Controllers that lead to it, by name. */
  readonly controllers: readonly string[];
  readonly isHead: boolean;
  readonly namespace: NamespaceDescription;
}

/** Plain disks and multipath heads, in the order of the functions that lead to them. */
export function disksOf({ functions, subsystems }: Machine): MachineDisk[] {
  const disks = new Map<string, MachineDisk>();
  for (const { nvme } of functions) {
    if (nvme === null) continue;
    const subsystem = subsystems.find(({ controllers }) => controllers.includes(nvme.name));
    for (const namespace of nvme.namespaces) {
      const isHead = subsystem !== undefined;
      const name = isHead
        ? headName(subsystem.name, namespace.nsid)
        : namespaceName(nvme.name, namespace.nsid);
      const before = disks.get(name);
      const controllers = [...(before?.controllers ?? []), nvme.name];
      disks.set(name, { name, controllers, isHead, namespace: before?.namespace ?? namespace });
    }
  }
  return [...disks.values()];
}

/** A fault of a namespace that several controllers lead to is one of each of them; any other is as it is. */
export function onEveryPath<T extends Fault>(machine: Machine, fault: T): T[] {
  if (fault.kind !== 'media-error') return [fault];
  const { namespace: asked } = fault;
  const disk = disksOf(machine).find(
    ({ name, controllers, namespace }) =>
      name === asked || controllers.some((controller) => namespaceName(controller, namespace.nsid) === asked),
  );
  if (disk === undefined) return [fault];
  return disk.controllers.map((controller) => ({
    ...fault,
    namespace: namespaceName(controller, disk.namespace.nsid),
  }));
}
