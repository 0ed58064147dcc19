/**
 * A kernel's release as uname gives it, parsed once:
 *
 *     6.12.117+deb12-amd64        Debian's 6.12.117
 *     5.14.0-503.11.1.el9_5       Red Hat's 5.14, with many backports from newer kernels
 *     7.0.0-rc3, 7.1-rc2          third release candidate of 7.0, second of 7.1
 *     6.12                        no patch level: taken as the newest patch level of the series
 *
 * No number tells what a distribution backported from newer kernels; the suffix at least tells whose kernel it is.
 */
export type KernelVersion = readonly [major: number, minor: number, patch: number];

/** The vendors whose kernels can be recognised by their suffix. @inline */
export type KernelVendor =
  | 'Alibaba Cloud Linux'
  | 'Amazon Linux'
  | 'Anolis OS'
  | 'Arch Linux'
  | 'Azure Linux'
  | 'Debian'
  | 'deepin'
  | 'Fedora'
  | 'Microsoft WSL'
  | 'NVIDIA'
  | 'openEuler'
  | 'Oracle UEK'
  | 'Proxmox VE'
  | 'Raspberry Pi OS'
  | 'Red Hat Enterprise Linux'
  | 'SUSE'
  | 'Talos Linux'
  | 'Ubuntu'
  | 'XanMod';

/** The facts that a kernel's release string contains. @inline */
export interface KernelRelease {
  /** The release as uname gives it: `'6.8.0-52-generic'`. */
  readonly text: string;
  /** Its numbers; without a patch level, the last one is 0. */
  readonly version: readonly [major: number, minor: number, patch: number];
  /** It has no patch level: it stands for the newest patch level of its series. */
  readonly series: boolean;
  /** The number of a release candidate (`-rc3`: 3); null: it is not a release candidate. */
  readonly candidate: number | null;
  /** Whose kernel it is, according to its suffix; null: kernel.org’s, or that of an unknown vendor. */
  readonly vendor: KernelVendor | null;
}

/** The first match counts: UEK's suffix contains Red Hat's, and NVIDIA's kernels are built like Ubuntu's. */
const SUFFIXES: readonly (readonly [RegExp, KernelVendor])[] = [
  [/el\d+uek|\buek\b/, 'Oracle UEK'],
  [/[.-]el\d+/, 'Red Hat Enterprise Linux'],
  [/\.oe\d+/, 'openEuler'],
  [/\.an\d+/, 'Anolis OS'],
  [/\.al\d+/, 'Alibaba Cloud Linux'],
  [/\.amzn\d+/, 'Amazon Linux'],
  [/\.(azl|cm)\d+/, 'Azure Linux'],
  [/\.fc\d+/, 'Fedora'],
  [/deepin|-amd64-desktop/, 'deepin'],
  [/-nvidia\b/, 'NVIDIA'],
  [/microsoft.*WSL/i, 'Microsoft WSL'],
  [/-pve\b/, 'Proxmox VE'],
  [/xanmod/i, 'XanMod'],
  [/-talos\b/, 'Talos Linux'],
  [/-arch\d/, 'Arch Linux'],
  [/-rpi\b|\+rpt|-v8(-16k)?\+?$/, 'Raspberry Pi OS'],
  [/-\d+-(generic|lowlatency|aws|azure|gcp|gke|kvm|oem|oracle|raspi)\b/, 'Ubuntu'],
  [/-default$/, 'SUSE'],
  [/[+~-]deb\d+|-(amd64|arm64|686)(-unsigned)?$/, 'Debian'],
];

/** Null: it is not a release, so nothing is known about it. */
export function parseRelease(release: string | null | undefined): KernelRelease | null {
  const text = release?.trim() ?? '';
  const match = /^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?(?:-rc(\d{1,2}))?/.exec(text);
  if (match === null) return null;
  const [, major, minor, patch, candidate] = match;
  return {
    text,
    version: [Number(major), Number(minor), Number(patch ?? 0)],
    series: patch === undefined && candidate === undefined,
    candidate: candidate === undefined ? null : Number(candidate),
    vendor: SUFFIXES.find(([suffix]) => suffix.test(text))?.[1] ?? null,
  };
}

/** Is `version` older than `major.minor.patch`? */
export function olderThan(version: KernelVersion, major: number, minor: number, patch = 0): boolean {
  const [ma, mi, pa] = version;
  return ma !== major ? ma < major : mi !== minor ? mi < minor : pa < patch;
}
