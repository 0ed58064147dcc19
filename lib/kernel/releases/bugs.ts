/** Kernel bugs that users of peer memory should know: when each occurs, what it does, and the workaround. */
import type { Rule } from './rule.js';

export interface KernelBug {
  readonly id: 'free-sgls' | 'dma-vec-leak' | 'mirror' | 'mmap-leak' | 'acs-list';
  readonly rule: Rule;
  /** When it occurs, as a clause that follows “if”. */
  readonly condition: string;
  /** What happens then, as a sentence without its full stop. */
  readonly consequence: string;
  readonly remedy: string;
  readonly commands: readonly string[];
  /** data: bytes may be wrong or lost. kernel: the kernel’s own memory. device: only later operations on the device. */
  readonly risk: 'data' | 'kernel' | 'device';
}

export const KERNEL_BUGS: readonly KernelBug[] = [
  {
    id: 'free-sgls',
    rule: {
      what: 'NVMe data is unmapped with swapped arguments',
      since: [6, 18, 0],
      until: [6, 19, 0],
      untilCandidate: 8,
      commits: ['a54afbc8a213'],
      source: 'patch; whether 6.18.y took it was open in July 2026',
      sure: 'read',
    },
    condition:
      'a drive uses SGLs and its data is unmapped piece by piece (bounce buffers, non-coherent DMA, an IOMMU that does not ' +
      'map it as one range, Xen PV)',
    consequence: 'reads and writes of NVMe drives can transfer wrong data without an error',
    remedy:
      'Boot Linux 6.19 or newer; until then turn SGLs off, either at once or with nvme.sgl_threshold=0 on the kernel command line.',
    commands: ['echo 0 | sudo tee /sys/module/nvme/parameters/sgl_threshold'],
    risk: 'data',
  },
  {
    id: 'dma-vec-leak',
    rule: {
      what: 'each peer-to-peer request with PRPs leaks a piece of kernel memory (CVE-2026-64020)',
      since: [6, 17, 0],
      until: [7, 1, 0],
      endings: [[7, 0, 11]],
      commits: ['85686c72966c'],
      source: 'patch; the condition is inferred from it',
      sure: 'read',
    },
    condition:
      'an IOMMU translates addresses and the pair uses bus addresses, or the data goes through a bounce buffer',
    consequence: 'each peer-to-peer transfer leaks kernel memory, until none is left',
    remedy: 'Boot Linux 7.0.11, Linux 7.1 or newer.',
    commands: [],
    risk: 'kernel',
  },
  {
    id: 'mirror',
    rule: {
      what: 'a mirror (raid1, raid10) does not treat it as an error of a member if that member refuses the peer’s memory',
      since: [7, 2, 0],
      commits: ['f7b24c7b41f2', '02666132403a'],
      source: 'source; not fixed on the date of the table, nor in 7.3.4',
      sure: 'read',
    },
    condition: 'a member of the mirror cannot reach the provider',
    consequence: 'the write is reported as successful, but the members differ',
    remedy:
      'Use peer memory on a mirror only if each member can reach the provider (`p2pdma explain <provider> /dev/md…`). This ' +
      'package uses it only then; other programs may not ask.',
    commands: [],
    risk: 'data',
  },
  {
    id: 'mmap-leak',
    rule: {
      what: 'a failed mmap of p2pmem/allocate leaks a reference',
      since: [6, 2, 0],
      until: [7, 0, 0],
      endings: [
        [6, 12, 75],
        [6, 18, 14],
        [6, 19, 4],
      ],
      commits: ['6220694c52a5'],
      source: 'source of 6.12.117, lists of 6.12.75 and the others',
      sure: 'read',
    },
    condition: 'mapping a provider’s memory failed after it had begun',
    consequence: 'removing that drive, or its driver, hangs',
    remedy: 'Boot a kernel with the fix: Linux 7.0, 6.19.4, 6.18.14 or 6.12.75.',
    commands: [],
    risk: 'device',
  },
  {
    id: 'acs-list',
    rule: {
      what: 'the list of ACS-redirecting functions in dmesg ends after nine, and one byte is written beyond its buffer',
      since: [6, 2, 0],
      until: [7, 4, 0],
      commits: ['4f43c3ecc30d'],
      source: 'source; the overrun is inferred',
      sure: 'inferred',
    },
    condition: 'ten or more functions on the path of a pair have ACS redirection enabled',
    consequence:
      'the kernel writes one byte beyond a buffer on its stack, and its advice in dmesg is cut short',
    remedy: 'Turn off ACS redirection on the path: `p2pdma explain` prints the complete list.',
    commands: [],
    risk: 'kernel',
  },
];

/** The releases that have a bug. */
export function bugRule(id: KernelBug['id']): Rule {
  return KERNEL_BUGS.find((bug) => bug.id === id)!.rule;
}
