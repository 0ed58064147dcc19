/**
 * An NVMe controller, as hardware: registers, doorbells, queues in other people's memory, arbitration, interrupts.
 *
 *     driver                         controller                                   medium
 *       │ SQ tail doorbell ──────────▶ (one turn later, all doorbells of the turn together)
 *       │                              fetch up to a burst of SQEs per queue, round robin
 *       │                              data pointer → windows ──────────────────▶ read / write
 *       │ ◀── CQEs, then one interrupt per vector ◀──── done, now or later ◀──────┘
 *       │ CQ head doorbell ──────────▶ room for more CQEs
 *
 * Everything it does to memory goes through the fabric under its own bus address, its own CMB included.
 */
import { trace, tracing } from '../../trace.js';
import type { Clock, Mmio, NvmeHardware } from '../hardware.js';
import {
  NVME_AEN_CFG_NS_ATTR,
  NVME_AER_ERROR_INVALID_DB_REG,
  NVME_AER_ERROR_INVALID_DB_VALUE,
  NVME_CQE_BYTES,
  NVME_CQE_CID,
  NVME_CQE_RESULT,
  NVME_CQE_RESULT_HI,
  NVME_CQE_SQ_HEAD,
  NVME_CQE_SQ_ID,
  NVME_CQE_STATUS,
  NVME_FEAT_ARBITRATION,
  NVME_FEAT_ASYNC_EVENT,
  NVME_FEAT_VOLATILE_WC,
  NVME_REG_DBS,
  NVME_SC_ABORT_QUEUE,
  NVME_SC_ABORT_REQ,
  NVME_SC_CMB_INVALID_USE,
  NVME_SC_COMPARE_FAILED,
  NVME_SC_DATA_XFER_ERROR,
  NVME_SC_SUCCESS,
  NVME_SQE_BYTES,
  NVME_SQE_CID,
  NVME_SQE_NSID,
  NVME_SQE_OPCODE,
  nvmeCmdRead,
  nvmeCmdWrite,
} from '../nvme.js';
import type { PciDev } from '../topology.js';
import { DeviceMemory } from './device-memory.js';
import { type DmaWindow, type Fabric, PciFault } from './fabric.js';
import { ControllerFaults } from './faults.js';
import type { Fault, Latency, NvmeDescription } from './machine.js';
import type { NamespaceStore } from './namespace-store.js';
import { type AdminHost, executeAdmin, Features } from './nvme-admin.js';
import { executeIo, refuse } from './nvme-commands.js';
import { DataPointerWalker } from './nvme-data-pointer.js';
import { AsyncEvents } from './nvme-events.js';
import { ERROR_LOG_ENTRIES, mdtsField } from './nvme-identify.js';
import { MAX_QUEUE_ENTRIES, NvmeRegisters, type RegisterHost } from './nvme-registers.js';
import {
  CompletionQueue,
  type NvmeErrorEntry,
  NvmeRequest,
  type NvmeStatistics,
  PENDING,
  type RequestOwner,
  SubmissionQueue,
} from './nvme-state.js';

export interface NvmeControllerOptions {
  readonly pdev: PciDev;
  readonly description: NvmeDescription;
  readonly fabric: Pick<Fabric, 'resolve' | 'account' | 'registerBar' | 'remove'>;
  readonly clock: Clock;
  /** By namespace id. The controller closes them with itself. */
  readonly stores: ReadonlyMap<number, NamespaceStore>;
  /** Default: as fast as the computer goes. */
  readonly latency?: Latency | null;
  /** The machine's; those of other controllers are ignored. */
  readonly faults?: readonly Fault[];
}

/** Most SQEs fetched with one access, and the space they are fetched into. */
const FETCH_ENTRIES = 64;
/** CQEs posted with one access. */
const POST_ENTRIES = 64;
/** NN: namespaces may be attached up to this id, or the highest in the description. */
const NAMESPACES = 1024;
/** Feature 01h, bits 2:0: no limit to the burst. */
const BURST_UNLIMITED = 7;

