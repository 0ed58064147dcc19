import { shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';

/**
 * What a caller's code failed with, as an error. `throw undefined` and a rejection without a reason are failures too, but a
 * stream that is destroyed with null or undefined is one that did not fail.
 */
export function thrownBy(name: string, reason: unknown): Error {
  if (reason instanceof Error) return reason;
  return new P2pdmaError(
    'ERR_STREAM_DESTROYED',
    `pipeline: ${name} failed without an error (threw ${shown(reason)})`,
    {
      cause: reason,
      hint: 'Throw an Error that says what failed.',
    },
  );
}
