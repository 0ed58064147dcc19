/**
 * The copy of a small file: one read, one write for each destination, no streams.
 *
 *     source ──read──▶ one buffer ──write──▶ destination 1 … n
 *
 * Streams would cost more than the copy itself. The receipt, the metrics and the errors are those that streams would give.
 */
import { type BlockTarget, PAGE_SIZE, type PathBytes, sizeThisTurn } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { tracing } from '../base/trace.js';
import type { Metered, Metrics } from '../streams/metrics.js';
import type { CopyOptions } from '../streams/options.js';
import { endReceipt, type Receipt, withReceipt } from '../streams/receipt.js';
import { chooseRoute, type Route } from '../streams/route.js';
import type { StreamContext } from '../streams/session.js';
import { type Deferred, deferred, Transfer, transfer } from '../streams/transfer.js';
import type { OpenEnd, OpenEnds, OpenSource } from './open-ends.js';
import type { Report } from './progress.js';
import { endedEarly } from './run.js';

/** The largest file that is copied at once, in bytes. */
const MOST = 128 * 1024;

/** How many buffers a system keeps for further copies. */
const MOST_KEPT = 16;

/** Buffers of MOST bytes and a page that no copy uses, by system: allocating one costs as much as filling it. */
const kept = new WeakMap<StreamContext, Uint8Array[]>();

/** Copy, or decline with null; then the ends are as they were, and the copy needs streams. */
export async function copyAtOnce(
  ends: OpenEnds,
  source: OpenSource | null,
  options: CopyOptions,
  report: Report | undefined,
): Promise<Receipt | null> {
  if (source === null || !isSmall(source, options) || !isPlain(options)) return null;
  const paths = ends.paths();
  if (paths === null) return null;
  const { context, from, to } = paths;
  const targets = await allOf(to.map((end) => end.open()));
  if (targets.some(({ kind }) => kind !== 'file')) return null;
  const route = chooseRoute(context.backend, [source.target, ...targets], options);
  if (route.provider !== null) return null;
  const reader = new SmallReader(from, source.target, route);
  const writers = to.map((end, i) => new SmallWriter(end, targets[i]!, route));
  const small = new SmallCopy(context, route, { reader, writers, size: source.size });
  const buffers = buffersOf(context);
  const buffer = buffers.pop() ?? context.backend.memory.allocBuffer(MOST + PAGE_SIZE);
  try {
    const data = await small.read(buffer);
    if (data === null) return null;
    await small.write(data, options);
  } finally {
    // Nothing is in flight any more, whatever happened.
    if (buffers.length < MOST_KEPT) buffers.push(buffer);
  }
  const { receipt } = small;
  const { bytes, transport, provider, backend, machine } = receipt;
  report?.({ bytes, total: bytes, phase: 'copy', transport, provider, backend, machine });
  return receipt;
}

/** Nothing is asked for that concerns the way of the data, or that needs a look at it under way. */
function isPlain(options: CopyOptions): boolean {
  const { verify, sparse, bandwidth, signal, stop, start, end, destinationStart, memory, requireP2p } =
    options;
  if (verify || sparse || requireP2p || memory === 'cmb' || bandwidth !== undefined) return false;
  if (signal !== undefined || stop !== undefined) return false;
  if ((start ?? 0) !== 0 || (destinationStart ?? 0) !== 0) return false;
  if ((end ?? Number.POSITIVE_INFINITY) !== Number.POSITIVE_INFINITY) return false;
  return !tracing() && process.env.P2PDMA_PUMP !== '0';
}

function isSmall({ kind, size, target }: OpenSource, { highWaterMark = MOST }: CopyOptions): boolean {
  if (kind !== 'file' || size > Math.min(MOST, highWaterMark)) return false;
  return target.limits.logicalBlockSize <= PAGE_SIZE;
}

function buffersOf(context: StreamContext): Uint8Array[] {
  const known = kept.get(context);
  if (known !== undefined) return known;
  const buffers: Uint8Array[] = [];
  kept.set(context, buffers);
  return buffers;
}

/** Like Promise.all(), but it also waits for the others if one fails. */
async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  if (promises.length === 1) return [await promises[0]!];
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

class SmallCopy {
  readonly #context: StreamContext;
  readonly #route: Route;
  readonly #reader: SmallReader;
  readonly #writers: readonly SmallWriter[];
  readonly #ends: readonly (SmallReader | SmallWriter)[];
  /** The length of the source when the copy began. */
  readonly #size: number;
  readonly #began = performance.now();
  #ended = 0;

  constructor(
    context: StreamContext,
    route: Route,
    ends: { readonly reader: SmallReader; readonly writers: readonly SmallWriter[]; readonly size: number },
  ) {
    this.#context = context;
    this.#route = route;
    this.#reader = ends.reader;
    this.#writers = ends.writers;
    this.#ends = [ends.reader, ...ends.writers];
    this.#size = ends.size;
  }

