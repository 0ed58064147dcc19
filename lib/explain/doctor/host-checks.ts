/** Checks of the kernel, the addon, DMA mapping, and the permissions of this process. */
import { type KernelRelease, olderThan } from '../../backend/kernel-release.js';
import { size } from '../../base/words.js';
import { distributionOf } from '../../kernel/releases/distributions.js';
import { sinceText, versionText } from '../../kernel/releases/rule.js';
import { USERSPACE, withheldFromPrograms } from '../../kernel/releases/table.js';
import type { HostLimits } from '../../native/sysfs/limits.js';
import type { MachineFacts } from './facts.js';
import { type Finding, finding } from './finding.js';

const NO_MEMLOCK_SINCE = [5, 12] as const;

export function checkKernel({ kernel, machine }: MachineFacts): Finding[] {
  const { kernel: release } = machine.topology;
  const withheld = withheldFromPrograms(release);
  if (withheld !== null) {
    const remedy = `Boot ${sinceText(USERSPACE)} or newer, built with CONFIG_PCI_P2PDMA.`;
    const old = finding('kernel', 'problem', withheld, said(release, remedy));
    return kernel === null ? [old] : [old, checkConfig(kernel.p2pdma, release)];
  }
  if (kernel === null) return [finding('kernel', 'ok', 'emulated: the P2PDMA series runs in this process')];
  const needed = `userspace peer-to-peer memory came with ${sinceText(USERSPACE)}`;
  const first =
    kernel.version === null
      ? finding('kernel', 'warning', `the release of this kernel is not known; ${needed}`)
      : finding(
          'kernel',
          'ok',
          `Linux ${kernel.release} (${versionText(USERSPACE.since)} or newer is needed)`,
        );
  return [first, checkConfig(kernel.p2pdma, release)];
}

/** A remedy, preceded by what is known about this distribution's kernels. */
function said(release: KernelRelease | null, remedy: string): string {
  const note = distributionOf(release)?.note ?? null;
  return note === null ? remedy : `${note} ${remedy}`;
}

/** What is known about this distribution's configuration, as a clause; empty: nothing. */
function usually(release: KernelRelease | null): string {
  const known = distributionOf(release);
  if (known === null || known.p2pdma === null) return '';
  const sure = known.sure === 'inferred' ? ', as far as is known,' : '';
  return `; kernels of ${known.vendor} (${known.which})${sure} ${known.p2pdma ? 'have it' : 'do not have it'}`;
}

function checkConfig(
  { enabled, from }: { enabled: boolean | null; from: string },
  release: KernelRelease | null,
): Finding {
  if (enabled === true) return finding('config', 'ok', `CONFIG_PCI_P2PDMA=y (${from})`);
  if (enabled === null) {
    return finding(
      'config',
      'warning',
      `whether the kernel has CONFIG_PCI_P2PDMA is not known: ${from}${usually(release)}`,
      'Look for its configuration, which is in one of these two files.',
      ['grep PCI_P2PDMA "/boot/config-$(uname -r)"', 'zgrep PCI_P2PDMA /proc/config.gz'],
    );
  }
  return finding(
    'config',
    'problem',
    `the kernel was built without CONFIG_PCI_P2PDMA (${from}), as Debian’s are up to 6.12`,
    'Boot a kernel that has it: Debian’s from backports do, from 6.16 on. To build one, run these commands in its source tree. The last one builds packages for ' +
      'Debian; for another distribution, run make, and then sudo make modules_install install.',
    [
      './scripts/config -e MEMORY_HOTPLUG -e MEMORY_HOTREMOVE',
      './scripts/config -e SPARSEMEM_VMEMMAP -e ZONE_DEVICE -e PCI_P2PDMA',
      'make olddefconfig && grep PCI_P2PDMA=y .config',
      'make -j"$(nproc)" bindeb-pkg',
    ],
  );
}

export function checkAddon({ live }: MachineFacts): Finding[] {
  if (live === null) return [];
  if (live.addon !== null) return [finding('addon', 'problem', live.addon.why, live.addon.hint)];
  if (live.noExternalBuffers !== null) {
    return [
      finding(
        'addon',
        'problem',
        live.noExternalBuffers,
        'Run under an ordinary build of Node, outside Electron.',
      ),
    ];
  }
  return [finding('addon', 'ok', 'the native addon loads')];
}

