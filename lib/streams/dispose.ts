import { finished, type Readable, type Writable } from 'node:stream';
import { abortError } from '../base/errors.js';

/**
 * What `await using` does with a stream, as in Node: what is not at its end is aborted, which its users see as an `error`.
 * Resolves when it is closed; rejects with what it failed with, if that is something else.
 */
export async function dispose(stream: Readable | Writable, isAtItsEnd: boolean): Promise<void> {
  if (!stream.destroyed) stream.destroy(isAtItsEnd ? undefined : abortError());
  await new Promise<void>((resolve, reject) => {
    finished(stream, (error) => {
      if (error && error.name !== 'AbortError') reject(error);
      else resolve();
    });
  });
}
