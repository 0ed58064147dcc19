/**
 * Source, destinations and journal of a copy must not overlap. Two names of one file or device, and the storage below
 * them, are recognised by their numbers.
 */
import type { BlockTarget, End, UnderlyingRange } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { fileRange } from '../host/file-range.js';
import { Target } from '../streams/target.js';
import { type CopyRequest, PathEnd, type PathRequest } from './request.js';

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
  for (const other of destinations) {
    const place = other instanceof PathEnd ? other.now : other instanceof Target ? placeOf(other) : null;
    if (place === null) continue;
    const { kind, size } = place;
    const truncates =
      kind === 'file' && size !== null && other instanceof PathEnd && (options.flags ?? 'w') !== 'r+';
    const written = { place, span: truncates ? ALL : writes };
    assertApartFromEarlier(earlier, written);
    earlier.push(written);
    assertReaches(place, to);
    if (from !== null)
      assertApartFromSource({ place: from, span: reads }, { place, span: writes }, truncates);
  }
}

interface Written {
  readonly place: Place;
  readonly span: Span;
}

/** The source with its ranges as they were inspected before; everything else as it was when opened. */
function sourcePlace(source: CopyRequest['source'], opened: Omit<Place, 'ranges'>): Place | null {
  const { path, kind, size } = opened;
  const at = source instanceof PathEnd ? source.now : source instanceof Target ? placeOf(source) : null;
  return at === null ? null : { path, kind, size, ranges: at.ranges };
}

function placeOf({ blockTarget: { path, kind, size, ranges } }: Target): Place {
  return { path, kind, size, ranges };
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
