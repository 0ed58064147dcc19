import type {
  BlockTarget,
  IoRequest,
  PassthroughCommand,
  PassthroughResult,
  PathBytes,
  QueueLimits,
} from '../backend/backend.js';
import { InFlight } from '../backend/in-flight.js';
import { zeroPath } from '../backend/path-bytes.js';
import { assertEach, assertObject, assertWhole, wrongArgument, wrongWhole } from '../base/arguments.js';
import { EINVAL, ENOSPC } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { bioCutUser } from '../kernel/bio-user.js';
import { pgmapOf, vmaOf } from '../kernel/memremap.js';
import { type Metrics, Sums } from './metrics.js';
import type { ReadStreamOptions, WriteStreamOptions } from './options.js';
import { P2pReadStream } from './read-stream.js';
import type { StreamContext } from './session.js';
import type { Source } from './source.js';
import { type Move, Transfer } from './transfer.js';
import { P2pWriteStream } from './write-stream.js';

/** One I/O request with several segments, in the form that the backend accepts. */
class VectoredIo implements IoRequest {
  readonly op: 'read' | 'write';
  readonly offset: number;
  readonly segments: readonly Uint8Array[];
  result = 0;
  readonly path: PathBytes = zeroPath();
  #finished: (io: VectoredIo) => void;

  constructor(
    op: 'read' | 'write',
    offset: number,
    segments: readonly Uint8Array[],
    finished: (io: VectoredIo) => void,
  ) {
    this.op = op;
    this.offset = offset;
    this.segments = segments;
    this.#finished = finished;
  }

  done(): void {
    this.#finished(this);
  }
}

/**
 * An open namespace, block device or file: positioned I/O, vectored I/O, flush, NVMe passthrough, streams.
 * All I/O uses O_DIRECT: offsets and lengths must be multiples of `logicalBlockSize`, and memory addresses must be multiples
 * of `limits.dmaAlignment`. (The streams accept any offset and length.)
 */
export class Target {
  /** For this package's own functions. @internal */
  readonly metered = 'target';
  #context: StreamContext;
  #target: BlockTarget;
  #spare: Transfer[] = [];
  readonly #inFlight = new InFlight();
  readonly #sums = new Sums();
  #closed: Promise<void> | null = null;

  private constructor(context: StreamContext, target: BlockTarget) {
    this.#context = context;
    this.#target = target;
    context.add(this);
  }

  /** @internal */
  static over(context: StreamContext, target: BlockTarget): Target {
    return new Target(context, target);
  }

  /** A name such as `'nvme0n1'`, or the base name of a file. */
  get name(): string {
    return this.#target.name;
  }
  /** For this package's own functions. @internal */
  get meteredPath(): string {
    return this.path;
  }
  /** The path as the caller gave it. */
  get path(): string {
    return this.#target.path;
  }
  /** Whether it is a whole NVMe namespace, another block device, or a file. */
  get kind(): 'namespace' | 'block' | 'file' {
    return this.#target.kind;
  }
  /** The size in bytes. It is exact for files too. */
  get size(): number {
    return this.#target.size;
  }
  /** The block size in bytes. Offsets and lengths of `read` and `write` must be multiples of it. */
  get logicalBlockSize(): number {
    return this.#target.limits.logicalBlockSize;
  }
  /** The limits of its block queue. */
  get limits(): QueueLimits {
    return this.#target.limits;
  }
  /** PCI address of the function that does the DMA; null: no function does it alone. */
  get client(): string | null {
    return this.#target.client?.bdf ?? null;
  }
  /** Why CMB memory cannot be used with this target; null: it can be used. */
  get noP2pReason(): string | null {
    return this.#target.noP2pReason;
  }
  /** For this package's own functions. @internal */
  get blockTarget(): BlockTarget {
    return this.#target;
  }
  /** @internal */
  get context(): StreamContext {
    return this.#context;
  }

  /**
   * Read `view.length` bytes at `position` into `view` (CMB or host memory). Resolves to the number of bytes read, which is
   * smaller than `view.length` only at the end of the target.
   * @throws P2pdmaError EINVAL (misaligned), EREMOTEIO (this memory cannot be used here), EIO, …
   */
  read(view: Uint8Array, position: number): Promise<number> {
    const bad =
      notMemory('read', view) ??
      this.#check('read', view.length, position) ??
      this.#checkAddress('read', view);
    if (bad !== null) return Promise.reject(bad);
    const expect = Math.min(view.length, this.size - position);
    if (expect <= 0) return Promise.resolve(0);
    return this.#transfer({ op: 'read', view, offset: position, expect });
  }

