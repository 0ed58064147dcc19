/**
 * An open namespace or file of the emulated machine. It handles pread and pwrite as block/fops.c and an O_DIRECT
 * filesystem do, on top of the kernel modules.
 *
 *     submit(io) ─▶ IovIter ─▶ bio: pins, limits, splitting ─▶ nvme-core … ─▶ one wake-up later ─▶ io.done(io)
 *
 * Objects are reused: a transfer of one aligned segment allocates none once the pools are filled.
 */

import type {
  BlockTarget,
  IoRequest,
  Legs,
  PassthroughCommand,
  PassthroughResult,
  QueueLimits,
  UnderlyingRange,
} from '../backend/backend.js';
import type { Clock } from '../backend/hardware.js';
import { InFlight } from '../backend/in-flight.js';
import { addPath, clearPath } from '../backend/path-bytes.js';
import type { PciDev } from '../backend/topology.js';
import { EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, ENOSPC, ENOTTY, EOPNOTSUPP } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { type TraceOrigin, tracedAs, tracing } from '../base/trace.js';
import { fileRange } from '../host/file-range.js';
import {
  type Bio,
  bioAlloc,
  bioIovIterGetPages,
  bioPut,
  bioReleasePages,
  type Gendisk,
  submitBio,
} from '../kernel/bio.js';
import { newPageRange, pinUserPages } from '../kernel/gup.js';
import { IovIter, READ, WRITE } from '../kernel/iov_iter.js';
import type { Mm } from '../kernel/memremap.js';
import type { NvmeNs } from '../kernel/nvme-core.js';
import { nvmeSubmitUserCmd } from '../kernel/nvme-ioctl.js';
import { assertSendable } from '../kernel/nvme-user-command.js';
import type { FileStore } from './nvme/store.js';

export interface EmulatorTargetOptions {
  readonly name: string;
  readonly path: string;
  readonly disk: Gendisk;
  /** The namespace that NVMe commands go to; null: no path is alive. Absent: the target is not a namespace. */
  readonly door?: (() => NvmeNs | null) | undefined;
  readonly client: PciDev | null;
  readonly legs?: Legs | null;
  readonly mm: Mm;
  readonly clock: Clock;
  /** The origin of the events that this target traces. */
  readonly origin: TraceOrigin;
  readonly write: boolean;
  readonly noP2pReason: string | null;
  readonly zones?: string | null;
  /** Default: the range at its path. */
  readonly ranges?: readonly UnderlyingRange[];
  /** The file behind the namespace; null: an ordinary namespace. */
  readonly file: FileStore | null;
  /** The file was created when it was opened. */
  readonly made?: boolean;
  /** It is called once, when nothing is in flight any more. */
  readonly onClose: (target: EmulatorTarget) => Promise<void>;
}

/** struct blkdev_dio: one transfer in progress. */
class Dio {
  readonly target: EmulatorTarget;
  readonly iter = new IovIter();
  io: IoRequest | null = null;
  /** The number of bytes that a successful transfer reports. */
  size = 0;

  constructor(target: EmulatorTarget) {
    this.target = target;
  }
}

/** blkdev_bio_end_io() */
function dioEndIo(bio: Bio): void {
  const dio = bio.private as Dio;
  dio.target.end(dio, bio);
}

const nothing = newPageRange();

/** The value that `#start` returns when the transfer is in progress. */
const QUEUED = -0x10000;

