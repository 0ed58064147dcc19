/**
 * Mirrors the queue half of drivers/nvme/host/pci.c (6.12): submission and completion queues, tags, doorbells.
 *
 *     submit ──▶ SQ[tail] … tail++ ─┐ one doorbell per turn        drive fetches, works, posts
 *     submit ──▶ SQ[tail] … tail++ ─┴▶ SQyTDBL = tail  ─────────▶  CQE with the phase of this lap
 *                                                                        │ interrupt
 *     tag back to the stack ◀── nvmeHandleCqe ◀── CQ[head] while phase is ours ; CQyHDBL = head
 *
 * A tag is also the command id and the index into `requests`. There is one tag less than there are entries, so the SQ
 * never overflows.
 */
import type { Mmio } from '../backend/hardware.js';
import * as nvme from '../backend/nvme-spec.js';
import { trace, tracing } from '../base/trace.js';
import type { Bio } from './bio.js';
import type { CoherentBlock } from './dma-mapping.js';
import { NvmeCommand, putSqe } from './nvme-command.js';
import type { NvmeAsyncCommand, NvmeRequest } from './nvme-core.js';
import { NvmeIod } from './nvme-pci-data.js';

/** struct nvme_iod: a request that always belongs to the same queue. */
export class NvmePciRequest implements NvmeRequest {
  readonly tag: number;
  readonly queue: NvmeQueue;
  readonly cmd = new NvmeCommand();
  readonly iod = new NvmeIod();
  bio: Bio | null = null;
  async: NvmeAsyncCommand | null = null;
  /** MQ_RQ_IN_FLIGHT: the drive has the request. */
  inFlight = false;
  /** An Abort command was sent for this request. */
  aborted = false;
  retries = 0;
  status = 0;
  errno = 0;
  resultLo = 0;
  resultHi = 0;
  /** The clock time at which it times out. */
  deadline = 0;

  constructor(queue: NvmeQueue, tag: number) {
    this.queue = queue;
    this.tag = tag;
  }
}

/** The memory of a submission queue. */
export interface SqMemory {
  readonly view: DataView;
  readonly bus: number;
  /** True if it lies in the drive's own CMB. */
  readonly inCmb: boolean;
  free(): void;
}

export interface NvmeQueueParts {
  readonly qid: number;
  /** Number of entries in each of the two rings. */
  readonly depth: number;
  readonly sq: SqMemory;
  readonly cq: CoherentBlock;
  readonly regs: Mmio;
  /** Called with each completed request, whose status and result are set. */
  readonly complete: (req: NvmePciRequest) => void;
}

/** struct nvme_queue */
export class NvmeQueue {
  readonly qid: number;
  readonly depth: number;
  readonly sq: SqMemory;
  readonly cqBlock: CoherentBlock;
  /** NVMEQ_ENABLED */
  enabled = false;
  /** Number of requests that the drive has. */
  inFlight = 0;
  /** Each is created when it is first used. */
  readonly requests: NvmePciRequest[] = [];
  readonly #freeTags: number[] = [];
  readonly #tags: number;
  readonly #cq: DataView;
  readonly #regs: Mmio;
  readonly #complete: (req: NvmePciRequest) => void;
  #sqTail = 0;
  #lastSqTail = 0;
  #cqHead = 0;
  #cqPhase = 1;

  constructor({ qid, depth, sq, cq, regs, complete }: NvmeQueueParts) {
    this.qid = qid;
    this.depth = depth;
    this.sq = sq;
    this.cqBlock = cq;
    this.#cq = new DataView(cq.cpu.buffer, cq.cpu.byteOffset, cq.cpu.byteLength);
    this.#regs = regs;
    this.#complete = complete;
    this.#tags = depth - 1;
  }

  /** nvme_init_queue(): bring the queue into the state after a reset. Requests keep their tags. */
  init(): void {
    this.#sqTail = this.#lastSqTail = this.#cqHead = 0;
    this.#cqPhase = 1;
    this.cqBlock.cpu.fill(0);
    this.enabled = true;
  }

  /** blk_mq_get_driver_tag(): a request with a free tag, or null if all tags are in use. */
  getRequest(): NvmePciRequest | null {
    const tag = this.#freeTags.pop();
    if (tag !== undefined) return this.requests[tag]!;
    if (this.requests.length === this.#tags) return null;
    const req = new NvmePciRequest(this, this.requests.length);
    this.requests.push(req);
    return req;
  }

  /** blk_mq_put_tag() */
  putRequest(req: NvmePciRequest): void {
    req.bio = null;
    req.async = null;
    req.aborted = false;
    req.retries = req.status = req.errno = req.resultLo = req.resultHi = 0;
    this.#freeTags.push(req.tag);
  }

  get hasTags(): boolean {
    return this.#freeTags.length > 0 || this.requests.length < this.#tags;
  }

  /** nvme_sq_copy_cmd(): put the command into the queue; the drive is notified only by writeSqDb(). */
  copyCmd(req: NvmePciRequest): void {
    putSqe(this.sq.view, this.#sqTail * nvme.NVME_SQE_BYTES, req.tag, req.cmd);
    this.#sqTail = this.#sqTail + 1 === this.depth ? 0 : this.#sqTail + 1;
    req.inFlight = true;
    this.inFlight++;
  }

  /** nvme_write_sq_db() */
  writeSqDb(): void {
    if (this.#sqTail === this.#lastSqTail || !this.enabled) return;
    if (tracing()) trace('nvme-pci', 'sq_doorbell', { qid: this.qid, tail: this.#sqTail });
    this.#lastSqTail = this.#sqTail;
    this.#regs.write32(nvme.NVME_REG_DBS + this.qid * 8, this.#sqTail);
  }

  /** nvme_poll_cq(): process all available completions, then ring the doorbell once. */
  pollCq(): number {
    let found = 0;
    const cq = this.#cq;
    try {
      for (;;) {
        const at = this.#cqHead * nvme.NVME_CQE_BYTES;
        const last = cq.getUint32(at + nvme.NVME_CQE_CID, true);
        if (((last >>> 16) & 1) !== this.#cqPhase) break;
        found++;
        if (this.#cqHead + 1 === this.depth) {
          this.#cqHead = 0;
          this.#cqPhase ^= 1;
        } else this.#cqHead++;
        this.#handleCqe(last & 0xffff, last >>> 17, at);
        if (!this.enabled) break;
      }
    } finally {
      if (found > 0 && this.enabled) {
        this.#regs.write32(nvme.NVME_REG_DBS + this.qid * 8 + 4, this.#cqHead);
      }
    }
    return found;
  }

  /** nvme_handle_cqe() */
  #handleCqe(cid: number, status: number, at: number): void {
    const req = this.requests[cid];
    if (req === undefined || !req.inFlight) {
      if (tracing()) trace('nvme-pci', 'invalid_cid', { qid: this.qid, cid });
      return;
    }
    req.status = status;
    req.resultLo = this.#cq.getUint32(at + nvme.NVME_CQE_RESULT, true);
    req.resultHi = this.#cq.getUint32(at + nvme.NVME_CQE_RESULT_HI, true);
    this.end(req);
  }

  /** blk_mq_complete_request(): the request is no longer at the drive. */
  end(req: NvmePciRequest): void {
    req.inFlight = false;
    this.inFlight--;
    this.#complete(req);
  }

  /** nvme_cancel_tagset(): end all requests that the drive still had, with the status "aborted by the host". */
  cancelAll(): void {
    for (const req of this.requests) {
      if (!req.inFlight) continue;
      req.status = nvme.NVME_SC_HOST_ABORTED_CMD;
      this.end(req);
    }
  }
}