  /**
   * Write `view` at `position`. Resolves to its length, never to less. The data is not durable before `flush()`.
   * @throws P2pdmaError EINVAL, EBADF (not open for writing), ENOSPC (beyond the end), EREMOTEIO, EIO, …
   */
  write(view: Uint8Array, position: number): Promise<number> {
    const bad =
      notMemory('write', view) ??
      this.#check('write', view.length, position) ??
      this.#checkAddress('write', view);
    if (bad !== null) return Promise.reject(bad);
    if (view.length === 0) return Promise.resolve(0);
    return this.#transfer({ op: 'write', view, offset: position, expect: view.length });
  }

  /**
   * Read into several pieces of memory with one I/O request. CMB and host memory may be mixed. If the drive owns the CMB, it
   * would refuse such a mixture (NVMe: Invalid Use of Controller Memory Buffer), so the request is split into several.
   */
  readv(views: readonly Uint8Array[], position: number): Promise<number> {
    return this.#vectored('read', views, position);
  }

  /** Write from several pieces of memory; see `readv`. */
  writev(views: readonly Uint8Array[], position: number): Promise<number> {
    return this.#vectored('write', views, position);
  }

  /** Make everything that was written durable. */
  async flush(): Promise<void> {
    this.#assertOpen();
    await this.#target.flush();
  }

  /**
   * Send an NVMe command. The drive's status is returned as a number, not as an error. If a command needs memory and was
   * given none, the drive would use address 0, so such a command is not sent.
   * @throws P2pdmaError ERR_INVALID_ARG_VALUE (less memory than the command moves), EOPNOTSUPP (it moves blocks that have
   * metadata, which is not supported), ENOTTY
   */
  async passthrough(command: PassthroughCommand): Promise<PassthroughResult> {
    this.#assertOpen();
    checkCommand(command);
    this.#inFlight.enter();
    try {
      return await this.#target.passthrough(command);
    } finally {
      this.#ended();
    }
  }

