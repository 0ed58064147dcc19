/**
 * The kernel's host bridge allow-list (pci_p2pdma_whitelist). A host bridge is identified by the
 * first device on its root bus. Each row has the release in which it was added.
 */
import type { KernelRelease, KernelVendor } from '../../backend/kernel-release.js';
import { idsKnown } from '../../backend/names.js';
import { type Answer, holds, isBeyondTable, type Rule, TABLE_DATE } from './rule.js';

export interface AllowedHostBridge {
  readonly vendor: number;
  /** Null: any device of this vendor. */
  readonly device: number | null;
  /** Valid only if provider and client both belong to this host bridge. */
  readonly sameHostBridge: boolean;
  readonly why: string;
  readonly rule: Rule;
}

const INTEL = 0x8086;
const NVIDIA = 0x10de;
const ZHAOXIN = 0x1d17;
const ALIBABA = 0x1ded;
const GOOGLE = 0x1ae0;

const listed = (what: string, rest: Omit<Rule, 'what'>): Rule => ({
  what: `the host bridge allow-list has ${what}`,
  ...rest,
});

const BEFORE_6_2 = listed('Intel’s Xeons from Sandy Bridge on, except v4', {
  since: [5, 18, 0],
  commits: ['feaea1fe8b36'],
  source: 'source of 6.12.117',
  sure: 'read',
});
const GOOGLES = listed('Google’s processors', {
  since: [7, 1, 0],
  commits: ['1a1f96e3e2a8', '70cf146a674c'],
  source: 'source of a 7.1, patch for 7.1.3, source of 7.2.13',
  sure: 'read',
});
const ACCELERATORS = listed('Xeon root buses that begin with an accelerator (DSA, IAA, QAT)', {
  since: [7, 2, 0],
  backports: [[7, 1, 3]],
  // It was sent to all stable series, but it is not known which of them took it; 6.12 had not taken it up to 6.12.117.
  perhaps: [
    [6, 6, 88],
    [6, 12, 118],
    [6, 18, 1],
    [7, 0, 1],
  ],
  commits: ['0ba76b19fd4c', 'cbad530277b5'],
  source: 'patch, 7.1.3, source of 7.2.13',
  sure: 'read',
});
const VERA_RUBIN = listed('NVIDIA Vera Rubin', {
  since: [7, 3, 0],
  commits: ['894a78088fc3'],
  source: 'source of 7.3.4',
  sure: 'read',
});
const ZHAOXINS = listed('Zhaoxin’s processors', {
  since: [7, 4, 0],
  vendors: ['openEuler', 'Anolis OS', 'deepin'],
  commits: ['f7c2204'],
  source: 'queue for 7.4; source of openEuler’s and Anolis’ kernels; deepin’s list of changes',
  sure: 'read',
});
const QUEUED = (what: string, commit: string): Rule =>
  listed(what, { since: [7, 4, 0], commits: [commit], source: 'queue for 7.4', sure: 'read' });
const YITIAN = QUEUED('Alibaba’s Yitian 710', '6a0b9a75b986');
const HASWELL_CLIENT = QUEUED('Haswell for desktops', '0b9df403ddfa');
const BROADWELL_XEON = QUEUED('Xeon E3, E5, E7 v4 and Xeon D', 'e7b44579a6b4');

const BOTH_WAYS = 'peers pass between its stacks';
const ONE_SOCKET = 'peers pass inside a socket, not across QPI';
const ACCELERATOR = (name: string): string => `${name}, first on a root bus of a Xeon: ${BOTH_WAYS}`;

