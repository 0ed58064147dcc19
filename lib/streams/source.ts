import type { BlockTarget } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import type { StreamContext } from './session.js';

/** How a stream gets its target. It is opened when the stream is constructed. */
export interface Source {
  /** The value of `stream.path`. It is known before the target is open. */
  readonly path: string;
  open(): Promise<{ context: StreamContext; target: BlockTarget }>;
  /** False: the target belongs to someone else, and the stream must leave it open. */
  readonly owned: boolean;
  /** True: an owned target nevertheless stays open, until the code that opened it closes it. */
  readonly kept?: boolean;
  /** Only for writers: called once, before the first byte or the end. */
  begin?(target: BlockTarget): Promise<void>;
}

export function outOfRange(path: string, start: number, { size }: BlockTarget): P2pdmaError {
  const what = `${start} is beyond the end of '${path}' (${size} bytes)`;
  return optionError('ERR_OUT_OF_RANGE', 'start', what, { path, received: start });
}

export function closedError(path: string): P2pdmaError {
  return new P2pdmaError('ERR_STREAM_DESTROYED', `'${path}' was closed`);
}