  /** Create a Readable over this target. The target stays open when the stream ends. */
  createReadStream(options?: ReadStreamOptions | BufferEncoding | null): P2pReadStream {
    return P2pReadStream.over(this.#source(), options);
  }

  /** Create a Writable over this target. The target stays open when the stream ends. */
  createWriteStream(options?: WriteStreamOptions | BufferEncoding | null): P2pWriteStream {
    return P2pWriteStream.over(this.#source(), options);
  }

  /** Close the target. Resolves when nothing is in flight and it is closed. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#inFlight.idle();
      await this.#context.closeTarget(this.#target);
      this.#context.remove(this);
    })();
    return this.#closed;
  }

  /** @internal */
  shutdown(): Promise<void> {
    return this.close();
  }

  /** Same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #source(): Source {
    return {
      path: this.path,
      owned: false,
      open: async () => {
        this.#assertOpen();
        return { context: this.#context, target: this.#target };
      },
    };
  }

  #transfer(move: Move & { readonly expect: number }): Promise<number> {
    const { op, expect } = move;
    const transfer = this.#spare.pop() ?? new Transfer();
    this.#inFlight.enter();
    return new Promise((resolve, reject) => {
      transfer.start(this.#target, move, ({ error, moved, path }) => {
        this.#sums.count(op, Math.min(moved, expect), path);
        this.#spare.push(transfer);
        if (error === null) resolve(Math.min(moved, expect));
        else {
          this.#context.failed(error);
          reject(error);
        }
        this.#ended();
      });
    });
  }

  async #vectored(op: 'read' | 'write', views: readonly Uint8Array[], position: number): Promise<number> {
    assertEach(`${op}v`, 'views', views, {
      mustBe: 'Buffers or Uint8Arrays',
      fits: (view) => view instanceof Uint8Array,
    });
    const total = views.reduce((sum, view) => sum + view.length, 0);
    const bad = this.#check(`${op}v`, total, position);
    if (bad !== null) throw bad;
    const { client, limits } = this.#target;
    const providers = new Set(views.map((view) => pgmapOf(view)?.provider ?? null));
    const mixedOnOwner = client !== null && providers.size > 1 && providers.has(client);
    const pieces = mixedOnOwner
      ? bioCutUser(views, position, limits, (view) => pgmapOf(view)?.provider ?? null)
      : [{ offset: position, segments: views }];
    const moved = await Promise.all(pieces.map((piece) => this.#piece(op, piece.offset, piece.segments)));
    return moved.reduce((sum, bytes) => sum + bytes, 0);
  }

  #piece(op: 'read' | 'write', offset: number, segments: readonly Uint8Array[]): Promise<number> {
    const bytes = segments.reduce((sum, segment) => sum + segment.length, 0);
    const expect = op === 'write' ? bytes : Math.max(0, Math.min(bytes, this.size - offset));
    if (expect === 0) return Promise.resolve(0);
    this.#inFlight.enter();
    return new Promise((resolve, reject) => {
      const fail = (error: P2pdmaError) => {
        this.#context.failed(error);
        reject(error);
      };
      const finished = (io: VectoredIo) => {
        this.#sums.count(op, Math.max(0, Math.min(io.result, expect)), io.path);
        this.#ended();
        if (io.result < 0) fail(errnoError(io.result, `${op}v`, this.path, { offset }));
        else if (io.result < expect) {
          fail(
            new P2pdmaError(
              'ERR_SHORT_TRANSFER',
              `${op}v '${this.path}': ${io.result} of ${expect} bytes at offset ${offset}`,
              { path: this.path, syscall: `${op}v`, offset },
            ),
          );
        } else resolve(io.result);
      };
      this.#target.submit(new VectoredIo(op, offset, segments, finished));
    });
  }

  /** For this package's own functions. @internal */
  meter(into: Metrics): void {
    this.#sums.addTo(into);
    into.inFlight += this.#inFlight.count;
  }

  #ended(): void {
    this.#inFlight.leave();
  }

  #assertOpen(): void {
    if (this.#closed !== null) throw new P2pdmaError('ERR_TARGET_CLOSED', `'${this.path}' is closed`);
  }

  #check(op: 'read' | 'write' | 'readv' | 'writev', length: number, position: number): P2pdmaError | null {
    if (this.#closed !== null) return new P2pdmaError('ERR_TARGET_CLOSED', `${op}: '${this.path}' is closed`);
    const wrong = wrongWhole(op, 'position', position, 0);
    if (wrong !== null) return wrong;
    const block = this.logicalBlockSize;
    if (position % block !== 0 || length % block !== 0) {
      return errnoError(-EINVAL, op, this.path, {
        hint: `Position (${position}) and length (${length}) must be multiples of the block size, ${block}; streams accept any.`,
      });
    }
    if (op.startsWith('write') && this.kind !== 'file' && position + length > this.size) {
      return errnoError(-ENOSPC, op, this.path, {
        hint: `The write ends at ${position + length}, the target at ${this.size}.`,
      });
    }
    return null;
  }

  /** Check the alignment of the address. It is known only for mapped memory; other memory is checked by the kernel. */
  #checkAddress(op: 'read' | 'write', view: Uint8Array): P2pdmaError | null {
    const { dmaAlignment } = this.#target.limits;
    if (view.byteOffset % dmaAlignment === 0 || vmaOf(view) === null) return null;
    return errnoError(-EINVAL, op, this.path, {
      hint: `The memory starts at byte ${view.byteOffset} of its mapping: it must be a multiple of ${dmaAlignment}.`,
    });
  }
}

const DWORDS = ['nsid', 'cdw2', 'cdw3', 'cdw10', 'cdw11', 'cdw12', 'cdw13', 'cdw14', 'cdw15'] as const;

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
function checkCommand(command: PassthroughCommand): void {
  assertObject('passthrough', 'command', command);
  const { opcode, data, admin, timeoutMs } = command;
  assertWhole('passthrough', 'opcode', opcode, 0, 0xff);
  for (const name of DWORDS) {
    if (command[name] !== undefined) assertWhole('passthrough', name, command[name], 0, 0xffff_ffff);
  }
  if (timeoutMs !== undefined) assertWhole('passthrough', 'timeoutMs', timeoutMs, 0, 0xffff_ffff);
  if (admin !== undefined && typeof admin !== 'boolean') {
    throw wrongArgument('passthrough', 'admin', 'true or false', admin);
  }
  const wrong = data === undefined ? null : notMemory('passthrough', data);
  if (wrong !== null) throw wrong;
}

function notMemory(op: string, view: unknown): P2pdmaError | null {
  return view instanceof Uint8Array ? null : wrongArgument(op, 'view', 'a Buffer or Uint8Array', view);
}
