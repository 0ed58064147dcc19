/**
 * The copy of a source to destinations as it is asked for: what can be known to be wrong with the request is found
 * here, before a destination is opened; then the ends are opened and `run` does the work.
 */
import type { Readable, Writable } from 'node:stream';
import type { BlockTarget } from '../backend/backend.js';
import { P2pdmaError } from '../errors.js';
import {
  copyOptions,
  type OnProgress,
  parseOptions,
  type ReadStreamOptions,
  readOptions,
  type WriteStreamOptions,
  writeOptions,
} from './options.js';
import {
  carefulSource,
  identity,
  isPath,
  type OpenContext,
  pathSource,
  toPath,
  writeFlags,
} from './paths.js';
import { run } from './pipeline.js';
import { P2pReadStream } from './read-stream.js';
import type { Receipt } from './receipt.js';
import { Target } from './target.js';
import { P2pWriteStream } from './write-stream.js';

export interface CopyOptions extends Omit<ReadStreamOptions, 'autoClose' | 'emitClose'> {
  /** Where the first byte goes in every destination. */
  destinationStart?: number;
  /** As of `createWriteStream`. */
  flags?: WriteStreamOptions['flags'];
  /** As of `createWriteStream`. */
  flush?: boolean;
  /** As of `createWriteStream`. */
  force?: boolean;
  /** Read the destinations back through host memory and compare; a difference is ERR_VERIFY_MISMATCH with its offset. */
  verify?: boolean;
  /** End early but cleanly when aborted: what was read is written, flushed and in the receipt. */
  stop?: AbortSignal;
  /** Called ten times a second. */
  onProgress?: OnProgress;
}

/** What can be copied from: a path, a Target, a stream. */
export type PipelineSource = string | URL | Target | P2pReadStream | Readable;
/** What can be copied to: a path, a Target, a stream. */
export type PipelineDestination = string | URL | Target | P2pWriteStream | Writable;

export async function copy(
  system: OpenContext,
  source: PipelineSource,
  destinations: PipelineDestination | readonly PipelineDestination[],
  options: CopyOptions,
): Promise<Receipt> {
  const ends = Array.isArray(destinations)
    ? (destinations as readonly PipelineDestination[])
    : [destinations as PipelineDestination];
  const given = [source, ...ends].filter((end) => !isPath(end) && !(end instanceof Target));
  let reader: Readable;
  let writers: Writable[];
  try {
    await checkCopy(system, source, ends, options);
    ({ reader, writers } = await openEnds(system, source, ends, options));
  } catch (error) {
    for (const stream of given) if (isStream(stream)) stream.destroy();
    throw error;
  }
  const { verify, signal, stop, onProgress } = options;
  return run(reader, writers, { verify, signal, stop, onProgress });
}

/** What can be known to be wrong with a copy before a destination is opened. */
export async function checkCopy(
  system: OpenContext,
  source: PipelineSource,
  ends: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<void> {
  parseOptions(copyOptions, options);
  checkEnds(source, ends, options);
  await checkPlaces(system, source, ends, options);
}

function checkEnds(
  source: PipelineSource,
  ends: readonly PipelineDestination[],
  { verify }: CopyOptions,
): void {
  if (ends.length === 0) {
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', 'pipeline: there is no destination', {
      hint: 'Name at least one: a path, a Target or a Writable.',
    });
  }
  if (isPath(source)) toPath(source);
  else if (!(source instanceof Target) && !isStream(source, 'read')) {
    throw wrongEnd('source', 'Readable', source);
  }
  for (const end of ends) {
    if (isPath(end)) toPath(end);
    else if (!(end instanceof Target) && !isStream(end, 'write')) {
      throw wrongEnd('destination', 'Writable', end);
    } else if (verify && !(end instanceof Target) && !(end instanceof P2pWriteStream)) {
      throw new P2pdmaError(
        'ERR_INVALID_ARG_VALUE',
        'option verify: a destination is not a p2pdma stream and cannot be read back (received true)',
        { hint: 'Drop verify, or name only paths, Targets and streams of this package as destinations.' },
      );
    }
  }
}

function wrongEnd(which: string, kind: string, value: unknown): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `pipeline: the ${which} must be a path, a file URL, a Target or a ${kind} (received ${value === null ? 'null' : typeof value})`,
  );
}

function isStream(value: unknown, method?: 'read' | 'write'): value is Readable | Writable {
  if (typeof value !== 'object' || value === null) return false;
  const stream = value as Record<string, unknown>;
  return ['on', 'destroy', method ?? 'on'].every((name) => typeof stream[name] === 'function');
}

