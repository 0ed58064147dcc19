/**
 * Explains why a layer of a block stack takes no peer memory, depending on the kernel's release; null: the layer
 * passes it on.
 */
import type { KernelRelease } from '../../backend/kernel-release.js';
import { holds, type Rule, sinceText } from './rule.js';
import { MD, MD_LEVELS, MULTIPATH_HEAD } from './table.js';

const REFUSES = 'its queue does not take peer-to-peer memory';

/** `level` null: not known. */
export function arrayRefusal(
  name: string,
  level: string | null,
  release: KernelRelease | null,
): string | null {
  const refusal = `${name}${level === null ? '' : ` (${level})`} is an md array: ${REFUSES}`;
  if (level === null || !MD_LEVELS.includes(level)) return refusal;
  return dated(MD, release, refusal);
}

export function headRefusal(name: string, release: KernelRelease | null): string | null {
  return dated(
    MULTIPATH_HEAD,
    release,
    `${name} is an NVMe multipath head: ${REFUSES} (boot with nvme_core.multipath=N for plain disks)`,
  );
}

/** `refusal`, unless this kernel has the rule. */
function dated(rule: Rule, release: KernelRelease | null, refusal: string): string | null {
  switch (holds(rule, release)) {
    case 'yes':
      return null;
    case 'no':
      return `${refusal}; it does from ${sinceText(rule)} on`;
    case 'unknown':
      return `${refusal}, as far as is known; it does from ${sinceText(rule)} on`;
  }
}
