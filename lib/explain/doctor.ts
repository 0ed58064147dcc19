/**
 * `doctor`: will peer-to-peer DMA work here, and if not, what is to be done? The facts and the judgement; drawing
 * them is the command's. Works on this machine, on a captured tree of another (on any OS), on an emulated one.
 */

import { resolve } from 'node:path';
import type { Origin } from '../backend/backend.js';
import { type DiagnoseOptions, diagnoseOptions } from '../backend/system-options.js';
import { P2pdmaError } from '../base/errors.js';
import { assertRelease } from '../kernel/releases/rule.js';
import { parseOptions } from '../streams/options.js';
import {
  checkDrives,
  checkFabrics,
  checkMemory,
  checkMultipath,
  checkPermissions,
} from './doctor/drive-checks.js';
import { gatherFacts, HERE, type MachineFacts, type Whose } from './doctor/facts.js';
import { type Finding, finding, type Unchecked } from './doctor/finding.js';
import {
  checkAddon,
  checkIommu,
  checkIoUring,
  checkKernel,
  checkLockedMemory,
} from './doctor/host-checks.js';
import { checkKernelBugs } from './doctor/kernel-bugs.js';
import { checkPaths } from './doctor/path-checks.js';

export type { Finding, FindingCheck, FindingLevel, Unchecked } from './doctor/finding.js';

/** works: nothing to fix. limited: works, with the warnings' limits. impossible: not until the problems are mended. @inline */
export type DoctorVerdict = 'works' | 'limited' | 'impossible';

/** What `diagnose()` found: one finding per line of `p2pdma doctor`. */
export interface Diagnosis extends Origin {
  /** As of a System. */
  readonly notice: string | null;
  /** What was looked at, in words. */
  readonly what: string;
  /** In the order of the screen. */
  readonly findings: readonly Finding[];
  /** What cannot be looked at in a machine of this kind, and why not, in words. */
  readonly unchecked: readonly Unchecked[];
  /** The worst of the findings: nothing to fix; works, with the warnings' limits; not until the problems are mended. */
  readonly verdict: DoctorVerdict;
}

/**
 * Look, and judge. Nothing is opened for writing, no I/O is done.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE (no tree at root), ERR_MACHINE_INVALID
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Diagnosis> {
  const given = parseOptions(diagnoseOptions, options);
  const { root = '/', machine, kernel } = given;
  if (kernel !== undefined) assertRelease(kernel);
  if (given.root !== undefined && machine !== undefined) {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_VALUE',
      `root and machine name two machines (received '${root}')`,
      {
        hint: 'Drop one of them.',
      },
    );
  }
  if (machine === undefined && process.platform !== 'linux' && resolve(root) === resolve('/')) {
    return conclude({ ...HERE, what: 'this machine' }, [elsewhere()], []);
  }
  const whose: Whose = {
    ...(machine === undefined ? { root } : { machine }),
    ...(kernel === undefined ? {} : { kernel }),
  };
  const facts = await gatherFacts(whose);
  try {
    return conclude(facts, examine(facts), unchecked(facts));
  } finally {
    await facts.close();
  }
}

function elsewhere(): Finding {
  return finding(
    'platform',
    'problem',
    `this is ${process.platform}: peer-to-peer DMA needs Linux`,
    'Look at a Linux machine’s captured sys/ and proc/, or at an emulated machine.',
    ['p2pdma doctor --root ./captured', 'p2pdma doctor --machine switch'],
  );
}

function examine(facts: MachineFacts): Finding[] {
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

function unchecked({ kind }: MachineFacts): Unchecked[] {
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

type Subject = Pick<Diagnosis, 'backend' | 'notice' | 'what'> & { readonly name: string | null };

function conclude(
  { backend, name, notice, what }: Subject,
  findings: Finding[],
  rest: Unchecked[],
): Diagnosis {
  const verdict: DoctorVerdict = findings.some(({ level }) => level === 'problem')
    ? 'impossible'
    : findings.some(({ level }) => level === 'warning')
      ? 'limited'
      : 'works';
  return { backend, machine: name, notice, what, findings, unchecked: rest, verdict };
}
