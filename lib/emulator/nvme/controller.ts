/**
 * The hardware of an NVMe controller. This file connects its parts and handles namespaces, commands from execution to
 * completion, reset and removal. Its parts:
 *
 *     registers   CC, CSTS, CMBMSC …        data-pointer   PRPs, SGLs ─▶ memory
 *     queues      doorbells, SQEs, CQEs     commands       Read, Write, Flush …  ─▶ store
 *     events      asynchronous events       admin          Identify, queues, features …
 *
 * All its memory accesses go through the fabric under its own bus address, including accesses to its own CMB.
 */

import type { Clock, Mmio, NvmeHardware } from '../../backend/hardware.js';
import {
  NVME_AEN_CFG_NS_ATTR,
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
  NVME_SQE_CID,
  NVME_SQE_NSID,
  NVME_SQE_OPCODE,
  nvmeCmdRead,
  nvmeCmdWrite,
} from '../../backend/nvme-spec.js';
import type { PciDev } from '../../backend/topology.js';
import { trace, tracing } from '../../base/trace.js';
import type { Fault, Latency, NvmeDescription } from '../../machine/machine.js';
import { DeviceMemory } from '../bus/device-memory.js';
import { type DmaWindow, type Fabric, PciFault } from '../bus/fabric.js';
import { type AdminHost, executeAdmin, Features } from './admin.js';
import { executeIo, refuse } from './commands.js';
import { DataPointerWalker } from './data-pointer.js';
import { AsyncEvents } from './events.js';
import { ControllerFaults } from './faults.js';
import { ERROR_LOG_ENTRIES, mdtsField } from './identify.js';
import { NvmeQueues, type QueueHost } from './queues.js';
import { MAX_QUEUE_ENTRIES, NvmeRegisters, type RegisterHost } from './registers.js';
import {
  CompletionQueue,
  type NvmeErrorEntry,
  NvmeRequest,
  type NvmeStatistics,
  PENDING,
  type RequestOwner,
  SubmissionQueue,
} from './state.js';
import type { NamespaceStore } from './store.js';

export interface NvmeControllerOptions {
  readonly pdev: PciDev;
  readonly description: NvmeDescription;
  readonly fabric: Pick<Fabric, 'resolve' | 'account' | 'registerBar' | 'remove'>;
  readonly clock: Clock;
  /** The stores by namespace id. The controller closes them when it is closed. */
  readonly stores: ReadonlyMap<number, NamespaceStore>;
  /** Default: no delay, as fast as the computer allows. */
  readonly latency?: Latency | null;
  /** The faults of the machine; faults of other controllers are ignored. */
  readonly faults?: readonly Fault[];
}

/** NN: the highest id for attached namespaces, unless the description has a higher one. */
const NAMESPACES = 1024;
/** Feature 01h, bits 2:0: no limit to the burst. */
const BURST_UNLIMITED = 7;

