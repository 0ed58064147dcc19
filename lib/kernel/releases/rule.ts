/**
 * A dated rule: since which release the kernel has something, to which older series and patch levels it was
 * backported, and where it ended. Everything that depends on a release is looked up here, in the tables beside this
 * file, which contain what was known on TABLE_DATE.
 *
 *     since 7.2, backported to 7.1.3:   7.1.2 no    7.1.3 yes    7.1 yes (a series is its newest)    7.2 yes    9.9 yes
 *
 * If a rule does not cover a release, the answer is a third value, which is never turned into a yes or a no.
 */
import {
  type KernelRelease,
  type KernelVendor,
  type KernelVersion,
  olderThan,
  parseRelease,
} from '../../backend/kernel-release.js';
import { optionError } from '../../base/arguments.js';

/** The date of the information in these tables. */
export const TABLE_DATE = '9 October 2026';
/** The newest release whose content is in the tables. */
export const NEWEST_RELEASE: KernelVersion = [7, 3, 0];
/** The tables contain what was queued for this release on TABLE_DATE; it was not yet released then. */
export const QUEUED_RELEASE: KernelVersion = [7, 4, 0];

/** read: in source or the patch; listed: in a list of commits or by its authors; inferred: concluded from other facts. */
export type Certainty = 'read' | 'listed' | 'inferred';

export interface Rule {
  /** What the rule states, as a clause: `'a multipath head takes peer memory'`. */
  readonly what: string;
  readonly since: KernelVersion;
  /** Series that also have it, starting with this patch level. */
  readonly backports?: readonly KernelVersion[];
  /** Series that may have it, starting with this patch level: the backport was requested, but nobody has checked. */
  readonly perhaps?: readonly KernelVersion[];
  /**
   * The first release that no longer has it; `untilCandidate` is its first release candidate without it (undefined:
   * its candidates have it).
   */
  readonly until?: KernelVersion;
  readonly untilCandidate?: number;
  /** Older series that no longer have it, starting with this patch level. */
  readonly endings?: readonly KernelVersion[];
  /** Vendors whose kernels have it, whatever their version number. */
  readonly vendors?: readonly KernelVendor[];
  /** Kernel commits, shortened. */
  readonly commits: readonly string[];
  /** The source of this information. */
  readonly source: string;
  readonly sure: Certainty;
}

export type Answer = 'yes' | 'no' | 'unknown';

/** These vendors backport whole subsystems from newer kernels, so the version number says little. */
const CARRIES_OVER: ReadonlySet<KernelVendor> = new Set<KernelVendor>([
  'Red Hat Enterprise Linux',
  'Oracle UEK',
  'SUSE',
]);

/** Does this kernel have it? Null: a kernel whose release is not known. */
export function holds(rule: Rule, release: KernelRelease | null): Answer {
  if (release === null) return rule.until === undefined && isAncient(rule) ? 'yes' : 'unknown';
  const { vendor } = release;
  if (vendor !== null && rule.vendors?.includes(vendor)) return 'yes';
  const answer = byNumber(rule, release);
  const changed = !isAncient(rule) || rule.until !== undefined;
  return vendor !== null && CARRIES_OVER.has(vendor) && changed && answer === 'no' ? 'unknown' : answer;
}

function byNumber(rule: Rule, release: KernelRelease): Answer {
  if (!reached(release, rule.since)) {
    if (inSeries(release, rule.backports)) return 'yes';
    return inSeries(release, rule.perhaps) ? 'unknown' : 'no';
  }
  if (rule.until !== undefined && ended(rule.until, rule.untilCandidate, release)) return 'no';
  return inSeries(release, rule.endings) ? 'no' : 'yes';
}

/** A release candidate has what its release has, but not a fix that came after the candidate. */
function ended(until: KernelVersion, first: number | undefined, release: KernelRelease): boolean {
  const ofIt = sameSeries(release.version, until) && release.candidate !== null;
  return ofIt ? first !== undefined && release.candidate! >= first : reached(release, until);
}

function inSeries(release: KernelRelease, series: readonly KernelVersion[] = []): boolean {
  return series.some((from) => sameSeries(release.version, from) && reached(release, from));
}

function reached({ version, series }: KernelRelease, [major, minor, patch]: KernelVersion): boolean {
  return !olderThan(
    series ? [version[0], version[1], Number.POSITIVE_INFINITY] : version,
    major,
    minor,
    patch,
  );
}

function sameSeries(a: KernelVersion, b: KernelVersion): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

/** True if it is as old as P2PDMA for programs (6.2) or older, so that every relevant kernel has it. */
function isAncient({ since }: Rule): boolean {
  return !olderThan([6, 2, 0], since[0], since[1], since[2]);
}

/** Newer than all that is in the tables: queued for the next release, or beyond it. */
export function isBeyondTable({ version: [major, minor] }: KernelRelease): boolean {
  return olderThan(NEWEST_RELEASE, major, minor);
}

/** `'7.2'`, `'7.1.3'`. */
export function versionText([major, minor, patch]: KernelVersion): string {
  return patch === 0 ? `${major}.${minor}` : `${major}.${minor}.${patch}`;
}

/** `'Linux 7.2, 7.1.3'`: where it was added; `'Linux 7.4 (queued, not released on 9 October 2026)'`. */
export function sinceText({ since, backports = [] }: Rule): string {
  const queued = since[0] === QUEUED_RELEASE[0] && since[1] === QUEUED_RELEASE[1];
  const first = queued ? `${versionText(since)} (queued, not released on ${TABLE_DATE})` : versionText(since);
  return `Linux ${[first, ...backports.map(versionText)].join(', ')}`;
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: option `kernel` is no release */
export function assertRelease(kernel: string): KernelRelease {
  const release = parseRelease(kernel);
  if (release !== null) return release;
  throw optionError('ERR_INVALID_ARG_VALUE', 'kernel', `'${kernel}' is not a kernel release`, {
    received: kernel,
    hint: 'Give one as `uname -r` does, or a series: 7.2, 6.12.117, 6.17.0-35-generic.',
  });
}
