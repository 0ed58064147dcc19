import { EOPNOTSUPP } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';

/**
 * A copy and a write stream have several writes in flight, which arrive in any order; a zone takes them only in order, from
 * its write pointer on. Nothing is reset here: that is its owner's to do. `zones`: how the device is to be written, or null.
 */
export function whyNotZones(path: string, zones: string | null = null): P2pdmaError | null {
  if (zones === null) return null;
  return errnoError(-EOPNOTSUPP, 'write', path, {
    what: zones,
    hint:
      `Copies and write streams write in any order. \`sudo blkzone reset ${path}\` empties the zones, with all that is in ` +
      `them; then write in order: \`sudo dd if=<source> of=${path} bs=1M oflag=direct\`.`,
  });
}