export class EmulatorTarget implements BlockTarget {
  readonly name: string;
  readonly path: string;
  readonly kind: BlockTarget['kind'];
  readonly client: PciDev | null;
  readonly legs: Legs | null;
  readonly limits: QueueLimits;
  readonly noP2pReason: string | null;
  readonly zones: string | null;
  /** The emulated bus is monitored, so a receipt contains measured values. */
  readonly unproven = null;
  readonly ranges: readonly UnderlyingRange[];
  readonly readable = true;
  readonly made: boolean;
  readonly #disk: Gendisk;
  readonly #door: (() => NvmeNs | null) | null;
  readonly #mm: Mm;
  readonly #clock: Clock;
  readonly #origin: TraceOrigin;
  readonly #write: boolean;
  readonly #file: FileStore | null;
  readonly #onClose: EmulatorTargetOptions['onClose'];
  readonly #capacity: number;
  readonly #dios: Dio[] = [];
  #ended: IoRequest[] = [];
  #submitting = false;
  readonly #inFlight = new InFlight();
  #closing: Promise<void> | null = null;
  readonly #runEnded = () => {
    const ended = this.#ended;
    this.#ended = [];
    for (const io of ended) this.#done(io);
  };

  constructor(options: EmulatorTargetOptions) {
    this.name = options.name;
    this.path = options.path;
    this.kind = options.file !== null ? 'file' : options.door === undefined ? 'block' : 'namespace';
    this.client = options.client;
    this.legs = options.legs ?? null;
    this.limits = options.disk.limits;
    this.noP2pReason = options.noP2pReason;
    this.zones = options.zones ?? null;
    this.ranges = options.ranges ?? [fileRange(options.path)];
    this.made = options.made ?? false;
    this.#disk = options.disk;
    this.#door = options.door ?? null;
    this.#mm = options.mm;
    this.#clock = options.clock;
    this.#origin = options.origin;
    this.#write = options.write;
    this.#file = options.file;
    this.#onClose = options.onClose;
    this.#capacity = options.disk.capacity;
  }

  get size(): number {
    return this.#file === null ? this.#capacity : this.#file.length;
  }

  /** Of a file. */
  get fd(): number | undefined {
    return this.#file?.fd;
  }

  /** The number of transfers and commands that are not finished yet. */
  get inFlight(): number {
    return this.#inFlight.count;
  }

  submit(io: IoRequest): void {
    if (tracing()) tracedAs(this.#origin, () => this.#submit(io));
    else this.#submit(io);
  }

  #submit(io: IoRequest): void {
    this.#inFlight.enter();
    const result = io.buffered === true ? this.#copy(io) : this.#start(io);
    if (result !== QUEUED) {
      io.result = result;
      this.#later(io);
    }
  }

  /**
   * blkdev_read_iter(), blkdev_write_iter(), __blkdev_direct_IO(): returns QUEUED, or the result if the call finished
   * at once.
   */
  #start(io: IoRequest): number {
    const { op, offset, segments } = io;
    if (this.#closing !== null || (op === 'write' && !this.#write)) return -EBADF;
    if (!(offset >= 0)) return -EINVAL;
    const dio = this.#dios.pop() ?? new Dio(this);
    const { iter } = dio;
    const direction = op === 'read' ? READ : WRITE;
    if (segments.length === 1) iter.initUbuf(direction, segments[0]!);
    else iter.initIovec(direction, segments);

    const end = op === 'read' && this.#file !== null ? this.#file.length : this.#disk.capacity;
    let result = this.#answerAtOnce(io, iter.count, end);
    if (result === QUEUED) result = this.#submitBio(dio, io, end);
    if (result !== QUEUED) this.#putDio(dio);
    return result;
  }

  /**
   * Past the end of a device there is nothing to read and no space to write. A transfer across the end covers only the
   * part before it. A device that is gone has size 0; a filesystem on it returns EIO.
   * @returns the result of a call that needs no transfer, or QUEUED if there is something to transfer
   */
  #answerAtOnce({ op, offset, segments }: IoRequest, count: number, end: number): number {
    const { dead } = this.#disk;
    const gone = this.#isGone(segments);
    if (count === 0 && !gone) return 0;
    if (this.#file !== null && dead && (op === 'write' || offset < end)) return -EIO;
    if (offset >= end || dead) return op === 'read' ? 0 : -ENOSPC;
    return gone ? -EFAULT : QUEUED;
  }

  /** Returns QUEUED or an error. After an error the caller must put the dio back. */
  #submitBio(dio: Dio, io: IoRequest, end: number): number {
    const { iter } = dio;
    if (this.#file === null) iter.truncate(end - io.offset);
    dio.io = io;
    dio.size = Math.min(iter.count, end - io.offset);
    const bio = bioAlloc(this.#disk, io.op);
    bio.sector = io.offset;
    const error = bioIovIterGetPages(this.#mm, bio, iter);
    if (error !== 0) {
      bioPut(bio);
      return error;
    }
    bio.private = dio;
    bio.endIo = dioEndIo;
    this.#submitting = true;
    submitBio(bio);
    this.#submitting = false;
    return QUEUED;
  }

  /**
   * generic_perform_write(), filemap_read(): the CPU copies between the memory and the page cache, which is the host's
   * own copy of the file. So the copy is exact to the byte, and atomic with respect to writes by drives.
   */
  #copy(io: IoRequest): number {
    const { op, offset, segments, path } = io;
    if (this.#closing !== null || (op === 'write' && !this.#write)) return -EBADF;
    if (this.#file === null) return -EOPNOTSUPP;
    if (!(offset >= 0)) return -EINVAL;
    if (this.#disk.dead) return -EIO;
    if (this.#isGone(segments)) return -EFAULT;
    const page =
      op === 'write' ? Buffer.concat(segments) : Buffer.alloc(segments.reduce((sum, s) => sum + s.length, 0));
    this.#file.moveBytes(op, offset, page, (result) => {
      let at = 0;
      for (const segment of op === 'read' && result > 0 ? segments : []) {
        segment.set(page.subarray(at, Math.min(result, at + segment.length)));
        at = Math.min(result, at + segment.length);
      }
      io.result = result;
      clearPath(path);
      path.hostDram = Math.max(0, result);
      this.#done(io);
    });
    return QUEUED;
  }

  /** Was the memory unmapped, or its provider removed? The only sign of that is that a view is empty. */
  #isGone(segments: readonly Uint8Array[]): boolean {
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i]!;
      if (segment.length === 0 && pinUserPages(this.#mm, segment, 0, nothing) < 0) return true;
    }
    return false;
  }

  /** The last part of a transfer has ended. Only its bio calls this. */
  end(dio: Dio, bio: Bio): void {
    const io = dio.io!;
    const { path } = bio;
    addPath(io.path, path);
    io.result = bio.status < 0 ? bio.status : this.#moved(io, dio.size);
    bioReleasePages(this.#mm, bio);
    bioPut(bio);
    this.#putDio(dio);
    if (this.#submitting) this.#later(io);
    else this.#done(io);
  }

  /** If a file was truncated meanwhile, only the bytes that still exist were read. */
  #moved(io: IoRequest, size: number): number {
    return this.#file === null || io.op === 'write' ? size : this.#file.brought(io.offset, size);
  }

  #putDio(dio: Dio): void {
    dio.io = null;
    dio.iter.initDiscard(READ, 0);
    this.#dios.push(dio);
  }

  /** `done` never runs inside `submit`. */
  #later(io: IoRequest): void {
    this.#ended.push(io);
    if (this.#ended.length === 1) this.#clock.defer(this.#runEnded);
  }

  #done(io: IoRequest): void {
    try {
      io.done(io);
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    if (this.#inFlight.leave()) this.#file?.forgetEnds();
  }

  #assertOpen(): void {
    if (this.#closing !== null) {
      throw new P2pdmaError('ERR_TARGET_CLOSED', `'${this.path}' is closed`, { path: this.path });
    }
  }

  /** blkdev_issue_flush() */
  flush(): Promise<void> {
    return tracedAs(this.#origin, () => this.#flush());
  }

  #flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      this.#inFlight.enter();
      const bio = bioAlloc(this.#disk, 'flush');
      const endIo = () => {
        const { status } = bio;
        bioPut(bio);
        this.#leave();
        if (status < 0) reject(errnoError(status, 'fsync', this.path));
        else resolve();
      };
      bio.endIo = endIo;
      submitBio(bio);
    });
  }

  /** The emulator's media do not report holes: everything is data. */
  seekData(offset: number): number {
    return Math.min(offset, this.size);
  }

  seekHole(_offset: number): number {
    return this.size;
  }

  async punchHole(offset: number, length: number): Promise<void> {
    throw errnoError(-EOPNOTSUPP, 'fallocate', this.path, {
      hint: `${length} bytes at ${offset}: write zeros.`,
    });
  }

  async truncate(size: number): Promise<void> {
    this.#assertOpen();
    if (this.#file === null) throw errnoError(-EINVAL, 'ftruncate', this.path);
    if (!this.#write) throw errnoError(-EBADF, 'ftruncate', this.path);
    if (!Number.isSafeInteger(size) || size < 0) throw errnoError(-EINVAL, 'ftruncate', this.path);
    await this.#file.truncate(size);
  }

  async passthrough(command: PassthroughCommand): Promise<PassthroughResult> {
    this.#assertOpen();
    const path = this.#path();
    assertSendable(command, this.path, path);
    this.#inFlight.enter();
    try {
      const { ctrl } = path;
      const ns = command.admin === true ? null : path;
      const answer = await tracedAs(this.#origin, () => nvmeSubmitUserCmd(this.#mm, ctrl, ns, command));
      const { errno, status, resultLo, resultHi } = answer;
      if (errno !== 0) throw errnoError(errno, 'ioctl', this.path, { hint: ioctlHint(errno) });
      return { status, result: (BigInt(resultHi) << 32n) | BigInt(resultLo), path: answer.path };
    } finally {
      this.#leave();
    }
  }

  /**
   * nvme_ns_head_ioctl(): for a head, this is a path that is alive.
   * @throws P2pdmaError ENOTTY: no namespace; EAGAIN: no path
   */
  #path(): NvmeNs {
    if (this.#door === null) throw errnoError(-ENOTTY, 'ioctl', this.path);
    const path = this.#door();
    if (path === null) throw errnoError(-EAGAIN, 'ioctl', this.path);
    return path;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#inFlight.idle();
      await this.#onClose(this);
    })();
    return this.#closing;
  }
}

function ioctlHint(errno: number): string | undefined {
  return errno === -EINTR ? 'The command timed out, and the controller was reset.' : undefined;
}
