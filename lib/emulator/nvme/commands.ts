/**
 * The NVM command set: Read, Write, Flush, Compare, Write Zeroes, Dataset Management. Each function checks one command,
 * resolves its memory and starts the store. It returns a status (with DNR), or PENDING.
 */
import {
  NVME_CMD_FUSE_MASK,
  NVME_DSM_RANGE_BYTES,
  NVME_DSMGMT_AD,
  NVME_RW_FUA,
  NVME_RW_PRINFO_PRACT,
  NVME_SC_INVALID_FIELD,
  NVME_SC_INVALID_NS,
  NVME_SC_INVALID_OPCODE,
  NVME_SC_LBA_RANGE,
  NVME_SC_NS_WRITE_PROTECTED,
  NVME_SC_READ_ERROR,
  NVME_SC_SUCCESS,
  NVME_SC_WRITE_FAULT,
  NVME_SQE_CDW10,
  NVME_SQE_CDW11,
  NVME_SQE_CDW12,
  NVME_SQE_FLAGS,
  NVME_STATUS_DNR,
  nvmeCmdCompare,
  nvmeCmdDsm,
  nvmeCmdFlush,
  nvmeCmdRead,
  nvmeCmdWrite,
  nvmeCmdWriteZeroes,
} from '../../backend/nvme-spec.js';
import type { DataPointerWalker } from './data-pointer.js';
import type { ControllerFaults } from './faults.js';
import { type NvmeRequest, type NvmeStatistics, PENDING } from './state.js';
import { type NamespaceStore, STORE_PENDING } from './store.js';

const TWO_32 = 2 ** 32;

/** What command execution needs from the controller. */
export interface CommandHost {
  readonly namespaces: ReadonlyMap<number, NamespaceStore>;
  /** The highest possible namespace id (NN). */
  readonly maxNsid: number;
  readonly walker: DataPointerWalker;
  readonly faults: ControllerFaults;
  /** In bytes. */
  readonly mdts: number;
  readonly statistics: NvmeStatistics;
  /** May data stay in a volatile write cache until a flush (feature 06h)? */
  readonly writeCache: boolean;
}

/** Executes the I/O command at `sqe[at]`. */
export function executeIo(host: CommandHost, req: NvmeRequest, sqe: DataView, at: number): number {
  if ((sqe.getUint8(at + NVME_SQE_FLAGS) & NVME_CMD_FUSE_MASK) !== 0) return refuse(NVME_SC_INVALID_FIELD);
  const store = host.namespaces.get(req.nsid);
  if (store === undefined) {
    const invalid = req.nsid === 0 || req.nsid > host.maxNsid;
    return refuse(invalid ? NVME_SC_INVALID_NS : NVME_SC_INVALID_FIELD);
  }
  req.store = store;
  switch (req.opcode) {
    case nvmeCmdRead:
    case nvmeCmdWrite:
    case nvmeCmdCompare:
      return readWrite(host, store, req, sqe, at);
    case nvmeCmdFlush:
      return start(req, store.flush(req));
    case nvmeCmdWriteZeroes:
      return writeZeroes(host, store, req, sqe, at);
    case nvmeCmdDsm:
      return datasetManagement(host, store, req, sqe, at);
    default:
      return refuse(NVME_SC_INVALID_OPCODE);
  }
}

/** The block range of Read, Write, Compare and Write Zeroes: 64 bits of SLBA, and 16 bits of NLB, which is zero-based. */
function blocksOf(sqe: DataView, at: number): { slba: number; blocks: number; cdw12: number } {
  const slba = sqe.getUint32(at + NVME_SQE_CDW10, true) + sqe.getUint32(at + NVME_SQE_CDW11, true) * TWO_32;
  const cdw12 = sqe.getUint32(at + NVME_SQE_CDW12, true);
  return { slba, blocks: (cdw12 & 0xffff) + 1, cdw12 };
}

/** Does the medium fail at one of these blocks? The drive counts the error. */
function isBad(host: CommandHost, { nsid, lba }: NvmeRequest, blocks: number, writes: boolean): boolean {
  const bad = host.faults.hitsMedia(nsid, lba, blocks, writes ? 'write' : 'read');
  if (bad) host.statistics.mediaErrors++;
  return bad;
}

