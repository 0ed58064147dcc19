/**
 * What can be an end of a copy without being of this package, as a Node stream:
 *
 *     a source        Readable, (async) iterable, function that returns one, ReadableStream      ──▶ Readable
 *     a destination   Writable, async function, WritableStream                                   ──▶ Writable
 *
 * It has no positions, its data is in host memory, and it cannot be opened again. Nothing is called, locked or read before the
 * copy has been checked.
 */
import { type Readable, Writable } from 'node:stream';
import type { ReadableStream, WritableStream } from 'node:stream/web';
import { P2pdmaError } from '../base/errors.js';
import { P2pReadStream } from '../streams/read-stream.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { Consumed, type Consumer } from './consumed.js';
import { type Chunks, Iterated } from './iterated.js';

export type ForeignSource =
  | Readable
  | ReadableStream
  | Chunks
  | ((options: { readonly signal: AbortSignal }) => Chunks);
export type ForeignDestination = Writable | WritableStream | Consumer;

/** A Node stream, of whatever kind. */
export function isStream(value: unknown, method?: 'read' | 'write'): value is Readable | Writable {
  return hasMethods(value, 'on', 'destroy', method ?? 'on');
}

function isWebReadable(value: unknown): value is ReadableStream {
  return hasMethods(value, 'getReader', 'pipeThrough', 'cancel');
}

function isWebWritable(value: unknown): value is WritableStream {
  return hasMethods(value, 'getWriter', 'abort');
}

/** Not an array: its texts could be meant as paths. A Buffer is a path. */
function isIterable(value: unknown): value is Chunks {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    return false;
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = value as Record<symbol, unknown>;
  return typeof (later ?? now) === 'function';
}

function hasMethods(value: unknown, ...names: string[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return names.every((name) => typeof (value as Record<string, unknown>)[name] === 'function');
}

/** A source that is not of this package. */
export function isForeignSource(end: unknown): end is ForeignSource {
  if (isStream(end)) return isStream(end, 'read') && !(end instanceof P2pReadStream);
  return isWebReadable(end) || typeof end === 'function' || isIterable(end);
}

/** A destination that is not of this package. */
export function isForeignDestination(end: unknown): end is ForeignDestination {
  if (isStream(end)) return isStream(end, 'write') && !(end instanceof P2pWriteStream);
  return isWebWritable(end) || typeof end === 'function';
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: somebody else reads or writes the web stream */
export function assertUnlocked(end: unknown, role: 'source' | 'destination'): void {
  const [is, kind, does] =
    role === 'source'
      ? [isWebReadable, 'ReadableStream', 'reads']
      : [isWebWritable, 'WritableStream', 'writes'];
  if (isStream(end) || !is(end) || !end.locked) return;
  throw new P2pdmaError(
    'ERR_INVALID_ARG_VALUE',
    `pipeline: the ${role} is a ${kind} that is locked: somebody else ${does} it`,
    { received: end, hint: 'Release its lock, or pass another stream.' },
  );
}

export function readableOf(source: ForeignSource): Readable {
  if (isStream(source)) return source.readableObjectMode && isFresh(source) ? checked(source) : source;
  if (isWebReadable(source)) return readableOfWeb(source);
  if (typeof source === 'function') {
    return new Iterated({ name: 'a function as a source', begin: (signal) => source({ signal }) });
  }
  return new Iterated({ name: 'an iterable as a source', begin: () => source });
}

/** Readable.fromWeb() takes a chunk that is null for the end, and an error that is undefined for an abort. */
function readableOfWeb(source: ReadableStream): Readable {
  const reader = source.getReader();
  return new Iterated({
    name: 'a ReadableStream as a source',
    begin: () => ({ [Symbol.asyncIterator]: () => ({ next: () => reader.read() }) }),
    destroyed: (error) => {
      reader.cancel(error ?? undefined).catch(() => {});
    },
  });
}

/** A stream of objects may deliver what a writer does not take. */
function checked(source: Readable): Readable {
  return new Iterated({
    name: 'a Readable in object mode',
    begin: () => source,
    destroyed: (error) => source.destroy(error ?? undefined),
  });
}

/** One that was used before is refused by the copy, under its own name. */
function isFresh(source: Readable): boolean {
  return !source.readableEnded && !source.destroyed;
}

export function writableOf(destination: ForeignDestination): Writable {
  if (isStream(destination)) return destination as Writable;
  return isWebWritable(destination) ? Writable.fromWeb(destination) : new Consumed(destination);
}

/** Tell an end that is not of this package that the copy failed. One that is a Node stream has a listener for the error. */
export function abandon(end: unknown, error: Error): void {
  if (isStream(end)) end.destroy(error);
  else if (isWebReadable(end)) end.cancel(error).catch(() => {});
  else if (isWebWritable(end)) end.abort(error).catch(() => {});
}
