/**
 * ok: as it should be. warning: peer-to-peer works, with this limit. unknown: it cannot be determined, and peer-to-peer
 * depends on it. problem: no peer-to-peer until it is fixed.
 * @inline
 */
export type FindingLevel = 'ok' | 'warning' | 'unknown' | 'problem';

/** What was checked, in the order in which it is printed. @inline */
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

/** One thing that was checked. */
export interface Finding {
  /** What was checked. */
  readonly check: FindingCheck;
  /**
   * `ok`: as it should be; `warning`: peer-to-peer works, with this limit; `unknown`: it cannot be determined; `problem`: no
   * peer-to-peer until it is fixed.
   */
  readonly level: FindingLevel;
  /** One or two sentences. */
  readonly fact: string;
  /** What would help and what it costs; null: nothing needs to be done, or nothing helps. */
  readonly remedy: string | null;
  /** Shell commands that do what the remedy says; a comment in them marks where the user has to choose. */
  readonly commands: readonly string[];
}

/** What could not be checked here, and why. @inline */
export interface Unchecked {
  /** What was not checked. */
  readonly check: Finding['check'];
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
