/** ok: as it should be. warning: peer-to-peer works, with this limit. problem: no peer-to-peer while it is so. */
export type FindingLevel = 'ok' | 'warning' | 'problem';

/** What was looked at, in the order of a screen. */
export type FindingCheck =
  | 'platform'
  | 'kernel'
  | 'config'
  | 'addon'
  | 'iommu'
  | 'drives'
  | 'cmb'
  | 'permissions'
  | 'multipath'
  | 'fabrics'
  | 'acs'
  | 'host-bridge'
  | 'pairs'
  | 'io_uring'
  | 'memlock';

/** One thing that was looked at. */
export interface Finding {
  /** What was looked at. */
  readonly check: FindingCheck;
  /** How it is. */
  readonly level: FindingLevel;
  /** One or two sentences. */
  readonly fact: string;
  /** What would help and what it costs, or null: nothing needs help, or nothing helps. */
  readonly remedy: string | null;
  /** Lines for a shell that do what the remedy says; a comment says so where it needs a choice. */
  readonly commands: readonly string[];
}

/** What could not be looked at here, and why. */
export interface Unchecked {
  /** What was not looked at. */
  readonly check: FindingCheck;
  /** Why not, in words. */
  readonly why: string;
}

export function finding(
  check: FindingCheck,
  level: FindingLevel,
  fact: string,
  remedy: string | null = null,
  commands: readonly string[] = [],
): Finding {
  return { check, level, fact, remedy, commands };
}

/** `a`, `a and b`, `a, b and c`, `a, b, c and 4 more`. */
export function list(names: readonly string[], most = 8): string {
  if (names.length > most)
    return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
  if (names.length < 2) return names.join('');
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `16777216` → `16 MiB`. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
