/** The system's limits for a process: io_uring, locked memory. These are more facts behind a `doctor`'s findings. */
import { parseNumber, type SysfsTree } from './tree.js';

export interface HostLimits {
  /**
   * kernel.io_uring_disabled: 0 means anybody may use it, 1 only its group and CAP_SYS_ADMIN, 2 nobody; null: there is no such
   * sysctl.
   */
  readonly ioUringDisabled: number | null;
  /** kernel.io_uring_group; −1: none. */
  readonly ioUringGroup: number | null;
  /**
   * RLIMIT_MEMLOCK (soft) in bytes, of this process or of the process that captured the tree; Infinity: unlimited; null:
   * unknown.
   */
  readonly lockedMemory: number | null;
  /** This process runs under a seccomp filter (for a captured tree, the process that captured it did). */
  readonly seccomp: boolean | null;
}

export function readLimits(tree: SysfsTree): HostLimits {
  const sysctl = (name: string): number | null => {
    const text = tree.text(`proc/sys/kernel/${name}`, 64, { optional: true });
    return text === null ? null : parseNumber(text);
  };
  const limits = tree.text('proc/self/limits', 16 * 1024, { optional: true });
  const locked = /^Max locked memory\s+(\S+)/m.exec(limits ?? '')?.[1];
  const status = tree.text('proc/self/status', 16 * 1024, { optional: true });
  const seccomp = /^Seccomp:\s*(\d+)/m.exec(status ?? '')?.[1];
  return {
    ioUringDisabled: sysctl('io_uring_disabled'),
    ioUringGroup: sysctl('io_uring_group'),
    lockedMemory:
      locked === undefined ? null : locked === 'unlimited' ? Number.POSITIVE_INFINITY : parseNumber(locked),
    seccomp: seccomp === undefined ? null : seccomp !== '0',
  };
}
