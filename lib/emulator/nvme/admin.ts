/**
 * The admin command set: Identify, queues, features, log pages, Abort, Asynchronous Event Request. Each function
 * returns a status (with DNR), or PENDING.
 */

import { PAGE_SIZE } from '../../backend/hardware.js';
import {
  NVME_CMD_FUSE_MASK,
  NVME_CQ_IRQ_ENABLED,
  NVME_CSI_NVM,
  NVME_CSI_ZNS,
  NVME_FEAT_ARBITRATION,
  NVME_FEAT_ASYNC_EVENT,
  NVME_FEAT_ERR_RECOVERY,
  NVME_FEAT_IRQ_COALESCE,
  NVME_FEAT_IRQ_CONFIG,
  NVME_FEAT_NUM_QUEUES,
  NVME_FEAT_POWER_MGMT,
  NVME_FEAT_TEMP_THRESH,
  NVME_FEAT_VOLATILE_WC,
  NVME_FEAT_WRITE_ATOMIC,
  NVME_ID_CNS_CS_NS,
  NVME_ID_CNS_CTRL,
  NVME_ID_CNS_NS,
  NVME_ID_CNS_NS_ACTIVE_LIST,
  NVME_ID_CNS_NS_DESC_LIST,
  NVME_IDENTIFY_CSI_SHIFT,
  NVME_LOG_CHANGED_NS,
  NVME_LOG_ERROR,
  NVME_LOG_FW_SLOT,
  NVME_LOG_SMART,
  NVME_NSID_ALL,
  NVME_QUEUE_PHYS_CONTIG,
  NVME_SC_ASYNC_LIMIT,
  NVME_SC_CMD_SEQ_ERROR,
  NVME_SC_CQ_INVALID,
  NVME_SC_FEATURE_NOT_SAVEABLE,
  NVME_SC_INVALID_FIELD,
  NVME_SC_INVALID_LOG_PAGE,
  NVME_SC_INVALID_NS,
  NVME_SC_INVALID_OPCODE,
  NVME_SC_INVALID_QUEUE,
  NVME_SC_INVALID_VECTOR,
  NVME_SC_PRP_INVALID_OFFSET,
  NVME_SC_QID_INVALID,
  NVME_SC_QUEUE_SIZE,
  NVME_SC_SUCCESS,
  NVME_SQE_CDW10,
  NVME_SQE_CDW11,
  NVME_SQE_CDW12,
  NVME_SQE_CDW13,
  NVME_SQE_FLAGS,
  NVME_SQE_PRP1,
  nvmeAdminAbortCmd,
  nvmeAdminAsyncEvent,
  nvmeAdminCreateCq,
  nvmeAdminCreateSq,
  nvmeAdminDeleteCq,
  nvmeAdminDeleteSq,
  nvmeAdminGetFeatures,
  nvmeAdminGetLogPage,
  nvmeAdminIdentify,
  nvmeAdminSetFeatures,
} from '../../backend/nvme-spec.js';
import type { PciDev } from '../../backend/topology.js';
import type { NvmeDescription } from '../../machine/machine.js';
import { type CommandHost, refuse } from './commands.js';
import type { AsyncEvents } from './events.js';
import {
  ASYNC_EVENT_LIMIT,
  errorLog,
  firmwareLog,
  identifyController,
  identifyNamespace,
  identifyZonedNamespace,
  namespaceDescriptors,
  namespaceList,
  smartLog,
} from './identify.js';
import { CompletionQueue, type NvmeErrorEntry, type NvmeRequest, PENDING, SubmissionQueue } from './state.js';

const TWO_32 = 2 ** 32;

/** What admin commands need from the controller, in addition to what I/O commands need. */
export interface AdminHost extends CommandHost {
  readonly pdev: PciDev;
  readonly description: NvmeDescription;
  /** It has the zoned command set beside the NVM command set. */
  readonly zoned: boolean;
  readonly sqs: Map<number, SubmissionQueue>;
  readonly cqs: Map<number, CompletionQueue>;
  /** The maximum number of entries in a queue. */
  readonly maxEntries: number;
  readonly features: Features;
  readonly events: AsyncEvents;
  readonly errors: readonly NvmeErrorEntry[];
  readonly powerOnHours: number;
  /** May a queue be at this address? Returns a status. */
  checkQueueMemory(kind: 'sq' | 'cq', addr: number, bytes: number): number;
  /** Aborts a command. Returns whether it was aborted. */
  abort(sqid: number, cid: number): boolean;
  /** Ends the commands of the queue. Returns a status, or PENDING while the medium still works on some of them. */
  deleteSq(sq: SubmissionQueue, req: NvmeRequest): number;
}