export class NvmeController implements NvmeHardware, AdminHost, RegisterHost, RequestOwner {
  readonly pdev: PciDev;
  readonly name: string;
  readonly description: NvmeDescription;
  readonly regs: Mmio;
  readonly faults: ControllerFaults;
  readonly namespaces: Map<number, NamespaceStore>;
  readonly maxNsid: number;
  readonly mdts: number;
  readonly maxEntries = MAX_QUEUE_ENTRIES;
  readonly walker: DataPointerWalker;
  readonly features: Features;
  readonly events: AsyncEvents;
  readonly errors: NvmeErrorEntry[] = [];
  readonly sqs = new Map<number, SubmissionQueue>();
  readonly cqs = new Map<number, CompletionQueue>();
  readonly statistics: NvmeStatistics = {
    bytesRead: 0,
    bytesWritten: 0,
    readCommands: 0,
    writeCommands: 0,
    mediaErrors: 0,
    errorLogEntries: 0,
  };
  readonly #fabric: NvmeControllerOptions['fabric'];
  readonly #clock: Clock;
  readonly #latency: Latency | null;
  readonly #registers: NvmeRegisters;
  readonly #cmb: DeviceMemory | null;
  readonly #poweredOn: number;
  readonly #interrupts: ((() => void) | undefined)[] = [];
  readonly #removeHandlers: (() => void)[] = [];
  readonly #pool: NvmeRequest[] = [];
  /** Fetched and not completed at once. */
  readonly #pending = new Set<NvmeRequest>();
  readonly #sqeBytes = new Uint8Array(FETCH_ENTRIES * NVME_SQE_BYTES);
  readonly #sqe = new DataView(this.#sqeBytes.buffer);
  readonly #cqeBytes = new Uint8Array(POST_ENTRIES * NVME_CQE_BYTES);
  readonly #cqe = new DataView(this.#cqeBytes.buffer);
  readonly #queueWindows: DmaWindow[] = [];
  readonly #vectors: number[] = [];
  #present = true;
  /** Counts resets: what belongs to an earlier life of the queues is recognised by it. */
  #epoch = 0;
  #turnScheduled = false;
  #inTurn = false;
  /** Commands the medium still works on although nobody waits for them, and what to do when it is done. */
  #draining = 0;
  #afterDrain: (() => void) | null = null;
  #bytesMoved = 0;
  /** When the medium's bandwidth is free again (latency model). */
  #busyUntil = 0;

