/**
 * What a copy would do, determined without opening anything for writing. The same plan is printed by `--dry-run`,
 * protects the destinations, and gives the number of bytes in a complete copy.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type BlockTarget, type Disk, type Origin, originOf, type Place } from '../backend/backend.js';
import { whyNotByCommand } from '../backend/by-command.js';
import type { Bdf } from '../backend/topology.js';
import { optionError } from '../base/arguments.js';
import { EACCES, EBUSY, EEXIST, ENOENT, ENOSPC, EROFS } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import type { Sentence } from '../base/sentence.js';
import { assertNoDeviceName } from '../host/device-names.js';
import { accessHint, readOnlyHint } from '../host/path-advice.js';
import {
  assertInOrder,
  chunkSize,
  copyOptions,
  depthAhead,
  depthOf,
  parseOptions,
} from '../streams/options.js';
import type { OpenContext } from '../streams/paths.js';
import type { Transport } from '../streams/receipt.js';
import {
  chooseRoute,
  hostRoute,
  p2pRequired,
  type Route,
  type RouteTarget,
  targetOf,
} from '../streams/route.js';
import type { StreamContext } from '../streams/session.js';
import { assertChunkFits } from '../streams/slot-pool.js';
import { transfer } from '../streams/transfer.js';
import { whyNotZones } from '../streams/zones.js';
import { askBlkid } from './blkid.js';
import type { ForeignDestination, ForeignSource } from './foreign.js';
import { assertApart } from './overlap.js';
import {
  type CopyOptions,
  makePathRequest,
  makeRequest,
  PathEnd,
  type PathRequest,
  type StreamRequest,
} from './request.js';
import { SPOT } from './signature-table.js';
import { findSignatures, LOOK, type Signature, spotsOf } from './signatures.js';

/** One end of a planned copy, in its present state. */
export interface PlannedEnd {
  /** `'nvme0n1'`, or a file's base name. */
  readonly name: string;
  /** As the caller gave it. */
  readonly path: string;
  /** An NVMe namespace as it is, another block device, a file, or a stream of another kind (a pipe). */
  readonly kind: 'namespace' | 'block' | 'file' | 'stream';
  /** In bytes, at present; 0 if it reports no size: it cannot be opened, or it is a stream. */
  readonly size: number;
  /** PCI function that does its DMA, or null. */
  readonly client: Bdf | null;
  /** The identifier that a device keeps when its name changes; null: none is known, or it is a file. */
  readonly identity: string | null;
  /** The disks that hold a device's bytes, and what a person recognises them by; empty for a file. */
  readonly disks: readonly Disk[];
}

/** A partition of a disk that would be written. @inline */
export interface PlannedPartition {
  /** `'nvme1n1p1'`. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** What it holds at present, by our table of signatures; null: it could not be read, or there are too many to look at. */
  readonly holds: readonly Signature[] | null;
  /** Who mounts or holds it, or null. */
  readonly inUse: string | null;
}

/** A destination, and what the copy would do to it. */
export interface PlannedDestination extends PlannedEnd {
  /**
   * `create`: a new file; `truncate`: an existing file loses what it has; `overwrite`: the bytes `from` to `to` go; `pass`:
   * it is a stream, which passes the bytes on.
   */
  readonly effect: 'create' | 'truncate' | 'overwrite' | 'pass';
  /** First byte to be written; `to` < `from`: none. */
  readonly from: number;
  /** Last byte to be written; null: the source is a stream of unknown length. */
  readonly to: number | null;
  /** What it holds at present, by its signatures. */
  readonly holds: readonly Signature[];
  /** The partitions that it has. */
  readonly partitions: readonly PlannedPartition[];
  /** Who mounts or holds it, or null. */
  readonly inUse: string | null;
}

