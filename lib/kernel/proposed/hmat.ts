/**
 * Not merged: peer-to-peer by ACPI's HMAT (Heterogeneous Memory Attribute Table), which says of two proximity domains
 * whether PCIe traffic passes between them. Where it speaks, it speaks before the CPU and the host bridge allow-list.
 */

/** Of the ordered class of requests: it passes; there is no such entry; only Unordered I/O (UIO) passes. */
export type HmatAnswer = 'passes' | 'no-entry' | 'only-uio';

/** The firmware's table, and the proximity domains of the two host bridges; null: firmware names none. */
export interface HmatQuestion {
  readonly client: number | null;
  readonly provider: number | null;
  readonly ask: (initiator: number, target: number) => HmatAnswer;
}

/**
 * Does traffic of this pair pass from host bridge to host bridge? `fallback`: what the CPU and the list say, null if that
 * is not known.
 * @param hmat  null: no HMAT was read, so that whether there is one is not known
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
