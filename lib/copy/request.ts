/**
 * A requested copy. Its ends are inspected once: the result is passed to the plan, the overlap check, the code that
 * opens the ends, and to each later stretch of the copy.
 *
 *     makeRequest ─▶ CopyRequest ─▶ assertApart ─▶ OpenEnds ─▶ run
 *                             └───▶ plan
 */
import type { FileHandle } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import type { ReadableStream, WritableStream } from 'node:stream/web';
import type { End } from '../backend/backend.js';
import { optionError, shown } from '../base/arguments.js';
import { EBADF } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { P2pFileHandle } from '../streams/file-handle.js';
import { type CopyOptions, copyOptions, parseOptions } from '../streams/options.js';
import { isPath, type OpenContext, toPath } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import type { StreamContext } from '../streams/session.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import {
  assertUnlocked,
  type ForeignDestination,
  type ForeignSource,
  isForeignDestination,
  isForeignSource,
  isStream,
} from './foreign.js';

export type { CopyOptions };

/**
 * What can be copied from: a path (a Buffer is one too, as in node:fs), a Target, a stream of this package or a handle; and what
 * `pipeline` of node:stream/promises takes: a Readable (also a Duplex), a ReadableStream, an iterable or async iterable of chunks,
 * or a function that returns one. What is not of this package is in host memory, which the receipt says. A handle stays open.
 */
export type PipelineSource =
  | string
  | URL
  | Buffer
  | Target
  | P2pReadStream
  | P2pFileHandle
  | FileHandle
  | Readable
  | ReadableStream
  | AsyncIterable<string | NodeJS.ArrayBufferView>
  | Iterable<string | NodeJS.ArrayBufferView>
  | ((options: {
      readonly signal: AbortSignal;
    }) => AsyncIterable<string | NodeJS.ArrayBufferView> | Iterable<string | NodeJS.ArrayBufferView>);
/**
 * What can be copied to: a path (a Buffer is one too, as in node:fs), a Target, a stream of this package or a handle; and what
 * `pipeline` of node:stream/promises takes: a Writable (also a Duplex or Transform, of which only the end of writing is awaited),
 * a WritableStream, or an async function that reads the data. What is not of this package is in host memory, which the receipt
 * says. A handle stays open.
 */
export type PipelineDestination =
  | string
  | URL
  | Buffer
  | Target
  | P2pWriteStream
  | P2pFileHandle
  | FileHandle
  | Writable
  | WritableStream
  | ((source: AsyncIterable<Buffer>, options: { readonly signal: AbortSignal }) => Promise<unknown>);

/** A path that is an end of a copy, with its machine and its state at the time of the request. */
export class PathEnd {
  readonly context: StreamContext;
  /** As the caller gave it. */
  readonly path: string;
  readonly now: End;

  constructor(context: StreamContext, path: string, now: End) {
    this.context = context;
    this.path = path;
    this.now = now;
  }
}

export interface CopyRequest {
  readonly source: PathEnd | Exclude<PipelineSource, Place>;
  readonly destinations: readonly (PathEnd | Exclude<PipelineDestination, Place>)[];
  readonly options: CopyOptions;
  /** The machine, for a handle of node:fs. */
  readonly open: OpenContext;
}

type Place = string | URL | Buffer;

/** A copy between paths only: this is what can be planned and resumed. */
export interface PathRequest extends CopyRequest {
  readonly context: StreamContext;
  readonly source: PathEnd;
  readonly destinations: readonly PathEnd[];
}

/** A copy of which at least one end is a stream of another kind: it can be planned, but not resumed. */
export interface StreamRequest extends CopyRequest {
  readonly context: StreamContext;
  readonly source: PathEnd | ForeignSource;
  readonly destinations: readonly (PathEnd | ForeignDestination)[];
}

