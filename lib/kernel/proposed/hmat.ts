/**
 * Not merged: peer-to-peer by ACPI's HMAT (Heterogeneous Memory Attribute Table), which states whether PCIe traffic
 * passes between two proximity domains. Where it has an entry, that entry takes precedence over the CPU and the host
 * bridge allow-list.
 */

/** The answer for ordered requests: they pass; there is no such entry; only Unordered I/O (UIO) passes. */
export type HmatAnswer = 'passes' | 'no-entry' | 'only-uio';

/** The firmware's table, and the proximity domains of the two host bridges; null: the firmware names none. */
export interface HmatQuestion {
  readonly client: number | null;
  readonly provider: number | null;
  readonly ask: (initiator: number, target: number) => HmatAnswer;
}

/**
 * Does the traffic of this pair pass between the host bridges? `fallback`: the verdict by the CPU and the list, null
 * if that is not known.
 * @param hmat null: no HMAT was read, so it is not known whether there is one
 */
export function byHmat(hmat: HmatQuestion | null, fallback: () => boolean | null): boolean | null {
  if (hmat === null || hmat.client === null || hmat.provider === null) return fallback();
  switch (hmat.ask(hmat.client, hmat.provider)) {
    case 'passes':
      return true;
    case 'only-uio':
      return false;
    case 'no-entry':
      return fallback();
  }
}