  constructor(options: NvmeControllerOptions) {
    const { pdev, description, fabric, clock } = options;
    this.pdev = pdev;
    this.name = description.name;
    this.description = description;
    this.#fabric = fabric;
    this.#clock = clock;
    this.#latency = options.latency ?? null;
    this.#poweredOn = clock.now();
    this.faults = new ControllerFaults(description.name, pdev.bdf, options.faults);
    this.namespaces = new Map(options.stores);
    this.maxNsid = Math.max(NAMESPACES, ...this.namespaces.keys());
    this.mdts = 4096 * 2 ** mdtsField(description.mdts);
    this.features = new Features(description.queues);
    this.events = new AsyncEvents((req) => {
      this.#pending.delete(req);
      this.#complete(req, NVME_SC_SUCCESS);
    });
    this.#registers = new NvmeRegisters(this, description.cmb);
    const registers = this.#registers;
    this.walker = new DataPointerWalker(pdev, fabric, description.sgls, {
      lists: description.cmb?.lists ?? false,
      rds: description.cmb?.rds ?? false,
      wds: description.cmb?.wds ?? false,
      decodes: (addr, length) => registers.cmbDecodes(addr, length),
    });
    this.#cmb = description.cmb === null ? null : new DeviceMemory(description.cmb.size);
    if (this.#cmb !== null && description.cmb !== null) {
      fabric.registerBar(pdev, description.cmb.bar, this.#cmb, description.cmb.offset);
    }
    this.regs = {
      read32: (offset) => (this.#present ? registers.read(offset) : 0xffffffff),
      write32: (offset, value) => {
        if (!this.#present) return;
        if (offset >= NVME_REG_DBS) this.#doorbell(offset, value);
        else registers.write(offset, value);
      },
    };
  }

  get present(): boolean {
    return this.#present;
  }

  get powerOnHours(): number {
    return (this.#clock.now() - this.#poweredOn) / 3_600_000;
  }

  get writeCache(): boolean {
    return this.features.get(NVME_FEAT_VOLATILE_WC) !== 0;
  }

  /** Commands taken and not answered. */
  get outstanding(): number {
    return this.#pending.size;
  }

  onInterrupt(vector: number, handler: () => void): void {
    this.#interrupts[vector] = handler;
  }

  onRemove(handler: () => void): void {
    this.#removeHandlers.push(handler);
  }

  mapBar(bar: number, offset: number, length: number): { readonly buffer: ArrayBuffer; unmap(): void } {
    const cmb = this.description.cmb;
    if (this.#cmb === null || cmb === null || cmb.bar !== bar) {
      throw new RangeError(`${this.name}: BAR ${bar} holds no memory`);
    }
    return this.#cmb.mapBar(offset - cmb.offset, length);
  }

  /** Add a namespace while running. @returns its id: the one asked for, or the lowest free one */
  attachNamespace(store: NamespaceStore, nsid?: number): number {
    let id = nsid ?? 1;
    if (nsid === undefined) while (this.namespaces.has(id)) id++;
    if (id > this.maxNsid || this.namespaces.has(id)) {
      throw new RangeError(`${this.name}: no namespace can be attached as ${id}`);
    }
    this.namespaces.set(id, store);
    this.#namespaceChanged(id);
    return id;
  }

  /** Commands to it find nothing from now on; those the medium has go on. The store stays open: it is the caller's. */
  detachNamespace(nsid: number): NamespaceStore | null {
    const store = this.namespaces.get(nsid) ?? null;
    if (store !== null) {
      this.namespaces.delete(nsid);
      this.#namespaceChanged(nsid);
    }
    return store;
  }

  /** Surprise removal: from now on it answers with all ones, and completes nothing. */
  remove(): void {
    if (!this.#present) return;
    this.#present = false;
    if (tracing()) trace('nvme-controller', 'remove', { controller: this.name, bdf: this.pdev.bdf });
    this.#fabric.remove(this.pdev);
    this.#dropAll(() => {
      for (const handler of this.#removeHandlers) handler();
    });
  }

  /** Stop, and close the namespaces. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#dropAll(resolve));
    await Promise.all([...this.namespaces.values()].map((store) => store.close()));
  }

  // ---- RegisterHost

  /** CC.EN set: queues as AQA, ASQ and ACQ say. */
  enable(asq: number, asqEntries: number, acq: number, acqEntries: number): void {
    const cq = new CompletionQueue(0, acq, acqEntries, 0, true);
    cq.users = 1;
    this.cqs.set(0, cq);
    this.sqs.set(0, new SubmissionQueue(0, asq, asqEntries, cq));
  }

  /** CC.EN cleared: everything is forgotten; `done` when the medium is idle, on a later turn. */
  disable(done: () => void): void {
    this.features.reset();
    this.#dropAll(done);
  }

  /** Make everything durable; `done` on a later turn. */
  shutdown(done: () => void): void {
    let left = 1;
    const one = (): void => {
      if (--left === 0) this.#clock.defer(done);
    };
    for (const store of this.namespaces.values()) {
      left++;
      if (store.flush({ windows: [], stored: one }) >= 0) one();
    }
    one();
  }

  defer(fn: () => void): void {
    this.#clock.defer(fn);
  }

  // ---- AdminHost

  checkQueueMemory(kind: 'sq' | 'cq', addr: number, bytes: number): number {
    try {
      const direction = kind === 'sq' ? 'read' : 'write';
      const windows: DmaWindow[] = [];
      this.#fabric.resolve(this.pdev, addr, bytes, direction, windows);
      const internal = windows.filter((window) => window.path === 'internal').length;
      if (internal === 0) return NVME_SC_SUCCESS;
      const cmb = this.description.cmb;
      const offered = kind === 'sq' ? cmb?.sqs : cmb?.cqs;
      const good = internal === windows.length && offered === true && this.#registers.cmbDecodes(addr, bytes);
      return good ? NVME_SC_SUCCESS : NVME_SC_CMB_INVALID_USE;
    } catch (error) {
      if (!(error instanceof PciFault)) throw error;
      this.#traceFault(error);
      return NVME_SC_DATA_XFER_ERROR;
    }
  }

  abort(sqid: number, cid: number): boolean {
    for (const req of this.#pending) {
      if (req.sq!.id !== sqid || req.cid !== cid) continue;
      if (req.state === 'store' || req.state === 'waiting') return false;
      this.#end(req, NVME_SC_ABORT_REQ);
      return true;
    }
    return false;
  }

  deleteSq(sq: SubmissionQueue, req: NvmeRequest): number {
    sq.head = sq.tail;
    let working = false;
    for (const other of this.#pending) {
      if (other.sq !== sq) continue;
      if (other.state === 'store') working = true;
      else this.#end(other, NVME_SC_ABORT_QUEUE);
    }
    if (working) {
      sq.deleting = req;
      req.state = 'waiting';
      return PENDING;
    }
    this.#forgetSq(sq);
    return NVME_SC_SUCCESS;
  }

  // ---- RequestOwner

  /** The medium is done with a command it had kept. */
  stored(req: NvmeRequest, status: number): void {
    if (req.dropped) {
      this.#release(req);
      this.#draining--;
      this.#checkDrained();
      return;
    }
    this.#pending.delete(req);
    req.state = 'executing';
    const sq = req.sq!;
    const epoch = this.#epoch;
    this.#finish(req, status === NVME_SC_SUCCESS ? status : refuse(status));
    if (epoch === this.#epoch && sq.deleting !== null && !this.#isWorkedOn(sq)) {
      const deletion = sq.deleting;
      this.#forgetSq(sq);
      this.#pending.delete(deletion);
      this.#complete(deletion, NVME_SC_SUCCESS);
    }
  }

  // ---- Queues

  #doorbell(offset: number, value: number): void {
    if (!this.#registers.running) return;
    const index = Math.floor((offset - NVME_REG_DBS) / 4);
    const qid = index >> 1;
    if ((index & 1) === 0) {
      const sq = this.sqs.get(qid);
      if (sq === undefined || offset % 4 !== 0) return this.events.error(NVME_AER_ERROR_INVALID_DB_REG);
      if (value >= sq.size) return this.events.error(NVME_AER_ERROR_INVALID_DB_VALUE);
      sq.tail = value;
      this.#schedule();
      return;
    }
    const cq = this.cqs.get(qid);
    if (cq === undefined || offset % 4 !== 0) return this.events.error(NVME_AER_ERROR_INVALID_DB_REG);
    // The head may move over what was posted, not beyond.
    const posted = (cq.tail - cq.head + cq.size) % cq.size;
    if (value >= cq.size || (value - cq.head + cq.size) % cq.size > posted) {
      return this.events.error(NVME_AER_ERROR_INVALID_DB_VALUE);
    }
    cq.head = value;
    if (cq.first < cq.done.length) this.#schedule();
  }

  #schedule(): void {
    if (this.#turnScheduled || this.#inTurn) return;
    this.#turnScheduled = true;
    this.#clock.defer(this.#turn);
  }

  readonly #turn = (): void => {
    this.#turnScheduled = false;
    if (!this.#present || !this.#registers.running) return;
    this.#inTurn = true;
    try {
      this.#arbitrate();
      if (this.#present && this.#registers.running) this.#postAll();
    } catch (error) {
      if (!(error instanceof PciFault)) throw error;
      // A queue that cannot be reached is the end of this controller until it is reset.
      this.#traceFault(error);
      this.#registers.fail();
    } finally {
      this.#inTurn = false;
    }
    this.#interrupt();
  };

  /** Round robin: from each queue a burst, until all are empty. */
  #arbitrate(): void {
    const epoch = this.#epoch;
    const exponent = this.features.get(NVME_FEAT_ARBITRATION) & 0x7;
    const burst = exponent === BURST_UNLIMITED ? FETCH_ENTRIES : Math.min(2 ** exponent, FETCH_ENTRIES);
    for (let more = true; more; ) {
      more = false;
      for (const sq of this.sqs.values()) {
        if (sq.head === sq.tail) continue;
        this.#fetch(sq, burst);
        if (epoch !== this.#epoch) return;
        if (sq.head !== sq.tail) more = true;
      }
    }
  }

  /** Fetch and execute up to `burst` commands that lie in a row. */
  #fetch(sq: SubmissionQueue, burst: number): void {
    const epoch = this.#epoch;
    const end = sq.tail > sq.head ? sq.tail : sq.size;
    const n = Math.min(end - sq.head, burst);
    const into = n === FETCH_ENTRIES ? this.#sqeBytes : this.#sqeBytes.subarray(0, n * NVME_SQE_BYTES);
    this.walker.fetch(sq.addr + sq.head * NVME_SQE_BYTES, into);
    sq.head = (sq.head + n) % sq.size;
    for (let i = 0; i < n; i++) {
      this.#execute(sq, i * NVME_SQE_BYTES);
      if (epoch !== this.#epoch) return;
    }
  }

  #execute(sq: SubmissionQueue, at: number): void {
    const sqe = this.#sqe;
    const req = this.#pool.pop() ?? new NvmeRequest(this);
    req.sq = sq;
    req.opcode = sqe.getUint8(at + NVME_SQE_OPCODE);
    req.cid = sqe.getUint16(at + NVME_SQE_CID, true);
    req.nsid = sqe.getUint32(at + NVME_SQE_NSID, true);
    if (tracing()) {
      const { cid, opcode, nsid } = req;
      trace('nvme-controller', 'execute', { controller: this.name, qid: sq.id, cid, opcode, nsid });
    }
    let status: number;
    if (sq.id === 0) status = executeAdmin(this, req, sqe, at);
    else if (this.faults.vanishesAt(this.#bytesMoved)) return this.remove();
    else if (this.faults.swallows()) {
      req.state = 'stuck';
      status = PENDING;
    } else status = executeIo(this, req, sqe, at);
    if (status !== PENDING) return this.#finish(req, status);
    this.#pending.add(req);
    if (req.state === 'event') this.events.request(req);
  }

  /** The medium has done what it will do: count, make durable if asked, take the time it takes, complete. */
  #finish(req: NvmeRequest, status: number): void {
    const moved = status === NVME_SC_SUCCESS || status === refuse(NVME_SC_COMPARE_FAILED);
    if (moved && req.bytes > 0) {
      this.#count(req);
      if (this.faults.vanishesAt(this.#bytesMoved)) return this.remove();
    }
    if (status === NVME_SC_SUCCESS && req.fua) {
      req.fua = false;
      const flushed = req.store!.flush(req);
      if (flushed < 0) {
        req.state = 'store';
        this.#pending.add(req);
        return;
      }
      status = flushed;
    }
    if (this.#latency !== null && req.store !== null) this.#delay(req, status, this.#latency);
    else this.#complete(req, status);
  }

  #count(req: NvmeRequest): void {
    const { windows, bytes } = req;
    const qid = req.sq!.id;
    for (let i = 0; i < windows.length; i++) {
      const window = windows[i]!;
      this.#fabric.account(this.pdev, qid, req.cid, window.path, window.bytes.length);
    }
    // So that a second pass (after a flush) does not count again.
    req.bytes = 0;
    if (qid === 0) return;
    this.#bytesMoved += bytes;
    if (req.opcode === nvmeCmdRead) {
      this.statistics.readCommands++;
      this.statistics.bytesRead += bytes;
    } else if (req.opcode === nvmeCmdWrite) {
      this.statistics.writeCommands++;
      this.statistics.bytesWritten += bytes;
    }
  }

  /** The latency model: one medium with a bandwidth, and a time each command takes on top. */
  #delay(req: NvmeRequest, status: number, latency: Latency): void {
    const now = this.#clock.now();
    let ready = now;
    if (latency.bytesPerSecond !== null) {
      let bytes = 0;
      for (const window of req.windows) bytes += window.bytes.length;
      this.#busyUntil = Math.max(now, this.#busyUntil) + (bytes / latency.bytesPerSecond) * 1000;
      ready = this.#busyUntil;
    }
    ready += (req.opcode === nvmeCmdRead ? latency.readUs : latency.writeUs) / 1000;
    req.state = 'delayed';
    req.status = status;
    this.#pending.add(req);
    req.timer = this.#clock.setTimer(() => {
      this.#pending.delete(req);
      this.#complete(req, req.status);
    }, ready - now);
  }

  /** Give up on a command that waits. */
  #end(req: NvmeRequest, status: number): void {
    req.timer?.cancel();
    this.events.withdraw(req);
    this.#pending.delete(req);
    this.#complete(req, status);
  }

  #complete(req: NvmeRequest, status: number): void {
    req.status = status;
    const sq = req.sq!;
    if (status !== NVME_SC_SUCCESS) this.#logError(req, sq);
    sq.cq.done.push(req);
    this.#schedule();
  }

  #logError(req: NvmeRequest, sq: SubmissionQueue): void {
    const { cid, status, lba, nsid } = req;
    const count = ++this.statistics.errorLogEntries;
    this.errors.push({ count, sqid: sq.id, cid, status, lba, nsid });
    if (this.errors.length > ERROR_LOG_ENTRIES) this.errors.shift();
  }

  #postAll(): void {
    for (const cq of this.cqs.values()) {
      const posted = cq.tail;
      while (cq.first < cq.done.length && cq.room > 0) this.#post(cq);
      if (cq.tail === posted || !cq.irqEnabled) continue;
      if (!this.#vectors.includes(cq.vector)) this.#vectors.push(cq.vector);
    }
  }

  /** Post as many entries as lie in a row. */
  #post(cq: CompletionQueue): void {
    const n = Math.min(cq.done.length - cq.first, cq.room, cq.size - cq.tail, POST_ENTRIES);
    const bytes = n * NVME_CQE_BYTES;
    const addr = cq.addr + cq.tail * NVME_CQE_BYTES;
    const windows = this.#queueWindows;
    windows.length = 0;
    this.#fabric.resolve(this.pdev, addr, bytes, 'write', windows);
    const cqe = this.#cqe;
    for (let i = 0; i < n; i++) {
      const req = cq.done[cq.first + i]!;
      const at = i * NVME_CQE_BYTES;
      cqe.setUint32(at + NVME_CQE_RESULT, req.result, true);
      cqe.setUint32(at + NVME_CQE_RESULT_HI, 0, true);
      cqe.setUint16(at + NVME_CQE_SQ_HEAD, req.sq!.head, true);
      cqe.setUint16(at + NVME_CQE_SQ_ID, req.sq!.id, true);
      cqe.setUint16(at + NVME_CQE_CID, req.cid, true);
      cqe.setUint16(at + NVME_CQE_STATUS, (req.status << 1) | cq.phase, true);
      if (tracing()) {
        const { cid, status } = req;
        trace('nvme-controller', 'complete', { controller: this.name, qid: req.sq!.id, cid, status });
      }
      this.#release(req);
    }
    for (let i = 0, done = 0; i < windows.length; i++) {
      const target = windows[i]!.bytes;
      target.set(this.#cqeBytes.subarray(done, done + target.length));
      done += target.length;
    }
    cq.first += n;
    if (cq.first === cq.done.length) {
      cq.done.length = 0;
      cq.first = 0;
    }
    cq.tail += n;
    if (cq.tail === cq.size) {
      cq.tail = 0;
      cq.phase ^= 1;
    }
  }

  #interrupt(): void {
    const vectors = this.#vectors;
    for (let i = 0; i < vectors.length; i++) this.#interrupts[vectors[i]!]?.();
    vectors.length = 0;
  }

