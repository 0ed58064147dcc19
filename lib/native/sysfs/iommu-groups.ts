/** The machine's IOMMU groups, as they were when its functions were read. */
import type { Bdf } from '../../backend/topology.js';
import { parseNumber, type SysfsDir, type SysfsTree } from './tree.js';

export class IommuGroups {
  /** Null: the tree does not list them. */
  readonly #home: SysfsDir | null;
  #numbers: number[] | null = null;
  #byBdf: Map<Bdf, number> | null = null;

  constructor(tree: SysfsTree) {
    this.#home = tree.dir('sys/kernel/iommu_groups', { optional: true });
  }

  get listed(): boolean {
    return this.#home !== null;
  }

  /** The group from the function's link or, if links were lost, from the groups' member lists. */
  of(bdf: Bdf, dir: SysfsDir): number | null {
    return groupNumber(dir.linkName('iommu_group') ?? '') ?? this.#members().get(bdf) ?? null;
  }

  /** `type` of each group: `'DMA'`, `'DMA-FQ'`, `'identity'`, …; null where unreadable. */
  types(): Map<number, string | null> {
    return new Map(this.#all().map((number) => [number, this.#home!.dir(`${number}`)?.text('type') ?? null]));
  }

  #members(): Map<Bdf, number> {
    if (this.#byBdf !== null) return this.#byBdf;
    this.#byBdf = new Map();
    for (const number of this.#all()) {
      const members = this.#home!.dir(`${number}/devices`, { optional: true });
      for (const bdf of members?.names() ?? []) this.#byBdf.set(bdf, number);
    }
    return this.#byBdf;
  }

  #all(): number[] {
    this.#numbers ??= (this.#home?.names() ?? []).map(groupNumber).filter((number) => number !== null);
    return this.#numbers;
  }
}

function groupNumber(name: string): number | null {
  return /^(0|[1-9]\d*)$/.test(name) ? parseNumber(name) : null;
}
