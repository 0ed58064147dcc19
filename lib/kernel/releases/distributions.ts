/** Which distributions' kernels have P2PDMA, as far as is known. */
import {
  type KernelRelease,
  type KernelVendor,
  type KernelVersion,
  olderThan,
} from '../../backend/kernel-release.js';
import type { Certainty } from './rule.js';

export interface Distribution {
  readonly vendor: KernelVendor;
  /** Which of its kernels: `'22.04, GA kernel 5.15'`. */
  readonly which: string;
  readonly from: KernelVersion;
  /** The first version that is not included. */
  readonly until: KernelVersion | null;
  /** CONFIG_PCI_P2PDMA; null: not known. */
  readonly p2pdma: boolean | null;
  /** Additional information as a sentence, or null. */
  readonly note: string | null;
  readonly sure: Certainty;
}

const NOT_SET = 'Debian’s kernels from backports have CONFIG_PCI_P2PDMA, from 6.16 on; otherwise build one.';
const ZHAOXIN_LIST = 'Its host bridge allow-list also has Zhaoxin’s processors.';

export const DISTRIBUTIONS: readonly Distribution[] = [
  row('Debian', '12 and 13, stock kernels up to 6.12', [6, 1, 0], [6, 13, 0], false, 'read', NOT_SET),
  row('Debian', 'backports for 13, and sid: from 6.16 on', [6, 16, 0], null, true, 'read'),
  row(
    'Ubuntu',
    '22.04 with its GA kernel, and older',
    [5, 4, 0],
    [6, 2, 0],
    false,
    'listed',
    'The HWE kernel of 22.04 (6.8) has everything that is needed.',
  ),
  row('Ubuntu', 'from 23.04 on, and HWE kernels of 22.04 and 24.04', [6, 2, 0], null, true, 'listed'),
  row('Fedora', 'all', [6, 2, 0], null, true, 'read'),
  row(
    'Red Hat Enterprise Linux',
    '9 and its derivatives',
    [5, 14, 0],
    [6, 0, 0],
    true,
    'listed',
    'Its 5.14 has CONFIG_PCI_P2PDMA for drivers, but no peer memory for programs: that came with Linux 6.2.',
  ),
  row('Red Hat Enterprise Linux', '10 and its derivatives', [6, 12, 0], null, true, 'inferred'),
  row('SUSE', 'Tumbleweed (SLES was not read)', [6, 13, 0], null, true, 'listed'),
  row(
    'Talos Linux',
    'all',
    [6, 2, 0],
    null,
    null,
    'listed',
    'The option is not set up to Talos 1.11; it has been set in its sources since October 2025.',
  ),
  row('openEuler', '24.03', [6, 6, 0], null, null, 'read', ZHAOXIN_LIST),
  row('Anolis OS', 'its cloud kernel', [6, 6, 0], null, null, 'read', ZHAOXIN_LIST),
  row('deepin', '6.6', [6, 6, 0], null, null, 'listed', ZHAOXIN_LIST),
  row('Oracle UEK', 'all', [5, 15, 0], null, null, 'read', 'Only a part of its configuration was read.'),
  row('Proxmox VE', 'all', [6, 2, 0], null, true, 'inferred', 'Its kernels are built from Ubuntu’s.'),
];

function row(
  vendor: KernelVendor,
  which: string,
  from: KernelVersion,
  until: KernelVersion | null,
  ...[p2pdma, sure, note]: [boolean | null, Certainty, string?]
): Distribution {
  return { vendor, which, from, until, p2pdma, sure, note: note ?? null };
}

/** What is known about this distribution's kernel; null: nothing. */
export function distributionOf(release: KernelRelease | null): Distribution | null {
  if (release === null) return null;
  const { vendor, version } = release;
  return (
    DISTRIBUTIONS.find(
      (one) =>
        one.vendor === vendor &&
        !olderThan(version, ...one.from) &&
        (one.until === null || olderThan(version, ...one.until)),
    ) ?? null
  );
}
