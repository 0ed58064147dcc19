/**
 * The block devices that span several drives: multipath heads and md arrays. They belong to no single controller, so lists
 * and tables by controller show them on lines of their own.
 */
import type { Backend, Place } from '../backend/backend.js';

/** A block device over several drives. */
export interface Stacked {
  /** Its name in /dev: `'md0'`, `'nvme2n1'`. */
  readonly name: string;
  /** What it is. */
  readonly kind: 'multipath-head' | 'md';
  /** The RAID level of an md array, if known: `'raid1'`. */
  readonly level: string | null;
  /** In bytes; null: not known. */
  readonly size: number | null;
  /** The controllers that do its DMA. */
  readonly controllers: readonly string[];
  /** Its layers, clients and users. */
  readonly place: Place;
}

/** The multipath heads and md arrays of a machine. */
export function stackedOn(backend: Pick<Backend, 'controllers' | 'arrays' | 'inspect'>): Stacked[] {
  const disks = backend.controllers.flatMap(({ namespaces }) => namespaces.map(({ name }) => name));
  return [...new Set([...disks, ...backend.arrays])].flatMap((name) => {
    const { place, size } = backend.inspect(name);
    const top = place?.layers[0];
    if (place === null || (top?.kind !== 'multipath-head' && top?.kind !== 'md')) return [];
    const own = backend.controllers.filter(({ pdev }) => pdev !== null && place.clients.includes(pdev));
    const controllers = own.map((controller) => controller.name);
    return [{ name, kind: top.kind, level: top.level ?? null, size, controllers, place }];
  });
}