/** What a copy would do; see `planCopy()`. */
export interface CopyPlan extends Origin {
  /** What would be read. */
  readonly source: PlannedEnd;
  /** What would be written, in the order given. */
  readonly destinations: readonly PlannedDestination[];
  /** First byte of the source. */
  readonly start: number;
  /** How many bytes would be copied; null: the source is a stream of unknown length. */
  readonly bytes: number | null;
  /** Sparse: how many of them are data, the rest holes; null: holes are not skipped. */
  readonly dataBytes: number | null;
  /** As the receipt would say. */
  readonly transport: Transport;
  /** Whose CMB would be used (a PCI address), or null. */
  readonly provider: Bdf | null;
  /** Why this transport, in words. */
  readonly reason: string;
  /** Null, or why success will not prove the route. */
  readonly unproven: string | null;
  /** Chunk size in bytes. */
  readonly highWaterMark: number;
  /** Transfers that would be in flight. */
  readonly queueDepth: number;
  /** The destinations would be read back and compared. */
  readonly verify: boolean;
  /** The journal from which the copy would resume, and the bytes that are done; null: it would start from the beginning. */
  readonly resume: { readonly journal: string; readonly done: number } | null;
  /** The errors with which this copy would fail; empty: none are known. */
  readonly problems: readonly P2pdmaError[];
}

/** A plan whose length is known: both ends are paths. */
export type KnownPlan = CopyPlan & { readonly bytes: number };

/**
 * Plan a copy between paths.
 * @throws P2pdmaError errors that make a plan impossible: a source that cannot be read, bad options, overlap. Errors
 * that would occur only on writing are in `problems`.
 */
export async function planCopy(
  open: OpenContext,
  from: string | URL,
  to: readonly (string | URL)[],
  options: CopyOptions = {},
): Promise<KnownPlan> {
  return planRequest(await makePathRequest(open, from, to, options));
}

/** The same where an end is a stream of another kind. Nothing is read from it, and nothing is written to it. */
export async function planStream(
  open: OpenContext,
  from: string | URL | ForeignSource,
  to: readonly (string | URL | ForeignDestination)[],
  options: CopyOptions = {},
): Promise<CopyPlan> {
  const request = await makeRequest(open, from, to, options);
  return plan({ ...request, context: await open() } as StreamRequest);
}

/** The same for ends that were inspected before. */
export async function planRequest(request: PathRequest): Promise<KnownPlan> {
  return (await plan(request)) as KnownPlan;
}

async function plan(request: StreamRequest): Promise<CopyPlan> {
  const { context, source, destinations: to } = request;
  const settings = parseOptions(copyOptions, request.options);
  assertInOrder(settings);
  context.assertOpen();
  if (source instanceof PathEnd) {
    const unfit = whyNotByCommand(context.backend, source.now, settings.engine);
    if (unfit !== null) throw unfit;
  }
  const looked = source instanceof PathEnd ? await lookAtSource(source, settings) : null;
  assertApart(request, looked);
  const seen = looked ?? STREAM;
  const { start } = settings;
  const bytes = looked === null ? streamBytes(settings) : bytesOf(source as PathEnd, looked, settings);

  const destinations: PlannedDestination[] = [];
  const problems: P2pdmaError[] = [];
  // A file that does not exist yet is assumed to need the same alignment as the source.
  let alignment = seen.dmaAlignment;
  for (const end of to) {
    const { planned, problem, dmaAlignment } =
      end instanceof PathEnd ? await planDestination(end, settings, bytes) : passedOn(bytes);
    destinations.push(planned);
    alignment = Math.max(alignment, dmaAlignment);
    if (problem !== null) problems.push(problem);
  }

  const byCommand = settings.engine === 'passthrough';
  const ends = [source, ...to].map((end, i) =>
    end instanceof PathEnd
      ? targetOf(i === 0 ? seen.name : destinations[i - 1]!.name, end.now, byCommand)
      : null,
  );
  const route = ends.every((end) => end !== null)
    ? foreseeRoute(context, ends, alignment, settings)
    : hostRoute('an end is a stream of another kind, whose chunks are in host memory');
  if (settings.requireP2p && route.provider === null) {
    problems.push(p2pRequired(source instanceof PathEnd ? source.path : seen.name, route.reason));
  }
  const block = seen.blockSize;
  const highWaterMark = chunkSize(settings.highWaterMark, block, route.provider?.p2pmem?.size);
  if (route.provider !== null) assertChunkFits(highWaterMark, route.provider);
  return {
    ...originOf(context.backend),
    source: { ...end(seen), ...(source instanceof PathEnd ? whose(source) : NOBODYS) },
    destinations,
    start,
    bytes,
    dataBytes: seen.dataBytes,
    transport: route.transport,
    provider: route.provider?.bdf ?? null,
    reason: route.reason,
    unproven: route.unproven,
    highWaterMark,
    queueDepth: ends.includes(null, 1) ? depthAhead(settings, highWaterMark) : depthOf(settings),
    verify: settings.verify,
    resume: null,
    problems,
  };
}