/** @throws P2pdmaError errors in the request itself: ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE */
export async function makeRequest(
  open: OpenContext,
  source: PipelineSource,
  destinations: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<CopyRequest> {
  parseOptions(copyOptions, options);
  checkEnds(source, destinations, options);
  const paths = [source, ...destinations].map((end) => (isPath(end) ? toPath(end) : null));
  const context = paths.some((path) => path !== null) ? await open() : null;
  const looked = context === null ? [] : inspectAll(context, paths);
  const [from, ...to] = [source, ...destinations].map((end, i) => looked[i] ?? end);
  return { source: from, destinations: to, options, open } as CopyRequest;
}

/** The first path is the source. Null, here and in the result: this end is not a path. */
function inspectAll(context: StreamContext, paths: readonly (string | null)[]): (PathEnd | null)[] {
  const { backend } = context;
  let earlier = 0;
  return backend.together(() =>
    paths.map((path, i) => {
      if (path === null) return null;
      const now = backend.inspect(path, { write: i > 0, earlier });
      if (i > 0 && now.kind === 'file') earlier++;
      return new PathEnd(context, path, now);
    }),
  );
}

/** The same for a copy between paths. */
export async function makePathRequest(
  open: OpenContext,
  source: string | URL,
  destinations: readonly (string | URL)[],
  options: CopyOptions,
): Promise<PathRequest> {
  const request = (await makeRequest(open, source, destinations, options)) as Omit<PathRequest, 'context'>;
  return { ...request, context: request.source.context };
}

function checkEnds(source: PipelineSource, ends: readonly PipelineDestination[], options: CopyOptions): void {
  if (ends.length === 0) {
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', 'pipeline: there is no destination', {
      hint: 'Name at least one: a path, a Target or a Writable.',
    });
  }
  assertSource(source);
  for (const end of ends) assertDestination(end, options);
  if (isForeignSource(source)) assertInOneGo(options);
  if (!ends.every(isForeignDestination)) return;
  assertNoPosition(options);
  if (!isForeignSource(source)) return;
  throw new P2pdmaError(
    'ERR_INVALID_ARG_VALUE',
    'pipeline: neither the source nor a destination is a path, a Target, a handle or a p2pdma stream',
    {
      hint: 'Nothing was read or written. Between streams of other kinds, use pipeline of node:stream/promises.',
    },
  );
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, EBADF */
function assertSource(end: unknown): void {
  if (isOwnEnd(end) || end instanceof P2pReadStream) return;
  if (isFileHandle(end)) return assertHandleOpen(end, 'source');
  if (!isForeignSource(end)) {
    const what = 'a Readable, ReadableStream, iterable or async iterable, or a function that returns one';
    throw wrongEnd('source', what, end);
  }
  assertUnlocked(end, 'source');
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, EBADF */
function assertDestination(end: unknown, { verify = false }: CopyOptions): void {
  if (isOwnEnd(end) || end instanceof P2pWriteStream) return;
  if (isFileHandle(end)) assertHandleOpen(end, 'destination');
  else if (!isForeignDestination(end)) {
    throw wrongEnd('destination', 'a Writable, WritableStream or async function', end);
  } else assertUnlocked(end, 'destination');
  if (!verify) return;
  const what = 'a destination is not a p2pdma stream and cannot be read back (received true)';
  throw optionError('ERR_INVALID_ARG_VALUE', 'verify', what, {
    received: true,
    hint: (option) =>
      `Drop ${option('verify')}, or name only paths, Targets and streams of this package as destinations.`,
  });
}

function isOwnEnd(end: unknown): boolean {
  return isPath(end) || end instanceof Target || end instanceof P2pFileHandle;
}

/** The FileHandle of node:fs, whose class is not public. */
export function isFileHandle(end: unknown): end is FileHandle {
  if (typeof end !== 'object' || end === null || isStream(end)) return false;
  const { fd, read, close } = end as Record<string, unknown>;
  return typeof fd === 'number' && typeof read === 'function' && typeof close === 'function';
}

function assertHandleOpen({ fd }: FileHandle, role: string): void {
  if (fd >= 0) return;
  const hint = 'Open it again; a copy leaves a handle open.';
  throw errnoError(-EBADF, 'fstat', `the ${role}`, { what: 'the FileHandle is closed', hint });
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: an option that has no meaning for a source that can only be read onwards */
function assertInOneGo({ start = 0, sparse = false }: CopyOptions): void {
  if (start > 0) {
    const what = `a stream cannot be read from byte ${start} on, only from where it is`;
    throw optionError('ERR_INVALID_ARG_VALUE', 'start', what, {
      received: start,
      hint: (option) =>
        `Skip the bytes before they reach the copy. Where they go in the destination is ${option('destinationStart')}.`,
    });
  }
  if (sparse) {
    throw optionError('ERR_INVALID_ARG_VALUE', 'sparse', 'a stream has no holes that could be skipped', {
      received: sparse,
      hint: (option) => `Drop ${option('sparse')}, or name the file itself as the source.`,
    });
  }
}

function assertNoPosition({ destinationStart = 0 }: CopyOptions): void {
  if (destinationStart === 0) return;
  const what = `a stream cannot be written from byte ${destinationStart} on`;
  throw optionError('ERR_INVALID_ARG_VALUE', 'destinationStart', what, {
    received: destinationStart,
    hint: (option) => `Drop ${option('destinationStart')}.`,
  });
}

function wrongEnd(which: string, kinds: string, value: unknown): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `pipeline: the ${which} must be a path, a file URL, a Target, a handle, ${kinds} (received ${shown(value)})`,
    Array.isArray(value) && which === 'source'
      ? { hint: 'There is one source. For chunks in an array, pass Readable.from(array).' }
      : {},
  );
}