/** In the kernel's order: the first row that matches decides. */
export const HOST_BRIDGES: readonly AllowedHostBridge[] = [
  row(INTEL, 0x3c00, true, `Xeon E5 (Sandy Bridge) DMI2: ${ONE_SOCKET}`, BEFORE_6_2),
  row(INTEL, 0x3c01, true, `Xeon E5 (Sandy Bridge) root port 1a: ${ONE_SOCKET}`, BEFORE_6_2),
  row(INTEL, 0x2f00, true, `Xeon E5/E7 v3 (Haswell) DMI2: ${ONE_SOCKET}`, BEFORE_6_2),
  row(INTEL, 0x2f01, true, `Xeon E5/E7 v3 (Haswell) root port 0: ${ONE_SOCKET}`, BEFORE_6_2),
  row(INTEL, 0x2030, false, `Xeon Scalable (Sky Lake-E) root port A: ${BOTH_WAYS}`, BEFORE_6_2),
  row(INTEL, 0x2031, false, `Xeon Scalable (Sky Lake-E) root port B: ${BOTH_WAYS}`, BEFORE_6_2),
  row(INTEL, 0x2032, false, `Xeon Scalable (Sky Lake-E) root port C: ${BOTH_WAYS}`, BEFORE_6_2),
  row(INTEL, 0x2033, false, `Xeon Scalable (Sky Lake-E) root port D: ${BOTH_WAYS}`, BEFORE_6_2),
  row(INTEL, 0x2020, false, `Xeon Scalable (Sky Lake-E) DMI3: ${BOTH_WAYS}`, BEFORE_6_2),
  row(
    INTEL,
    0x09a2,
    false,
    `Xeon Scalable (Ice Lake-X and later) VT-d/memory map device: ${BOTH_WAYS}`,
    BEFORE_6_2,
  ),
  row(INTEL, 0x0b25, false, ACCELERATOR('DSA (Sapphire Rapids)'), ACCELERATORS),
  row(INTEL, 0x0cfe, false, ACCELERATOR('IAA (Sapphire Rapids)'), ACCELERATORS),
  row(INTEL, 0x11fb, false, ACCELERATOR('DSA (Granite Rapids-D)'), ACCELERATORS),
  row(INTEL, 0x1212, false, ACCELERATOR('DSA (Diamond Rapids)'), ACCELERATORS),
  row(INTEL, 0x1216, false, ACCELERATOR('IAA (Diamond Rapids)'), ACCELERATORS),
  row(INTEL, 0x4940, false, ACCELERATOR('QAT 4xxx'), ACCELERATORS),
  row(INTEL, 0x4942, false, ACCELERATOR('QAT 401xx'), ACCELERATORS),
  row(INTEL, 0x4944, false, ACCELERATOR('QAT 402xx'), ACCELERATORS),
  row(INTEL, 0x4946, false, ACCELERATOR('QAT 420xx'), ACCELERATORS),
  row(INTEL, 0x4948, false, ACCELERATOR('QAT 6xxx'), ACCELERATORS),
  row(INTEL, 0x0c08, true, 'Haswell for desktops: peers pass below one host bridge', HASWELL_CLIENT),
  row(
    INTEL,
    0x6f00,
    true,
    'Xeon E3/E5/E7 v4, Xeon D (Broadwell): peers pass below one host bridge',
    BROADWELL_XEON,
  ),
  row(NVIDIA, 0x2f95, false, 'NVIDIA Vera Rubin: peers pass between its host bridges', VERA_RUBIN),
  row(NVIDIA, 0x2f96, false, 'NVIDIA Vera Rubin: peers pass between its host bridges', VERA_RUBIN),
  row(NVIDIA, 0x2f97, false, 'NVIDIA Vera Rubin: peers pass between its host bridges', VERA_RUBIN),
  row(NVIDIA, 0x2f98, false, 'NVIDIA Vera Rubin: peers pass between its host bridges', VERA_RUBIN),
  row(ZHAOXIN, 0x1003, true, 'Zhaoxin KX-6000: peers pass below one host bridge', ZHAOXINS),
  row(ZHAOXIN, 0x1005, true, 'Zhaoxin KH-40000: peers pass below one host bridge', ZHAOXINS),
  row(ZHAOXIN, 0x1006, true, 'Zhaoxin KX-6000G: peers pass below one host bridge', ZHAOXINS),
  row(ZHAOXIN, 0x1007, true, 'Zhaoxin KX-7000: peers pass below one host bridge', ZHAOXINS),
  row(ZHAOXIN, 0x1008, false, 'Zhaoxin KH-50000: peers pass between its host bridges', ZHAOXINS),
  row(ALIBABA, 0x8000, false, 'Alibaba Yitian 710: peers pass between its host bridges', YITIAN),
  row(GOOGLE, null, false, 'Google: peers pass between its host bridges', GOOGLES),
];

function row(
  vendor: number,
  device: number | null,
  sameHostBridge: boolean,
  why: string,
  rule: Rule,
): AllowedHostBridge {
  return { vendor, device, sameHostBridge, why, rule };
}

/** Vendors whose kernel list was read and is the same as kernel.org's. */
const AS_MAINLINE: ReadonlySet<KernelVendor> = new Set<KernelVendor>(['Debian']);

/** The entry of a kernel's list for one host bridge. */
export interface Listing {
  readonly listed: Answer;
  /** The row, whether this kernel has it or not; null: no known release has a row. */
  readonly row: AllowedHostBridge | null;
  /** For `unknown`: why it is not known, as a clause; otherwise null. */
  readonly doubt: string | null;
}

/** Null: a kernel whose release is not known. */
export function listingOf(
  ids: { readonly vendor: number; readonly device: number },
  release: KernelRelease | null,
): Listing {
  if (!idsKnown(ids)) {
    return { listed: 'unknown', row: null, doubt: 'its vendor and device ID were not read' };
  }
  const { vendor, device } = ids;
  const row =
    HOST_BRIDGES.find((entry) => entry.vendor === vendor && (entry.device ?? device) === device) ?? null;
  const answer = row === null ? 'no' : holds(row.rule, release);
  if (answer === 'yes') return { listed: 'yes', row, doubt: null };
  const doubt = doubtOf(row, answer, release);
  return { listed: doubt === null ? 'no' : 'unknown', row, doubt };
}

function doubtOf(
  row: AllowedHostBridge | null,
  answer: Answer,
  release: KernelRelease | null,
): string | null {
  if (release === null) return 'which kernel this is is not known';
  const { text, vendor } = release;
  if (vendor !== null && !AS_MAINLINE.has(vendor)) {
    return `Linux ${text} is ${vendor}’s, and its list may be longer than kernel.org’s`;
  }
  if (isBeyondTable(release)) return `Linux ${text} is newer than this table`;
  if (row !== null && answer === 'unknown') return `Linux ${text} may have it by backport`;
  return null;
}

/** The state of the list, which is added to every "not known" verdict of the list. */
export const LIST_STATE = `the list known here is of ${TABLE_DATE}`;
