/**
 * The properties of a provider's memory that depend on the release: its sysfs directory, its mmap, and CMBs that are
 * not registered.
 */
import type { UnusableCmb } from '../../backend/backend.js';
import type { KernelRelease } from '../../backend/kernel-release.js';
import { holds, type Rule } from './rule.js';

export const CMB_ALIGN_SKIP: Rule = {
  what: 'a CMB that is not a multiple of the memory hot-plug granule is skipped without a message',
  since: [6, 14, 0],
  backports: [
    [6, 6, 87],
    [6, 12, 23],
  ],
  commits: ['56cf7ef0d490', '6a3572e10f74'],
  source: 'source of 6.12.117, patch for 6.6.87 (6.12.23 is inferred)',
  sure: 'read',
};

/** The driver's reason why a CMB is not registered or not published is in the kernel's log, if anywhere. */
export const NOT_REGISTERED: UnusableCmb = {
  kind: 'not-registered',
  text: 'the kernel did not register it as peer-to-peer memory; its log may say why',
};
export const NOT_PUBLISHED: UnusableCmb = { kind: 'not-published', text: 'the kernel did not publish it' };

/** Created by VFIO and dma-buf, and by drivers that do not share their memory. */
export const PROVIDER_WITHOUT_POOL: Rule = {
  what: 'a function can be a provider without a pool, and then has no p2pmem directory',
  since: [6, 19, 0],
  commits: [],
  source: 'source of 6.19 and later',
  sure: 'read',
};

export const NON_MAPPABLE_BARS: Rule = {
  what: 'BARs that programs must not map (s390’s ISM) cannot be peer memory',
  since: [6, 19, 0],
  commits: [],
  source: 'source of 6.19 and later',
  sure: 'read',
};

export const SEARCH_NEEDS_POOL: Rule = {
  what: 'the kernel’s search for the nearest provider skips providers without a pool',
  since: [7, 4, 0],
  commits: ['79602c2e280f'],
  source: 'queue for 7.4',
  sure: 'read',
};

export const MEMORY_RULES: readonly Rule[] = [
  CMB_ALIGN_SKIP,
  PROVIDER_WITHOUT_POOL,
  NON_MAPPABLE_BARS,
  SEARCH_NEEDS_POOL,
];

/** Files of `p2pmem/`. Everyone can read the first three; `allocate` has mode 0660 and is for mmap. */
export const P2PMEM_FILES = ['size', 'available', 'published', 'allocate'] as const;

/**
 * The errors of mmap of `p2pmem/allocate`, which have been the same since 6.2. It does not check whether the memory
 * is published.
 */
export const MMAP_ANSWERS = {
  EINVAL: 'the mapping is private, or has an offset',
  ENODEV: 'the pool has been removed, or is being removed',
  ENOMEM: 'the pool has no contiguous free piece of that size',
} as const;

/** What happens to a CMB whose size or start is not aligned, as a clause. */
export function misalignedFate(release: KernelRelease | null): string {
  switch (holds(CMB_ALIGN_SKIP, release)) {
    case 'yes':
      return 'the kernel skips it without a message';
    case 'no':
      return 'the kernel fails to register it, with a WARNING of memory hot-plug in its log';
    case 'unknown':
      return 'the kernel cannot register it, with or without a message';
  }
}
