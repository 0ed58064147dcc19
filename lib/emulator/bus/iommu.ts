import { type IommuHardware, PAGE_SIZE } from '../../backend/hardware.js';
import type { PciDev } from '../../backend/topology.js';
import { hexNumber } from '../../base/words.js';

/** The result of translating an IOVA. One object is reused, so read it before the next `translate`. */
export interface Translation {
  phys: number;
  /** The number of bytes, starting at `phys`, that this translation covers. */
  length: number;
}

interface Mapping {
  readonly iova: number;
  readonly end: number;
  readonly phys: number;
  readonly write: boolean;
}

/**
 * The translation unit of the root complex: one page table per function, stored as ranges.
 *
 * A function without a table is either blocked (on `translating` machines, where everything must be mapped), or passes
 * untranslated until its first mapping (on `unsupported` machines, whose dma_map_ops may not use the IOMMU).
 *
 * map and unmap are strict. They throw on errors of the driver stack: mapping over an existing mapping, or unmapping a
 * range that is not mapped or is only part of a mapping.
 */
export class EmulatedIommu implements IommuHardware {
  readonly unattached: 'blocked' | 'passthrough';
  readonly #tables = new Map<PciDev, Mapping[]>();
  readonly #translation: Translation = { phys: 0, length: 0 };

  constructor(unattached: 'blocked' | 'passthrough' = 'blocked') {
    this.unattached = unattached;
  }

  map(dev: PciDev, iova: number, phys: number, length: number, write: boolean): void {
    if (
      iova % PAGE_SIZE !== 0 ||
      phys % PAGE_SIZE !== 0 ||
      length % PAGE_SIZE !== 0 ||
      length <= 0 ||
      iova < 0
    ) {
      throw new RangeError(`iommu map ${describe(dev, iova, length)} to ${hexNumber(phys)}: not whole pages`);
    }
    let table = this.#tables.get(dev);
    if (table === undefined) {
      table = [];
      this.#tables.set(dev, table);
    }
    const i = firstEndingAfter(table, iova);
    const next = table[i];
    if (next !== undefined && next.iova < iova + length) {
      throw new RangeError(
        `iommu map ${describe(dev, iova, length)}: ${hexNumber(next.iova)} is mapped already`,
      );
    }
    table.splice(i, 0, { iova, end: iova + length, phys, write });
  }

  /** [iova, iova + length) must consist of whole mappings, without a hole. */
  unmap(dev: PciDev, iova: number, length: number): void {
    const table = this.#tables.get(dev) ?? [];
    const first = firstEndingAfter(table, iova);
    let last = first;
    let at = iova;
    while (at < iova + length && table[last]?.iova === at) at = table[last++]!.end;
    if (at !== iova + length || length <= 0) {
      throw new RangeError(`iommu unmap ${describe(dev, iova, length)}: not what is mapped there`);
    }
    table.splice(first, last - first);
  }

  /** Null: a fault. */
  translate(dev: PciDev, iova: number, length: number, write: boolean): Translation | null {
    const out = this.#translation;
    const table = this.#tables.get(dev);
    if (table === undefined) {
      if (this.unattached === 'blocked') return null;
      out.phys = iova;
      out.length = length;
      return out;
    }
    const mapping = table[firstEndingAfter(table, iova)];
    if (mapping === undefined || mapping.iova > iova || (write && !mapping.write)) return null;
    out.phys = mapping.phys + (iova - mapping.iova);
    out.length = Math.min(length, mapping.end - iova);
    return out;
  }

  /** The number of ranges that are mapped now, for one function or for all. A range that is left at the end has leaked. */
  mappings(dev?: PciDev): number {
    if (dev !== undefined) return this.#tables.get(dev)?.length ?? 0;
    let sum = 0;
    for (const table of this.#tables.values()) sum += table.length;
    return sum;
  }
}

function firstEndingAfter(table: readonly Mapping[], iova: number): number {
  let low = 0;
  let high = table.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (table[middle]!.end > iova) high = middle;
    else low = middle + 1;
  }
  return low;
}

function describe(dev: PciDev, iova: number, length: number): string {
  return `${dev.bdf} ${hexNumber(iova)}+${hexNumber(length)}`;
}
