import { type Fault, headName, type Machine, type NamespaceDescription, namespaceName } from './schema.js';

/** A disk that can be opened, and its parts. */
export interface MachineDisk {
  readonly name: string;
  /** Names of the controllers that lead to it. */
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

/**
 * A fault of a namespace with several controllers is expanded to one fault per controller; any other fault is
 * returned unchanged.
 */
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