/** An end before the copy. */
interface Place {
  readonly path: string;
  readonly kind: BlockTarget['kind'];
  readonly size: number;
  readonly same: string;
}

/** Do source and destinations lie apart, and do the destinations reach so far? */
async function checkPlaces(
  system: OpenContext,
  source: PipelineSource,
  ends: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<void> {
  const probe = async (end: string | URL | Target): Promise<Place> => {
    if (end instanceof Target) return place(end);
    const context = await system();
    const target = await context.openTarget(toPath(end), {});
    try {
      return await place(target);
    } finally {
      await context.closeTarget(target);
    }
  };
  const from = isPath(source) || source instanceof Target ? await probe(source) : null;
  const first = options.start ?? 0;
  const bytes = Math.min((options.end ?? Number.POSITIVE_INFINITY) + 1, from?.size ?? 0) - first;
  const to = options.destinationStart ?? 0;
  const seen = new Set<string>();
  for (const end of ends) {
    if (!isPath(end) && !(end instanceof Target)) continue;
    const there = await probe(end).catch((error: unknown) => {
      // A file that is yet to be created overlaps nothing; other troubles come up again when it is opened to be written.
      if (error instanceof P2pdmaError) return null;
      throw error;
    });
    if (there === null) continue;
    const { path, kind, size, same } = there;
    if (seen.has(same)) {
      throw new P2pdmaError('ERR_OVERLAP', `'${path}' is named twice as a destination`, { path });
    }
    seen.add(same);
    if (kind !== 'file' && to > size) {
      throw new P2pdmaError(
        'ERR_OUT_OF_RANGE',
        `option destinationStart: ${to} is beyond the end of '${path}' (${size} bytes)`,
        { path },
      );
    }
    if (same !== from?.same) continue;
    const truncates = kind === 'file' && isPath(end) && (options.flags ?? 'w') !== 'r+';
    if (truncates || (first < to + bytes && to < first + bytes)) {
      const what = truncates
        ? 'it would be truncated before it is read'
        : `bytes ${first}…${first + bytes - 1} overlap ${to}…${to + bytes - 1}`;
      const names = from.path === path ? `both '${path}'` : `one: '${from.path}' and '${path}'`;
      throw new P2pdmaError('ERR_OVERLAP', `source and destination are ${names}, and ${what}`, { path });
    }
  }
}

async function place({ path, kind, size }: Pick<BlockTarget, 'path' | 'kind' | 'size'>): Promise<Place> {
  return { path, kind, size, same: await identity({ path, kind }) };
}

async function openEnds(
  system: OpenContext,
  source: PipelineSource,
  ends: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<{ reader: Readable; writers: Writable[] }> {
  const { engine = 'auto', destinationStart, verify = false } = options;
  const readSettings: ReadStreamOptions = { canary: verify, ...pick(options, readOptions) };
  const writeSettings: WriteStreamOptions = pick(options, writeOptions);
  if (destinationStart === undefined) delete writeSettings.start;
  else writeSettings.start = destinationStart;
  // run() listens to it, for all ends at once.
  delete readSettings.signal;
  delete writeSettings.signal;
  const reader = isPath(source)
    ? new P2pReadStream(pathSource(system, toPath(source), { engine }), readSettings)
    : source instanceof Target
      ? source.createReadStream(readSettings)
      : source;
  const opened: (Readable | Writable)[] = [reader];
  try {
    // Its 'error' comes after the rejection, when nobody else listens yet.
    if (reader !== source) reader.on('error', () => {});
    // The source is open before a destination is: a source that cannot be read truncates nothing.
    if (reader instanceof P2pReadStream) await reader.opened();
    const writers = ends.map((to) => {
      const writer = isPath(to)
        ? new P2pWriteStream(carefulSource(system, toPath(to), writeFlags(writeSettings)), writeSettings)
        : to instanceof Target
          ? to.createWriteStream(writeSettings)
          : to;
      opened.push(writer);
      return writer;
    });
    return { reader, writers };
  } catch (error) {
    for (const stream of opened) stream.destroy();
    throw error;
  }
}

/** Those of the options that this table has, without the undefined ones. */
function pick(options: CopyOptions, table: { readonly shape: object }): object {
  const known = Object.entries(options).filter(
    ([name, value]) => value !== undefined && Object.hasOwn(table.shape, name),
  );
  return Object.fromEntries(known);
}
