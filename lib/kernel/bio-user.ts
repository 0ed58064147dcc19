/**
 * block/bio.c and block/fops.c as far as they need no machine: which O_DIRECT requests are valid, and how user memory is cut
 * into requests that fit a queue's limits.
 */
import type { QueueLimits } from '../backend/backend.js';
import { EINVAL } from '../base/errno.js';
import { P2pdmaError } from '../base/errors.js';
import { type IovIter, iovIterIovec, iovIterIsAligned, READ } from './iov_iter.js';

/**
 * blkdev_dio_invalid(): is this an invalid O_DIRECT request? The position and each length must be aligned to the
 * logical block, and each address to dma_alignment.
 */
export function blkdevDioInvalid(limits: QueueLimits, offset: number, iter: IovIter): boolean {
  return (
    offset % limits.logicalBlockSize !== 0 ||
    !iovIterIsAligned(iter, limits.dmaAlignment - 1, limits.logicalBlockSize - 1)
  );
}

/** One of the requests that bioCutUser() makes. */
export interface UserRequest {
  readonly offset: number;
  readonly segments: Uint8Array[];
}

/**
 * The equivalent of submitBio() for a queue that is only visible from user space: split `segments`, which are
 * transferred at `offset`, into requests that fit the limits. No request is empty or misaligned.
 *
 * `kindOf`: segments for which it returns different values never share a request, because a drive fails a command
 * that mixes its own CMB with other memory. Null: segments may be mixed.
 * @throws P2pdmaError EINVAL, as O_DIRECT would; the message names what is not aligned.
 */
export function bioCutUser(
  segments: readonly Uint8Array[],
  offset: number,
  limits: QueueLimits,
  kindOf: ((view: Uint8Array) => unknown) | null,
): UserRequest[] {
  const iter = iovIterIovec(READ, segments);
  if (blkdevDioInvalid(limits, offset, iter)) throw misaligned(segments, offset, limits);
  const most = Math.min(limits.maxTransfer, Number.MAX_SAFE_INTEGER);
  const max = most - (most % limits.logicalBlockSize);
  if (iter.count > 0 && (max <= 0 || limits.maxSegments < 1)) {
    throw new P2pdmaError(
      'ERR_OUT_OF_RANGE',
      `maxTransfer ${limits.maxTransfer} is less than a logical block`,
    );
  }
  const requests: UserRequest[] = [];
  let at = offset;
  while (iter.count > 0) {
    const request: UserRequest = { offset: at, segments: [] };
    at += cutOne(iter, max, limits.maxSegments, kindOf, request.segments);
    requests.push(request);
  }
  return requests;
}

/** Fill one request, starting at the cursor; returns its length in bytes, at least one block. */
function cutOne(
  iter: IovIter,
  max: number,
  maxSegments: number,
  kindOf: ((view: Uint8Array) => unknown) | null,
  into: Uint8Array[],
): number {
  let bytes = 0;
  let kind: unknown;
  while (iter.count > 0 && bytes < max) {
    const piece = iter.peek(max - bytes);
    if (kindOf !== null) {
      const here = kindOf(piece);
      if (bytes > 0 && here !== kind) break;
      kind = here;
    }
    const last = into[into.length - 1];
    if (last !== undefined && last.buffer === piece.buffer && endOf(last) === piece.byteOffset) {
      into[into.length - 1] = new Uint8Array(
        last.buffer,
        last.byteOffset,
        last.byteLength + piece.byteLength,
      );
    } else if (into.length < maxSegments) into.push(piece);
    else break;
    iter.advance(piece.byteLength);
    bytes += piece.byteLength;
  }
  return bytes;
}

function endOf(view: Uint8Array): number {
  return view.byteOffset + view.byteLength;
}

function misaligned(segments: readonly Uint8Array[], offset: number, limits: QueueLimits): P2pdmaError {
  const { logicalBlockSize, dmaAlignment } = limits;
  let what = `offset ${offset} is not a multiple of ${logicalBlockSize}`;
  if (offset % logicalBlockSize === 0) {
    const at = segments.findIndex(
      (s) => s.byteLength % logicalBlockSize !== 0 || (s.byteLength > 0 && s.byteOffset % dmaAlignment !== 0),
    );
    const segment = segments[at];
    what =
      segment !== undefined && segment.byteLength % logicalBlockSize === 0
        ? `address of segment ${at} (…+${segment.byteOffset}) is not a multiple of ${dmaAlignment}`
        : `length ${segment?.byteLength} of segment ${at} is not a multiple of ${logicalBlockSize}`;
  }
  return new P2pdmaError('EINVAL', what, { begins: 'EINVAL', errno: -EINVAL });
}
