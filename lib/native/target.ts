/**
 * An open namespace, block device or file of the native backend. The kernel does the work. This code puts each transfer into
 * the engine's tables and counts its bytes by the route that they took.
 */

import type {
  BlockTarget,
  IoRequest,
  KnownWay,
  Legs,
  PassthroughCommand,
  PassthroughResult,
  PathBytes,
  QueueLimits,
  UnderlyingRange,
} from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { clearPath, zeroPath } from '../backend/path-bytes.js';
import type { PciDev, Topology } from '../backend/topology.js';
import { atNeed } from '../base/at-need.js';
import { EBADF, EINVAL, EOPNOTSUPP } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { thisTurn } from '../base/turn.js';
import { fileRange } from '../host/file-range.js';
import { bioCutUser } from '../kernel/bio-user.js';
import { calcMapTypeAndDist } from '../kernel/pci-p2pdma-distance.js';
import { type Addon, loadAddon } from './addon.js';
import { isInMemory, isLocal, SMALL } from './direct-io.js';
import {
  type Completer,
  type EngineCommand,
  FLAG_ASYNC,
  FLAG_HERE,
  FLAG_THREAD,
  type NativeEngine,
  OP_ALLOCATE,
  OP_CLOSE,
  OP_READ,
  OP_SYNC,
  OP_TRUNCATE,
  OP_WRITE,
  type Vectored,
} from './engine.js';
import { memoryOf } from './memory.js';
import type { NvmeIoctl } from './nvme-ioctl.js';
import { type Opened, openAgain } from './open.js';
import { trace, tracing } from './trace.js';

/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
const PUNCH_HOLE = 0x3;

/** For targets whose clients have no CMB: nothing is ever added to it. */
const NONE = new Set<object>();

/** Nearest first. */
const WAYS: readonly KnownWay[] = ['internal', 'peerBus', 'hostBridge'];

export interface NativeTargetFacts {
  readonly name: string;
  readonly path: string;
  readonly kind: 'namespace' | 'block' | 'file';
  readonly client: PciDev | null;
  readonly legs?: Legs | null;
  readonly noP2pReason: string | null;
  readonly unproven: string | null;
  /** For a namespace, the bytes of metadata per block; null: sysfs does not report it. */
  readonly metadataBytes: number | null;
  readonly zones?: string | null;
  /** Of a file, `'ext4'`; null or missing: not known. */
  readonly fileSystem?: string | null;
  /** Default: only its path, without the devices under it. */
  readonly ranges?: readonly UnderlyingRange[];
}

/** A target that is lent to a pump. */
export interface LentTarget {
  readonly engine: NativeEngine;
  readonly fd: number;
  /** The flags of its requests, in the engine's format. */
  readonly flags: number;
  /** The route of this number of bytes. */
  pathOf(bytes: number): PathBytes;
  giveBack(): void;
}

const commanding = atNeed(() => import('./nvme-ioctl.js'));

/** Closes the fds of a garbage-collected target and releases its engine. */
const forgotten = new FinalizationRegistry<{ fds: number[]; engine: NativeEngine; onClose: () => void }>(
  ({ fds, engine, onClose }) => {
    for (const fd of fds) loadAddon().closeFd(fd);
    engine.release();
    onClose();
  },
);

export class NativeTarget implements BlockTarget, Completer<IoRequest> {
  readonly name: string;
  readonly path: string;
  readonly kind: 'namespace' | 'block' | 'file';
  readonly client: PciDev | null;
  readonly legs: Legs | null;
  readonly limits: QueueLimits;
  readonly noP2pReason: string | null;
  readonly unproven: string | null;
  readonly zones: string | null;
  readonly ranges: readonly UnderlyingRange[];
  readonly readable: boolean;
  readonly made: boolean;
  /** The reason why transfers go through the page cache, or null: they are direct. */
  readonly buffered: string | null;
  /** The engine that does the I/O, and the reason. */
  readonly engine: 'uring' | 'threads' | 'passthrough';
  readonly engineReason: string;

