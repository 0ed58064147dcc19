/** Which bytes of which file or device an end of a copy reads or writes, as far as that can be known. */
import { type BigIntStats, constants, fstatSync, ReadStream, statSync, WriteStream } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import type { BlockTarget, End } from '../backend/backend.js';
import { fileRange } from '../host/file-range.js';
import { openFlags } from '../streams/open-flags.js';
import { isPath, toPath } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { isStream } from './foreign.js';
import { Portion } from './portion.js';
import { type CopyOptions, type CopyRequest, PathEnd } from './request.js';

/** Bytes `from` … `behind` - 1. */
export type Span = readonly [from: number, behind: number];

export const ALL: Span = [0, Number.POSITIVE_INFINITY];

/** An end as it was found, or as it is open. */
export type Place = Pick<End, 'path' | 'kind' | 'size' | 'ranges'>;

export interface Use {
  readonly place: Place;
  readonly span: Span;
  /** The file is emptied when the copy writes its first byte. */
  readonly truncates: boolean;
}

/** @param opened  a path or Target as it was found when opened */
export function readBy(
  source: CopyRequest['source'],
  { start = 0, end = Number.POSITIVE_INFINITY }: CopyOptions,
  opened: Pick<BlockTarget, 'path' | 'kind' | 'size'> | null,
): Use | null {
  const named = placeOf(source);
  if (named === null) return usedByStream(source);
  const { path, kind, size } = opened ?? named;
  const place = { path, kind, size, ranges: named.ranges };
  return { place, span: spanOf(place, start, end + 1), truncates: false };
}

export function writtenBy(
  destination: CopyRequest['destinations'][number],
  { destinationStart = 0, flags = 'w' }: CopyOptions,
): Use | null {
  const place = placeOf(destination);
  if (place === null) return usedByStream(destination);
  const truncates =
    destination instanceof PathEnd && place.kind === 'file' && place.size !== null && flags !== 'r+';
  return { place, span: [destinationStart, Number.POSITIVE_INFINITY], truncates };
}

/** Null: it is a stream or a handle, or not of this package. */
function placeOf(end: CopyRequest['source'] | CopyRequest['destinations'][number]): Place | null {
  if (end instanceof PathEnd) return end.now;
  return end instanceof Target ? end.blockTarget : null;
}

/** Null: it is over nothing that has offsets, or it is not open yet. */
export function usedByStream(stream: unknown): Use | null {
  if (stream instanceof P2pReadStream) {
    const place = openPlace(stream.attachment.target);
    return place && { place, span: spanOf(place, stream.start, stream.end + 1), truncates: false };
  }
  if (stream instanceof P2pWriteStream) {
    const { target, source } = stream.attachment;
    const place = openPlace(target);
    if (place === null) return null;
    if (source.owned && has(stream.flags, constants.O_APPEND)) return appendedTo(stream);
    const truncates = source.begin !== undefined && place.kind === 'file' && isEmptiedBy(stream);
    return { place, span: [stream.start, Number.POSITIVE_INFINITY], truncates };
  }
  if (!(stream instanceof Portion)) return usedByForeign(stream);
  const whole = usedByStream(stream.source);
  return whole && { ...whole, span: firstOf(whole.span, stream.most) };
}

function firstOf([from, behind]: Span, most: number): Span {
  return [from, Math.min(behind, from + most)];
}

/** Null: it is not open, or has no offsets. */
function openPlace(target: BlockTarget | null): Place | null {
  if (target === null || target.ranges.length === 0) return null;
  const { path, kind, size, ranges, inOrder } = target;
  return { path, kind, size: inOrder === undefined ? size : null, ranges };
}

