/**
 * `doctor`: will peer-to-peer DMA work here, and if not, what can be done? This module gathers the facts and judges
 * them; the command prints them. It works on this machine, on a captured tree of another machine (on any OS), and on an
 * emulated machine.
 */

import { resolve } from 'node:path';
import type { Origin } from '../backend/backend.js';
import type { Evidence } from '../backend/evidence.js';
import { type DiagnoseOptions, diagnoseOptions } from '../backend/system-options.js';
import { P2pdmaError } from '../base/errors.js';
import { assertRelease } from '../kernel/releases/rule.js';
import { parseOptions } from '../streams/options.js';
import { toPath } from '../streams/paths.js';
import type { Whose } from './doctor/facts.js';
import { type Finding, finding, type Unchecked } from './doctor/finding.js';

export type { Finding, FindingCheck, FindingLevel, Unchecked } from './doctor/finding.js';

/**
 * works: nothing to fix. limited: works, within the limits that the warnings name. unknown: the captured data does not
 * show it. impossible: not until the problems are fixed.
 * @inline
 */
export type DoctorVerdict = 'works' | 'limited' | 'unknown' | 'impossible';

/** What `diagnose()` found: one finding for each entry of `p2pdma doctor`. */
export interface Diagnosis extends Origin {
  /** As of a System. */
  readonly notice: string | null;
  /** What was examined, in words. */
  readonly what: string;
  /** In the order in which `doctor` prints them. */
  readonly findings: readonly Finding[];
  /** What cannot be checked on a machine of this kind, and why not, in words. */
  readonly unchecked: readonly Unchecked[];
  /**
   * The worst of the findings. `works`: nothing to fix; `limited`: it works, within the limits that the warnings name;
   * `unknown`: the captured data does not show it; `impossible`: not until the problems are fixed.
   */
  readonly verdict: DoctorVerdict;
  /** With `from`: what was recognised, and what is therefore not known. Otherwise null. */
  readonly evidence: Evidence | null;
}

/**
 * Examine a machine and judge it. Nothing is opened for writing, and no I/O is done.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE (no tree at root), ERR_MACHINE_INVALID
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Diagnosis> {
  const given = parseOptions(diagnoseOptions, options);
  const { root = '/', machine, kernel, from } = given;
  if (kernel !== undefined) assertRelease(kernel);
  if (from !== undefined) return examineAll(await sentWhose(given));
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
    const { HERE } = await import('./doctor/facts.js');
    return conclude({ ...HERE, what: 'this machine' }, [elsewhere()], []);
  }
  const whose: Whose = {
    ...(machine === undefined ? { root } : { machine }),
    ...(kernel === undefined ? {} : { kernel }),
  };
  return examineAll(whose);
}

type Given = Pick<DiagnoseOptions, 'root' | 'machine' | 'from' | 'cpu' | 'kernel'>;

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: two machines are named, or the machine cannot be determined */
async function sentWhose({ root, machine, from, cpu, kernel }: Given): Promise<Whose> {
  if (root !== undefined || machine !== undefined) {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_VALUE',
      `from and ${root === undefined ? 'machine' : 'root'} name two machines`,
      { hint: 'Drop one of them.' },
    );
  }
  const { openSent } = await import('../dump/open.js');
  const given = [from].flat() as readonly (string | URL | Uint8Array)[];
  const inputs = given.map((one) => (one instanceof Uint8Array ? one : toPath(one)));
  const known = { ...(cpu === undefined ? {} : { cpu }), ...(kernel === undefined ? {} : { kernel }) };
  return {
    sent: await openSent(inputs, known),
    ...(kernel === undefined ? {} : { kernel }),
  };
}

async function examineAll(whose: Whose): Promise<Diagnosis> {
  const [{ examine, unchecked }, { gatherFacts }] = await Promise.all([
    import('./doctor/checks.js'),
    import('./doctor/facts.js'),
  ]);
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

type Subject = Pick<Diagnosis, 'backend' | 'notice' | 'what' | 'evidence'> & {
  readonly name: string | null;
};

/** The worst level first. */
const VERDICTS: readonly (readonly [Finding['level'], DoctorVerdict])[] = [
  ['problem', 'impossible'],
  ['unknown', 'unknown'],
  ['warning', 'limited'],
];

function conclude(
  { backend, name, notice, what, evidence }: Subject,
  findings: Finding[],
  rest: Unchecked[],
): Diagnosis {
  const verdict = VERDICTS.find(([level]) => findings.some((one) => one.level === level))?.[1] ?? 'works';
  return { backend, machine: name, notice, what, findings, unchecked: rest, verdict, evidence };
}
