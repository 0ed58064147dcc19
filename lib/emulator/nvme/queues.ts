/**
 * Queue pairs at work: doorbells, arbitration, fetching commands, posting completions, interrupts.
 *
 *     tail doorbells of one turn ─▶ turn ─▶ round robin: a burst of SQEs per queue, one access each ─▶ execute
 *                                    └────▶ all completions that are ready by then, one access per run
 *                                           then one interrupt per vector
 */

import type { Clock } from '../../backend/hardware.js';
import {
  NVME_AER_ERROR_INVALID_DB_REG,
  NVME_AER_ERROR_INVALID_DB_VALUE,
  NVME_CQE_BYTES,
  NVME_CQE_CID,
  NVME_CQE_RESULT,
  NVME_CQE_RESULT_HI,
  NVME_CQE_SQ_HEAD,
  NVME_CQE_SQ_ID,
  NVME_CQE_STATUS,
  NVME_REG_DBS,
  NVME_SQE_BYTES,
} from '../../backend/nvme-spec.js';
import type { PciDev } from '../../backend/topology.js';
import { trace, tracing } from '../../base/trace.js';
import { type DmaWindow, PciFault } from '../bus/fabric.js';
import type { DataPointerWalker } from './data-pointer.js';
import {
  type CompletionQueue,
  type DmaFabric,
  empty,
  type NvmeRequest,
  type SubmissionQueue,
} from './state.js';

/** The controller around the queues. */
export interface QueueHost {
  readonly pdev: PciDev;
  readonly name: string;
  readonly walker: DataPointerWalker;
  /** Are commands processed now? */
  readonly running: boolean;
  /** Data bytes moved so far. */
  readonly bytesMoved: number;
  /** The maximum number of commands that are taken from one queue before the next queue. */
  readonly burst: number;
  /** Executes the command at `sqe[at]`. */
  execute(sq: SubmissionQueue, sqe: DataView, at: number): void;
  /** The completion of `req` was posted. */
  posted(req: NvmeRequest): void;
  /** A doorbell that does not exist was written, or the value was invalid. */
  badDoorbell(info: number): void;
  /** The memory of a queue cannot be accessed. */
  queueFault(fault: PciFault): void;
}

/** The maximum number of SQEs that are fetched, and of CQEs that are posted, with one access. */
const FETCH_ENTRIES = 64;
const POST_ENTRIES = 64;
/**
 * Once a turn has moved this many bytes, the remaining commands wait for the next turn. So turns stay short, and the consumer
 * of the data finds it in the CPU's cache.
 */
const TURN_BYTES = 256 * 1024;

export class NvmeQueues {
  readonly sqs = new Map<number, SubmissionQueue>();
  readonly cqs = new Map<number, CompletionQueue>();
  readonly #host: QueueHost;
  readonly #fabric: DmaFabric;
  readonly #clock: Clock;
  readonly #interrupts: ((() => void) | undefined)[] = [];
  readonly #sqeBytes = new Uint8Array(FETCH_ENTRIES * NVME_SQE_BYTES);
  readonly #sqe = new DataView(this.#sqeBytes.buffer);
  readonly #cqeBytes = new Uint8Array(POST_ENTRIES * NVME_CQE_BYTES);
  readonly #cqe = new DataView(this.#cqeBytes.buffer);
  readonly #windows: DmaWindow[] = [];
  /** The interrupt vectors to raise at the end of the turn. */
  readonly #raised: number[] = [];
  /** Counts resets, so that work from before a reset is recognised. */
  #epoch = 0;
  #scheduled = false;
  #inTurn = false;

  constructor(host: QueueHost, fabric: DmaFabric, clock: Clock) {
    this.#host = host;
    this.#fabric = fabric;
    this.#clock = clock;
  }

  get epoch(): number {
    return this.#epoch;
  }

  onInterrupt(vector: number, handler: () => void): void {
    this.#interrupts[vector] = handler;
  }

  /** Drops all queues. */
  reset(): void {
    this.#epoch++;
    this.sqs.clear();
    this.cqs.clear();
  }

  doorbell(offset: number, value: number): void {
    const index = Math.floor((offset - NVME_REG_DBS) / 4);
    const qid = index >> 1;
    const bad = (index & 1) === 0 ? this.#tail(qid, value) : this.#head(qid, value);
    if (offset % 4 !== 0 || bad >= 0) this.#host.badDoorbell(Math.max(bad, 0));
  }

  /** Posts the completion of `req` at the end of this turn or of a later one. */
  complete(req: NvmeRequest): void {
    req.sq!.cq.done.push(req);
    this.#schedule();
  }