/** The features with their defaults. No feature is saveable. */
export class Features {
  readonly #defaults: ReadonlyMap<number, number>;
  readonly #current: Map<number, number>;

  constructor(queues: number) {
    this.#defaults = new Map([
      // Burst 2^6: each turn of the round robin takes up to 64 commands from one queue.
      [NVME_FEAT_ARBITRATION, 6],
      [NVME_FEAT_POWER_MGMT, 0],
      [NVME_FEAT_TEMP_THRESH, 343],
      [NVME_FEAT_ERR_RECOVERY, 0],
      [NVME_FEAT_VOLATILE_WC, 1],
      [NVME_FEAT_NUM_QUEUES, (queues - 1) * 0x10001],
      [NVME_FEAT_IRQ_COALESCE, 0],
      [NVME_FEAT_IRQ_CONFIG, 0],
      [NVME_FEAT_WRITE_ATOMIC, 0],
      [NVME_FEAT_ASYNC_EVENT, 0],
    ]);
    this.#current = new Map(this.#defaults);
  }

  has(id: number): boolean {
    return this.#defaults.has(id);
  }

  get(id: number): number {
    return this.#current.get(id) ?? 0;
  }

  default(id: number): number {
    return this.#defaults.get(id) ?? 0;
  }

  set(id: number, value: number): void {
    this.#current.set(id, value);
  }

  reset(): void {
    for (const [id, value] of this.#defaults) this.#current.set(id, value);
  }
}

/** Executes the admin command at `sqe[at]`. */
export function executeAdmin(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  if ((sqe.getUint8(at + NVME_SQE_FLAGS) & NVME_CMD_FUSE_MASK) !== 0) return refuse(NVME_SC_INVALID_FIELD);
  switch (req.opcode) {
    case nvmeAdminDeleteSq:
      return deleteSq(host, req, sqe, at);
    case nvmeAdminCreateSq:
      return createSq(host, sqe, at);
    case nvmeAdminGetLogPage:
      return getLogPage(host, req, sqe, at);
    case nvmeAdminDeleteCq:
      return deleteCq(host, sqe, at);
    case nvmeAdminCreateCq:
      return createCq(host, sqe, at);
    case nvmeAdminIdentify:
      return identify(host, req, sqe, at);
    case nvmeAdminAbortCmd: {
      const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
      req.result = host.abort(cdw10 & 0xffff, cdw10 >>> 16) ? 0 : 1;
      return NVME_SC_SUCCESS;
    }
    case nvmeAdminSetFeatures:
      return setFeatures(host, req, sqe, at);
    case nvmeAdminGetFeatures:
      return getFeatures(host, req, sqe, at);
    case nvmeAdminAsyncEvent:
      if (host.events.waiting >= ASYNC_EVENT_LIMIT) return refuse(NVME_SC_ASYNC_LIMIT);
      req.state = 'event';
      return PENDING;
    default:
      return refuse(NVME_SC_INVALID_OPCODE);
  }
}

/** Writes `data` to the memory that the command's data pointer describes. */
function sendData(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number, data: Uint8Array): number {
  const status = host.walker.walkAdmin(sqe, at, data.length, 'write', req.windows);
  if (status !== NVME_SC_SUCCESS) return refuse(status);
  let done = 0;
  for (const { bytes } of req.windows) {
    bytes.set(data.subarray(done, done + bytes.length));
    done += bytes.length;
  }
  req.bytes = data.length;
  return NVME_SC_SUCCESS;
}

