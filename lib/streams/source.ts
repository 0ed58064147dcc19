import type { BlockTarget } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import type { StreamContext } from './session.js';

/** How a stream gets its target. It is opened when the stream is constructed. */
export interface Source {
  /** What errors, receipts and metrics call it. It is known before the target is open. */
  readonly path: string;
  /** The value of `stream.path`, if it is not the same: a Buffer, or undefined with an fd. */
  readonly given?: { readonly path: Buffer | undefined };
  /** A descriptor that somebody else opened. */
  readonly fd?: number;
  /** Calls back when its owner closes it. */
  whenGone?(gone: () => void): void;
  open(): Promise<{ context: StreamContext; target: BlockTarget }>;
  /** False: the target belongs to someone else, and the stream must leave it open. */
  readonly owned: boolean;
  /** True: an owned target nevertheless stays open, until the code that opened it closes it. */
  readonly kept?: boolean;
  /** For a target of somebody else: called once, when the stream has nothing in flight on it any more. */
  released?(): Promise<void>;
  /** Only for writers: called once, before the first byte or the end. */
  begin?(target: BlockTarget): Promise<void>;
}

/** Its value of `stream.path`, as in node:fs. */
export function pathGiven(source: Source): string | Buffer {
  return source.given === undefined ? source.path : (source.given.path as Buffer);
}

export function outOfRange(path: string, start: number, { size }: BlockTarget): P2pdmaError {
  const what = `${start} is beyond the end of '${path}' (${size} bytes)`;
  return optionError('ERR_OUT_OF_RANGE', 'start', what, { path, received: start });
}

export function closedError(path: string): P2pdmaError {
  return new P2pdmaError('ERR_STREAM_DESTROYED', `'${path}' was closed`);
}