export class NvmeController implements NvmeHardware, AdminHost, RegisterHost, QueueHost, RequestOwner {
  readonly pdev: PciDev;
  readonly name: string;
  readonly description: NvmeDescription;
  readonly regs: Mmio;
  readonly faults: ControllerFaults;
  readonly namespaces: Map<number, NamespaceStore>;
  /** It has the zoned command set beside the NVM command set. */
  readonly zoned: boolean;
  readonly maxNsid: number;
  readonly mdts: number;
  readonly maxEntries = MAX_QUEUE_ENTRIES;
  readonly walker: DataPointerWalker;
  readonly features: Features;
  readonly events: AsyncEvents;
  readonly errors: NvmeErrorEntry[] = [];
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
  readonly #queues: NvmeQueues;
  readonly #cmb: DeviceMemory | null;
  readonly #poweredOn: number;
  readonly #removeHandlers: (() => void)[] = [];
  readonly #pool: NvmeRequest[] = [];
  /** Commands that were fetched and did not complete at once. */
  readonly #pending = new Set<NvmeRequest>();
  #present = true;
  /**
   * The number of commands that the medium still works on although nobody waits for them; below, what to do when they
   * are done.
   */
  #draining = 0;
  #afterDrain: (() => void) | null = null;
  /** An object of its own: with the first 2 GiB its shape changes, and not that of the controller, on which all its code relies. */
  readonly #moved = { bytes: 0 };
  /** The time at which the medium is free again (latency model). */
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
    this.zoned = [...this.namespaces.values()].some(({ zones }) => zones != null);
    this.mdts = 4096 * 2 ** mdtsField(description.mdts);
    this.features = new Features(description.queues);
    this.events = new AsyncEvents((req) => {
      this.#pending.delete(req);
      this.#complete(req, NVME_SC_SUCCESS);
    });
    this.#registers = new NvmeRegisters(this, description.cmb, { zoned: this.zoned });
    const registers = this.#registers;
    this.walker = new DataPointerWalker(pdev, fabric, description.sgls, {
      lists: description.cmb?.lists ?? false,
      rds: description.cmb?.rds ?? false,
      wds: description.cmb?.wds ?? false,
      decodes: (addr, length) => registers.cmbDecodes(addr, length),
    });
    this.#queues = new NvmeQueues(this, fabric, clock);
    this.#cmb = description.cmb === null ? null : new DeviceMemory(description.cmb.size);
    if (this.#cmb !== null && description.cmb !== null) {
      fabric.registerBar(pdev, description.cmb.bar, this.#cmb, description.cmb.offset);
    }
    this.regs = {
      read32: (offset) => (this.#present ? registers.read(offset) : 0xffffffff),
      write32: (offset, value) => {
        if (!this.#present) return;
        if (offset < NVME_REG_DBS) registers.write(offset, value);
        else if (registers.running) this.#queues.doorbell(offset, value);
      },
    };
  }

  get present(): boolean {
    return this.#present;
  }

  get sqs(): Map<number, SubmissionQueue> {
    return this.#queues.sqs;
  }

  get cqs(): Map<number, CompletionQueue> {
    return this.#queues.cqs;
  }

  get powerOnHours(): number {
    return (this.#clock.now() - this.#poweredOn) / 3_600_000;
  }

  get writeCache(): boolean {
    return this.features.get(NVME_FEAT_VOLATILE_WC) !== 0;
  }

  /** The number of commands that were fetched and not completed. */
  get outstanding(): number {
    return this.#pending.size;
  }

  onInterrupt(vector: number, handler: () => void): void {
    this.#queues.onInterrupt(vector, handler);
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

  /** True if there is no id left for another namespace. */
  get full(): boolean {
    return this.namespaces.size >= this.maxNsid;
  }

  /** Adds a namespace at run time. @returns its id: the requested id, or the lowest free one */
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

  /**
   * Detaches a namespace. New commands to it fail; commands that the medium already works on continue. The store stays
   * open and belongs to the caller.
   */
  detachNamespace(nsid: number): NamespaceStore | null {
    const store = this.namespaces.get(nsid) ?? null;
    if (store !== null) {
      this.namespaces.delete(nsid);
      this.#namespaceChanged(nsid);
    }
    return store;
  }

  /** Surprise removal: from now on register reads return all ones, and no command completes. */
  remove(): void {
    if (!this.#present) return;
    this.#present = false;
    if (tracing()) trace('nvme-controller', 'remove', { controller: this.name, bdf: this.pdev.bdf });
    this.#fabric.remove(this.pdev);
    this.#dropAll(() => {
      for (const handler of this.#removeHandlers) handler();
    });
  }

  /** Stops the controller and closes its namespaces. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#dropAll(resolve));
    await Promise.all([...this.namespaces.values()].map((store) => store.close()));
  }

  // ---- RegisterHost

  /** CC.EN was set: create the admin queues from AQA, ASQ and ACQ. */
  enable(asq: number, asqEntries: number, acq: number, acqEntries: number): void {
    const cq = new CompletionQueue(0, acq, acqEntries, 0, true);
    cq.users = 1;
    this.cqs.set(0, cq);
    this.sqs.set(0, new SubmissionQueue(0, asq, asqEntries, cq));
  }

  /** CC.EN was cleared: drop all queues and commands. Calls `done` on a later turn, when the medium is idle. */
  disable(done: () => void): void {
    this.features.reset();
    this.#dropAll(done);
  }

  /** Makes all data durable. Calls `done` on a later turn. */
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

  /** The medium has finished a command that was pending. */
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
    const { epoch } = this.#queues;
    this.#finish(req, status === NVME_SC_SUCCESS ? status : refuse(status));
    if (epoch === this.#queues.epoch && sq.deleting !== null && !this.#isWorkedOn(sq)) {
      const deletion = sq.deleting;
      this.#forgetSq(sq);
      this.#pending.delete(deletion);
      this.#complete(deletion, NVME_SC_SUCCESS);
    }
  }

  // ---- QueueHost

  get running(): boolean {
    return this.#present && this.#registers.running;
  }

  get bytesMoved(): number {
    return this.#moved.bytes;
  }

  get burst(): number {
    const exponent = this.features.get(NVME_FEAT_ARBITRATION) & 0x7;
    return exponent === BURST_UNLIMITED ? this.maxEntries : 1 << exponent;
  }

  execute(sq: SubmissionQueue, sqe: DataView, at: number): void {
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
    else if (this.faults.vanishesAt(this.#moved.bytes)) return this.remove();
    else if (this.faults.swallows()) {
      req.state = 'stuck';
      status = PENDING;
    } else status = executeIo(this, req, sqe, at);
    if (status !== PENDING) return this.#finish(req, status);
    this.#pending.add(req);
    if (req.state === 'event') this.events.request(req);
  }

  posted(req: NvmeRequest): void {
    this.#release(req);
  }

  badDoorbell(info: number): void {
    this.events.error(info);
  }

  /** A queue cannot be accessed: the controller fails until it is reset. */
  queueFault(fault: PciFault): void {
    this.#traceFault(fault);
    this.#registers.fail();
  }

  // ---- Commands

  /** The medium has finished: count the bytes, flush if requested, apply the latency, and complete the command. */
  #finish(req: NvmeRequest, status: number): void {
    const moved = status === NVME_SC_SUCCESS || status === refuse(NVME_SC_COMPARE_FAILED);
    if (moved && req.bytes > 0) {
      this.#count(req);
      if (this.faults.vanishesAt(this.#moved.bytes)) return this.remove();
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
    const modelled = this.#latency !== null && req.store !== null && req.sq!.deleting === null;
    if (modelled) this.#delay(req, status, this.#latency!);
    else this.#complete(req, status);
  }

  #count(req: NvmeRequest): void {
    const { windows, bytes } = req;
    const qid = req.sq!.id;
    for (let i = 0; i < windows.length; i++) {
      const window = windows[i]!;
      this.#fabric.account(this.pdev, qid, req.cid, window.path, window.bytes.length);
    }
    // A second pass (after a flush) must not count the bytes again.
    req.bytes = 0;
    if (qid === 0) return;
    this.#moved.bytes += bytes;
    if (req.opcode === nvmeCmdRead) {
      this.statistics.readCommands++;
      this.statistics.bytesRead += bytes;
    } else if (req.opcode === nvmeCmdWrite) {
      this.statistics.writeCommands++;
      this.statistics.bytesWritten += bytes;
    }
  }

  /** The latency model: one medium with a limited bandwidth, plus a fixed time per command. */
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

  /** Ends a waiting command early. */
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
    this.#queues.complete(req);
  }

  #logError(req: NvmeRequest, sq: SubmissionQueue): void {
    const { cid, status, lba, nsid } = req;
    const count = ++this.statistics.errorLogEntries;
    this.errors.push({ count, sqid: sq.id, cid, status, lba, nsid });
    if (this.errors.length > ERROR_LOG_ENTRIES) this.errors.shift();
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

  /** Drops all queues and commands. Calls `done` on a later turn, when the medium no longer accesses any memory. */
  #dropAll(done: () => void): void {
    for (const req of this.#pending) {
      req.timer?.cancel();
      if (req.state === 'store') {
        req.dropped = true;
        this.#draining++;
      } else this.#release(req);
    }
    this.#pending.clear();
    this.events.reset();
    this.#queues.reset();
    const before = this.#afterDrain;
    const both = () => {
      before?.();
      done();
    };
    this.#afterDrain = both;
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