function identify(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const cns = sqe.getUint8(at + NVME_SQE_CDW10);
  const { nsid } = req;
  const serial = host.description.serial;
  switch (cns) {
    case NVME_ID_CNS_NS:
      if (nsid === 0 || nsid > host.maxNsid) return refuse(NVME_SC_INVALID_NS);
      return sendData(host, req, sqe, at, identifyNamespace(serial, nsid, host.namespaces.get(nsid)));
    case NVME_ID_CNS_CTRL:
      return sendData(host, req, sqe, at, identifyController(host.pdev, host.description, host.maxNsid));
    case NVME_ID_CNS_NS_ACTIVE_LIST:
      if (nsid >= NVME_NSID_ALL - 1) return refuse(NVME_SC_INVALID_NS);
      return sendData(host, req, sqe, at, namespaceList(host.namespaces.keys(), nsid));
    case NVME_ID_CNS_NS_DESC_LIST:
      if (!host.namespaces.has(nsid)) return refuse(NVME_SC_INVALID_NS);
      return sendData(host, req, sqe, at, namespaceDescriptors(serial, nsid, csiOf(host, nsid)));
    case NVME_ID_CNS_CS_NS:
      return identifyZones(host, req, sqe, at);
    default:
      return refuse(NVME_SC_INVALID_FIELD);
  }
}

/** The command set of a namespace; null: the controller has only one. */
function csiOf({ zoned, namespaces }: AdminHost, nsid: number): number | null {
  if (!zoned) return null;
  return namespaces.get(nsid)?.zones == null ? NVME_CSI_NVM : NVME_CSI_ZNS;
}

function identifyZones(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const csi = sqe.getUint32(at + NVME_SQE_CDW11, true) >>> NVME_IDENTIFY_CSI_SHIFT;
  if (!host.zoned || csi !== NVME_CSI_ZNS) return refuse(NVME_SC_INVALID_FIELD);
  const store = host.namespaces.get(req.nsid);
  if (store?.zones == null) return refuse(NVME_SC_INVALID_NS);
  return sendData(host, req, sqe, at, identifyZonedNamespace(store, store.zones));
}

function queueAddress(sqe: DataView, at: number): number {
  return sqe.getUint32(at + NVME_SQE_PRP1, true) + sqe.getUint32(at + NVME_SQE_PRP1 + 4, true) * TWO_32;
}

function createCq(host: AdminHost, sqe: DataView, at: number): number {
  const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
  const cdw11 = sqe.getUint32(at + NVME_SQE_CDW11, true);
  const id = cdw10 & 0xffff;
  const size = (cdw10 >>> 16) + 1;
  const addr = queueAddress(sqe, at);
  const vector = cdw11 >>> 16;
  if (id === 0 || id > host.description.queues || host.cqs.has(id)) return refuse(NVME_SC_QID_INVALID);
  if (size < 2 || size > host.maxEntries) return refuse(NVME_SC_QUEUE_SIZE);
  if ((cdw11 & NVME_QUEUE_PHYS_CONTIG) === 0) return refuse(NVME_SC_INVALID_FIELD);
  if (addr === 0 || addr % PAGE_SIZE !== 0) return refuse(NVME_SC_PRP_INVALID_OFFSET);
  if (vector > host.description.queues) return refuse(NVME_SC_INVALID_VECTOR);
  const status = host.checkQueueMemory('cq', addr, size * 16);
  if (status !== NVME_SC_SUCCESS) return refuse(status);
  host.cqs.set(id, new CompletionQueue(id, addr, size, vector, (cdw11 & NVME_CQ_IRQ_ENABLED) !== 0));
  return NVME_SC_SUCCESS;
}

function createSq(host: AdminHost, sqe: DataView, at: number): number {
  const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
  const cdw11 = sqe.getUint32(at + NVME_SQE_CDW11, true);
  const id = cdw10 & 0xffff;
  const size = (cdw10 >>> 16) + 1;
  const addr = queueAddress(sqe, at);
  const cqid = cdw11 >>> 16;
  const cq = host.cqs.get(cqid);
  if (cqid === 0 || cq === undefined) return refuse(NVME_SC_CQ_INVALID);
  if (id === 0 || id > host.description.queues || host.sqs.has(id)) return refuse(NVME_SC_QID_INVALID);
  if (size < 2 || size > host.maxEntries) return refuse(NVME_SC_QUEUE_SIZE);
  if ((cdw11 & NVME_QUEUE_PHYS_CONTIG) === 0) return refuse(NVME_SC_INVALID_FIELD);
  if (addr === 0 || addr % PAGE_SIZE !== 0) return refuse(NVME_SC_PRP_INVALID_OFFSET);
  const status = host.checkQueueMemory('sq', addr, size * 64);
  if (status !== NVME_SC_SUCCESS) return refuse(status);
  host.sqs.set(id, new SubmissionQueue(id, addr, size, cq));
  cq.users++;
  return NVME_SC_SUCCESS;
}