type Settings = ReturnType<typeof parseOptions<typeof copyOptions>>;
type Facts = Pick<BlockTarget, 'name' | 'path' | 'kind' | 'size'> & {
  readonly blockSize: number;
  readonly dmaAlignment: number;
};

function facts({ name, path, kind, size, limits }: BlockTarget): Facts {
  return { name, path, kind, size, blockSize: limits.logicalBlockSize, dmaAlignment: limits.dmaAlignment };
}

function end<K extends PlannedEnd['kind']>({
  name,
  path,
  kind,
  size,
}: Pick<PlannedEnd, 'name' | 'path' | 'size'> & { readonly kind: K }) {
  return { name, path, kind, size };
}

/** What is known of a stream of another kind. */
const STREAM = {
  ...({ name: 'stream', path: '', kind: 'stream', size: 0 } as const),
  ...{ blockSize: 1, dmaAlignment: 1, dataBytes: null },
};

const NOBODYS = { client: null, identity: null, disks: [] };

function whose({ context, now }: PathEnd): Pick<PlannedEnd, 'client' | 'identity' | 'disks'> {
  const { client, identity, kind, place } = now;
  const names = kind === 'file' ? [] : diskNames(place);
  const disks = names.length === 0 ? [] : context.backend.disks(names);
  return { client: client?.bdf ?? null, identity, disks };
}

function diskNames(place: Place | null): string[] {
  const layers = place?.layers.filter(({ kind }) => kind === 'disk' || kind === 'multipath-head') ?? [];
  // The paths below a multipath head are the same disk.
  const heads = layers.filter(({ kind }) => kind === 'multipath-head');
  return (heads.length > 0 ? heads : layers).map(({ name }) => name);
}

/** So many partitions are looked at. */
const MOST_PARTITIONS = 16;

async function partitionsOf({ context, now }: PathEnd): Promise<PlannedPartition[]> {
  if (now.kind === 'file') return [];
  const planned: PlannedPartition[] = [];
  for (const [i, { name, size, inUse }] of (now.place?.partitions ?? []).entries()) {
    const holds = i < MOST_PARTITIONS ? await heldByPartition(context, name) : null;
    planned.push({ name, size, inUse, holds });
  }
  return planned;
}

/** It is shown to whoever decides. The disk's own table already refuses the copy, so that what cannot be read changes nothing. */
async function heldByPartition(context: StreamContext, name: string): Promise<Signature[] | null> {
  try {
    const target = await context.backend.openTarget(name, {});
    try {
      return await signaturesIn(context, target);
    } finally {
      await target.close();
    }
  } catch (error) {
    if (error instanceof P2pdmaError) return null;
    throw error;
  }
}

/** A destination that is a stream of another kind. */
function passedOn(bytes: number | null): Awaited<ReturnType<typeof planDestination>> {
  const range = { from: 0, to: bytes === null ? null : bytes - 1 };
  const planned = {
    ...end(STREAM),
    ...NOBODYS,
    effect: 'pass',
    ...range,
    holds: [],
    partitions: [],
    inUse: null,
  } as const;
  return { planned, problem: null, dmaAlignment: 1 };
}

async function lookAtSource(source: PathEnd, { sparse, start, end }: Settings) {
  return look(source, async (target) => ({
    ...facts(target),
    dataBytes: sparse ? dataIn(target, start, end) : null,
  }));
}

/** @throws P2pdmaError ERR_OUT_OF_RANGE */
function bytesOf({ path }: PathEnd, { size }: Facts, { start, end }: Settings): number {
  // Otherwise nothing would be copied from a source that has data, and a file would be truncated for it.
  if (start > size || (start === size && start > 0)) {
    const what = `${start} is ${start > size ? 'beyond' : 'at'} the end of '${path}' (${size} bytes)`;
    throw optionError('ERR_OUT_OF_RANGE', 'start', what, { path, received: start });
  }
  return Math.max(0, Math.min(end + 1, size) - start);
}

