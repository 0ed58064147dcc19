/**
 * Mirrors the request path of drivers/nvme/host/pci.c, and the parts of block/blk-mq.c that it uses (6.12): from a
 * bio or a command to a submission queue entry, from a completion back to the caller, waiting for tags, retries and
 * timeouts.
 *
 *     submitBio, submitCmd ─▶ tag? ─no─▶ waiting ──(a tag is free)──┐
 *                              │yes                                 │
 *                              ▼          ┌──── requeued ◀─retry──┐ │
 *                          queueRq ◀──────┴───────────────────────┼─┘
 *                              │  doorbell, once a turn           │
 *                              ▼                                  │
 *                            drive ──interrupt──▶ complete ───────┴─▶ bioEndio, end()
 */
import type { BusMonitor, Clock, NvmeHardware } from '../backend/hardware.js';
import * as nvme from '../backend/nvme-spec.js';
import { EINTR, EIO, ENODEV, errnoName } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Bio, bioEndio } from './bio.js';
import { nvmeCommand } from './nvme-command.js';
import {
  type NvmeAsyncCommand,
  type NvmeCtrl,
  type NvmeNs,
  nvmeDecideDisposition,
  nvmeErrorStatus,
  nvmeLogError,
  nvmeSetupCmd,
} from './nvme-core.js';
import type { NvmeDataMapper } from './nvme-pci-data.js';
import type { NvmePciRequest, NvmeQueue } from './nvme-pci-queue.js';

/** All requests of one controller. */
export class NvmeRequests {
  /** [0] is the admin queue. */
  queues: NvmeQueue[] = [];
  /** The I/O queues accept nothing now; new requests wait (blk_mq_quiesce_queue()). */
  stopped = true;
  readonly #ctrl: NvmeCtrl;
  readonly #hw: NvmeHardware;
  readonly #mapper: NvmeDataMapper;
  readonly #monitor: BusMonitor;
  readonly #clock: Clock;
  readonly #resetCtrl: () => void;
  /** The I/O queue for the requests of this turn of the event loop. */
  #current = 1;
  #waiting: (Bio | NvmeAsyncCommand)[] = [];
  #waitingAdmin: NvmeAsyncCommand[] = [];
  #requeued: NvmePciRequest[] = [];
  #doorbellsDue = false;
  #requeueDue = false;
  #timer: { cancel(): void } | null = null;
  /** The time at which the timer fires. */
  #deadline = 0;
  readonly #onTimer = () => this.#timeoutWork();
  /** The time at which the first request of this turn was queued. */
  #turn = 0;
  readonly #flush = () => this.#writeDoorbells();

  /** `resetCtrl` is called when a request timed out and only a reset helps. */
  constructor(
    ctrl: NvmeCtrl,
    hw: NvmeHardware,
    mapper: NvmeDataMapper,
    monitor: BusMonitor,
    resetCtrl: () => void,
  ) {
    this.#ctrl = ctrl;
    this.#hw = hw;
    this.#mapper = mapper;
    this.#monitor = monitor;
    this.#clock = ctrl.clock;
    this.#resetCtrl = resetCtrl;
  }

  /** Number of requests that the drive has or that are waiting to be sent. */
  get outstanding(): number {
    let count = this.#waiting.length + this.#waitingAdmin.length + this.#requeued.length;
    for (const queue of this.queues) count += queue.inFlight;
    return count;
  }

  /** The part of nvme_queue_rq() that handles a bio. */
  submitBio(bio: Bio): void {
    const ns = bio.queue as NvmeNs;
    if (ns.dead) {
      endBio(bio, -EIO);
      return;
    }
    const queue = this.#ioQueue();
    const req = this.stopped || this.#waiting.length > 0 ? null : (queue?.getRequest() ?? null);
    if (req === null) {
      this.#waiting.push(bio);
      return;
    }
    req.bio = bio;
    this.#queueRq(req);
  }

