/**
 * A requested copy. Its ends are inspected once: the result is passed to the plan, the overlap check, the code that
 * opens the ends, and to each later stretch of the copy.
 *
 *     makeRequest ─▶ CopyRequest ─▶ assertApart ─▶ OpenEnds ─▶ run
 *                             └───▶ plan
 */
import type { Readable, Writable } from 'node:stream';
import type { End } from '../backend/backend.js';
import { optionError, shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { type CopyOptions, copyOptions, parseOptions } from '../streams/options.js';
import { isPath, type OpenContext, toPath } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import type { StreamContext } from '../streams/session.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';

export type { CopyOptions };

/** What can be copied from: a path, a Target, a stream. */
export type PipelineSource = string | URL | Target | P2pReadStream | Readable;
/** What can be copied to: a path, a Target, a stream. */
export type PipelineDestination = string | URL | Target | P2pWriteStream | Writable;

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
  readonly source: PathEnd | Target | P2pReadStream | Readable;
  readonly destinations: readonly (PathEnd | Target | P2pWriteStream | Writable)[];
  readonly options: CopyOptions;
}

/** A copy between paths only: this is what can be planned and resumed. */
export interface PathRequest extends CopyRequest {
  readonly context: StreamContext;
  readonly source: PathEnd;
  readonly destinations: readonly PathEnd[];
}

/** A copy of which at least one end is a stream of another kind: it can be planned, but not resumed. */
export interface StreamRequest extends CopyRequest {
  readonly context: StreamContext;
  readonly source: PathEnd | Readable;
  readonly destinations: readonly (PathEnd | Writable)[];
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
  return { source: from, destinations: to, options } as CopyRequest;
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
  if (!isPath(source) && !(source instanceof Target) && !isStream(source, 'read')) {
    throw wrongEnd('source', 'Readable', source);
  }
  const { verify } = options;
  if (isForeign(source)) assertInOneGo(options);
  if (ends.every(isForeign)) assertNoPosition(options);
  for (const end of ends) {
    if (isPath(end)) continue;
    if (!(end instanceof Target) && !isStream(end, 'write')) {
      throw wrongEnd('destination', 'Writable', end);
    } else if (verify && !(end instanceof Target) && !(end instanceof P2pWriteStream)) {
      const what = 'a destination is not a p2pdma stream and cannot be read back (received true)';
      throw optionError('ERR_INVALID_ARG_VALUE', 'verify', what, {
        received: true,
        hint: (option) =>
          `Drop ${option('verify')}, or name only paths, Targets and streams of this package as destinations.`,
      });
    }
  }
}

/** A stream that is not of this package: it has no positions, and cannot be opened again. */
export function isForeign(end: unknown): end is Readable | Writable {
  return isStream(end) && !(end instanceof P2pReadStream || end instanceof P2pWriteStream);
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

function wrongEnd(which: string, kind: string, value: unknown): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `pipeline: the ${which} must be a path, a file URL, a Target or a ${kind} (received ${shown(value)})`,
  );
}

export function isStream(value: unknown, method?: 'read' | 'write'): value is Readable | Writable {
  if (typeof value !== 'object' || value === null) return false;
  const stream = value as Record<string, unknown>;
  return ['on', 'destroy', method ?? 'on'].every((name) => typeof stream[name] === 'function');
}
