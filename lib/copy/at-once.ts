/**
 * The copy of a small file: one read, one write for each destination, no streams.
 *
 *     source ──read──▶ one buffer ──write──▶ destination 1 … n
 *
 * Streams would cost more than the copy itself. The receipt, the metrics and the errors are those that streams would give.
 */
import { type BlockTarget, PAGE_SIZE, type PathBytes } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { tracing } from '../base/trace.js';
import type { Metered, Metrics } from '../streams/metrics.js';
import type { CopyOptions } from '../streams/options.js';
import { endReceipt, type Receipt, withReceipt } from '../streams/receipt.js';
import { chooseRoute, type Route } from '../streams/route.js';
import type { StreamContext } from '../streams/session.js';
import { deferred, Transfer, transfer } from '../streams/transfer.js';
import { mergedReceipt } from './merged-receipt.js';
import type { OpenEnd, OpenEnds } from './open-ends.js';
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
  options: CopyOptions,
  report: Report | undefined,
): Promise<Receipt | null> {
  const paths = isPlain(options) ? ends.paths() : null;
  if (paths === null) return null;
  const { context, from, to } = paths;
  const source = { end: from, target: await from.open() };
  if (!isSmall(source.target, options)) return null;
  const destinations = await allOf(to.map(async (end) => ({ end, target: await end.open() })));
  const targets = destinations.map(({ target }) => target);
  if (targets.some(({ kind }) => kind !== 'file')) return null;
  const route = chooseRoute(context.backend, [source.target, ...targets], options);
  if (route.provider !== null) return null;
  const buffers = kept.get(context) ?? [];
  kept.set(context, buffers);
  const buffer = buffers.pop() ?? context.backend.memory.allocBuffer(MOST + PAGE_SIZE);
  const small = new SmallCopy(context, route, source, destinations);
  try {
    if (!(await small.read(buffer))) return null;
    await small.write(options);
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

function isSmall({ kind, size, limits }: BlockTarget, { highWaterMark = MOST }: CopyOptions): boolean {
  return kind === 'file' && size <= Math.min(MOST, highWaterMark) && limits.logicalBlockSize <= PAGE_SIZE;
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
  readonly #began = performance.now();
  #ended = 0;
  /** The length of the source when the copy began. */
  #expected = 0;
  #view: Uint8Array = new Uint8Array();

  constructor(context: StreamContext, route: Route, source: OpenedEnd, destinations: readonly OpenedEnd[]) {
    this.#context = context;
    this.#route = route;
    this.#reader = new SmallReader(source, route);
    this.#writers = destinations.map((end) => new SmallWriter(end, route));
  }

  /** Read it all. False: it has grown. */
  async read(buffer: Uint8Array): Promise<boolean> {
    const { target, bytesPath } = this.#reader;
    const { logicalBlockSize: block } = target.limits;
    const { size } = target;
    this.#expected = size;
    // One byte more shows whether it has grown.
    const view = buffer.subarray(0, Math.ceil((size + 1) / block) * block);
    try {
      const bytes = await transfer(target, { op: 'read', view, offset: 0, expect: 0 }, bytesPath);
      if (bytes > size) return false;
      this.#view = view.subarray(0, bytes);
      this.#reader.bytes = bytes;
    } catch (error) {
      this.#context.failed(error);
      this.#begin();
      this.over();
      throw error;
    }
    this.#begin();
    return true;
  }

  /** From now on it counts. */
  #begin(): void {
    for (const end of [this.#reader, ...this.#writers]) this.#context.add(end);
  }

  async write({ flags = 'w', flush = true }: CopyOptions): Promise<void> {
    try {
      await allOf(
        this.#writers.map(async (writer) => {
          await writer.begin();
          await (flags === 'r+' ? writer.write(this.#view) : writer.replace(this.#view));
          if (flush) await writer.target.flush();
        }),
      );
      const { meteredPath: path, bytes } = this.#reader;
      if (bytes < this.#expected) throw endedEarly({ path, start: 0, bytesRead: bytes }, this.#expected);
    } catch (error) {
      this.#context.failed(error);
      throw withReceipt(error, this.receipt);
    } finally {
      this.over();
    }
  }

  get receipt(): Receipt {
    const written = this.#writers.map((end) => ({
      receipt: this.#receiptOf(end),
      bytesWritten: end.bytes,
      aside: null,
    }));
    return mergedReceipt(this.#receiptOf(this.#reader), written, { foreign: false });
  }

  #receiptOf({ bytes, bytesPath: path }: SmallReader | SmallWriter): Receipt {
    const { transport, reason } = this.#route;
    return endReceipt({
      ...{ bytes, path, transport, reason, route: this.#route },
      ...{ began: this.#began, ended: this.#ended, origin: this.#context.origin },
    });
  }

  /** Nothing is in flight any more. */
  over(): void {
    this.#ended = performance.now();
    for (const end of [this.#reader, ...this.#writers]) {
      this.#context.remove(end);
      end.over();
    }
  }
}

/** An end, and its target. */
interface OpenedEnd {
  readonly end: OpenEnd;
  readonly target: BlockTarget;
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
  readonly #over = deferred();

  constructor({ end, target }: OpenedEnd, route: Route) {
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
  shutdown(): Promise<void> {
    return this.#over.promise;
  }

  over(): void {
    this.#over.resolve();
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

  /** From now on the file may be changed. */
  async begin(): Promise<void> {
    await this.end.source(false).begin!(this.target);
  }

  /**
   * Make this all that is in the file. Its blocks are kept, as far as they are needed: to free them and to take new ones costs
   * more than to write them.
   */
  async replace(view: Uint8Array): Promise<void> {
    await this.#shorten(view.length);
    try {
      await this.write(view);
    } catch (error) {
      // What it held before does not follow on what was written. The caller learns why that is not all.
      await this.#shorten(this.bytes).catch(() => {});
      throw error;
    }
  }

  async #shorten(length: number): Promise<void> {
    if (this.target.size > length) await this.target.truncate(length);
  }

  /** Write it through the page cache, as a writer does with what is so small. */
  async write(view: Uint8Array): Promise<void> {
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