/** A stream of node:fs, or another stream that names its descriptor. */
function usedByForeign(stream: unknown): Use | null {
  if (!isStream(stream)) return null;
  const { start, end, flags } = stream as unknown as Record<string, unknown>;
  if (stream instanceof WriteStream && has(flags, constants.O_APPEND)) return appendedTo(stream);
  const known = typeof start === 'number';
  const place = hostPlace(stream, known);
  const behind = typeof end === 'number' ? end + 1 : Number.POSITIVE_INFINITY;
  return place && { place, span: known ? [start, behind] : ALL, truncates: false };
}

/** What is appended goes behind what is there now. */
function appendedTo(stream: unknown): Use | null {
  const place = hostPlace(stream, true);
  return place && { place, span: [place.size ?? 0, Number.POSITIVE_INFINITY], truncates: false };
}

/** What this computer says of the file or device that a stream is over. `exact`: where in it is known. */
function hostPlace(stream: unknown, exact: boolean): Place | null {
  const there = statsOf(stream);
  if (there === null || !(there.isFile() || there.isBlockDevice())) return null;
  const path = nameOfEnd(stream);
  const ranges = [{ ...fileRange(path, there), exact }];
  return there.isFile()
    ? { path, kind: 'file', size: Number(there.size), ranges }
    : { path, kind: 'block', size: null, ranges };
}

/** A file may grow while it is read; a device ends where it ends. */
function spanOf({ kind, size }: Place, start: number, behind: number): Span {
  return [start, kind === 'file' ? behind : Math.min(behind, size ?? behind)];
}

/** The key of the file that an end is over; null: there is none, or it cannot be known yet. Nothing is opened. */
export function fileOf(end: unknown): string | null {
  if (end instanceof Target) return end.blockTarget.kind === 'file' ? end.blockTarget.ranges[0]!.on : null;
  const there = statsOf(end);
  return there?.isFile() ? fileRange('', there).on : null;
}

/** The stream truncates its file when it is opened, whenever that is. */
export function isEmptiedBy(
  stream: unknown,
): stream is (P2pWriteStream | WriteStream) & { flags: string | number } {
  if (!(stream instanceof P2pWriteStream) && !(stream instanceof WriteStream)) return false;
  return has((stream as { flags?: unknown }).flags, constants.O_TRUNC);
}

function has(flags: unknown, bit: number): boolean {
  try {
    return (openFlags(flags as string | number | null) & bit) !== 0;
  } catch {
    // Flags that do not exist: its stream fails with that error.
    return false;
  }
}

/** Null: it has neither a descriptor nor a path, or nothing is there. */
function statsOf(end: unknown): BigIntStats | null {
  const { fd, path } = (end ?? {}) as { fd?: unknown; path?: unknown };
  try {
    if (isPath(end)) return statSync(toPath(end), { bigint: true });
    // A stream of any kind may have a descriptor. Until it is open, it has a path only.
    if (typeof fd === 'number' && fd >= 0) return fstatSync(fd, { bigint: true });
    const over = typeof path === 'string' || Buffer.isBuffer(path) ? path : null;
    return over !== null && isStreamOverPath(end) ? statSync(over, { bigint: true }) : null;
  } catch {
    return null;
  }
}

function isStreamOverPath(end: unknown): boolean {
  return [P2pReadStream, P2pWriteStream, ReadStream, WriteStream].some((kind) => end instanceof kind);
}

/** Its path, or what else is known of it. */
export function nameOfEnd(end: unknown): string {
  return pathOf(end) ?? withoutPath(end);
}

/** For a sentence: only a path is in quotes. */
export function quotedEnd(end: unknown): string {
  const path = pathOf(end);
  return path === null ? withoutPath(end) : `'${path}'`;
}

function pathOf(end: unknown): string | null {
  const { path } = end as { path?: unknown };
  return typeof path === 'string' || path instanceof Uint8Array ? String(path) : null;
}

function withoutPath(end: unknown): string {
  const { fd } = end as { fd?: unknown };
  return typeof fd === 'number' ? `fd ${fd}` : `the ${(end as Readable | Writable).constructor.name}`;
}
