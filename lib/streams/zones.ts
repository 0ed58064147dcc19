import type { Origin } from '../backend/backend.js';
import { EOPNOTSUPP } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';

/**
 * The error for a copy or write stream to a zoned device, or null. Copies and write streams have several writes in flight,
 * which arrive in any order, but a zone accepts writes only in order, from its write pointer. No zone is reset here: the
 * owner of the device has to do that. `zones`: how the device must be written, or null.
 */
export function whyNotZones(
  { machine }: Pick<Origin, 'machine'>,
  path: string,
  zones: string | null = null,
): P2pdmaError | null {
  if (zones === null) return null;
  const inOrder =
    machine === null
      ? `\`sudo blkzone reset ${path}\` empties the zones, with all that is in them; then write in order: ` +
        `\`sudo dd if=<source> of=${path} bs=1M oflag=direct\`.`
      : `No other program can write to a drive of the emulated machine '${machine}': write in order with write() of ` +
        `\`system.target('${path}', { write: true })\`.`;
  return errnoError(-EOPNOTSUPP, 'write', path, {
    what: zones,
    hint: `Copies and write streams write in any order. ${inOrder}`,
  });
}
