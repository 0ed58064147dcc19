/**
 * The copy of a source to destinations as it is asked for: what can be known to be wrong with the request is found
 * here, before a destination is opened; then the ends are opened and `run` does the work.
 */
import type { Readable, Writable } from 'node:stream';
import { type BlockTarget, fileRange, type UnderlyingRange } from '../backend/backend.js';
import { optionError, shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import {
  type CopyOptions,
  copyOptions,
  parseOptions,
  type ReadStreamOptions,
  readOptions,
  type WriteStreamOptions,
  writeOptions,
} from '../streams/options.js';
import { carefulSource, isPath, type OpenContext, pathSource, toPath, writeFlags } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import type { Receipt } from '../streams/receipt.js';
import type { StreamContext } from '../streams/session.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { run } from './run.js';

export type { CopyOptions };

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
      const what = 'a destination is not a p2pdma stream and cannot be read back (received true)';
      throw optionError('ERR_INVALID_ARG_VALUE', 'verify', what, {
        received: true,
        hint: (option) =>
          `Drop ${option('verify')}, or name only paths, Targets and streams of this package as destinations.`,
      });
    }
  }
}

function wrongEnd(which: string, kind: string, value: unknown): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `pipeline: the ${which} must be a path, a file URL, a Target or a ${kind} (received ${shown(value)})`,
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
  /** Null: it cannot be opened now. */
  readonly target: Pick<BlockTarget, 'kind' | 'size'> | null;
  /** Itself, then what is under it. */
  readonly lies: readonly UnderlyingRange[];
}

type Span = readonly [from: number, behind: number];

const ALL: Span = [0, Number.POSITIVE_INFINITY];

async function contextOf(system: OpenContext, end: string | URL | Target): Promise<StreamContext> {
  return end instanceof Target ? end.context : await system();
}

/** Look at an end. @throws P2pdmaError what opening it to be read throws, unless it `may` be missing */
async function placeOf(system: OpenContext, end: string | URL | Target, may: boolean): Promise<Place> {
  const context = await contextOf(system, end);
  const path = end instanceof Target ? end.path : toPath(end);
  const lies = context.backend.underlying(path);
  if (end instanceof Target) return { path, target: end, lies };
  try {
    const target = await context.openTarget(path, {});
    const { path: opened, kind, size } = target;
    await context.closeTarget(target);
    return { path: opened, target: { kind, size }, lies };
  } catch (error) {
    // Troubles with a destination come up again when it is opened to be written.
    if (may && error instanceof P2pdmaError) return { path, target: null, lies };
    throw error;
  }
}

/** Do source and destinations lie apart, and do the destinations reach so far? */
async function checkPlaces(
  system: OpenContext,
  source: PipelineSource,
  ends: readonly PipelineDestination[],
  options: CopyOptions,
): Promise<void> {
  const from = isPath(source) || source instanceof Target ? await placeOf(system, source, false) : null;
  const first = options.start ?? 0;
  const end = Math.min((options.end ?? Number.POSITIVE_INFINITY) + 1, from?.target?.size ?? first);
  const to = options.destinationStart ?? 0;
  const writes: Span = [to, from === null ? Number.POSITIVE_INFINITY : to + end - first];
  const seen: { place: Place; span: Span }[] = [];
  for (const other of ends) {
    if (!isPath(other) && !(other instanceof Target)) continue;
    const place = await placeOf(system, other, true);
    const { path, target } = place;
    const truncates = target?.kind === 'file' && isPath(other) && (options.flags ?? 'w') !== 'r+';
    const span = truncates ? ALL : writes;
    if (seen.some((earlier) => earlier.place.lies[0]!.on === place.lies[0]!.on)) {
      throw new P2pdmaError('ERR_OVERLAP', `'${path}' is named twice as a destination`, { path });
    }
    for (const earlier of seen) {
      const shared = sharedBy(earlier.place, earlier.span, place, span);
      if (shared === null) continue;
      throw new P2pdmaError(
        'ERR_OVERLAP',
        `the destinations '${earlier.place.path}' and '${path}' overlap: both lie on '${shared}'`,
        { path },
      );
    }
    seen.push({ place, span });
    if (target !== null && target.kind !== 'file' && to > target.size) {
      const what = `${to} is beyond the end of '${path}' (${target.size} bytes)`;
      throw optionError('ERR_OUT_OF_RANGE', 'destinationStart', what, { path, received: to });
    }
    if (from === null) continue;
    const shared = sharedBy(from, truncates ? ALL : [first, end], place, span);
    if (shared === null) continue;
    const what = truncates
      ? 'it would be truncated before it is read'
      : `bytes ${first}…${end - 1} overlap ${to}…${writes[1] - 1}`;
    const one = from.lies[0]!.on === place.lies[0]!.on;
    const names =
      from.path === path
        ? `are both '${path}'`
        : one
          ? `are one: '${from.path}' and '${path}'`
          : `overlap: '${from.path}' and '${path}' both lie on '${shared}'`;
    const why = one || truncates ? `, and ${what}` : '';
    throw new P2pdmaError('ERR_OVERLAP', `source and destination ${names}${why}`, { path });
  }
}

/** On what the two have bytes in common, or null. Neither's place in there known (two logical volumes): null. */
function sharedBy(a: Place, ofA: Span, b: Place, ofB: Span): string | null {
  for (const x of a.lies) {
    for (const y of b.lies) {
      if (x.on !== y.on || !(x.exact || y.exact)) continue;
      const [xFrom, xBehind] = within(x, ofA);
      const [yFrom, yBehind] = within(y, ofB);
      if (xFrom < yBehind && yFrom < xBehind) return y.name;
    }
  }
  return null;
}

function within({ start, length, exact }: UnderlyingRange, [from, behind]: Span): Span {
  return exact ? [start + from, start + Math.min(behind, length)] : [start, start + length];
}

/**
 * A journal is written before the first byte of the copy and removed behind its last: it must be no end of it.
 * @throws P2pdmaError ERR_OVERLAP
 */
export async function checkJournal(
  system: OpenContext,
  source: string | URL,
  destinations: readonly (string | URL)[],
  journal: string,
): Promise<void> {
  const { backend } = await system();
  const { on } = fileRange(journal);
  for (const [i, end] of [source, ...destinations].entries()) {
    const path = toPath(end);
    const shared = backend.underlying(path).findIndex((range) => range.on === on);
    if (shared < 0) continue;
    const which = `${i === 0 ? 'source' : 'destination'} '${path}'`;
    const how =
      shared === 0
        ? `the journal '${journal}' is the ${which}`
        : `the ${which} lies on the journal '${journal}'`;
    throw new P2pdmaError('ERR_OVERLAP', how, { path: journal, hint: 'Name another file for the journal.' });
  }
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
    if (reader instanceof P2pReadStream) await reader.attachment.opened();
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