  /** Handles a submission doorbell. Returns -1, or the error information. */
  #tail(qid: number, value: number): number {
    const sq = this.sqs.get(qid);
    if (sq === undefined) return NVME_AER_ERROR_INVALID_DB_REG;
    if (value >= sq.size) return NVME_AER_ERROR_INVALID_DB_VALUE;
    sq.tail = value;
    this.#schedule();
    return -1;
  }

  /** Handles a completion doorbell. The head may move over posted entries, but not beyond them. */
  #head(qid: number, value: number): number {
    const cq = this.cqs.get(qid);
    if (cq === undefined) return NVME_AER_ERROR_INVALID_DB_REG;
    const posted = (cq.tail - cq.head + cq.size) % cq.size;
    if (value >= cq.size || (value - cq.head + cq.size) % cq.size > posted) {
      return NVME_AER_ERROR_INVALID_DB_VALUE;
    }
    cq.head = value;
    if (cq.first < cq.done.length) this.#schedule();
    return -1;
  }

  #schedule(): void {
    if (this.#scheduled || this.#inTurn) return;
    this.#scheduled = true;
    this.#clock.defer(this.#turn);
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    if (!this.#host.running) return;
    this.#inTurn = true;
    let more = false;
    try {
      more = this.#arbitrate();
      if (this.#host.running) this.#postAll();
    } catch (error) {
      if (!(error instanceof PciFault)) throw error;
      this.#host.queueFault(error);
    } finally {
      this.#inTurn = false;
    }
    if (more) this.#schedule();
    for (let i = 0; i < this.#raised.length; i++) this.#interrupts[this.#raised[i]!]?.();
    empty(this.#raised);
  };

  /** Round robin: takes a burst from each queue, until all are empty. Returns true if there is work left for another turn. */
  #arbitrate(): boolean {
    const epoch = this.#epoch;
    const enough = this.#host.bytesMoved + TURN_BYTES;
    const burst = Math.min(this.#host.burst, FETCH_ENTRIES);
    for (let more = true; more; ) {
      more = false;
      for (const sq of this.sqs.values()) {
        if (sq.head === sq.tail) continue;
        this.#fetch(sq, burst, enough);
        if (epoch !== this.#epoch) return false;
        if (this.#host.bytesMoved >= enough) {
          // The next turn begins with the next queue.
          this.sqs.delete(sq.id);
          this.sqs.set(sq.id, sq);
          return true;
        }
        if (sq.head !== sq.tail) more = true;
      }
    }
    return false;
  }

  /** Fetches and executes up to `burst` contiguous commands, until `enough` bytes were moved. */
  #fetch(sq: SubmissionQueue, burst: number, enough: number): void {
    const epoch = this.#epoch;
    const end = sq.tail > sq.head ? sq.tail : sq.size;
    const n = Math.min(end - sq.head, burst);
    this.#host.walker.fetch(sq.addr + sq.head * NVME_SQE_BYTES, n * NVME_SQE_BYTES, this.#sqeBytes);
    for (let i = 0; i < n && this.#host.bytesMoved < enough; i++) {
      sq.head = (sq.head + 1) % sq.size;
      this.#host.execute(sq, this.#sqe, i * NVME_SQE_BYTES);
      if (epoch !== this.#epoch) return;
    }
  }

  #postAll(): void {
    for (const cq of this.cqs.values()) {
      if (cq.first === cq.done.length || cq.room === 0) continue;
      while (cq.first < cq.done.length && cq.room > 0) this.#post(cq);
      if (cq.irqEnabled && !this.#raised.includes(cq.vector)) this.#raised.push(cq.vector);
    }
  }

  /** Posts as many contiguous entries as possible. */
  #post(cq: CompletionQueue): void {
    const n = Math.min(cq.done.length - cq.first, cq.room, cq.size - cq.tail, POST_ENTRIES);
    const addr = cq.addr + cq.tail * NVME_CQE_BYTES;
    const windows = this.#windows;
    empty(windows);
    this.#fabric.resolve(this.#host.pdev, addr, n * NVME_CQE_BYTES, 'write', windows);
    const cqe = this.#cqe;
    for (let i = 0; i < n; i++) {
      const req = cq.done[cq.first + i]!;
      const sq = req.sq!;
      const at = i * NVME_CQE_BYTES;
      cqe.setUint32(at + NVME_CQE_RESULT, req.result, true);
      cqe.setUint32(at + NVME_CQE_RESULT_HI, 0, true);
      cqe.setUint16(at + NVME_CQE_SQ_HEAD, sq.head, true);
      cqe.setUint16(at + NVME_CQE_SQ_ID, sq.id, true);
      cqe.setUint16(at + NVME_CQE_CID, req.cid, true);
      cqe.setUint16(at + NVME_CQE_STATUS, (req.status << 1) | cq.phase, true);
      if (tracing()) {
        const { cid, status } = req;
        trace('nvme-controller', 'complete', { controller: this.#host.name, qid: sq.id, cid, status });
      }
      this.#host.posted(req);
    }
    for (let i = 0, done = 0; i < windows.length; i++) {
      const target = windows[i]!.bytes;
      target.set(this.#cqeBytes.subarray(done, done + target.length));
      done += target.length;
    }
    cq.first += n;
    if (cq.first === cq.done.length) {
      empty(cq.done);
      cq.first = 0;
    }
    cq.tail += n;
    if (cq.tail === cq.size) {
      cq.tail = 0;
      cq.phase ^= 1;
    }
  }
}
