/** All checks, in the order in which they are printed, and those that are not possible on a machine of this kind. */
import { checkDrives, checkFabrics, checkMemory, checkMultipath, checkPermissions } from './drive-checks.js';
import type { MachineFacts } from './facts.js';
import type { Finding, Unchecked } from './finding.js';
import { checkAddon, checkIommu, checkIoUring, checkKernel, checkLockedMemory } from './host-checks.js';
import { checkKernelBugs } from './kernel-bugs.js';
import { checkPaths } from './path-checks.js';

export function examine(facts: MachineFacts): Finding[] {
  return [
    ...checkKernel(facts),
    ...checkKernelBugs(facts),
    ...checkAddon(facts),
    checkIommu(facts),
    ...checkDrives(facts),
    ...checkMemory(facts),
    ...checkPermissions(facts),
    ...checkMultipath(facts),
    ...checkFabrics(facts),
    ...checkPaths(facts),
    ...checkIoUring(facts),
    ...checkLockedMemory(facts),
  ];
}

export function unchecked({ kind }: MachineFacts): Unchecked[] {
  switch (kind) {
    case 'live':
      return [];
    case 'captured':
      return [
        { check: 'addon', why: 'a captured tree' },
        { check: 'permissions', why: 'a captured tree' },
      ];
    case 'emulated':
      return [
        { check: 'addon', why: 'not needed' },
        { check: 'permissions', why: 'not needed' },
        { check: 'io_uring', why: 'not used' },
        { check: 'memlock', why: 'not used' },
      ];
    default:
      return kind satisfies never;
  }
}