function streamBytes({ end }: Settings): number | null {
  return Number.isFinite(end) ? end + 1 : null;
}

/** Open for reading, inspect, close. */
async function look<T>(
  { context, path, now }: PathEnd,
  at: (target: BlockTarget) => T | Promise<T>,
): Promise<T> {
  const target = await context.backend.openTarget(path, { end: now });
  try {
    return await at(target);
  } finally {
    await target.close();
  }
}

function dataIn(target: BlockTarget, start: number, end: number): number {
  const stop = Math.min(end + 1, target.size);
  let data = 0;
  for (let at = start; at < stop; ) {
    const from = Math.min(target.seekData(at), stop);
    at = from < stop ? Math.min(target.seekHole(from), stop) : stop;
    data += at - from;
  }
  return data;
}

async function planDestination(
  to: PathEnd,
  { destinationStart: from, flags, force, engine }: Settings,
  bytes: number | null,
): Promise<{ planned: PlannedDestination; problem: P2pdmaError | null; dmaAlignment: number }> {
  const { context, now: will } = to;
  const range = { from, to: bytes === null ? null : from + bytes - 1 };
  const shared = { ...whose(to), inUse: will.inUse, ...range };
  let there: Facts & Held;
  try {
    there = await look(to, async (target) => ({
      ...facts(target),
      ...(await heldBy(context, target)),
    }));
  } catch (error) {
    if (!(error instanceof P2pdmaError)) throw error;
    const planned: PlannedDestination = {
      ...shared,
      ...(await unopened(to, flags)),
      holds: [],
      partitions: [],
    };
    const may = error.code === 'ENOENT' && flags !== 'r+' ? await mayCreate(to) : error;
    const problem = whyNotByCommand(context.backend, to.now, engine) ?? may;
    return { planned, problem, dmaAlignment: 1 };
  }
  const { holds, unread, ...seen } = there;
  const effect = seen.kind !== 'file' || flags === 'r+' ? 'overwrite' : 'truncate';
  const partitions = await partitionsOf(to);
  const planned: PlannedDestination = { ...shared, ...end(seen), effect, holds, partitions };
  const unfit = whyNotByCommand(context.backend, to.now, engine);
  const zoned = whyNotZones(context.backend, to.path, to.now.place?.zones);
  const device = seen.kind === 'file' ? null : (zoned ?? whyNotDevice(to, seen, { from, bytes, force }));
  const problem = unfit ?? device ?? (force ? null : unread) ?? (await whyNotWritable(to, seen, flags));
  return { planned, problem, dmaAlignment: seen.dmaAlignment };
}

/** A device has a fixed size, and may be in use. */
function whyNotDevice(
  { now }: PathEnd,
  { path, size }: Facts,
  { from, bytes, force }: { readonly from: number; readonly bytes: number | null; readonly force: boolean },
): P2pdmaError | null {
  if (bytes !== null && from + bytes > size) {
    return errnoError(-ENOSPC, 'write', path, {
      hint: `${bytes} bytes are to be written from byte ${from} on, and ${Math.max(0, size - from)} fit.`,
    });
  }
  return now.inUse !== null && !force ? errnoError(-EBUSY, 'open', path, { because: now.inUse }) : null;
}

async function whyNotWritable(
  { context, now }: PathEnd,
  { kind, path }: Facts,
  flags: Settings['flags'],
): Promise<P2pdmaError | null> {
  if (now.readOnly) {
    const hint = context.backend.name === 'native' ? { hint: readOnlyHint(path) } : {};
    return errnoError(-EROFS, 'open', path, hint);
  }
  if (kind !== 'file') return null;
  if (flags === 'wx') return errnoError(-EEXIST, 'open', path);
  return access(path, constants.W_OK).then(
    () => null,
    (error: NodeJS.ErrnoException) => notWritable(error, 'open', path),
  );
}

interface Held {
  readonly holds: Signature[];
  /** Why `holds` may be incomplete: a block where signatures are could not be read. */
  readonly unread: P2pdmaError | null;
}

/**
 * A drive that cannot read its first blocks, or that finds a protection error there, may read them once they have been
 * rewritten.
 */
