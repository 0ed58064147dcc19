/** What readers and writers share: how they come to their target, and how they end. */
import type { Readable, Writable } from 'node:stream';
import type { BlockTarget } from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import type { StreamContext } from './session.js';
import type { Deferred } from './transfer.js';

/** How a stream gets its target: opened when the stream is constructed. */
export interface Source {
  /** What `stream.path` says, before it is open. */
  readonly path: string;
  open(): Promise<{ context: StreamContext; target: BlockTarget }>;
  /** False: somebody else's target, which the stream must leave open. */
  readonly owned: boolean;
  /** Writers: called once, before the first byte or the end. */
  begin?(target: BlockTarget): Promise<void>;
  /** Writers: called last if `begin` never was. */
  abandon?(): Promise<void>;
}

type Done = (error?: Error | null) => void;

/** A stream's _construct. `adopt` takes what was opened; if it throws, the stream fails with that. */
export function construct(
  stream: Readable | Writable,
  source: Source,
  opened: Deferred<BlockTarget>,
  adopt: (context: StreamContext, target: BlockTarget) => void,
  callback: Done,
): void {
  source.open().then(
    ({ context, target }) => {
      try {
        adopt(context, target);
      } catch (error) {
        opened.reject(error as Error);
        return callback(error as Error);
      }
      opened.resolve(target);
      callback();
      stream.emit('open', target.name);
      stream.emit('ready');
    },
    (error: P2pdmaError) => {
      opened.reject(error);
      // Destroyed before it was open, and the system closed meanwhile: that is no failure.
      callback(stream.destroyed && error.code === 'ERR_STREAM_DESTROYED' ? null : error);
    },
  );
}

/** The end of a stream's _destroy: `closed` is when nothing is in flight any more and the target is closed. */
export function endDestroy(
  closed: Promise<void>,
  error: Error | null,
  callback: Done,
  last: () => void,
): void {
  closed
    .then(
      () => callback(error),
      (closeError: Error) => callback(error ?? closeError),
    )
    .finally(last);
}

export function outOfRange(path: string, start: number, { size }: BlockTarget): P2pdmaError {
  return new P2pdmaError(
    'ERR_OUT_OF_RANGE',
    `option start: ${start} is beyond the end of '${path}' (${size} bytes)`,
  );
}

export function closedError(path: string): P2pdmaError {
  return new P2pdmaError('ERR_STREAM_DESTROYED', `'${path}' was closed`);
}
