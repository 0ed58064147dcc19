import type { P2pdmaError } from '../base/errors.js';
import { asBuffer } from './byte-queue.js';
import { takeChunkPool } from './chunk-pool.js';
import { chunkSize, depthAhead, depthOf } from './options.js';
import { poisoned } from './poison.js';
import { type Piece, ReadAhead, type ReaderParts } from './read-ahead.js';
import type { ReadJob } from './read-job.js';
import { isPeerRefusal } from './refusal.js';
import { chooseRoute, hostRoute, p2pRequired, type Route } from './route.js';
import { retirePool, type SlotPool } from './slot-pool.js';

/** The most that one read of a pipe asks for by default: as much as a pipe holds. */
const IN_ORDER_CHUNK = 64 * 1024;

/** Not a view of a slot: its memory can be gone. */
const NOTHING = Buffer.alloc(0);

/** The stream that a feed serves. */
export interface Fed {
  /** The path as the caller gave it. */
  readonly name: string;
  /** True if it requested a chunk and has not received one yet. */
  wants(): boolean;
  /** Deliver the next chunk. The chunk after it begins at `position`. */
  give(chunk: Buffer, position: number): void;
  /** Called when a chunk may be ready, so that the stream calls `run()`. */
  readonly go: () => void;
  ended(): void;
  failed(error: Error): void;
}

export class Feed {
  readonly #parts: ReaderParts;
  readonly #fed: Fed;
  readonly #ahead: ReadAhead;
  readonly #pool: SlotPool | null;
  readonly #chunk: number;
  /** The size that the consumer asked for; null: any. */
  readonly #asked: number | null;
  /** What was read and is still to be delivered, in pieces of that size. */
  #rest: Buffer = NOTHING;
  #running = false;
  readonly route: Route;

