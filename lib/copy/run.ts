import { statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { BlockTarget } from '../backend/backend.js';
import { optionError } from '../base/arguments.js';
import { atNeed } from '../base/at-need.js';
import { ENOSPC } from '../base/errno.js';
import { abortError, errnoError, P2pdmaError } from '../base/errors.js';
import { P2pReadStream } from '../streams/read-stream.js';
import { type Receipt, withReceipt } from '../streams/receipt.js';
import { closedError, outOfRange } from '../streams/source.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { mergedReceipt } from './merged-receipt.js';
import { assertStreamsApart } from './overlap.js';
import { Portion } from './portion.js';
import { Pour } from './pour.js';
import type { Moment, Report } from './progress.js';
import { pathAgain, type ReadBack } from './read-back.js';
import type { PassingDigest } from './verify.js';

const verifying = atNeed(() => import('./verify.js'));

export interface RunOptions {
  /** Read every destination back through host memory and compare it with the source. */
  readonly verify?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** When aborted, the copy ends early but cleanly. */
  readonly stop?: AbortSignal | undefined;
  /** Called ten times a second. */
  readonly report?: Report | undefined;
  /** Default: the path of a stream is opened again. */
  readonly readBack?: ReadBack | undefined;
}

/**
 * Run one source into 1..n destinations and return the receipt. With several destinations the source is read once, and
 * all of them write from the same slots. A failure of one ends all of them. Resolves when everything is written, flushed
 * (unless the streams are configured otherwise), verified if requested, and closed.
 */
export async function run(
  source: Readable,
  destinations: readonly Writable[],
  options: RunOptions = {},
): Promise<Receipt> {
  const all = [source, ...destinations];
  let failure: Error | null = null;
  const fail = (error: Error) => {
    failure ??= error;
    // As Node's pipeline does. Without an error, a WritableStream behind one would be closed as if it were complete.
    for (const stream of all) stream.destroy(isOurs(stream) ? undefined : failure);
  };
  source.on('error', fail);
  for (const destination of destinations) {
    destination.on('error', (error) =>
      fail(isLateWrite(error, source, destination) ? endedByOthers(destination, error) : error),
    );
  }
  const abort = () => fail(abortError(options.signal!));
  if (options.signal?.aborted) abort();
  options.signal?.addEventListener('abort', abort, { once: true });

  let passing: PassingDigest | null = null;
  try {
    if (failure === null) passing = await move(source, destinations, options);
  } catch (error) {
    fail(error as Error);
  } finally {
    options.signal?.removeEventListener('abort', abort);
  }
  if (failure !== null) {
    for (const stream of all) await settle(stream);
    throw withWhatWasDone(failure, source, destinations);
  }

  const receipt = merge(source, destinations);
  const { bytes, transport, provider, backend, machine } = receipt;
  options.report?.({ bytes, total: bytes, phase: 'copy', transport, provider, backend, machine });
  try {
    if (options.verify && !options.stop?.aborted)
      await verify(source, destinations, receipt, passing, options);
  } catch (error) {
    throw withReceipt(error, receipt);
  } finally {
    for (const stream of all) await settle(stream);
  }
  return receipt;
}

/** From the initial checks until every stream has ended. The data of a foreign source is digested for verification. */
async function move(
  source: Readable,
  destinations: readonly Writable[],
  options: RunOptions,
): Promise<PassingDigest | null> {
  // Other listeners must not start the flow before the destinations are ready.
  source.pause();
  const passing = options.verify && !(source instanceof P2pReadStream) ? await newDigest() : null;
  await checkBeforeFirstByte(source, destinations);
  if (options.verify) await assertReadableAgain([source, ...destinations]);
  const expected = source instanceof P2pReadStream ? source.length : 0;
  const pour = await Pour.begin(source, destinations, passing && ((bytes) => passing.update(bytes)));
  if (passing !== null && pour === null)
    source.on('data', (chunk: Uint8Array | string) => passing.update(Buffer.from(chunk as string)));
  const progress = watch(source, destinations, options.report);
  const stop = () => (pour === null ? stopEarly(source, destinations) : pour.stop());
  try {
    if (pour === null) for (const destination of destinations) source.pipe(destination);
    options.stop?.addEventListener('abort', stop, { once: true });
    if (options.stop?.aborted) stop();
    await Promise.all([
      pour === null ? delivered(source, options.stop) : poured(pour, destinations),
      ...destinations.map(async (destination) => {
        await written(destination);
        const whole = pour === null ? source.readableEnded : pour.isOver;
        if (!whole && !options.stop?.aborted) throw endedByOthers(destination);
      }),
    ]);
  } finally {
    clearInterval(progress);
    options.stop?.removeEventListener('abort', stop);
  }
  if (options.stop?.aborted) return passing;
  assertWhole(source, expected);
  assertEachHasAll(source, destinations);
  return passing;
}

async function poured(pour: Pour, destinations: readonly Writable[]): Promise<void> {
  await pour.over;
  for (const destination of destinations) {
    if (destination.writableEnded) throw endedByOthers(destination);
    destination.end();
  }
}

async function newDigest(): Promise<PassingDigest> {
  const { PassingDigest } = await verifying();
  return new PassingDigest();
}

/** A source that is destroyed without an error does not end its destinations: without this check nobody would notice. */
async function delivered(source: Readable, stop: AbortSignal | undefined): Promise<void> {
  try {
    await finished(source, { writable: false });
  } catch (error) {
    // A copy that is stopped early destroys a foreign source itself.
    if (!stop?.aborted) throw error;
  }
}

/** Node's finished() regards a stream as finished if end() was called and it was then destroyed before it had finished. */
async function written(destination: Writable): Promise<void> {
  await finished(destination, { readable: false });
  // Streams in the style of before Node 10 do not have this property.
  if (destination.writableFinished === false) throw closedError(nameOf(destination));
}

/** The next chunk came after somebody else had ended the destination, which may be in the same turn. */
function isLateWrite(error: NodeJS.ErrnoException, source: Readable, destination: Writable): boolean {
  // A destination may pass on what a stream behind it says.
  return error.code === 'ERR_STREAM_WRITE_AFTER_END' && destination.writableEnded && !source.readableEnded;
}

/** Only the end of the source ends a destination. After any other the source would wait for ever for one that takes its data. */
function endedByOthers(destination: Writable, cause?: Error): P2pdmaError {
  return new P2pdmaError(
    'ERR_STREAM_DESTROYED',
    `'${nameOf(destination)}' was ended before it had everything: the source has not ended`,
    { hint: 'Leave its end to the copy.', ...(cause && { cause }) },
  );
}

function nameOf(stream: Readable | Writable): string {
  return String((stream as { path?: unknown }).path ?? stream.constructor.name);
}

/** A stream that has already ended would neither transfer a byte nor report an error. */
function assertNotUsedUp(source: Readable, destinations: readonly Writable[]): void {
  const used = [source].find((s) => s.readableEnded) ?? destinations.find((d) => d.writableEnded);
  if (used === undefined) return;
  throw new P2pdmaError(
    'ERR_STREAM_DESTROYED',
    `'${nameOf(used)}' was used to its end before the copy began`,
    {
      hint: 'A stream can be used once. Give the copy a new one, or a path.',
    },
  );
}

/** What node:fs reads and writes in order (a pipe, an fd, an appended file) cannot be read back from a position. */
async function assertReadableAgain(streams: readonly (Readable | Writable)[]): Promise<void> {
  for (const stream of streams) {
    if (!isOurs(stream)) continue;
    const { inOrder, path } = await stream.attachment.opened();
    if (inOrder === undefined) continue;
    throw optionError('ERR_INVALID_ARG_VALUE', 'verify', `'${path}' cannot be read back: ${inOrder}`, {
      received: true,
      hint: (option) => `Drop ${option('verify')}, or name a path, a Target or another stream.`,
    });
  }
}

/** Everything that can be known to go wrong is found before anything is written. */
async function checkBeforeFirstByte(source: Readable, destinations: readonly Writable[]): Promise<void> {
  if (destinations.length === 0) {
    throw new P2pdmaError('ERR_INVALID_ARG_VALUE', 'pipeline: there is no destination');
  }
  assertNotUsedUp(source, destinations);
  const from = source instanceof P2pReadStream ? await source.attachment.opened() : null;
  const ends: { end: P2pWriteStream; target: BlockTarget }[] = [];
  for (const end of destinations) {
    if (end instanceof P2pWriteStream) ends.push({ end, target: await end.attachment.opened() });
  }
  assertStreamsApart(source, destinations);
  if (!(source instanceof P2pReadStream) || from === null) return;
  if (from.inOrder === undefined && source.start > from.size)
    throw outOfRange(source.meteredPath, source.start, from);
  for (const { end, target } of ends) {
    const room = target.size - end.start;
    if (target.kind !== 'file' && source.length > room) {
      throw errnoError(-ENOSPC, 'write', end.meteredPath, {
        hint: `${source.length} bytes are to be written from byte ${end.start} on, and ${Math.max(0, room)} fit.`,
      });
    }
  }
}

/**
 * A copy is meant to transfer a known number of bytes. If the source was truncated in the meantime, the copy is not
 * complete.
 */
function assertWhole(source: Readable, expected: number): void {
  if (!(source instanceof P2pReadStream) || source.bytesRead >= expected) return;
  const { meteredPath: path, start, bytesRead } = source;
  throw endedEarly({ path, start, bytesRead }, expected);
}

/** The error for a source that ended after `bytesRead` of the `expected` bytes. */
export function endedEarly(
  { path, start, bytesRead }: { readonly path: string; readonly start: number; readonly bytesRead: number },
  expected: number,
): P2pdmaError {
  const offset = start + bytesRead;
  const end = start + expected;
  // Attributes in /sys report a page and hold a line.
  const reports = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  return new P2pdmaError(
    'ERR_SHORT_TRANSFER',
    `read '${path}': it ended at byte ${offset}, ${reports >= end ? `but it reports ${reports} bytes` : `but it had ${end} bytes when the copy began`}`,
    {
      ...{ path, syscall: 'read', offset },
      hint:
        reports >= end
          ? `What it holds is written. The length that it reports is not that of its contents: copy it with cat '${path}' > file.`
          : 'The source was truncated during the copy; what had been read before that is written. Copy it again when nothing else changes it.',
    },
  );
}

/** Data that the source delivered to others before the copy, or that was taken out of it, is missing in the destinations. */
function assertEachHasAll(source: Readable, destinations: readonly Writable[]): void {
  if (!(source instanceof P2pReadStream) || source.readableEncoding !== null) return;
  for (const end of destinations) {
    if (!(end instanceof P2pWriteStream) || end.bytesWritten >= source.bytesRead) continue;
    const { meteredPath: path, start, bytesWritten } = end;
    throw new P2pdmaError(
      'ERR_SHORT_TRANSFER',
      `write '${path}': it got ${bytesWritten} of the ${source.bytesRead} bytes that were read from '${source.meteredPath}'`,
      {
        ...{ path, syscall: 'write', offset: start + bytesWritten },
        hint: 'Others read from the source as well. Give the copy a source of its own.',
      },
    );
  }
}

function watch(
  source: Readable,
  destinations: readonly Writable[],
  report: Report | undefined,
): NodeJS.Timeout | undefined {
  if (report === undefined) return undefined;
  const total = lengthOf(source);
  return setInterval(() => {
    const written = destinations.map((d) =>
      d instanceof P2pWriteStream ? d.bytesWritten : Number.POSITIVE_INFINITY,
    );
    const slowest = Math.min(...written);
    // Streams of other kinds do not say how much they have written; what was read for them is known.
    const read = source instanceof P2pReadStream ? source.bytesRead : 0;
    const bytes = Number.isFinite(slowest) ? slowest : read;
    report({ bytes, total, phase: 'copy', ...progressRoute(source, destinations) });
  }, 100);
}

/** Null: a stream of another kind says no length, and none was asked for. */
function lengthOf(source: Readable): number | null {
  if (source instanceof P2pReadStream) return source.length;
  return source instanceof Portion && Number.isFinite(source.most) ? source.most : null;
}

function progressRoute(
  source: Readable,
  destinations: readonly Writable[],
): Pick<Moment, 'transport' | 'provider' | 'backend' | 'machine'> {
  const own = [source, ...destinations].find(isOurs);
  const { backend = null, machine = null } = own?.receipt ?? {};
  if (!(source instanceof P2pReadStream))
    return { transport: 'host-memory', provider: null, backend, machine };
  const { transport, receipt } = source;
  return { transport, provider: transport === null ? null : receipt.provider, backend, machine };
}

/** Stop reading; data that was already read is still written. */
function stopEarly(source: Readable, destinations: readonly Writable[]): void {
  if (source instanceof P2pReadStream) return source.stop();
  source.unpipe();
  source.destroy();
  for (const destination of destinations) destination.end();
}

/** Wait until the I/O of a destroyed or finished stream is over and its target is closed. */
async function settle(stream: Readable | Writable): Promise<void> {
  if (isOurs(stream)) await stream.shutdown();
  // One that has finished may have a side that others still read: a Transform, a socket.
  else if ((stream as Writable).writableFinished !== true) stream.destroy();
}

function isOurs(stream: unknown): stream is P2pReadStream | P2pWriteStream {
  return stream instanceof P2pReadStream || stream instanceof P2pWriteStream;
}

function withWhatWasDone(failure: Error, source: Readable, destinations: readonly Writable[]): Error {
  return [source, ...destinations].some(isOurs) ? withReceipt(failure, merge(source, destinations)) : failure;
}

function merge(source: Readable, destinations: readonly Writable[]): Receipt {
  const ends = destinations.filter((d) => d instanceof P2pWriteStream);
  const read = source instanceof P2pReadStream ? source.receipt : null;
  return mergedReceipt(read, ends, { foreign: destinations.length > ends.length || read === null });
}

async function verify(
  source: Readable,
  destinations: readonly Writable[],
  receipt: Receipt,
  passing: PassingDigest | null,
  { stop, report, readBack = pathAgain }: RunOptions,
): Promise<void> {
  const { backend, machine } = receipt;
  const compared =
    report &&
    ((bytes: number, total: number) =>
      report({ bytes, total, phase: 'verify', transport: null, provider: null, backend, machine }));
  const { onlookerOf, verifyRanges } = await verifying();
  const onlooker = onlookerOf(receipt.bytes * destinations.length, stop, compared);
  for (const destination of destinations) {
    if (!(destination instanceof P2pWriteStream)) {
      throw new P2pdmaError(
        'ERR_INVALID_ARG_VALUE',
        'verify: a destination is not a p2pdma stream and cannot be read back',
      );
    }
    const allocate = (bytes: number) => destination.attachment.context!.backend.memory.allocBuffer(bytes);
    const { start } = destination;
    receipt.digest = await readBack(destination, (target) => {
      const range = { target, start };
      if (!(source instanceof P2pReadStream)) return passing!.verify(range, allocate, onlooker.next());
      return readBack(source, (from) =>
        verifyRanges({ target: from, start: source.start }, range, receipt.bytes, allocate, onlooker.next()),
      );
    });
  }
  receipt.verified = !stop?.aborted;
}