  #release(req: NvmeRequest): void {
    req.reset();
    this.#pool.push(req);
  }

  #isWorkedOn(sq: SubmissionQueue): boolean {
    for (const req of this.#pending) if (req.sq === sq && req.state === 'store') return true;
    return false;
  }

  #forgetSq(sq: SubmissionQueue): void {
    this.sqs.delete(sq.id);
    sq.cq.users--;
  }

  /** Forget every queue and command; `done` on a later turn, when the medium touches no memory any more. */
  #dropAll(done: () => void): void {
    this.#epoch++;
    for (const req of this.#pending) {
      req.timer?.cancel();
      if (req.state === 'store') {
        req.dropped = true;
        this.#draining++;
      } else this.#release(req);
    }
    this.#pending.clear();
    this.events.reset();
    this.sqs.clear();
    this.cqs.clear();
    const before = this.#afterDrain;
    this.#afterDrain = () => {
      before?.();
      done();
    };
    this.#checkDrained();
  }

  #checkDrained(): void {
    if (this.#draining > 0 || this.#afterDrain === null) return;
    const done = this.#afterDrain;
    this.#afterDrain = null;
    this.#clock.defer(done);
  }

  #namespaceChanged(nsid: number): void {
    if ((this.features.get(NVME_FEAT_ASYNC_EVENT) & NVME_AEN_CFG_NS_ATTR) !== 0) {
      this.events.namespaceChanged(nsid);
    }
  }

  #traceFault(fault: PciFault): void {
    if (tracing())
      trace('nvme-controller', 'dma-fault', { controller: this.name, message: fault.message, fault });
  }
}