  readonly #addon: Addon = loadAddon();
  readonly #engine: NativeEngine;
  readonly #topology: Topology;
  readonly #fd: number;
  readonly #writable: boolean;
  readonly #flags: number;
  /** A file of a filesystem on this computer. */
  readonly #local: boolean;
  /** The flags of its first bytes. */
  readonly #firstFlags: number;
  /** A file that was small when it was opened, on which I/O can be direct. */
  readonly #small: boolean;
  /** When it was opened. */
  readonly #size: number;
  readonly #openedIn = thisTurn();
  /** Transfers with its first descriptor wait. */
  #blocking: boolean;
  /** Where the furthest of this target's writes ended, or its length was set. */
  #furthest = 0;
  readonly #onClose: () => void;
  /** The PCI functions that do its DMA. */
  readonly #clients: readonly PciDev[];
  /** True if some of them have peer memory of their own. */
  readonly #hasOwners: boolean;
  #ways: Map<PciDev, KnownWay> | null = null;
  /**
   * It is collected with this target. A FinalizationRegistry keeps what it watches until the next full collection, also what
   * was unregistered (V8 11.3): so it watches this, to which nothing belongs.
   */
  readonly #guard = {};
  /** The open fds. The array is shared with the finalizer, so it must not reference this object. */
  readonly #fds: number[];
  /** An fd of the same file without O_DIRECT; undefined until it is needed, negative if it is not available. */
  #cached: number | undefined;
  /** The one for transfers, with O_DIRECT unless they are buffered; undefined and negative as above. */
  #direct: number | undefined;
  /** Null until a command is sent. */
  #commands: NvmeIoctl | null = null;
  readonly #metadataBytes: number | null;
  readonly #inFlight = new InFlight();
  /** The transfers and pumps in flight whose memory is in the client's own CMB. */
  readonly #own: Set<object>;
  #closed = false;
  #closing: Promise<void> | null = null;

