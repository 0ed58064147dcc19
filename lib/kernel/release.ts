/**
 * A kernel's release as uname gives it, parsed once and compared by its numbers: `6.8.0-52-generic`,
 * `6.12.117+deb12-amd64`, `5.14.0-503.el9`, `7.0.0-rc3`. A release candidate counts as its release. What a distribution
 * carried over from newer kernels no number tells.
 */
export type KernelVersion = readonly [major: number, minor: number, patch: number];

/** Null: not a release, so nothing is known of it. */
export function parseRelease(release: string | null | undefined): KernelVersion | null {
  const match = /^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?/.exec(release?.trim() ?? '');
  return match === null ? null : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

/** Is `version` older than `major.minor.patch`? */
export function olderThan(version: KernelVersion, major: number, minor: number, patch = 0): boolean {
  const [ma, mi, pa] = version;
  return ma !== major ? ma < major : mi !== minor ? mi < minor : pa < patch;
}

/**
 * From 6.17 on the NVMe driver maps a request range by range (blk_rq_dma_map(), 7ce3c1dd78fc), and a pair that may not do
 * peer-to-peer is BLK_STS_INVAL: EINVAL. Before it was dma_map_sgtable()'s EREMOTEIO. Null: not known.
 */
export function refusesPeersWithEinval(version: KernelVersion | null): boolean | null {
  return version === null ? null : !olderThan(version, 6, 17);
}
