import { EOPNOTSUPP } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';
import type { PathEnd } from './request.js';

/**
 * A copy has several writes in flight, which arrive in any order; a zone takes them only in order, from its write pointer
 * on. Nothing is reset here: that is its owner's to do.
 */
export function whyNotZones({ path, now }: PathEnd): P2pdmaError | null {
  const zones = now.place?.zones ?? null;
  if (zones === null) return null;
  return errnoError(-EOPNOTSUPP, 'write', path, {
    what: zones,
    hint:
      `A copy writes in any order. \`sudo blkzone reset ${path}\` empties the zones, with all that is in them; then write ` +
      `in order: \`sudo dd if=<source> of=${path} bs=1M oflag=direct\`.`,
  });
}
