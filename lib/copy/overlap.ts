/**
 * Source, destinations and journal of a copy must not overlap. Two names of one file or device, and the storage below
 * them, are recognised by their numbers.
 */
import type { Readable, Writable } from 'node:stream';
import type { BlockTarget, UnderlyingRange } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError, type P2pdmaErrorOptions } from '../base/errors.js';
import type { Sentence } from '../base/sentence.js';
import { fileRange } from '../host/file-range.js';
import { P2pFileHandle } from '../streams/file-handle.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { type CopyRequest, isFileHandle, type PathRequest } from './request.js';
import {
  ALL,
  fileOf,
  isEmptiedBy,
  nameOfEnd,
  type Place,
  quotedEnd,
  readBy,
  type Span,
  type Use,
  usedByStream,
  writtenBy,
} from './uses.js';

/**
 * A stream that truncates its file when it is opened must not be given the source's. Call this before anything is awaited: a
 * stream of this package that is not open yet is then never opened. (One of node:fs cannot be kept from it.)
 * @throws P2pdmaError ERR_OVERLAP
 */
export function assertNotEmptied(source: unknown, destinations: readonly unknown[]): void {
  for (const stream of destinations) {
    if (!isEmptiedBy(stream)) continue;
    const file = fileOf(stream);
    if (file === null || file !== fileOf(source)) continue;
    const path = nameOfEnd(stream);
    const error = new P2pdmaError(
      'ERR_OVERLAP',
      `source and destination are one: '${path}', which the stream with the flags '${stream.flags}' truncates when it is opened`,
      { path },
    );
    if (stream instanceof P2pWriteStream) stream.attachment.refuse(error);
    throw error;
  }
}

/**
 * Checks that source and destinations do not overlap, and that the destinations are large enough.
 * @param opened  the source as it was found when opened; null: it is a stream
 * @throws P2pdmaError ERR_OVERLAP, ERR_OUT_OF_RANGE
 */
export function assertApart(
  { source, destinations, options }: CopyRequest,
  opened: Pick<BlockTarget, 'path' | 'kind' | 'size'> | null,
): void {
  assertEachOnce(destinations);
  assertNotTheSource(source, destinations);
  const writes = destinations.map((end) => writtenBy(end, options));
  for (const use of writes) if (use !== null) assertReaches(use.place, options.destinationStart ?? 0);
  assertUsesApart(readBy(source, options, opened), writes);
}

/**
 * The same for the streams of a copy when all of them are open. Streams and handles of the caller are known only then.
 * @throws P2pdmaError ERR_OVERLAP
 */
export function assertStreamsApart(source: Readable, destinations: readonly Writable[]): void {
  assertUsesApart(usedByStream(source), destinations.map(usedByStream));
}

function assertUsesApart(reads: Use | null, writes: readonly (Use | null)[]): void {
  const earlier: Use[] = [];
  for (const use of writes) {
    if (use === null) continue;
    const { place, span, truncates } = use;
    const written = reads === null ? use : { place, span: asLongAs(reads, span[0]), truncates };
    const touched = truncates ? { place, span: ALL, truncates } : written;
    assertApartFromEarlier(earlier, touched);
    earlier.push(touched);
    if (reads !== null) assertApartFromSource(reads, written);
  }
}

/** What is written from `to` on. A file that is read to its end has as many bytes as it has now. */
function asLongAs({ place, span: [first, behind] }: Use, to: number): Span {
  return [to, to + Math.max(0, Math.min(behind, place.size ?? behind) - first)];
}

/** One stream in two places would get each chunk twice. A function is called once for each. */
function assertEachOnce(destinations: CopyRequest['destinations']): void {
  const twice = destinations.find((end, i) => typeof end !== 'function' && destinations.indexOf(end) < i);
  if (twice === undefined) return;
  throw new P2pdmaError('ERR_OVERLAP', `${quotedEnd(twice)} is named twice as a destination`);
}

/** What is read through a handle cannot be written through it at the same place. A stream with two sides can be both. */
function assertNotTheSource(source: CopyRequest['source'], destinations: CopyRequest['destinations']): void {
  const handle = source instanceof P2pFileHandle || isFileHandle(source);
  if (!handle || !destinations.includes(source as (typeof destinations)[number])) return;
  throw new P2pdmaError('ERR_OVERLAP', `source and destination are both ${quotedEnd(source)}`);
}

