/**
 * Decides why a transfer failed: the kernel refused a peer's memory (host memory then works), or the drive had an error.
 *
 *     memory      errno                       it is                              what follows
 *     a peer's    EREMOTEIO                   a refusal: queue or pair           retried through host memory
 *     a peer's    EINVAL, aligned, ≥ 6.17     a refusal: pair                    retried through host memory
 *     a peer's    any other                   an error                           none
 *     host        EREMOTEIO                   the drive’s own target error       none: it is an error, not retried
 *     host        any other                   an error                           none
 */
import type { BlockTarget } from '../backend/backend.js';
import { parseRelease } from '../backend/kernel-release.js';
import { EINVAL, EREMOTEIO, errnoName } from '../base/errno.js';
import { type ErrorCode, errnoError, P2pdmaError, type P2pdmaErrorOptions } from '../base/errors.js';
import { pgmapOf } from '../kernel/memremap.js';
import { refusesPeersWithEinval } from '../kernel/releases/table.js';

/** A transfer as it was requested. */
export interface Attempt {
  /** The function whose memory held its data, or null for host memory. */
  readonly provider: { readonly bdf: string } | null;
  /** True if the queue accepts the address, offset and length, so that they cannot be the cause of EINVAL. See isAligned(). */
  readonly aligned: boolean;
  /** The kernel's release (`backend.release`); null: unknown, and EINVAL may then mean a refusal. */
  readonly release?: string | null | undefined;
}

/** Did the kernel refuse this memory because it is a peer's? `errno` may have either sign. */
export function isPeerRefusal(errno: number, { provider, aligned, release = null }: Attempt): boolean {
  if (provider === null) return false;
  const positive = Math.abs(errno);
  // In newer kernels too: pinning the pages fails with EREMOTEIO if the queue accepts no peer memory at all.
  if (positive === EREMOTEIO) return true;
  return positive === EINVAL && aligned && refusesPeersWithEinval(parseRelease(release)) !== false;
}

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'] satisfies ErrorCode[]);

/** True if the error means that there was no room for the data. */
export function isFull(error: Error): boolean {
  return error instanceof P2pdmaError && FULL.has(error.code);
}

/** The reason in receipts and ERR_P2P_REQUIRED: `'/dev/nvme1n1: the kernel refused CMB memory of 0000:03:00.0 (EINVAL)'`. */
export function refusalWords(path: string, errno: number, provider: { readonly bdf: string } | null): string {
  const whose = provider === null ? '' : ` of ${provider.bdf}`;
  return `${path}: the kernel refused CMB memory${whose} (${errnoName(errno)})`;
}

/** Does the queue accept this memory of a peer: whole blocks, at addresses with the DMA alignment that it requires? */
export function isAligned(
  { logicalBlockSize, dmaAlignment }: BlockTarget['limits'],
  offset: number,
  view: Uint8Array,
): boolean {
  // A peer's memory is mapped from the start of a page, so an offset in it has the same low bits as the address.
  return (
    offset % logicalBlockSize === 0 &&
    view.byteLength % logicalBlockSize === 0 &&
    view.byteOffset % dmaAlignment === 0
  );
}

/** The function whose memory contains the view; null: host memory. */
export function providerOf(view: Uint8Array): { readonly bdf: string } | null {
  return pgmapOf(view)?.provider ?? null;
}

/**
 * The error for a transfer that failed. For EREMOTEIO it says where the error comes from: if the memory was host memory, the
 * drive itself ended the command with a target error, and peer-to-peer is not the cause.
 */
export function transferError(
  errno: number,
  op: 'read' | 'write',
  path: string,
  provider: { readonly bdf: string } | null,
  options: P2pdmaErrorOptions = {},
): P2pdmaError {
  if (Math.abs(errno) !== EREMOTEIO) return errnoError(errno, op, path, options);
  if (provider !== null) {
    const hint = `Memory of ${provider.bdf} and this target cannot do peer-to-peer DMA: \`p2pdma explain\` says why. Host memory works.`;
    return errnoError(errno, op, path, { hint, ...withoutHint(options) });
  }
  const hint = `The drive itself could not ${op} these blocks (“critical target error” in the kernel log): see the log and the drive’s error log. The memory was the host’s, so peer-to-peer is not the cause.`;
  return errnoError(errno, op, path, { hint, ...withoutHint(options) });
}

function withoutHint({ hint: _, ...options }: P2pdmaErrorOptions): P2pdmaErrorOptions {
  return options;
}
