/**
 * The engine of one JavaScript thread: io_uring, or a pool of threads. All backends and targets of the
 * thread share it.
 *
 *     submit() … submit() … submit()      one turn of the event loop
 *         └── records in `requests` ──────▶ C++, once, before the loop sleeps ──▶ one io_uring_enter
 *                                             eventfd readable: src-native/waker.h
 *     completed() … completed()  ◀── records in `completions` ◀── one callback
 *
 * No object is created per request: both tables are shared with C++ (layouts: src-native/records.h), and
 * memory is passed as an address that is looked up once per ArrayBuffer. `#tokens` keeps the owner of each
 * request in flight alive, with its memory and target. C++ keeps the mappings, whatever JavaScript does.
 */
import { EINVAL, ENAMETOOLONG } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { type Addon, loadAddon } from './addon.js';
import { memoryOf } from './memory.js';
import { trace, tracing } from './trace.js';

export type EngineKind = 'uring' | 'threads';

/**
 * The layout of the request stream and the completion table in C++ (src-native/records.h); a test compares it with the values
 * that the addon reports.
 */
export const LAYOUT = {
  opRead: 0,
  opWrite: 1,
  opSync: 2,
  opPassthrough: 3,
  opAllocate: 4,
  opTruncate: 5,
  opClose: 6,
  opNop: 7,
  opPump: 8,
  opPipeRead: 9,
  opPipeWrite: 10,
  opOpen: 11,
  flagAsync: 1,
  flagAdmin: 2,
  flagUringCmd: 4,
  flagThread: 8,
  flagHere: 16,
  /** The factor of the flags in the word that also holds the op code. */
  flagsFrom: 256,
  headerWords: 5,
  segmentWords: 3,
  passthroughWords: 14,
  pumpWords: 8,
  pumpEndWords: 3,
  completionWords: 4,
  /** Indices in a pump's state: see src-native/records.h. */
  pumpMoved: 0,
  pumpStop: 1,
  pumpFailedLeg: 2,
  pumpFailedAt: 3,
  pumpFailedResult: 4,
  pumpLegs: 5,
  pumpLegWords: 3,
  /** Index in the control words: the number of request words that C++ has not taken yet. */
  queued: 0,
  /** Index of the word that is not 0 while the kernel must be called again later. */
  retryWanted: 1,
  /** IOV_MAX: the most segments that the kernel accepts in one vectored call; a longer request becomes a short transfer. */
  maxSegments: 1024,
} as const;

export const {
  opRead: OP_READ,
  opWrite: OP_WRITE,
  opSync: OP_SYNC,
  opPassthrough: OP_PASSTHROUGH,
  opAllocate: OP_ALLOCATE,
  opTruncate: OP_TRUNCATE,
  opClose: OP_CLOSE,
  opNop: OP_NOP,
  opPump: OP_PUMP,
  opPipeRead: OP_PIPE_READ,
  opPipeWrite: OP_PIPE_WRITE,
  opOpen: OP_OPEN,
  flagAsync: FLAG_ASYNC,
  flagAdmin: FLAG_ADMIN,
  flagUringCmd: FLAG_URING_CMD,
  flagThread: FLAG_THREAD,
  flagHere: FLAG_HERE,
} = LAYOUT;
const {
  flagsFrom: FLAGS_FROM,
  headerWords: HEADER_WORDS,
  segmentWords: SEGMENT_WORDS,
  completionWords: COMPLETION_WORDS,
  queued: QUEUED,
  retryWanted: RETRY_WANTED,
  maxSegments: MAX_SEGMENTS,
} = LAYOUT;

const REQUEST_WORDS = 64 * 1024;
const COMPLETIONS = 1024;
const RING_ENTRIES = 512;
/** The longest path, in bytes, that the kernel accepts. */
const PATH_MAX = 4095;
/** The pause after EAGAIN and EBUSY, of which C++ accepts a limited number. */
const RETRY_MS = 1;

/** The submitter of a request. `token` is the value that was passed with the request. */
export interface Completer<Token> {
  /** `result`: the system call's result, or a negative errno. `low`, `high`: an NVMe command's own result. */
  completed(token: Token, result: number, low: number, high: number): void;
}

/** What a read or write moves. It is the request's token, so that no object is created per request. */
export interface Vectored {
  readonly offset: number;
  readonly segments: readonly Uint8Array[];
}

/** A request other than a read or a write. */
export interface EngineCommand {
  readonly op: number;
  readonly flags: number;
  readonly fd: number;
  /** Default: 0. */
  readonly offset?: number;
  /** The words that the op code expects; default: none. */
  readonly words?: readonly number[];
}