  submitCmd(command: NvmeAsyncCommand, admin: boolean): void {
    if (this.#ctrl.state === 'NVME_CTRL_DEAD' || this.#ctrl.state === 'NVME_CTRL_DELETING') {
      this.#clock.defer(() => command.end(-ENODEV, 0, 0, 0));
      return;
    }
    const stopped = admin ? this.queues[0]?.enabled !== true : this.stopped;
    const queue = admin ? this.queues[0] : this.#ioQueue();
    const req = stopped ? null : (queue?.getRequest() ?? null);
    if (req === null) {
      (admin ? this.#waitingAdmin : this.#waiting).push(command);
      return;
    }
    req.async = command;
    req.bio = command.bio;
    this.#queueRq(req);
  }

  /** The queue of this turn, or another one if that queue has no free tag. */
  #ioQueue(): NvmeQueue | null {
    const queues = this.queues;
    const now = queues[this.#current];
    if (now?.hasTags) return now;
    for (let i = 1; i < queues.length; i++) if (queues[i]!.hasTags) return queues[i]!;
    return null;
  }

  /** nvme_queue_rq(): command, data, submission queue entry. The doorbell follows at the end of the turn. */
  #queueRq(req: NvmePciRequest): void {
    const { queue, cmd, bio, async } = req;
    let error = 0;
    if (async !== null) cmd.copyFrom(async.cmd);
    else error = nvmeSetupCmd(bio!.queue as NvmeNs, bio!, cmd);
    if (error === 0 && bio !== null && bio.vecs.length > 0)
      error = this.#mapper.map(req.iod, bio, cmd, queue.qid);
    if (error !== 0) {
      req.errno = error;
      this.#end(req);
      return;
    }
    if (!this.#doorbellsDue) {
      this.#doorbellsDue = true;
      this.#turn = this.#clock.now();
      this.#clock.defer(this.#flush);
    }
    const timeout = queue.qid === 0 ? this.#ctrl.params.adminTimeout : this.#ctrl.params.ioTimeout;
    req.deadline = this.#turn + (async !== null && async.timeout > 0 ? async.timeout : timeout);
    queue.copyCmd(req);
    if (this.#timer === null || req.deadline < this.#deadline) this.#setTimer(req.deadline);
    if (tracing()) {
      trace('nvme-pci', 'queue_rq', {
        controller: this.#ctrl.name,
        qid: queue.qid,
        cid: req.tag,
        opcode: cmd.opcode,
        nsid: cmd.nsid,
        bytes: bio?.size ?? 0,
      });
    }
  }

  /** nvme_commit_rqs() for all queues: one doorbell write per queue for all requests of this turn. */
  #writeDoorbells(): void {
    if (!this.#doorbellsDue) return;
    this.#doorbellsDue = false;
    const queues = this.queues;
    for (let i = 0; i < queues.length; i++) queues[i]!.writeSqDb();
    this.#current = this.#current + 1 < queues.length ? this.#current + 1 : 1;
  }

  // ---- Completion.

  /** nvme_irq() */
  irq(queue: NvmeQueue): void {
    if (!queue.enabled) return;
    let drained = false;
    try {
      queue.pollCq();
      drained = true;
    } finally {
      // A caller's callback threw: the remaining completions must not wait for the next interrupt.
      if (!drained) this.#clock.defer(() => this.irq(queue));
      // Requests that the completions submitted are sent now, without waiting for another turn.
      this.#startWaiting();
      this.#writeDoorbells();
      if (this.#timer !== null && !this.#anyInFlight()) {
        this.#timer.cancel();
        this.#timer = null;
      }
    }
  }

  /** nvme_pci_complete_rq() and nvme_complete_rq() */
  readonly complete = (req: NvmePciRequest): void => {
    this.#mapper.unmap(req.iod);
    if (req.bio !== null) this.#monitor.take(this.#hw.pdev, req.queue.qid, req.tag, req.bio.path);
    if (req.status !== 0) {
      nvmeLogError(this.#ctrl, req);
      if (
        this.#ctrl.state !== 'NVME_CTRL_DEAD' &&
        nvmeDecideDisposition(req, this.#ctrl.params.maxRetries) === 'RETRY'
      ) {
        this.#requeue(req);
        return;
      }
    }
    this.#end(req);
  };

  /** nvme_retry_req() and blk_mq_requeue_request(): the request keeps its tag. */
  #requeue(req: NvmePciRequest): void {
    req.retries++;
    req.status = 0;
    req.aborted = false;
    this.#requeued.push(req);
    if (this.#requeueDue) return;
    this.#requeueDue = true;
    this.#clock.defer(() => {
      this.#requeueDue = false;
      if (!this.stopped) this.#startRequeued();
    });
  }

  #startRequeued(): void {
    const requeued = this.#requeued;
    this.#requeued = [];
    for (const req of requeued) this.#queueRq(req);
  }

  #startWaiting(): void {
    while (this.#waitingAdmin.length > 0 && this.queues[0]?.enabled && this.queues[0].hasTags) {
      this.submitCmd(this.#waitingAdmin.shift()!, true);
    }
    if (this.#waiting.length === 0 || this.stopped || this.#ioQueue() === null) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    let next = 0;
    for (; next < waiting.length && this.#waiting.length === 0; next++) {
      const item = waiting[next]!;
      if ('end' in item) this.submitCmd(item, false);
      else this.submitBio(item);
    }
    for (; next < waiting.length; next++) this.#waiting.push(waiting[next]!);
  }

  /** blk_mq_end_request() */
  #end(req: NvmePciRequest): void {
    const { bio, async, errno, status, resultLo, resultHi, queue } = req;
    queue.putRequest(req);
    if (async !== null) async.end(errno, status, resultLo, resultHi);
    else endBio(bio!, errno !== 0 ? errno : status === 0 ? 0 : nvmeErrorStatus(status));
  }

