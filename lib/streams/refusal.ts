/**
 * What a failed transfer was: the kernel refusing a peer's memory, which host memory cures, or an error of the drive.
 *
 *     memory      errno                       it is                              what follows
 *     a peer's    EREMOTEIO                   a refusal: queue or pair           once more, through host memory
 *     a peer's    EINVAL, aligned, ≥ 6.17     a refusal: pair                    once more, through host memory
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

/** A transfer as it was asked for. */
export interface Attempt {
  /** Whose memory its data was in: a function, or null for host memory. */
  readonly provider: { readonly bdf: string } | null;
  /** Address, offset and length were what the queue takes, so that EINVAL is no word on them. See isAligned(). */
  readonly aligned: boolean;
  /** The kernel's (`backend.release`), or null: not known, and then EINVAL may be its word of refusal. */
  readonly release?: string | null | undefined;
}

/** Did the kernel refuse this memory because it is a peer's? `errno` of either sign. */
export function isPeerRefusal(errno: number, { provider, aligned, release = null }: Attempt): boolean {
  if (provider === null) return false;
  const positive = Math.abs(errno);
  // Newer kernels too: a queue that takes no peer memory at all refuses the pin.
  if (positive === EREMOTEIO) return true;
  return positive === EINVAL && aligned && refusesPeersWithEinval(parseRelease(release)) !== false;
}

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'] satisfies ErrorCode[]);

/** There was no room for what was to be written. */
export function isFull(error: Error): boolean {
  return error instanceof P2pdmaError && FULL.has(error.code);
}

/** For a receipt's reason and for ERR_P2P_REQUIRED: `'/dev/nvme1n1: the kernel refused CMB memory of 0000:03:00.0 (EINVAL)'`. */
export function refusalWords(path: string, errno: number, provider: { readonly bdf: string } | null): string {
  const whose = provider === null ? '' : ` of ${provider.bdf}`;
  return `${path}: the kernel refused CMB memory${whose} (${errnoName(errno)})`;
}

/** Is a peer's memory what the queue takes: whole blocks, at addresses that it can be programmed with? */
export function isAligned(
  { logicalBlockSize, dmaAlignment }: BlockTarget['limits'],
  offset: number,
  view: Uint8Array,
): boolean {
  // A peer's memory is mapped from the beginning of a page, so an offset in it is an address's low bits.
  return (
    offset % logicalBlockSize === 0 &&
    view.byteLength % logicalBlockSize === 0 &&
    view.byteOffset % dmaAlignment === 0
  );
}

/** The function whose memory a view lies in, or null: host memory. */
export function providerOf(view: Uint8Array): { readonly bdf: string } | null {
  return pgmapOf(view)?.provider ?? null;
}

/**
 * The error for a transfer that failed: of EREMOTEIO it says whose it was. From host memory it is the drive that
 * ended the command with a target error, and peer-to-peer has nothing to do with it.
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
