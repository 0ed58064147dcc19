/**
 * The other parts of P2PDMA that depend on the release: block layers and errnos. Bugs are in bugs.ts, the host
 * bridges in host-bridges.ts, sysfs, mmap and CMBs in memory.ts, the lines of the log in log.ts.
 */
import {
  type KernelRelease,
  type KernelVersion,
  olderThan,
  parseRelease,
} from '../../backend/kernel-release.js';
import { HOST_BRIDGES } from './host-bridges.js';
import { MEMORY_RULES } from './memory.js';
import { holds, type Rule, sinceText, versionText } from './rule.js';

/** The kernel that the files in lib/kernel mirror, and the default for an emulated machine that names none. */
export const MODEL: KernelRelease = parseRelease('6.12.117')!;

/** mmap of `p2pmem/allocate` and O_DIRECT with that memory. */
export const USERSPACE: Rule = {
  what: 'programs can use peer memory (p2pmem/allocate, O_DIRECT)',
  since: [6, 2, 0],
  commits: [],
  source: 'source of 6.12.117',
  sure: 'read',
};

/** Since this release, nvme maps a request range by range (blk_rq_dma_map()), and a refused pair returns BLK_STS_INVAL. */
export const PAIR_REFUSED_WITH_EINVAL: Rule = {
  what: 'a pair that is not allowed to do peer-to-peer is refused with EINVAL (earlier: EREMOTEIO)',
  since: [6, 17, 0],
  commits: ['7ce3c1dd78fc'],
  source: 'source',
  sure: 'read',
};

export const RDMA_HOST: Rule = {
  what: 'NVMe over RDMA takes peer memory, if the RDMA card does its own DMA (not rxe, siw)',
  since: [7, 1, 0],
  commits: ['23528aa3320a'],
  source: 'patch, source of 7.2.13',
  sure: 'read',
};

export const MULTIPATH_HEAD: Rule = {
  what: 'an NVMe multipath head takes peer memory, if each of its paths does',
  since: [7, 2, 0],
  commits: ['fb0eeeed91f3'],
  source: 'patch, source of 7.2.13',
  sure: 'read',
};

export const MD: Rule = {
  what: 'an md array (raid0, raid1, raid10) takes peer memory, if each of its members does',
  since: [7, 2, 0],
  commits: ['02666132403a', '7882834048f1'],
  source: 'source of 7.2.13',
  sure: 'read',
};

/** The md personalities that pass peer memory on; the others read the data with the CPU. */
export const MD_LEVELS: readonly string[] = ['raid0', 'raid1', 'raid10'];
/** The personalities that write each block to several members. */
export const MD_MIRRORS: readonly string[] = ['raid1', 'raid10'];

/** In the order of the documentation page that is generated from them. */
export const RULES: readonly Rule[] = [
  USERSPACE,
  PAIR_REFUSED_WITH_EINVAL,
  RDMA_HOST,
  MULTIPATH_HEAD,
  MD,
  ...MEMORY_RULES,
];

/** Explains why programs cannot get peer memory on this kernel at all; null: they can, or it is not known that they cannot. */
export function withheldFromPrograms(release: KernelRelease | null): string | null {
  if (release === null || holds(USERSPACE, release) !== 'no') return null;
  return `Linux ${release.text} gives programs no peer-to-peer memory: that came with ${sinceText(USERSPACE)}`;
}

/** True if this kernel refuses a pair with EINVAL; false: with EREMOTEIO; null: not known. */
export function refusesPeersWithEinval(release: KernelRelease | null): boolean | null {
  const answer = holds(PAIR_REFUSED_WITH_EINVAL, release);
  return answer === 'unknown' ? null : answer === 'yes';
}

/**
 * The releases in which the verdict for a pair can differ from that of the previous release, oldest first. These are
 * compared by `explain --kernel all`.
 */
export const KERNEL_RELEASES: readonly string[] = [
  USERSPACE,
  ...HOST_BRIDGES.map(({ rule }) => rule),
  RDMA_HOST,
  MULTIPATH_HEAD,
  MD,
]
  .flatMap(({ since, backports = [] }) => [since, ...backports])
  .filter((version) => !olderThan(version, ...USERSPACE.since))
  .sort((a, b) => (olderThan(a, ...b) ? -1 : olderThan(b, ...a) ? 1 : 0))
  .map(exactly)
  .filter((text, i, all) => text !== all[i - 1]);

/** Writes the version as one exact release, not as its series. */
function exactly(version: KernelVersion): string {
  return version[2] === 0 ? `${versionText(version)}.0` : versionText(version);
}