function readWrite(
  host: CommandHost,
  store: NamespaceStore,
  req: NvmeRequest,
  sqe: DataView,
  at: number,
): number {
  const reads = req.opcode === nvmeCmdRead;
  const writes = req.opcode === nvmeCmdWrite;
  const { slba, blocks, cdw12 } = blocksOf(sqe, at);
  req.lba = slba;
  const length = blocks * store.blockSize;
  if (length > host.mdts) return refuse(NVME_SC_INVALID_FIELD);
  if (slba + blocks > store.size / store.blockSize) return refuse(NVME_SC_LBA_RANGE);
  if (writes && store.readOnly) return refuse(NVME_SC_NS_WRITE_PROTECTED);
  const direction = reads ? 'write' : 'read';
  const status =
    metadataStatus(host, store, sqe, at, direction) ||
    host.walker.walk(sqe, at, length, direction, req.windows);
  if (status !== NVME_SC_SUCCESS) return refuse(status);
  const offset = slba * store.blockSize;
  // Compare reads too.
  const across = writes ? NVME_SC_SUCCESS : (store.zones?.read(offset, length) ?? NVME_SC_SUCCESS);
  if (across !== NVME_SC_SUCCESS) return refuse(across);
  if (isBad(host, req, blocks, writes)) return refuse(writes ? NVME_SC_WRITE_FAULT : NVME_SC_READ_ERROR);
  req.bytes = length;
  if (reads) return start(req, store.read(offset, length, req));
  if (!writes) return start(req, store.compare(offset, length, req));
  const order = store.zones?.write(offset, length) ?? NVME_SC_SUCCESS;
  if (order !== NVME_SC_SUCCESS) return refuse(order);
  req.fua = mustPersist(host, store, cdw12);
  return start(req, store.write(offset, length, req));
}

/**
 * For a namespace with metadata: with PRACT the drive inserts and strips the 8 bytes of protection information, so none
 * are transferred. Without PRACT they are at MPTR, which no driver here sets.
 */
function metadataStatus(
  { walker }: CommandHost,
  { metadataBytes }: NamespaceStore,
  sqe: DataView,
  at: number,
  direction: 'read' | 'write',
): number {
  if (metadataBytes === 0) return NVME_SC_SUCCESS;
  if ((sqe.getUint32(at + NVME_SQE_CDW12, true) & NVME_RW_PRINFO_PRACT) !== 0) return NVME_SC_SUCCESS;
  return walker.metadata(sqe, at, metadataBytes, direction);
}

function writeZeroes(
  host: CommandHost,
  store: NamespaceStore,
  req: NvmeRequest,
  sqe: DataView,
  at: number,
): number {
  const { slba, blocks, cdw12 } = blocksOf(sqe, at);
  req.lba = slba;
  if (slba + blocks > store.size / store.blockSize) return refuse(NVME_SC_LBA_RANGE);
  if (store.readOnly) return refuse(NVME_SC_NS_WRITE_PROTECTED);
  if (isBad(host, req, blocks, true)) return refuse(NVME_SC_WRITE_FAULT);
  const offset = slba * store.blockSize;
  const length = blocks * store.blockSize;
  const order = store.zones?.write(offset, length) ?? NVME_SC_SUCCESS;
  if (order !== NVME_SC_SUCCESS) return refuse(order);
  req.fua = mustPersist(host, store, cdw12);
  return start(req, store.writeZeroes(offset, length, req));
}

function datasetManagement(
  host: CommandHost,
  store: NamespaceStore,
  req: NvmeRequest,
  sqe: DataView,
  at: number,
): number {
  const ranges = (sqe.getUint32(at + NVME_SQE_CDW10, true) & 0xff) + 1;
  const length = ranges * NVME_DSM_RANGE_BYTES;
  const status = host.walker.walk(sqe, at, length, 'read', req.windows);
  if (status !== NVME_SC_SUCCESS) return refuse(status);
  req.bytes = length;
  const list = gather(req, length);
  const deallocate = (sqe.getUint32(at + NVME_SQE_CDW11, true) & NVME_DSMGMT_AD) !== 0;
  if (deallocate && store.readOnly) return refuse(NVME_SC_NS_WRITE_PROTECTED);
  const capacity = store.size / store.blockSize;
  for (const apply of [false, true]) {
    for (let i = 0; i < ranges; i++) {
      const d = i * NVME_DSM_RANGE_BYTES;
      const blocks = list.getUint32(d + 4, true);
      const slba = list.getUint32(d + 8, true) + list.getUint32(d + 12, true) * TWO_32;
      if (slba + blocks > capacity) return refuse(NVME_SC_LBA_RANGE);
      if (apply && deallocate) store.deallocate(slba * store.blockSize, blocks * store.blockSize);
    }
  }
  return NVME_SC_SUCCESS;
}

/** Must the data be durable before the command completes? */
function mustPersist(host: CommandHost, store: NamespaceStore, cdw12: number): boolean {
  return store.volatileCache && ((cdw12 & NVME_RW_FUA) !== 0 || !host.writeCache);
}

/** Copies the command's data into the controller. */
function gather(req: NvmeRequest, length: number): DataView {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const window of req.windows) {
    bytes.set(window.bytes, at);
    at += window.bytes.length;
  }
  return new DataView(bytes.buffer);
}

function start(req: NvmeRequest, status: number): number {
  if (status === STORE_PENDING) {
    req.state = 'store';
    return PENDING;
  }
  return status === NVME_SC_SUCCESS ? status : refuse(status);
}

/** Adds DNR to a status: a retry of the command would fail too. */
export function refuse(status: number): number {
  return status | NVME_STATUS_DNR;
}