export class NativeEngine {
  readonly kind: EngineKind;
  /** The reason why it is not the other engine. */
  readonly reason: string;
  readonly #addon: Addon;
  readonly #id: number;
  readonly #knowsTurns: boolean;
  readonly #requests = new Float64Array(REQUEST_WORDS);
  /** The same memory, for paths. */
  readonly #bytes = Buffer.from(this.#requests.buffer);
  readonly #completions = new Int32Array(COMPLETIONS * COMPLETION_WORDS);
  /** [QUEUED] and [RETRY_WANTED]. */
  readonly #control = new Int32Array(4);
  readonly #completers: (Completer<unknown> | null)[] = [];
  readonly #tokens: unknown[] = [];
  readonly #free: number[] = [];
  #inFlight = 0;
  #flushing = false;
  #retrying = false;
  #users = 0;
  #closed = false;

  constructor(kind: EngineKind, reason: string, entries = RING_ENTRIES) {
    this.kind = kind;
    this.reason = reason;
    this.#addon = loadAddon();
    const id = this.#addon.openEngine(
      { ring: kind === 'uring', entries, loop: hasLibuv() },
      this.#requests,
      this.#completions,
      this.#control,
      (count) => this.#complete(count),
    );
    if (id < 0) throw errnoError(id, kind === 'uring' ? 'io_uring_setup' : 'eventfd2', kind);
    this.#id = id;
    this.#knowsTurns = this.#addon.knowsTurns(id);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The IORING_SETUP_* flags in use; -1: no ring. */
  get ringFlags(): number {
    return this.#addon.ringFlags(this.#id);
  }

  /**
   * Queue a vectored read or write.
   * @returns 0, or a negative errno if it cannot even be queued (detached memory): then `completed` is not called.
   */
  readWrite<Token>(
    completer: Completer<Token>,
    token: Token & Vectored,
    op: typeof OP_READ | typeof OP_WRITE | typeof OP_PIPE_READ | typeof OP_PIPE_WRITE,
    flags: number,
    fd: number,
  ): number {
    const { offset, segments } = token;
    const count = Math.min(segments.length, MAX_SEGMENTS);
    const requests = this.#requests;
    let at = this.#room(HEADER_WORDS + count * SEGMENT_WORDS);
    const start = at;
    at += HEADER_WORDS;
    for (let i = 0; i < count; i++) {
      const view = segments[i]!;
      const memory = memoryOf(view);
      if (memory.errno !== 0) return memory.errno;
      requests[at] = memory.address + view.byteOffset;
      requests[at + 1] = view.byteLength;
      requests[at + 2] = memory.mapping;
      at += SEGMENT_WORDS;
    }
    this.#describe(start, op + flags * FLAGS_FROM, fd, offset);
    this.#push(completer as Completer<unknown>, token, start, at);
    return 0;
  }

  /** Queue anything else. */
  command<Token>(completer: Completer<Token>, token: Token, command: EngineCommand): number {
    const { op, flags, fd, offset = 0, words = [] } = command;
    if (words.length > REQUEST_WORDS - HEADER_WORDS) return -EINVAL;
    const start = this.#room(HEADER_WORDS + words.length);
    this.#requests.set(words, start + HEADER_WORDS);
    this.#describe(start, op + flags * FLAGS_FROM, fd, offset);
    this.#push(completer as Completer<unknown>, token, start, start + HEADER_WORDS + words.length);
    return 0;
  }

  /**
   * The same with a promise, for requests that are not on the hot path. It resolves to the result, also if that is a negative
   * errno.
   */
  call(command: EngineCommand): Promise<number> {
    return new Promise((resolve) => {
      this.command(resolver, resolve, command);
    });
  }

  /**
   * open(2), by a thread; `flags` are those of open(2). It resolves to a descriptor, which belongs to this addon like one of
   * `openFile`, or to a negative errno.
   */
  open(path: string, flags: number, mode: number): Promise<number> {
    const length = Buffer.byteLength(path);
    const words = Math.ceil(length / Float64Array.BYTES_PER_ELEMENT);
    if (length > PATH_MAX) return Promise.resolve(-ENAMETOOLONG);
    return new Promise((resolve) => {
      const start = this.#room(HEADER_WORDS + 2 + words);
      const at = start + HEADER_WORDS;
      this.#requests[at] = mode;
      this.#requests[at + 1] = length;
      this.#bytes.write(path, (at + 2) * Float64Array.BYTES_PER_ELEMENT);
      this.#describe(start, OP_OPEN, -1, flags);
      this.#push(resolver as Completer<unknown>, resolve, start, at + 2 + words);
    });
  }