export function checkIommu({ machine, iommuWhy, kind }: MachineFacts): Finding {
  const why = iommuWhy === null ? '' : ` (${iommuWhy})`;
  const { iommu } = machine.topology;
  switch (iommu) {
    case 'none':
      return finding('iommu', 'ok', `DMA addresses are physical; no IOMMU translates${why}`);
    case 'translating':
      return finding(
        'iommu',
        'ok',
        `an IOMMU translates, by way of dma-iommu, which takes peer memory${why}`,
      );
    case 'unsupported':
      return finding(
        'iommu',
        'problem',
        `the machine’s DMA mapping does not take peer memory${why}`,
        'Software cannot fix this: it needs dma-direct or dma-iommu (x86, arm64). Copy through host memory.',
      );
    case 'unknown':
      return finding(
        'iommu',
        'warning',
        `how DMA addresses are made is not known${why}`,
        kind === 'captured'
          ? 'Capture /sys/kernel/iommu_groups and /sys/class/iommu too.'
          : 'Look where sysfs is complete: containers may hide /sys/kernel/iommu_groups.',
      );
    default:
      return iommu satisfies never;
  }
}

const THREADS = 'the thread engine does the same with more CPU';

export function checkIoUring({ limits, live, kernel }: MachineFacts): Finding[] {
  if (limits === null) return [];
  const refused = live?.noIoUring ?? null;
  const disabled = limits.ioUringDisabled;
  if (disabled === 2 || (disabled === 1 && refused !== null)) return [ringsSwitchedOff(disabled)];
  if (refused !== null) return [ringRefused(refused, limits)];
  const sysctl = `kernel.io_uring_disabled=${disabled}`;
  const said = disabled === null ? 'no sysctl forbids it' : sysctl;
  if (live !== null) return [finding('io_uring', 'ok', `allowed (a ring opened; ${said})`)];
  if (disabled === 1) {
    const group = limits.ioUringGroup;
    const who = group === null || group < 0 ? 'nobody' : `group ${group}`;
    return [
      finding('io_uring', 'warning', `allowed to root and ${who} only (${sysctl}); otherwise ${THREADS}`),
    ];
  }
  if (disabled === null && kernel?.version == null) return [];
  return [finding('io_uring', 'ok', `allowed as far as sysctls tell (${said})`)];
}

function ringsSwitchedOff(disabled: 1 | 2): Finding {
  const what = `io_uring is switched off (kernel.io_uring_disabled=${disabled}); ${THREADS}`;
  return disabled === 2
    ? finding('io_uring', 'warning', what, 'Switch it on, if nobody wanted it off for safety.', [
        'sudo sysctl -w kernel.io_uring_disabled=0',
      ])
    : finding('io_uring', 'warning', what, 'Become a member of its group, or switch it on for everybody.', [
        'sudo sysctl -w kernel.io_uring_group="$(id -g)"',
      ]);
}

function ringRefused(refused: string, { seccomp, ioUringDisabled }: HostLimits): Finding {
  const filtered = seccomp === true && (ioUringDisabled === 0 || ioUringDisabled === null);
  if (!filtered) return finding('io_uring', 'warning', `io_uring is refused (${refused}); ${THREADS}`);
  return finding(
    'io_uring',
    'warning',
    `io_uring is refused by a seccomp filter (${refused}); ${THREADS}`,
    'Containers refuse it by default: allow io_uring_setup, io_uring_enter and io_uring_register in the ' +
      'profile. It widens what the container can do to the kernel.',
    ['docker run --security-opt seccomp=profile-with-io_uring.json …'],
  );
}

export function checkLockedMemory({ limits, kernel }: MachineFacts): Finding[] {
  const locked = limits?.lockedMemory ?? null;
  if (locked === null) return [];
  const limit = locked === Number.POSITIVE_INFINITY ? 'unlimited' : size(locked);
  const charged = kernel?.version != null && olderThan(kernel.version, ...NO_MEMLOCK_SINCE);
  if (charged && locked < 2 ** 20) {
    return [
      finding(
        'memlock',
        'warning',
        `locked memory is limited to ${limit}, and this kernel charges io_uring’s rings to it`,
        'Raise the limit before starting the process.',
        ['ulimit -l unlimited   # or LimitMEMLOCK=infinity in a systemd unit'],
      ),
    ];
  }
  return [finding('memlock', 'ok', `locked memory limit ${limit}; nothing here is charged to it`)];
}