  /**
   * Reads from byte `from` up to (not including) `end`.
   * @throws P2pdmaError ERR_P2P_REQUIRED: the options demand peer-to-peer, and it is not possible
   */
  constructor(parts: ReaderParts, fed: Fed, from: number, end: number) {
    this.#parts = parts;
    this.#fed = fed;
    const { route, chunk, pool } = memoryFor(parts, fed.name, from, end);
    this.route = route;
    this.#chunk = chunk;
    this.#pool = pool;
    if (pool !== null) pool.onFree = fed.go;
    this.#asked = pool === null ? (parts.settings.highWaterMark ?? null) : null;
    const exact = this.#asked === null ? undefined : atOnce(this.#asked);
    const depth = pool === null ? depthAhead(parts.settings, exact ?? chunk) : depthOf(parts.settings);
    this.#ahead = new ReadAhead(
      parts,
      {
        depth,
        budget: pool === null && parts.settings.queueDepth === undefined ? parts.context.ahead : undefined,
        chunk: () => this.#chunk,
        exact,
        memory: (bytes) => this.#piece(bytes),
        go: fed.go,
        retries: () => false,
      },
      from,
      end,
    );
  }

  get reads(): number {
    return this.#ahead.reads;
  }

  get inFlight(): number {
    return this.#ahead.inFlight;
  }

  /** True: it has read and delivered everything. */
  get isIdle(): boolean {
    return this.#rest.length === 0 && this.#ahead.isIdle;
  }

  /** Begin no further read. */
  stop(): void {
    this.#ahead.stop();
  }

  /** Drop what was not delivered. Resolves when no read is in flight. */
  async halt(): Promise<void> {
    this.#rest = NOTHING;
    await this.#ahead.halt();
  }

  /** A lent chunk is given back. Returns false if this feed does not lend chunks. */
  release(chunk: Uint8Array): boolean {
    this.#pool?.release(chunk);
    return this.#pool !== null;
  }

  /** Give the memory back. This includes chunks on loan, unless their consumer may keep its last ones. */
  retire(mayKeep: boolean): void {
    if (this.#pool === null) return;
    retirePool(this.#parts.context, this.#pool);
    if (!mayKeep) this.#pool.revoke();
  }

  /** Deliver the chunks that are ready in order, as long as the stream wants them, and begin more reads. */
  run(): void {
    // A consumer that releases a chunk, or a read that fails at once, asks for a turn during a turn. That one goes on.
    if (this.#running) return;
    this.#running = true;
    try {
      this.#ahead.fill();
      while (this.#fed.wants() && (this.#rest.length > 0 || this.#readOn())) this.#give();
    } finally {
      this.#running = false;
    }
    if (this.#fed.wants() && this.#ahead.ended) this.#fed.ended();
  }

  /** Take what was read next. Returns false if there is none yet. */
  #readOn(): boolean {
    const job = this.#ahead.take();
    if (job !== null) this.#hand(job);
    return this.#rest.length > 0;
  }

  #give(): void {
    const rest = this.#rest;
    const all = this.#asked === null || this.#asked >= rest.length;
    const chunk = all ? rest : rest.subarray(0, this.#asked);
    this.#rest = all ? NOTHING : rest.subarray(this.#asked);
    this.#fed.give(chunk, this.#ahead.position - this.#rest.length);
  }

  #hand(job: ReadJob): void {
    const { error, slot } = job;
    if (error !== null) {
      job.drop();
      this.#fed.failed(this.#explain(error));
      return;
    }
    const chunk = job.hole ? Buffer.alloc(job.to) : this.#delivered(job.bytes);
    if (slot !== null) {
      slot.lent = true;
      slot.filling = false;
    }
    this.#ahead.put(job);
    this.#ahead.fill();
    this.#rest = chunk;
  }

  /** A pipe gives what is there: if that is little, it should not keep a whole chunk's memory. */
  #delivered(bytes: Uint8Array): Buffer {
    const little = this.#parts.target.inOrder !== undefined && 2 * bytes.length < this.#chunk;
    return little ? Buffer.from(bytes) : asBuffer(bytes);
  }

  #piece(bytes: number): Piece | null {
    if (this.#pool === null) {
      return { view: poisoned(this.#parts.context.backend.memory.allocBuffer(bytes)), slot: null };
    }
    const slot = this.#pool.take();
    return slot === null ? null : { slot, view: slot.view(bytes) };
  }

  /** If the kernel refused the peer's memory, say that lending requires it and that host memory cannot replace it. */
  #explain(error: Error): Error {
    const { errno } = error as P2pdmaError;
    const { settings, context } = this.#parts;
    const provider = settings.memory === 'cmb' ? this.route.provider : null;
    const { release } = context.backend;
    const refused = errno !== undefined && isPeerRefusal(errno, { provider, aligned: true, release });
    return refused ? p2pRequired(this.#fed.name, error.message, 'memory: cmb') : error;
  }
}

/** Small chunks are read together: as many of them as this holds. */
const TOGETHER = 64 * 1024;

function atOnce(asked: number): number {
  return asked * Math.max(1, Math.floor(TOGETHER / asked));
}

/** Choose the memory: ordinary memory or, with `memory: 'cmb'`, a pool from which chunks are lent. */
function memoryFor(
  { context, target, settings }: ReaderParts,
  name: string,
  from: number,
  end: number,
): { route: Route; chunk: number; pool: SlotPool | null } {
  const { highWaterMark, requireP2p, memory } = settings;
  const block = target.limits.logicalBlockSize;
  if (memory !== 'cmb') {
    const route = hostRoute(
      target.inOrder ?? 'the consumer is not a p2pdma stream, so it gets ordinary Buffers that it may keep',
    );
    if (requireP2p) throw p2pRequired(name, route.reason);
    const asked = highWaterMark ?? (target.inOrder === undefined ? undefined : IN_ORDER_CHUNK);
    return { route, chunk: chunkSize(asked, block), pool: null };
  }
  const wanted = chooseRoute(context.backend, [target], settings);
  const taken = takeChunkPool(context, wanted, {
    highWaterMark,
    queueDepth: depthOf(settings),
    block,
    writers: 0,
    required: true,
    bytes: Math.min(end, target.size) - (from - (from % block)),
  });
  if (taken.pool !== null) return taken;
  throw p2pRequired(name, taken.route.reason, requireP2p ? 'requireP2p' : 'memory: cmb');
}