function assertApartFromEarlier(earlier: readonly Use[], { place, span }: Use): void {
  const { path } = place;
  if (earlier.some((other) => isSame(other.place, place))) {
    throw new P2pdmaError('ERR_OVERLAP', `'${path}' is named twice as a destination`, { path });
  }
  for (const other of earlier) {
    const shared = sharedBy(other.place, other.span, place, span);
    if (shared === null) continue;
    throw new P2pdmaError(
      'ERR_OVERLAP',
      `the destinations '${other.place.path}' and '${path}' overlap: both lie on '${shared}'`,
      { path },
    );
  }
}

/** One file or device. That of a pipe is not known. */
function isSame(a: Place, b: Place): boolean {
  return a.ranges[0] !== undefined && a.ranges[0].on === b.ranges[0]?.on;
}

function assertReaches({ path, kind, size }: Place, to: number): void {
  if (kind === 'file' || size === null || to <= size) return;
  const what = `${to} is beyond the end of '${path}' (${size} bytes)`;
  throw optionError('ERR_OUT_OF_RANGE', 'destinationStart', what, { path, received: to });
}

function assertApartFromSource(from: Use, to: Use): void {
  const { path } = to.place;
  const shared = to.truncates
    ? sharedBy(from.place, ALL, to.place, ALL)
    : sharedBy(from.place, from.span, to.place, to.span);
  if (shared === null) return;
  const one = isSame(from.place, to.place);
  const names =
    from.place.path === path
      ? `are both '${path}'`
      : one
        ? `are one: '${from.place.path}' and '${path}'`
        : `overlap: '${from.place.path}' and '${path}' both lie on '${shared}'`;
  const { why, ...hint } = one || to.truncates ? whyNot(from, to) : { why: null };
  const message = `source and destination ${names}${why === null ? '' : `, and ${why}`}`;
  throw new P2pdmaError('ERR_OVERLAP', message, { path, ...hint });
}

function whyNot({ place, span }: Use, to: Use): { why: string } & Pick<P2pdmaErrorOptions, 'hint'> {
  if (to.truncates) return { why: 'it would be truncated before it is read' };
  if (!place.ranges[0]!.exact || !to.place.ranges[0]!.exact) {
    const hint = 'Name both ends by their path, and say where each begins and where the source ends.';
    return { why: 'where in it each of them is cannot be known', hint };
  }
  const [first, behind] = [span[0], Math.min(span[1], place.size ?? span[1])];
  if (behind <= to.span[0]) {
    const hint: Sentence = (option) => `Say with ${option('end')} which byte is the last to be copied.`;
    return { why: 'it would grow while it is read, without end', hint };
  }
  return { why: `bytes ${first}…${behind - 1} overlap ${to.span[0]}…${to.span[1] - 1}` };
}

/**
 * The name of what both use the same bytes of, or null. Also null if neither's position there is known (two logical
 * volumes).
 */
function sharedBy(a: Place, ofA: Span, b: Place, ofB: Span): string | null {
  for (const [i, x] of a.ranges.entries()) {
    for (const [j, y] of b.ranges.entries()) {
      // At index 0 it is the file or device itself, and not only something below it.
      if (x.on !== y.on || !(x.exact || y.exact || i + j === 0)) continue;
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
 * A journal is written before the first byte of the copy and removed after its last, so it cannot be the source or a
 * destination.
 * @throws P2pdmaError ERR_OVERLAP
 */
export function assertJournalApart({ source, destinations }: PathRequest, journal: string): void {
  const { on } = fileRange(journal);
  for (const [i, { path, now }] of [source, ...destinations].entries()) {
    const shared = now.ranges.findIndex((range) => range.on === on);
    if (shared < 0) continue;
    const which = `${i === 0 ? 'source' : 'destination'} '${path}'`;
    const how =
      shared === 0
        ? `the journal '${journal}' is the ${which}`
        : `the ${which} lies on the journal '${journal}'`;
    throw new P2pdmaError('ERR_OVERLAP', how, { path: journal, hint: 'Name another file for the journal.' });
  }
}
