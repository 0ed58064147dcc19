/** The maximum length of an ArrayBuffer in this runtime. Beyond it, V8 ends the process or throws a bare RangeError. */
import { constants } from 'node:buffer';
import { ENOMEM } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import { size } from '../base/words.js';

/**
 * `path`: the file that would be mapped.
 * @throws P2pdmaError ENOMEM: no buffer can be `bytes` long here.
 */
export function assertBufferLength(bytes: number, path: string): void {
  if (bytes <= constants.MAX_LENGTH) return;
  throw errnoError(-ENOMEM, 'mmap', path, {
    hint: (option) =>
      `${bytes} bytes were asked for; one buffer of this runtime has at most ${constants.MAX_LENGTH} (${size(constants.MAX_LENGTH)}). Allocate several, or use a smaller ${option('highWaterMark')} or ${option('queueDepth')}.`,
  });
}
