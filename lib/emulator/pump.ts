/**
 * A pump through the layers of the emulated kernel: it submits the same requests as any other user of the targets, and keeps one
 * set of them for each slot, so that a chunk costs no more than its two commands.
 *
 *     written     being written     read       being read     not begun        chunk i is in slot i % slots
 *     ─────────┼─────────────────┼──────────────────────────┼─────────────
 *           #first         next of each leg               #next
 */
import type {
  IoRequest,
  PathBytes,
  PumpAccount,
  PumpEnd,
  PumpFailure,
  PumpProgress,
  PumpRequest,
  PumpRun,
} from '../backend/backend.js';
import { addPath, clearPath, zeroPath } from '../backend/path-bytes.js';
import { EmulatorTarget } from './target.js';

/** Start the pump, or decline; in that case nothing has happened. */
export function startPump(request: PumpRequest): PumpRun | null {
  const ends = [request.source, ...request.destinations];
  if (request.slots.length === 0 || !ends.every(({ target }) => target instanceof EmulatorTarget))
    return null;
  return new EmulatorPump(request);
}

/** One end of the range, and what was done there since the last report. */
class Leg {
  readonly end: PumpEnd;
  /** Index of the destination; null: the source. */
  readonly destination: number | null;
  transfers = 0;
  bytes = 0;
  inFlight = 0;
  /** Of a destination: the number of the chunk that is written next. */
  next = 0;
  readonly path: PathBytes = zeroPath();

  constructor(end: PumpEnd, destination: number | null) {
    this.end = end;
    this.destination = destination;
  }

  count({ result, path }: PumpTransfer): void {
    this.inFlight--;
    this.transfers++;
    if (result > 0) this.bytes += result;
    addPath(this.path, path);
  }

  report(): PumpAccount {
    const { transfers, bytes, inFlight, path } = this;
    const account = { transfers, bytes, inFlight, path: { ...path } };
    this.transfers = this.bytes = 0;
    clearPath(path);
    return account;
  }
}

/** The requests for one slot at one end, one after the other. */
class PumpTransfer implements IoRequest {
  readonly op: 'read' | 'write';
  readonly leg: Leg;
  readonly slot: PumpSlot;
  readonly done: () => void;
  offset = 0;
  segments: readonly Uint8Array[] = [];
  result = 0;
  readonly path: PathBytes = zeroPath();

  constructor(leg: Leg, slot: PumpSlot, ended: (transfer: PumpTransfer) => void) {
    this.op = leg.destination === null ? 'read' : 'write';
    this.leg = leg;
    this.slot = slot;
    const done = () => ended(this);
    this.done = done;
  }

  start(): void {
    const { leg, slot, path } = this;
    this.offset = leg.end.offset + slot.at;
    this.segments = slot.segments;
    clearPath(path);
    leg.inFlight++;
    leg.end.target.submit(this);
  }
}

class PumpSlot {
  readonly whole: readonly Uint8Array[];
  readonly read: PumpTransfer;
  readonly writes: readonly PumpTransfer[];
  /** Its chunk: the offset from the beginning of the range, the length, and the memory. */
  at = 0;
  bytes = 0;
  segments: readonly Uint8Array[] = [];
  isRead = false;
  /** The number of destinations that do not have its chunk yet. */
  missing = 0;

  constructor(memory: Uint8Array, legs: readonly Leg[], ended: (transfer: PumpTransfer) => void) {
    const [read, ...writes] = legs.map((leg) => new PumpTransfer(leg, this, ended));
    this.whole = [memory];
    this.read = read!;
    this.writes = writes;
  }

  begin(at: number, bytes: number): void {
    const [memory] = this.whole as [Uint8Array];
    this.at = at;
    this.bytes = bytes;
    // Memory that is gone has no length and no part, and the request ends with EFAULT.
    this.segments = bytes < memory.length ? [memory.subarray(0, bytes)] : this.whole;
    this.isRead = false;
    this.missing = this.writes.length;
    this.read.start();
  }
}

class EmulatorPump implements PumpRun {
  readonly over: Promise<PumpFailure | null>;
  readonly #request: PumpRequest;
  readonly #source: Leg;
  readonly #destinations: readonly Leg[];
  readonly #slots: readonly PumpSlot[];
  /** Numbers of chunks. */
  #first = 0;
  #next = 0;
  /** No read begins at or after this offset from the beginning of the range. */
  #end: number;
  #moved = 0;
  #failure: PumpFailure | null = null;
  #resolve!: (failure: PumpFailure | null) => void;

  constructor(request: PumpRequest) {
    const { source, destinations, slots, length } = request;
    this.#request = request;
    this.#source = new Leg(source, null);
    this.#destinations = destinations.map((end, i) => new Leg(end, i));
    const legs = [this.#source, ...this.#destinations];
    this.#slots = slots.map((memory) => new PumpSlot(memory, legs, this.#ended));
    this.#end = length;
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#goOn();
  }

  progress(): PumpProgress {
    const moved = this.#moved;
    this.#moved = 0;
    const destinations = this.#destinations.map((leg) => leg.report());
    return { moved, source: this.#source.report(), destinations };
  }

  stop(): void {
    this.#end = Math.min(this.#end, this.#next * this.#request.chunk);
  }

  readonly #ended = (transfer: PumpTransfer): void => {
    const { leg, slot, result } = transfer;
    leg.count(transfer);
    if (result !== slot.bytes) this.#fail({ destination: leg.destination, at: slot.at, result });
    else if (leg.destination === null) slot.isRead = true;
    else slot.missing--;
    this.#goOn();
  };

  /** What fails first in the range is reported, whatever fails first in time. */
  #fail(failure: PumpFailure): void {
    if (this.#failure === null || failure.at < this.#failure.at) this.#failure = failure;
  }

  #slotOf(chunk: number): PumpSlot {
    return this.#slots[chunk % this.#slots.length]!;
  }

  /** Takes what is complete into account, and begins what can begin. */
  #goOn(): void {
    for (; this.#first < this.#next && this.#slotOf(this.#first).missing === 0; this.#first++) {
      this.#moved += this.#slotOf(this.#first).bytes;
    }
    for (const leg of this.#destinations) this.#write(leg);
    if (this.#failure === null) this.#read();
    if (this.#isIdle()) this.#resolve(this.#failure);
  }

  #isIdle(): boolean {
    if (this.#source.inFlight > 0) return false;
    for (let i = 0; i < this.#destinations.length; i++) if (this.#destinations[i]!.inFlight > 0) return false;
    return true;
  }

  /**
   * A destination may be zoned, so it gets its chunks in their order. After a failure it still gets what comes before: that was
   * read, or is being read.
   */
  #write(leg: Leg): void {
    const { depth } = this.#request;
    const end = this.#failure?.at ?? Number.POSITIVE_INFINITY;
    while (leg.next < this.#next && leg.inFlight < depth) {
      const slot = this.#slotOf(leg.next);
      if (!slot.isRead || slot.at >= end) return;
      leg.next++;
      slot.writes[leg.destination!]!.start();
    }
  }

  #read(): void {
    const { chunk, depth } = this.#request;
    while (this.#next - this.#first < this.#slots.length && this.#source.inFlight < depth) {
      const at = this.#next * chunk;
      if (at >= this.#end) return;
      this.#slotOf(this.#next++).begin(at, Math.min(chunk, this.#end - at));
    }
  }
}