  #anyInFlight(): boolean {
    for (let i = 0; i < this.queues.length; i++) if (this.queues[i]!.inFlight > 0) return true;
    return false;
  }

  // ---- Timeouts (blk_mq_timeout_work() and nvme_timeout()).

  /** Set the timer to the earliest deadline of all requests. */
  #armTimer(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const queue of this.queues) {
      if (queue.inFlight === 0) continue;
      for (const req of queue.requests) if (req.inFlight && req.deadline < next) next = req.deadline;
    }
    if (next !== Number.POSITIVE_INFINITY) this.#setTimer(next);
  }

  #setTimer(deadline: number): void {
    this.#timer?.cancel();
    this.#deadline = deadline;
    this.#timer = this.#clock.setTimer(this.#onTimer, Math.max(1, deadline - this.#clock.now()));
  }

  #timeoutWork(): void {
    this.#timer = null;
    const now = this.#clock.now();
    let reset = false;
    for (const queue of this.queues) {
      // The interrupt may have been lost: poll the queue before treating it as a timeout (nvme_poll_irqdisable()).
      if (queue.enabled && queue.inFlight > 0) queue.pollCq();
      for (const req of queue.requests) {
        if (req.inFlight && req.deadline <= now) reset = this.#timeout(req, now) || reset;
      }
    }
    if (reset) this.#resetCtrl();
    else this.#armTimer();
  }

  /** nvme_timeout(): returns true if only a reset helps. */
  #timeout(req: NvmePciRequest, now: number): boolean {
    const { queue } = req;
    const dead = this.#controllerDead();
    const mayAbort = queue.qid !== 0 && !req.aborted && !dead && this.queues[0]!.hasTags;
    if (tracing()) {
      trace('nvme-pci', 'timeout', {
        controller: this.#ctrl.name,
        qid: queue.qid,
        cid: req.tag,
        action: mayAbort ? 'abort' : 'reset',
      });
    }
    if (!mayAbort) return true;
    req.aborted = true;
    req.deadline = now + this.#ctrl.params.ioTimeout;
    const cmd = nvmeCommand({
      opcode: nvme.nvmeAdminAbortCmd,
      cdw10: (queue.qid | (req.tag << 16)) >>> 0,
    });
    this.submitCmd({ cmd, bio: null, timeout: 0, end() {} }, true);
    return false;
  }

  /** nvme_should_reset(), and the check for a device that is gone. */
  #controllerDead(): boolean {
    if (!this.#hw.present) return true;
    const csts = this.#hw.regs.read32(nvme.NVME_REG_CSTS);
    return csts === 0xffffffff || (csts & nvme.NVME_CSTS_CFS) !== 0;
  }

  // ---- Stop and go.

  /** blk_mq_unquiesce_queue(): all waiting requests continue. */
  start(): void {
    this.stopped = false;
    this.#startRequeued();
    this.#startWaiting();
  }

  /** Accept no more requests and stop all timeouts. The drive keeps the requests that it has. */
  stop(): void {
    this.stopped = true;
    this.#doorbellsDue = false;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** The drive has stopped: process the commands that it completed. */
  reapPending(): void {
    for (const queue of this.queues) if (queue.enabled) queue.pollCq();
  }

  /**
   * nvme_cancel_tagset(): the drive has lost all commands. Requests of the block layer will be retried; the caller of
   * a command gets an error.
   */
  cancelAll(): void {
    for (const queue of this.queues) {
      queue.enabled = false;
      for (const req of queue.requests) if (req.inFlight && req.async !== null) req.errno = -EINTR;
      queue.cancelAll();
    }
  }

  /** The controller is dead: end all requests, so that each caller gets a result. */
  failAll(): void {
    this.stop();
    this.cancelAll();
    const requeued = this.#requeued;
    const waiting = [...this.#waitingAdmin, ...this.#waiting];
    this.#requeued = [];
    this.#waiting = [];
    this.#waitingAdmin = [];
    for (const req of requeued) {
      req.errno = -EIO;
      this.#end(req);
    }
    for (const item of waiting) {
      if ('end' in item) item.end(-ENODEV, 0, 0, 0);
      else endBio(item, -EIO);
    }
  }
}

function endBio(bio: Bio, errno: number): void {
  if (errno !== 0) {
    bio.status = errno;
    if (tracing()) trace('nvme-core', 'end_bio', { errno: errnoName(errno) });
  }
  bioEndio(bio);
}