async function heldBy(context: StreamContext, target: BlockTarget): Promise<Held> {
  try {
    return { holds: await signaturesOf(context, target), unread: null };
  } catch (error) {
    if (!(error instanceof P2pdmaError) || !UNREADABLE.has(error.code)) throw error;
    const hint: Sentence = (option) =>
      `What it holds cannot be determined. Writing to it may repair it: pass ${option('force')} if it may be overwritten.`;
    return {
      holds: [],
      unread: P2pdmaError.withHint(error, hint),
    };
  }
}

const UNREADABLE: ReadonlySet<string> = new Set(['EILSEQ', 'ENODATA', 'EIO']);

/** What is known of a destination that cannot be opened: it may exist all the same. */
async function unopened(
  { path, now }: PathEnd,
  flags: Settings['flags'],
): Promise<Omit<PlannedEnd, 'client' | 'identity' | 'disks'> & Pick<PlannedDestination, 'effect'>> {
  if (now.kind !== 'file') {
    const name = now.place?.layers[0]?.name ?? path;
    return { name, path, kind: now.kind, size: now.size ?? 0, effect: 'overwrite' };
  }
  const there = await stat(path).catch(() => null);
  const file = { name: path, path: resolve(path), kind: 'file' as const, size: there?.size ?? 0 };
  return { ...file, effect: there === null ? 'create' : flags === 'r+' ? 'overwrite' : 'truncate' };
}

async function mayCreate({ context, path }: PathEnd): Promise<P2pdmaError | null> {
  try {
    assertNoDeviceName(path, context.backend.controllers, { create: true });
  } catch (error) {
    return error as P2pdmaError;
  }
  const folder = dirname(resolve(path));
  const there = await stat(folder).catch(() => null);
  if (there === null) {
    return errnoError(-ENOENT, 'create', path, {
      hint: `Create the directory '${folder}' first; for devices, \`p2pdma list\` shows those that exist.`,
    });
  }
  return access(folder, constants.W_OK | constants.X_OK).then(
    () => null,
    (error: NodeJS.ErrnoException) => notWritable(error, 'create', path),
  );
}

function notWritable({ code }: NodeJS.ErrnoException, syscall: string, path: string): P2pdmaError {
  return code === 'EROFS'
    ? errnoError(-EROFS, syscall, path, { hint: readOnlyHint(path) })
    : errnoError(-EACCES, syscall, path, { hint: accessHint(path) });
}

/** What a target holds, read through host memory. For targets on this machine, `blkid` may know more. */
export async function signaturesOf(context: StreamContext, target: BlockTarget): Promise<Signature[]> {
  const found = await signaturesIn(context, target);
  return found.length > 0 || context.backend.name !== 'native' ? found : askBlkid(target.path);
}

async function signaturesIn(context: StreamContext, target: BlockTarget): Promise<Signature[]> {
  const { size } = target;
  if (size === 0) return [];
  const block = target.limits.logicalBlockSize;
  const read = async (offset: number, end: number): Promise<Uint8Array> => {
    const view = context.backend.memory.allocBuffer(Math.ceil((end - offset) / block) * block);
    await transfer(target, { op: 'read', view, offset, expect: end - offset });
    return view.subarray(0, end - offset);
  };
  const head = await read(0, Math.min(LOOK, size));
  if (size <= LOOK) return findSignatures({ size, head, tail: head });
  const from = Math.max(0, size - LOOK);
  const tail = await read(from - (from % block), size);
  const spots = new Map<number, Uint8Array>();
  for (const at of spotsOf(size)) spots.set(at, await read(at, at + SPOT));
  return findSignatures({ size, head, tail, spots });
}

function foreseeRoute(
  { backend }: StreamContext,
  ends: readonly RouteTarget[],
  alignment: number,
  options: Settings,
): Route {
  const { start, destinationStart } = options;
  // allowUnproven: what the name of a file does not tell, opening it may show, so that is not a problem of the plan.
  const route = chooseRoute(backend, ends, { ...options, allowUnproven: true });
  if (route.provider === null || Math.abs(start - destinationStart) % alignment === 0) return route;
  return hostRoute(
    `from byte ${start} to byte ${destinationStart}: the difference is not a multiple of the DMA alignment, so the CPU has to shift the data`,
  );
}