function deleteSq(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const id = sqe.getUint16(at + NVME_SQE_CDW10, true);
  const sq = host.sqs.get(id);
  if (id === 0 || sq === undefined || sq.deleting !== null) return refuse(NVME_SC_QID_INVALID);
  return host.deleteSq(sq, req);
}

function deleteCq(host: AdminHost, sqe: DataView, at: number): number {
  const id = sqe.getUint16(at + NVME_SQE_CDW10, true);
  const cq = host.cqs.get(id);
  if (id === 0 || cq === undefined) return refuse(NVME_SC_QID_INVALID);
  if (cq.users > 0) return refuse(NVME_SC_INVALID_QUEUE);
  host.cqs.delete(id);
  return NVME_SC_SUCCESS;
}

function setFeatures(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
  const value = sqe.getUint32(at + NVME_SQE_CDW11, true);
  const id = cdw10 & 0xff;
  if (cdw10 >= 0x80000000) return refuse(NVME_SC_FEATURE_NOT_SAVEABLE);
  if (!host.features.has(id)) return refuse(NVME_SC_INVALID_FIELD);
  if (id === NVME_FEAT_NUM_QUEUES) {
    const sqs = value & 0xffff;
    const cqs = value >>> 16;
    if (sqs === 0xffff || cqs === 0xffff) return refuse(NVME_SC_INVALID_FIELD);
    if (host.cqs.size > 1) return refuse(NVME_SC_CMD_SEQ_ERROR);
    const most = host.description.queues - 1;
    const granted = Math.min(sqs, most) + Math.min(cqs, most) * 0x10000;
    host.features.set(id, granted);
    req.result = granted;
    return NVME_SC_SUCCESS;
  }
  if (id === NVME_FEAT_POWER_MGMT && (value & 0x1f) !== 0) return refuse(NVME_SC_INVALID_FIELD);
  host.features.set(id, value);
  return NVME_SC_SUCCESS;
}

function getFeatures(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
  const id = cdw10 & 0xff;
  if (!host.features.has(id)) return refuse(NVME_SC_INVALID_FIELD);
  switch ((cdw10 >>> 8) & 0x7) {
    case 0:
      req.result = host.features.get(id);
      break;
    case 1:
    case 2:
      req.result = host.features.default(id);
      break;
    case 3:
      // The feature is changeable, but neither saveable nor namespace specific.
      req.result = 1 << 2;
      break;
    default:
      return refuse(NVME_SC_INVALID_FIELD);
  }
  return NVME_SC_SUCCESS;
}

function getLogPage(host: AdminHost, req: NvmeRequest, sqe: DataView, at: number): number {
  const cdw10 = sqe.getUint32(at + NVME_SQE_CDW10, true);
  const cdw11 = sqe.getUint32(at + NVME_SQE_CDW11, true);
  const offset = sqe.getUint32(at + NVME_SQE_CDW12, true) + sqe.getUint32(at + NVME_SQE_CDW13, true) * TWO_32;
  const length = ((cdw10 >>> 16) + (cdw11 & 0xffff) * 0x10000 + 1) * 4;
  const log = cdw10 & 0xff;
  const retain = (cdw10 & (1 << 15)) !== 0;
  const page = logPage(host, log);
  if (page === null) return refuse(NVME_SC_INVALID_LOG_PAGE);
  if (offset % 4 !== 0 || offset > page.length || length > host.mdts) return refuse(NVME_SC_INVALID_FIELD);
  const data = new Uint8Array(length);
  data.set(page.subarray(offset, offset + length));
  const status = sendData(host, req, sqe, at, data);
  if (status === NVME_SC_SUCCESS && !retain) host.events.logRead(log);
  return status;
}

function logPage(host: AdminHost, log: number): Uint8Array | null {
  switch (log) {
    case NVME_LOG_ERROR:
      return errorLog(host.errors);
    case NVME_LOG_SMART:
      return smartLog(host.statistics, host.powerOnHours);
    case NVME_LOG_FW_SLOT:
      return firmwareLog();
    case NVME_LOG_CHANGED_NS:
      return namespaceList(host.events.changedNamespaces, 0);
    default:
      return null;
  }
}
