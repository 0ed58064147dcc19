/**
 * Source, destinations and journal of a copy must not overlap. Two names of one file or device, and the storage below
 * them, are recognised by their numbers.
 */
import { type BigIntStats, fstatSync, ReadStream } from 'node:fs';
import type { BlockTarget, End, UnderlyingRange } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { fileRange, statOf } from '../host/file-range.js';
import { P2pFileHandle } from '../streams/file-handle.js';
import { isPath, toPath } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import { Target } from '../streams/target.js';
import { type CopyRequest, isFileHandle, PathEnd, type PathRequest } from './request.js';

/** An end before the copy begins. */
type Place = Pick<End, 'path' | 'kind' | 'size' | 'ranges'>;

type Span = readonly [from: number, behind: number];

const ALL: Span = [0, Number.POSITIVE_INFINITY];

/**
 * Checks that source and destinations do not overlap, and that the destinations are large enough.
 * @param opened  the source as it was found when opened; null: it is a stream
 * @throws P2pdmaError ERR_OVERLAP, ERR_OUT_OF_RANGE
 */
export function assertApart(
  { source, destinations, options }: CopyRequest,
  opened: Pick<BlockTarget, 'path' | 'kind' | 'size'> | null,
): void {
  const from = opened === null ? null : sourcePlace(source, opened);
  const first = options.start ?? 0;
  const end = Math.min((options.end ?? Number.POSITIVE_INFINITY) + 1, from?.size ?? first);
  const to = options.destinationStart ?? 0;
  const reads: Span = [first, end];
  const writes: Span = [to, from === null ? Number.POSITIVE_INFINITY : to + end - first];
  const earlier: Written[] = [];
  assertEachOnce(destinations);
  assertNotTheSource(source, destinations);
  for (const other of destinations) {
    const place = placeOf(other);
    if (place === null) continue;
    const truncates = other instanceof PathEnd && isTruncated(place, options);
    if (truncates) assertNotReadFrom(source, place);
    const written = { place, span: truncates ? ALL : writes };
    assertApartFromEarlier(earlier, written);
    earlier.push(written);
    assertReaches(place, to);
    if (from !== null)
      assertApartFromSource({ place: from, span: reads }, { place, span: writes }, truncates);
  }
}

function isTruncated({ kind, size }: Place, { flags = 'w' }: CopyRequest['options']): boolean {
  return kind === 'file' && size !== null && flags !== 'r+';
}

/** One stream in two places would get each chunk twice. A function is called once for each. */
function assertEachOnce(destinations: CopyRequest['destinations']): void {
  const twice = destinations.find((end, i) => typeof end !== 'function' && destinations.indexOf(end) < i);
  if (twice === undefined) return;
  throw new P2pdmaError('ERR_OVERLAP', `${endName(twice)} is named twice as a destination`);
}

/** What is read through a handle cannot be written through it at the same place. A stream with two sides can be both. */
function assertNotTheSource(source: CopyRequest['source'], destinations: CopyRequest['destinations']): void {
  const handle = source instanceof P2pFileHandle || isFileHandle(source);
  if (!handle || !destinations.includes(source as (typeof destinations)[number])) return;
  throw new P2pdmaError('ERR_OVERLAP', `source and destination are both ${endName(source)}`);
}

/** @throws P2pdmaError ERR_OVERLAP: a handle or a stream, also one of node:fs, reads the file that would be truncated */
function assertNotReadFrom(source: CopyRequest['source'], { path, ranges }: Place): void {
  const reads = source instanceof P2pReadStream || source instanceof ReadStream;
  if (!reads && !(source instanceof P2pFileHandle) && !isFileHandle(source)) return;
  // Until it is open, a stream has a path only.
  const { fd, path: named } = source as { fd?: unknown; path?: unknown };
  const open = typeof fd === 'number' && fd >= 0;
  const there = open ? openStat(fd) : isPath(named) ? statOf(toPath(named, 'path')) : null;
  if (there === null || !there.isFile() || fileRange(path, there).on !== ranges[0]!.on) return;
  throw new P2pdmaError(
    'ERR_OVERLAP',
    `source and destination are one: ${endName(source)} and '${path}', and it would be truncated before it is read`,
    { path },
  );
}

/** Null: it was closed. */
function openStat(fd: number): BigIntStats | null {
  try {
    return fstatSync(fd, { bigint: true });
  } catch {
    return null;
  }
}

function endName(end: unknown): string {
  const { path, fd } = end as { path?: unknown; fd?: unknown };
  if (typeof path === 'string' || Buffer.isBuffer(path)) return `'${path}'`;
  return typeof fd === 'number' ? `the file descriptor ${fd}` : `the ${(end as object).constructor.name}`;
}

interface Written {
  readonly place: Place;
  readonly span: Span;
}

/** The source with its ranges as they were inspected before; everything else as it was when opened. */
function sourcePlace(source: CopyRequest['source'], opened: Omit<Place, 'ranges'>): Place | null {
  const { path, kind, size } = opened;
  const at = placeOf(source);
  return at === null ? null : { path, kind, size, ranges: at.ranges };
}

/** Null: it is a stream or a handle, or not of this package. */
function placeOf(end: CopyRequest['source'] | CopyRequest['destinations'][number]): Place | null {
  if (end instanceof PathEnd) return end.now;
  return end instanceof Target ? end.blockTarget : null;
}

function assertApartFromEarlier(earlier: readonly Written[], { place, span }: Written): void {
  const { path } = place;
  if (earlier.some((other) => other.place.ranges[0]!.on === place.ranges[0]!.on)) {
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

function assertReaches({ path, kind, size }: Place, to: number): void {
  if (kind === 'file' || size === null || to <= size) return;
  const what = `${to} is beyond the end of '${path}' (${size} bytes)`;
  throw optionError('ERR_OUT_OF_RANGE', 'destinationStart', what, { path, received: to });
}

function assertApartFromSource(from: Written, to: Written, truncates: boolean): void {
  const { path } = to.place;
  const shared = sharedBy(from.place, truncates ? ALL : from.span, to.place, truncates ? ALL : to.span);
  if (shared === null) return;
  const what = truncates
    ? 'it would be truncated before it is read'
    : `bytes ${from.span[0]}…${from.span[1] - 1} overlap ${to.span[0]}…${to.span[1] - 1}`;
  const one = from.place.ranges[0]!.on === to.place.ranges[0]!.on;
  const names =
    from.place.path === path
      ? `are both '${path}'`
      : one
        ? `are one: '${from.place.path}' and '${path}'`
        : `overlap: '${from.place.path}' and '${path}' both lie on '${shared}'`;
  const why = one || truncates ? `, and ${what}` : '';
  throw new P2pdmaError('ERR_OVERLAP', `source and destination ${names}${why}`, { path });
}

/**
 * The name of what both use the same bytes of, or null. Also null if neither's position there is known (two logical
 * volumes).
 */
function sharedBy(a: Place, ofA: Span, b: Place, ofB: Span): string | null {
  for (const x of a.ranges) {
    for (const y of b.ranges) {
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