  constructor(
    opened: Opened,
    facts: NativeTargetFacts,
    engine: NativeEngine,
    options: { readonly topology: Topology; readonly passthrough: boolean; readonly onClose: () => void },
  ) {
    this.name = facts.name;
    this.path = facts.path;
    this.kind = facts.kind;
    this.client = facts.client;
    this.legs = facts.legs ?? null;
    this.#clients = facts.legs?.clients ?? (facts.client === null ? [] : [facts.client]);
    this.#hasOwners = this.#clients.some(({ p2pmem }) => p2pmem !== null);
    this.#own = this.#hasOwners ? new Set() : NONE;
    this.noP2pReason = facts.noP2pReason;
    this.unproven = facts.unproven;
    this.zones = facts.zones ?? null;
    this.ranges = facts.ranges ?? [fileRange(facts.path)];
    this.readable = opened.readable;
    this.made = opened.made;
    this.limits = opened.limits;
    this.buffered = opened.buffered;
    this.engine = options.passthrough ? 'passthrough' : engine.kind;
    this.engineReason = engine.reason;
    this.#engine = engine;
    this.#topology = options.topology;
    this.#fd = opened.fd;
    if (opened.buffered !== null || opened.direct) this.#direct = opened.fd;
    if (!opened.direct) this.#cached = opened.fd;
    this.#small = opened.buffered === null && !opened.direct;
    this.#writable = opened.writable;
    this.#size = opened.size;
    this.#blocking = opened.blocking;
    this.#flags = opened.buffered === null ? 0 : FLAG_ASYNC;
    const fileSystem = this.kind === 'file' ? (facts.fileSystem ?? null) : null;
    this.#local = isLocal(fileSystem);
    this.#firstFlags = opened.buffered === null ? 0 : isInMemory(fileSystem) ? FLAG_HERE : 0;
    this.#onClose = options.onClose;
    this.#fds = [opened.fd];
    this.#metadataBytes = facts.metadataBytes;
    forgotten.register(this.#guard, { fds: this.#fds, engine, onClose: options.onClose }, this.#guard);
  }

  /** Whoever asks for it gets it as node:fs opens files: waiting. */
  get fd(): number {
    this.#block();
    return this.#fd;
  }

  get size(): number {
    if (this.kind !== 'file' || this.#closed) return this.#size;
    const size = this.#addon.fileSize(this.#fd);
    return size < 0 ? this.#size : size;
  }

  get sizeThisTurn(): number {
    return this.#openedIn === thisTurn() && this.#furthest === 0 ? this.#size : this.size;
  }

  get cachedUpTo(): number {
    return this.#small ? SMALL : 0;
  }

  get inFlight(): number {
    return this.#inFlight.count;
  }

  submit(io: IoRequest): void {
    this.#inFlight.enter();
    if (tracing()) this.#traceSubmit(io);
    const refused = this.#refuses(io) || this.#queue(io);
    if (refused !== 0) queueMicrotask(() => this.completed(io, refused));
  }

  #refuses(io: IoRequest): number {
    if (this.#closed || (io.op === 'write' && !this.#writable)) return -EBADF;
    if (io.segments.length === 0 || !Number.isSafeInteger(io.offset) || io.offset < 0) return -EINVAL;
    return 0;
  }

  #queue(io: IoRequest): number {
    if (this.#isCached(io)) return this.#queueCached(io);
    if (this.engine === 'passthrough') return this.#commands!.queue(this, io);
    this.#direct ??= this.#openAgain(true);
    if (this.#direct < 0) return this.#direct;
    let flags = this.#flagsUpTo(io.offset + bytesOf(io.segments));
    if (this.#hasOwners) {
      if (io.segments.length > 1 && mixesOwn(io.segments, this.#clients)) return this.#queueCut(io);
      flags += this.#apart(io);
    }
    return this.#readWrite(io, flags, this.#direct);
  }

  /** Through the page cache, because that is asked for, or allowed and better here. */
  #isCached({ buffered, cacheable, offset, segments }: IoRequest): boolean {
    if (buffered === true) return true;
    if (cacheable !== true || !this.#small) return false;
    return offset + bytesOf(segments) <= SMALL;
  }

  /** Do the transfer through the page cache, and never inside the submitting call, because it may block. */
  #queueCached(io: IoRequest): number {
    if (this.kind !== 'file') return -EOPNOTSUPP;
    this.#cached ??= this.#openAgain(false);
    if (this.#cached < 0) return this.#cached;
    const flags = io.offset + bytesOf(io.segments) <= SMALL ? this.#firstFlags : FLAG_ASYNC;
    return this.#readWrite(io, flags, this.#cached);
  }

  #readWrite(io: IoRequest, flags: number, fd: number): number {
    if (flags !== FLAG_HERE) this.#block();
    if (io.op === 'read') return this.#engine.readWrite(this, io, OP_READ, flags, fd);
    this.#reaches(io.offset + bytesOf(io.segments));
    return this.#engine.readWrite(this, io, OP_WRITE, flags, fd);
  }

  /** Whoever does the next transfer may have to wait. (Once it is closed, its descriptor's number may be another file's.) */
  #block(): void {
    if (this.#blocking || this.#closed) return;
    this.#blocking = true;
    this.#addon.setBlocking(this.#fd);
  }

  #reaches(end: number): void {
    if (end > this.#furthest) this.#furthest = end;
  }

  /**
   * The flags of transfers that end here at the latest. Through the page cache they may block, so they run elsewhere. Only at the
   * beginning of a file it is different, because copying so little takes less than changing threads: the submitting call tries
   * it, without waiting. The kernel cannot try it with a file that is in memory only; but then there is nothing to wait for,
   * unless that memory was swapped out, and it is done.
   */
  #flagsUpTo(end: number): number {
    return this.buffered !== null && end <= SMALL ? this.#firstFlags : this.#flags;
  }

  #openAgain(direct: boolean): number {
    const fd = openAgain(this.#addon, { fd: this.#fd, path: this.path, write: this.#writable, direct });
    if (fd >= 0) this.#fds.push(fd);
    return fd;
  }

  /**
   * In a command to the owner of a CMB, the memory must be either all in that CMB or all elsewhere. The kernel merges
   * neighbouring requests that are submitted together, whatever their memory is (EIO, 6.12). So while requests of one kind are
   * in flight, those of the other kind are submitted from a thread.
   */
  #apart(io: IoRequest): number {
    const own = ownerOf(io.segments[0]!, this.#clients) !== null;
    if (!own) return this.#own.size > 0 ? FLAG_THREAD : 0;
    this.#own.add(io);
    return this.#inFlight.count > this.#own.size ? FLAG_THREAD : 0;
  }

  /** The engine's completion. */
  completed(io: IoRequest, result: number): void {
    io.result = result;
    if (this.#own.size > 0) this.#own.delete(io);
    const { path } = io;
    clearPath(path);
    // The end of a file is transferred as a whole block, but the result counts only the part inside the file.
    const block = this.limits.logicalBlockSize;
    if (result > 0 && this.#isCached(io)) path.hostDram = result;
    else if (result > 0) this.#book(io.segments, Math.ceil(result / block) * block, path);
    if (tracing())
      trace('native-target', 'complete', { target: this.name, op: io.op, offset: io.offset, result });
    this.#settle();
    io.done(io);
  }

  #settle(): void {
    this.#inFlight.leave();
  }

  /** Count `bytes` moved from the front of the segments. */
  #book(segments: readonly Uint8Array[], bytes: number, path: PathBytes): void {
    let left = bytes;
    for (let i = 0; i < segments.length && left > 0; i++) {
      const view = segments[i]!;
      const moved = Math.min(view.byteLength, left);
      left -= moved;
      this.#bookTo(memoryOf(view).provider, moved, path);
    }
  }

  /**
   * Count bytes moved with the CMB of `provider`, or with host memory. Without a PCI client, everything goes through host
   * memory.
   */
  #bookTo(provider: PciDev | null, moved: number, path: PathBytes): void {
    if (provider === null || this.#clients.length === 0) path.hostDram += moved;
    else if (this.unproven !== null && this.buffered === null) path.unproven = (path.unproven ?? 0) + moved;
    else path[this.#wayTo(provider)] += moved;
  }

  /**
   * Lend this target up to byte `end` to a pump that moves its chunks with memory like `slot`, until `giveBack()`. Null: it is
   * closed, or it must handle each transfer itself.
   */
  lend(op: 'read' | 'write', slot: Uint8Array, end: number): LentTarget | null {
    if (this.engine === 'passthrough' || this.#closed || (op === 'write' && !this.#writable)) return null;
    const { provider } = memoryOf(slot);
    const isOwn = ownerOf(slot, this.#clients) !== null;
    // See #apart(): requests of the other kind, if there are any, are submitted from a thread.
    if (this.#hasOwners && (isOwn ? this.#inFlight.count : 0) !== this.#own.size) return null;
    this.#direct ??= this.#openAgain(true);
    if (this.#direct < 0) return null;
    this.#block();
    const lent = {
      engine: this.#engine,
      fd: this.#direct,
      flags: this.#flagsUpTo(end),
      pathOf: (bytes: number) => {
        const path = zeroPath();
        this.#bookTo(provider, bytes, path);
        return path;
      },
      giveBack: () => {
        this.#own.delete(lent);
        this.#settle();
      },
    };
    if (op === 'write') this.#reaches(end);
    this.#inFlight.enter();
    if (isOwn) this.#own.add(lent);
    return lent;
  }

  /**
   * The route of DMA between the client and a provider's memory, according to the kernel's map type; if there are several
   * clients, the farthest route.
   */
  #wayTo(provider: PciDev): KnownWay {
    this.#ways ??= new Map();
    let way = this.#ways.get(provider);
    if (way === undefined) {
      if (this.buffered !== null || this.#clients.length === 0) way = 'hostDram';
      else {
        const ways = this.#clients.map((client) => this.#wayBetween(provider, client));
        way = WAYS.findLast((candidate) => ways.includes(candidate))!;
      }
      this.#ways.set(provider, way);
    }
    return way;
  }

  #wayBetween(provider: PciDev, client: PciDev): KnownWay {
    if (client.id === provider.id) return 'internal';
    const { mapType } = calcMapTypeAndDist(this.#topology, provider, client);
    return mapType === 'PCI_P2PDMA_MAP_BUS_ADDR' ? 'peerBus' : 'hostBridge';
  }

  /**
   * In a command to the owner of a CMB, the memory must be either all in that CMB or all elsewhere, so the transfer is split
   * where this changes. The result is that of one transfer: the bytes moved from the front without a gap, or the first error.
   */
  #queueCut(io: IoRequest): number {
    let pieces: ReturnType<typeof bioCutUser>;
    try {
      pieces = bioCutUser(io.segments, io.offset, this.limits, (view) => ownerOf(view, this.#clients));
    } catch (error) {
      return error instanceof P2pdmaError && error.errno !== undefined ? error.errno : -EINVAL;
    }
    // They are submitted one after the other, because otherwise the kernel would merge them again: see #apart().
    const op = io.op === 'read' ? OP_READ : OP_WRITE;
    const flags = this.#flags + FLAG_THREAD;
    let moved = 0;
    let index = 0;
    if (io.op === 'write') this.#reaches(io.offset + bytesOf(io.segments));
    const next = (): number => this.#engine.readWrite(completer, pieces[index++]!, op, flags, this.#direct!);
    const completer: Completer<Vectored> = {
      completed: (piece, result) => {
        if (result > 0) moved += result;
        const goesOn = result === bytesOf(piece.segments) && index < pieces.length;
        const error = goesOn ? next() : result;
        if (goesOn && error === 0) return;
        this.completed(io, moved > 0 ? moved : error);
      },
    };
    return next();
  }

  async flush(): Promise<void> {
    if (!this.#writable) return;
    await this.#call('fsync', { op: OP_SYNC, flags: this.#flags });
  }

  async truncate(size: number): Promise<void> {
    if (this.kind !== 'file') {
      throw errnoError(-EINVAL, 'ftruncate', this.path, {
        hint: 'Only files have a length that can be set.',
      });
    }
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new P2pdmaError('ERR_OUT_OF_RANGE', `a length of ${size} bytes: must be an integer, 0 or more`);
    }
    const flags = this.#callsAreShort() ? FLAG_HERE : 0;
    this.#reaches(size);
    await this.#call('ftruncate', { op: OP_TRUNCATE, flags, offset: size });
  }

  /** Make [offset, offset + length) a hole that reads as zeros. EOPNOTSUPP if holes are not supported. */
  async punchHole(offset: number, length: number): Promise<void> {
    await this.#call('fallocate', { op: OP_ALLOCATE, flags: 0, offset, words: [length, PUNCH_HOLE] });
  }

  /** The next data at or after `offset`, or the size if there is none. Where holes are not known, everything counts as data. */
  seekData(offset: number): number {
    return this.#seek(offset, 0);
  }

  /** The next hole at or after `offset`, at the latest the end of the file. */
  seekHole(offset: number): number {
    return this.#seek(offset, 1);
  }

  #seek(offset: number, what: 0 | 1): number {
    this.#mustBeOpen('lseek');
    const at = this.kind === 'file' ? this.#addon.seek(this.#fd, offset, what) : -EINVAL;
    if (at >= 0) return at;
    const size = this.size;
    return what === 0 && at === -EINVAL ? Math.min(offset, size) : size;
  }

  passthrough(command: PassthroughCommand): Promise<PassthroughResult> {
    return this.#commanded((commands) => commands.passthrough(command));
  }

  /**
   * What engine 'passthrough' needs before the first transfer, which it carries without metadata.
   * @throws P2pdmaError EOPNOTSUPP: the blocks of the namespace have some, or it is not known
   */
  commandsAlone(): Promise<void> {
    return this.#commanded((commands) => commands.assertNoMetadata());
  }

  /** What is begun before the target is closed is done. */
  async #commanded<T>(use: (commands: NvmeIoctl) => Promise<T>): Promise<T> {
    this.#mustBeOpen('ioctl');
    this.#inFlight.enter();
    try {
      const { NvmeIoctl } = await commanding();
      this.#commands ??= new NvmeIoctl({
        target: this,
        fd: this.#fd,
        writable: this.#writable,
        engine: this.#engine,
        fds: this.#fds,
        metadataBytes: this.#metadataBytes,
        book: (view, path) => this.#book([view], view.byteLength, path),
      });
      return await use(this.#commands);
    } finally {
      this.#settle();
    }
  }

  async #call(syscall: string, command: Omit<EngineCommand, 'fd'>): Promise<void> {
    this.#mustBeOpen(syscall);
    this.#inFlight.enter();
    const result = await this.#engine.call({ ...command, fd: this.#fd });
    this.#settle();
    if (result < 0) throw errnoError(result, syscall, this.path);
  }

  #mustBeOpen(syscall: string): void {
    if (this.#closed) {
      throw new P2pdmaError('ERR_TARGET_CLOSED', `'${this.path}' is closed`, { syscall, path: this.path });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    if (this.#inFlight.count > 0) await this.#inFlight.idle();
    forgotten.unregister(this.#guard);
    const results = this.#callsAreShort()
      ? this.#fds.map((fd) => this.#addon.closeFd(fd))
      : await Promise.all(this.#fds.map((fd) => this.#engine.call({ op: OP_CLOSE, flags: 0, fd })));
    this.#engine.release();
    this.#onClose();
    const failed = results.find((result) => result < 0);
    if (failed !== undefined) throw errnoError(failed, 'close', this.path);
  }

  /**
   * close(2) and ftruncate(2) can take long: on a device, over a network, with a large file. Then they are not called here. To ask
   * for its size again would take as long as they do. If somebody else made it larger, they take longer, and that is all.
   */
  #callsAreShort(): boolean {
    return this.#local && this.#size <= SMALL && this.#furthest <= SMALL;
  }

  #traceSubmit(io: IoRequest): void {
    trace('native-target', 'submit', {
      target: this.name,
      engine: this.engine,
      op: io.op,
      offset: io.offset,
      bytes: bytesOf(io.segments),
      segments: io.segments.length,
    });
  }
}

function bytesOf(segments: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const view of segments) bytes += view.byteLength;
  return bytes;
}

/** The id of the function that owns the memory, if it is one of `clients`; otherwise null. */
function ownerOf(view: Uint8Array, clients: readonly PciDev[]): number | null {
  const id = memoryOf(view).provider?.id ?? null;
  return id !== null && clients.some((client) => client.id === id) ? id : null;
}

/** Do some of the segments lie in a client's own CMB, and others elsewhere? */
function mixesOwn(segments: readonly Uint8Array[], clients: readonly PciDev[]): boolean {
  const first = ownerOf(segments[0]!, clients);
  for (let i = 1; i < segments.length; i++) {
    if (ownerOf(segments[i]!, clients) !== first) return true;
  }
  return false;
}