  /** Read it all. Null: it has grown. */
  async read(buffer: Uint8Array): Promise<Uint8Array | null> {
    const { target, bytesPath } = this.#reader;
    const { logicalBlockSize: block } = target.limits;
    const size = this.#size;
    // One byte more shows whether it has grown.
    const view = buffer.subarray(0, Math.ceil((size + 1) / block) * block);
    try {
      const move = { op: 'read', view, offset: 0, expect: 0, size, cacheable: true } as const;
      const bytes = await transfer(target, move, bytesPath);
      if (bytes > size) return null;
      this.#reader.bytes = bytes;
    } catch (error) {
      this.#context.failed(error);
      this.#begin();
      this.#over();
      throw error;
    }
    this.#begin();
    return view.subarray(0, this.#reader.bytes);
  }

  /** From now on it counts. */
  #begin(): void {
    for (const end of this.#ends) this.#context.add(end);
  }

  async write(data: Uint8Array, { flags = 'w', flush = true }: CopyOptions): Promise<void> {
    try {
      await allOf(this.#writers.map((writer) => writer.take(data, { keeps: flags === 'r+', flush })));
      const { meteredPath: path, bytes } = this.#reader;
      if (bytes < this.#size) throw endedEarly({ path, start: 0, bytesRead: bytes }, this.#size);
    } catch (error) {
      this.#context.failed(error);
      throw withReceipt(error, this.receipt);
    } finally {
      this.#over();
    }
  }

  /** What the receipts of streams would come to: the ends have one route, and it is through host memory. */
  get receipt(): Receipt {
    const path = zeroPath();
    for (const end of this.#ends) addPath(path, end.bytesPath);
    const { transport, reason } = this.#route;
    return endReceipt({
      bytes: Math.min(...this.#writers.map(({ bytes }) => bytes)),
      began: this.#began,
      ended: this.#ended,
      origin: this.#context.origin,
      route: this.#route,
      transport,
      reason,
      path,
    });
  }

  /** Nothing is in flight any more. */
  #over(): void {
    this.#ended = performance.now();
    for (const end of this.#ends) {
      this.#context.remove(end);
      end.over();
    }
  }
}

/** What the system's metrics need to know of each end. */
abstract class SmallEnd implements Metered {
  abstract readonly metered: 'reader' | 'writer';
  readonly bytesPath: PathBytes = zeroPath();
  /** Read or written so far. */
  bytes = 0;
  readonly end: OpenEnd;
  readonly target: BlockTarget;
  readonly #route: Route;
  #isOver = false;
  /** Somebody waits until it is over. */
  #awaited: Deferred<void> | null = null;

  constructor(end: OpenEnd, target: BlockTarget, route: Route) {
    this.end = end;
    this.target = target;
    this.#route = route;
  }

  get meteredPath(): string {
    return this.end.path;
  }

  /** Its memory is the host's. */
  get receipt(): NonNullable<Metered['receipt']> {
    return { provider: null, path: this.bytesPath };
  }

  get attachment(): NonNullable<Metered['attachment']> {
    return { target: this.target };
  }

  meter(into: Metrics): void {
    into.transports[this.#route.transport]++;
  }

  /** Such a copy is over in a moment. */
  async shutdown(): Promise<void> {
    if (this.#isOver) return;
    this.#awaited ??= deferred();
    await this.#awaited.promise;
  }

  over(): void {
    this.#isOver = true;
    this.#awaited?.resolve();
  }
}

class SmallReader extends SmallEnd {
  readonly metered = 'reader';

  override meter(into: Metrics): void {
    super.meter(into);
    into.bytes.read += this.bytes;
    into.transfers.read++;
    addPath(into.path, this.bytesPath);
  }
}

class SmallWriter extends SmallEnd {
  readonly metered = 'writer';
  #writes = 0;
  #inFlight = 0;

  /** Write all that was read. `keeps`: what the file has beyond it stays. */
  async take(
    data: Uint8Array,
    { keeps, flush }: { readonly keeps: boolean; readonly flush: boolean },
  ): Promise<void> {
    this.end.begin();
    await (keeps ? this.#write(data) : this.#replace(data));
    if (flush) await this.target.flush();
  }

  /**
   * Make this all that is in the file. Its blocks are kept, as far as they are needed: to free them and to take new ones costs
   * more than to write them.
   */
  async #replace(data: Uint8Array): Promise<void> {
    await this.#shorten(sizeThisTurn(this.target), data.length);
    try {
      await this.#write(data);
    } catch (error) {
      // What it held before does not follow on what was written. The caller learns why that is not all.
      await this.#shorten(this.target.size, this.bytes).catch(() => {});
      throw error;
    }
  }

  async #shorten(size: number, length: number): Promise<void> {
    if (size > length) await this.target.truncate(length);
  }

  /** Write it through the page cache, as a writer does with what is so small. */
  async #write(view: Uint8Array): Promise<void> {
    if (view.length === 0) return;
    const write = new Transfer();
    write.buffered = true;
    this.#inFlight++;
    await new Promise<void>((ended) => {
      write.start(this.target, { op: 'write', view, offset: 0 }, () => ended());
    });
    this.#inFlight--;
    this.#writes++;
    this.bytes = write.moved;
    addPath(this.bytesPath, write.path);
    if (write.error !== null) throw write.error;
  }

  override meter(into: Metrics): void {
    super.meter(into);
    into.bytes.write += this.bytes;
    into.transfers.write += this.#writes;
    into.inFlight += this.#inFlight;
    addPath(into.path, this.bytesPath);
  }
}