  #room(words: number): number {
    if (this.#closed) throw new P2pdmaError('ERR_TARGET_CLOSED', 'the engine is closed');
    const at = this.#control[QUEUED]!;
    if (at + words <= REQUEST_WORDS) return at;
    this.#addon.take(this.#id);
    return 0;
  }

  #describe(start: number, code: number, fd: number, offset: number): void {
    const requests = this.#requests;
    requests[start + 1] = code;
    requests[start + 2] = fd;
    requests[start + 3] = offset;
  }

  #push(completer: Completer<unknown>, token: unknown, start: number, end: number): void {
    const slot = this.#free.pop() ?? this.#tokens.length;
    this.#completers[slot] = completer;
    this.#tokens[slot] = token;
    this.#requests[start] = slot;
    this.#requests[start + 4] = end - start - HEADER_WORDS;
    this.#control[QUEUED] = end;
    if (this.#inFlight++ === 0) this.#addon.wake(this.#id);
    if (this.#knowsTurns || this.#flushing) return;
    // This runs last in a turn, before the loop sleeps, so it includes what ticks and microtasks queue until then.
    this.#flushing = true;
    setImmediate(this.#flush);
  }

  readonly #flush = (): void => {
    this.#flushing = false;
    if (!this.#closed) this.#addon.flush(this.#id);
  };

  readonly #retry = (): void => {
    this.#retrying = false;
    if (!this.#closed) this.#addon.retry(this.#id);
  };

  #complete(count: number): void {
    const completions = this.#completions;
    for (let i = 0; i < count * COMPLETION_WORDS; i += COMPLETION_WORDS) {
      const slot = completions[i]!;
      const completer = this.#completers[slot]!;
      const token = this.#tokens[slot];
      this.#completers[slot] = null;
      this.#tokens[slot] = null;
      this.#free.push(slot);
      this.#inFlight--;
      try {
        completer.completed(token, completions[i + 1]!, completions[i + 2]!, completions[i + 3]!);
      } catch (error) {
        // If one callback throws, the completions after it must not be lost.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    if (this.#users === 0 && this.#inFlight === 0) this.#close();
    else if (this.#control[RETRY_WANTED] !== 0 && !this.#retrying) {
      this.#retrying = true;
      setTimeout(this.#retry, RETRY_MS);
    }
  }

  /** Reference-counted: the last release() closes the ring when nothing is in flight. */
  retain(): this {
    this.#users++;
    return this;
  }

  release(): void {
    if (this.#users === 0 || --this.#users > 0) return;
    for (const [kind, engine] of shared) if (engine === this) shared.delete(kind);
    if (this.#inFlight === 0) this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#addon.closeEngine(this.#id);
  }
}

/** Bun claims to have libuv's functions but ends the process when most of them are called; Deno has some of them. */
function hasLibuv(): boolean {
  const { bun, deno } = process.versions;
  return bun === undefined && deno === undefined && process.env.P2PDMA_NO_LIBUV !== '1';
}

const resolver: Completer<(result: number) => void> = {
  completed: (resolve, result) => resolve(result),
};

/** One engine of each kind per thread of JavaScript. */
const shared = new Map<EngineKind, NativeEngine>();
/** The reason why this thread cannot have a ring; it is found out only once. */
let noRing: P2pdmaError | null = null;

/**
 * The engine for `engine`, retained for the caller. 'auto' uses io_uring if the kernel allows it, and threads otherwise; the
 * kernel is asked only once.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE: io_uring was requested and is refused.
 */
export function acquireEngine(engine: 'auto' | EngineKind): NativeEngine {
  if (engine !== 'threads') {
    const ring = shared.get('uring');
    if (ring !== undefined) return ring.retain();
    if (noRing === null) {
      try {
        return open('uring', engine === 'auto' ? 'io_uring is permitted' : 'asked for');
      } catch (error) {
        if (!(error instanceof P2pdmaError) || error.errno === undefined) throw error;
        noRing = error;
      }
    }
    if (engine === 'uring') {
      throw new P2pdmaError('ERR_BACKEND_UNAVAILABLE', `io_uring is refused: ${noRing.message}`, {
        hint: "Use engine 'auto' or 'threads'; see kernel.io_uring_disabled and the container's seccomp profile.",
        cause: noRing,
      });
    }
  }
  const threads = shared.get('threads');
  if (threads !== undefined) return threads.retain();
  return open('threads', engine === 'auto' ? `io_uring is refused: ${noRing?.message}` : 'asked for');
}

function open(kind: EngineKind, reason: string): NativeEngine {
  const engine = new NativeEngine(kind, reason);
  shared.set(kind, engine);
  if (tracing()) trace('engine', 'open', { engine: kind, reason, flags: engine.ringFlags });
  return engine.retain();
}
