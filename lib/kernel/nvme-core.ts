/**
 * Mirrors drivers/nvme/host/core.c and nvme.h (6.12; RFC patch 8): the code common to all NVMe controllers,
 * independent of the transport: commands and their results, identify, namespaces and the limits of their queues. The
 * parts specific to PCIe (queues in memory, doorbells, PRPs) are in nvme-pci.
 *
 *     Bio ──ns.submitBio──▶ nvmeSetupCmd ──▶ nvme-pci: map, SQE, doorbell
 *                                                          │ CQE
 *     bioEndio ◀── errno ◀── nvmeErrorStatus ◀── disposition: complete, or retry
 */
import type { Clock, HostMemory } from '../backend/hardware.js';
import * as nvme from '../backend/nvme-spec.js';
import {
  EBADE,
  EILSEQ,
  EIO,
  ENODATA,
  ENOLINK,
  ENOSPC,
  EOPNOTSUPP,
  EREMOTEIO,
  errnoName,
} from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import {
  type Bio,
  type BlkQueueLimits,
  bioAddPage,
  bioAlloc,
  bioPut,
  type Gendisk,
  type RequestQueue,
} from './bio.js';
import { lower32, type NvmeCommand, nvmeCommand, upper32 } from './nvme-command.js';

/** Module parameters of nvme and nvme_core, and other settings of the driver. Times are in ms, sizes in bytes. */
export interface NvmeParams {
  /** nvme_core.io_timeout */
  readonly ioTimeout: number;
  /** nvme_core.admin_timeout */
  readonly adminTimeout: number;
  /** nvme_core.max_retries */
  readonly maxRetries: number;
  /** nvme.io_queue_depth */
  readonly ioQueueDepth: number;
  /** nvme.use_cmb_sqes */
  readonly useCmbSqes: boolean;
  /** nvme.sgl_threshold: SGLs are used if the average segment size is at least this value; 0: never. */
  readonly sglThreshold: number;
  /** Number of CPUs of the machine: the driver creates one I/O queue for each. */
  readonly cpus: number;
}

export const nvmeDefaultParams: NvmeParams = {
  ioTimeout: 30_000,
  adminTimeout: 60_000,
  maxRetries: 5,
  ioQueueDepth: 1024,
  useCmbSqes: true,
  sglThreshold: 32 * 1024,
  cpus: 2,
};

/**
 * nvme_error_status() followed by blk_status_to_errno(): the errno that the caller of read() or write() gets for an
 * NVMe status. The rows are those of the kernel; every status that is not listed is EIO.
 */
const statusErrno = new Map<number, number>([
  [nvme.NVME_SC_SUCCESS, 0],
  [nvme.NVME_SC_CAP_EXCEEDED, -ENOSPC],
  [nvme.NVME_SC_LBA_RANGE, -EREMOTEIO],
  [nvme.NVME_SC_NS_NOT_READY, -EREMOTEIO],
  [0x021 /* Command Interrupted */, -EREMOTEIO],
  [nvme.NVME_SC_INVALID_OPCODE, -EOPNOTSUPP],
  [nvme.NVME_SC_INVALID_FIELD, -EOPNOTSUPP],
  [nvme.NVME_SC_INVALID_NS, -EOPNOTSUPP],
  [0x180 /* Conflicting Attributes */, -EOPNOTSUPP],
  [nvme.NVME_SC_WRITE_FAULT, -ENODATA],
  [nvme.NVME_SC_READ_ERROR, -ENODATA],
  [nvme.NVME_SC_COMPARE_FAILED, -ENODATA],
  [nvme.NVME_SC_READ_ONLY, -ENODATA],
  [0x286 /* Access Denied */, -ENODATA],
  [0x287 /* Deallocated or Unwritten Logical Block */, -ENODATA],
  [0x181 /* Invalid Protection Information */, -EILSEQ],
  [0x282 /* Guard Check */, -EILSEQ],
  [0x283 /* Application Tag Check */, -EILSEQ],
  [0x284 /* Reference Tag Check */, -EILSEQ],
  [0x083 /* Reservation Conflict */, -EBADE],
  [0x370 /* Host Path Error */, -ENOLINK],
]);

/** nvme_error_status() + blk_status_to_errno(). */
export function nvmeErrorStatus(status: number): number {
  return statusErrno.get(status & nvme.NVME_SC_MASK) ?? -EIO;
}

/**
 * A request as the transport handles it: struct nvme_request with the tag of struct request. There is one per tag,
 * created once and always reused. `status` is an NVMe status; errors that occur before the drive gets the command are
 * in `errno`.
 */
export interface NvmeRequest {
  readonly tag: number;
  readonly cmd: NvmeCommand;
  /** The data, or null; if there is no `async`, the bio also receives the result. */
  bio: Bio | null;
  /** A command that does not come from a bio: admin commands and passthrough. */
  async: NvmeAsyncCommand | null;
  /** Number of retries so far. */
  retries: number;
  status: number;
  errno: number;
  resultLo: number;
  resultHi: number;
}

/** blk_execute_rq_nowait(): a command with optional data, and a callback for its result. */
export interface NvmeAsyncCommand {
  readonly cmd: NvmeCommand;
  readonly bio: Bio | null;
  /** In ms; 0: the queue's default timeout. */
  readonly timeout: number;
  /** `errno` is 0 if the drive completed the command; then `status` is the drive's status. */
  end(errno: number, status: number, resultLo: number, resultHi: number): void;
}

/** struct nvme_ctrl_ops: what the core needs from a transport. */
export interface NvmeCtrlOps {
  /** nvme_queue_rq() for the I/O queues; the bio waits if no tag is free. */
  submitBio(bio: Bio): void;
  submitCmd(command: NvmeAsyncCommand, admin: boolean): void;
  /** May this controller's queues be given P2P memory (supports_pci_p2pdma)? */
  supportsPciP2pdma(): boolean;
  /** Maximum number of bytes that the transport itself can transfer with one command. */
  readonly maxTransfer: number;
  readonly maxSegments: number;
}

/** enum nvme_ctrl_state */
export type NvmeCtrlState =
  | 'NVME_CTRL_NEW'
  | 'NVME_CTRL_LIVE'
  | 'NVME_CTRL_RESETTING'
  | 'NVME_CTRL_DELETING'
  | 'NVME_CTRL_DELETING_NOIO'
  | 'NVME_CTRL_DEAD';

/** struct nvme_ctrl */
export class NvmeCtrl {
  readonly name: string;
  readonly ops: NvmeCtrlOps;
  readonly clock: Clock;
  readonly memory: HostMemory;
  readonly params: NvmeParams;
  state: NvmeCtrlState = 'NVME_CTRL_NEW';
  model = '';
  serial = '';
  firmware = '';
  /** MDTS in bytes; Infinity: no limit. */
  mdts = Number.POSITIVE_INFINITY;
  sglSupported = false;
  volatileWriteCache = false;
  oncs = 0;
  /** nvme_multi_css(): its namespaces may be of different command sets. */
  multiCss = false;
  namespaces: NvmeNs[] = [];
  scanLock: Promise<void> = Promise.resolve();
  /** The queue for admin commands: it never takes P2P memory. */
  readonly adminQueue: RequestQueue;

  constructor(name: string, ops: NvmeCtrlOps, clock: Clock, memory: HostMemory, params: NvmeParams) {
    this.name = name;
    this.ops = ops;
    this.clock = clock;
    this.memory = memory;
    this.params = params;
    this.adminQueue = {
      limits: { ...nvmeSetCtrlLimits(this, 512, 0), pciP2pdma: false },
      submitBio() {
        throw new Error('bios do not go to an admin queue');
      },
    };
  }
}

export interface NvmeFormat {
  readonly lbaShift: number;
  readonly metadataBytes: number;
  readonly readOnly: boolean;
  /** In bytes; 0: it is not zoned. */
  readonly zoneSize: number;
}

/** The block layer's default limit for a request (BLK_DEF_MAX_SECTORS_CAP), in bytes. */
const BLK_DEF_MAX_TRANSFER = 1280 * 1024;

/** struct nvme_ns with its gendisk and request_queue. */
export class NvmeNs implements Gendisk {
  readonly ctrl: NvmeCtrl;
  readonly nsid: number;
  readonly name: string;
  readonly lbaShift: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** head->ms: bytes of metadata for each block. */
  readonly metadataBytes: number;
  readonly limits: BlkQueueLimits;
  /** In bytes. 0 once the drive is gone, so that reads from it return end of file. */
  capacity: number;
  /** GD_DEAD: nothing may be queued any more. */
  dead = false;

  constructor(ctrl: NvmeCtrl, nsid: number, capacity: number, format: NvmeFormat) {
    const { lbaShift, metadataBytes, readOnly, zoneSize } = format;
    this.ctrl = ctrl;
    this.nsid = nsid;
    this.name = `${ctrl.name}n${nsid}`;
    this.lbaShift = lbaShift;
    this.blockSize = 2 ** lbaShift;
    this.readOnly = readOnly;
    this.metadataBytes = metadataBytes;
    this.capacity = capacity;
    this.limits = nvmeSetCtrlLimits(ctrl, this.blockSize, zoneSize);
  }

  /** nvme_ns_head_submit_bio() for a plain disk. */
  submitBio(bio: Bio): void {
    this.ctrl.ops.submitBio(bio);
  }
}

/**
 * nvme_set_ctrl_limits() and nvme_ns_init's features (patch 8): the drive takes any 4-byte aligned memory, but the
 * segments of one command must meet at page boundaries, because a PRP list cannot describe anything else.
 */
function nvmeSetCtrlLimits(ctrl: NvmeCtrl, logicalBlockSize: number, zoneSize: number): BlkQueueLimits {
  return {
    logicalBlockSize,
    dmaAlignment: 4,
    maxTransfer: Math.min(ctrl.mdts, ctrl.ops.maxTransfer, BLK_DEF_MAX_TRANSFER),
    maxSegments: ctrl.ops.maxSegments,
    maxSegmentSize: 0x7ffff000,
    virtBoundary: 4096,
    pciP2pdma: ctrl.ops.supportsPciP2pdma(),
    chunk: zoneSize,
  };
}

/** nvme_setup_cmd(): build the command for a bio. Returns 0, or -EOPNOTSUPP. */
export function nvmeSetupCmd(ns: NvmeNs, bio: Bio, cmd: NvmeCommand): number {
  cmd.clear();
  cmd.nsid = ns.nsid;
  switch (bio.opf) {
    case 'read':
      cmd.opcode = nvme.nvmeCmdRead;
      return nvmeSetupRange(ns, bio, cmd, pract(ns));
    case 'write':
      cmd.opcode = nvme.nvmeCmdWrite;
      return nvmeSetupRange(ns, bio, cmd, pract(ns));
    case 'flush':
      cmd.opcode = nvme.nvmeCmdFlush;
      return 0;
    case 'write_zeroes':
      if ((ns.ctrl.oncs & nvme.NVME_CTRL_ONCS_WRITE_ZEROES) === 0) return -EOPNOTSUPP;
      cmd.opcode = nvme.nvmeCmdWriteZeroes;
      return nvmeSetupRange(ns, bio, cmd, pract(ns));
    case 'discard':
      return -EOPNOTSUPP;
    default:
      return bio.opf satisfies never;
  }
}

/**
 * nvme_setup_rw() and nvme_setup_write_zeroes(): without a metadata buffer from the host, the drive generates the
 * protection information itself.
 */
function pract(ns: NvmeNs): number {
  return ns.metadataBytes > 0 ? nvme.NVME_RW_PRINFO_PRACT : 0;
}

/** nvme_setup_rw(): the start block and the number of blocks, which is a 0's based value. */
function nvmeSetupRange(ns: NvmeNs, bio: Bio, cmd: NvmeCommand, control: number): number {
  const { blockSize } = ns;
  const slba = bio.sector / blockSize;
  cmd.cdw10 = lower32(slba);
  cmd.cdw11 = upper32(slba);
  cmd.cdw12 = (bio.size / blockSize - 1) | control;
  return 0;
}

/** nvme_decide_disposition(): is a failed request retried? Not if the drive forbids it, and only a limited number of times. */
export function nvmeDecideDisposition(req: NvmeRequest, maxRetries: number): 'COMPLETE' | 'RETRY' {
  if (req.status === 0 || req.errno !== 0) return 'COMPLETE';
  if (req.async !== null) return 'COMPLETE';
  if ((req.status & nvme.NVME_STATUS_DNR) !== 0 || req.retries >= maxRetries) return 'COMPLETE';
  return 'RETRY';
}

/** nvme_log_error() as a trace event. */
export function nvmeLogError(ctrl: NvmeCtrl, req: NvmeRequest): void {
  if (!tracing()) return;
  trace('nvme-core', 'error', {
    controller: ctrl.name,
    opcode: req.cmd.opcode,
    nsid: req.cmd.nsid,
    status: req.status & nvme.NVME_SC_MASK,
    text: nvme.nvmeStatusText(req.status),
    dnr: (req.status & nvme.NVME_STATUS_DNR) !== 0,
    retries: req.retries,
  });
}

/** The drive's result for a command that the driver itself issued. */
export interface NvmeAnswer {
  readonly status: number;
  readonly result: number;
}

/**
 * nvme_submit_sync_cmd(): run an admin command that the driver itself issues, whose data is kernel memory. Resolves
 * with the drive's result; rejects if the drive did not complete the command.
 */
export function nvmeSubmitSyncCmd(
  ctrl: NvmeCtrl,
  cmd: NvmeCommand,
  bio: Bio | null = null,
): Promise<NvmeAnswer> {
  return new Promise((resolve, reject) => {
    const end = (errno: number, status: number, result: number) => {
      if (errno !== 0) reject(new Error(`${ctrl.name}: no answer (${errnoName(errno)})`));
      else resolve({ status: status & nvme.NVME_SC_MASK, result });
    };
    ctrl.ops.submitCmd({ cmd, bio, timeout: 0, end }, true);
  });
}

/** nvme_identify_*(): the 4 KiB that Identify returns, or null if the drive does not support this CNS or namespace. */
async function nvmeIdentify(ctrl: NvmeCtrl, cns: number, nsid: number, csi = 0): Promise<DataView | null> {
  const { phys, bytes } = ctrl.memory.allocPages(nvme.NVME_IDENTIFY_BYTES);
  const bio = bioAlloc(ctrl.adminQueue, 'read');
  bioAddPage(bio, phys, nvme.NVME_IDENTIFY_BYTES, null);
  try {
    const cmd = nvmeCommand({
      opcode: nvme.nvmeAdminIdentify,
      nsid,
      cdw10: cns,
      cdw11: csi * 2 ** nvme.NVME_IDENTIFY_CSI_SHIFT,
    });
    const { status } = await nvmeSubmitSyncCmd(ctrl, cmd, bio);
    return status === 0 ? new DataView(bytes.slice(0, nvme.NVME_IDENTIFY_BYTES).buffer) : null;
  } finally {
    bioPut(bio);
    ctrl.memory.freePages(phys);
  }
}

function text(id: DataView, offset: number, length: number): string {
  return Buffer.from(id.buffer, id.byteOffset + offset, length)
    .toString('latin1')
    .trim();
}

function le64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/** nvme_init_identify(): read the controller's identity and capabilities. */
export async function nvmeInitIdentify(ctrl: NvmeCtrl): Promise<void> {
  const id = await nvmeIdentify(ctrl, nvme.NVME_ID_CNS_CTRL, 0);
  if (id === null) throw new Error(`${ctrl.name}: Identify Controller failed`);
  ctrl.serial = text(id, nvme.NVME_ID_CTRL_SN, nvme.NVME_ID_CTRL_SN_BYTES);
  ctrl.model = text(id, nvme.NVME_ID_CTRL_MN, nvme.NVME_ID_CTRL_MN_BYTES);
  ctrl.firmware = text(id, nvme.NVME_ID_CTRL_FR, nvme.NVME_ID_CTRL_FR_BYTES);
  const mdts = id.getUint8(nvme.NVME_ID_CTRL_MDTS);
  ctrl.mdts = mdts === 0 ? Number.POSITIVE_INFINITY : 4096 * 2 ** mdts;
  ctrl.sglSupported = (id.getUint32(nvme.NVME_ID_CTRL_SGLS, true) & 3) !== 0;
  ctrl.volatileWriteCache = (id.getUint8(nvme.NVME_ID_CTRL_VWC) & nvme.NVME_CTRL_VWC_PRESENT) !== 0;
  ctrl.oncs = id.getUint16(nvme.NVME_ID_CTRL_ONCS, true);
}

/**
 * nvme_scan_work(): bring the list of namespaces up to date. A namespace that already existed keeps its object. Only
 * one scan runs at a time.
 */
export function nvmeScanWork(ctrl: NvmeCtrl): Promise<void> {
  const scan = ctrl.scanLock.then(() => nvmeScan(ctrl));
  ctrl.scanLock = scan.catch(() => {});
  return scan;
}

async function nvmeScan(ctrl: NvmeCtrl): Promise<void> {
  const active: number[] = [];
  for (let after = 0; ; ) {
    const list = await nvmeIdentify(ctrl, nvme.NVME_ID_CNS_NS_ACTIVE_LIST, after);
    // Without the list nothing is known about any namespace: none may be removed.
    if (list === null) throw new Error(`${ctrl.name}: the list of active namespaces cannot be read`);
    let found = 0;
    for (; found < 1024; found++) {
      const nsid = list.getUint32(found * 4, true);
      if (nsid === 0) break;
      active.push(nsid);
      after = nsid;
    }
    if (found < 1024) break;
  }
  for (const nsid of active) {
    if (ctrl.namespaces.some((ns) => ns.nsid === nsid)) continue;
    const ns = await nvmeAllocNs(ctrl, nsid);
    if (ns !== null) ctrl.namespaces.push(ns);
  }
  for (const ns of ctrl.namespaces) if (!active.includes(ns.nsid)) nvmeNsRemove(ns);
  ctrl.namespaces.sort((a, b) => a.nsid - b.nsid);
}

/** nvme_alloc_ns() */
async function nvmeAllocNs(ctrl: NvmeCtrl, nsid: number): Promise<NvmeNs | null> {
  const id = await nvmeIdentify(ctrl, nvme.NVME_ID_CNS_NS, nsid);
  if (id === null) return null;
  const blocks = le64(id, nvme.NVME_ID_NS_NSZE);
  if (blocks === 0) return null;
  const flbas = id.getUint8(nvme.NVME_ID_NS_FLBAS);
  const format = flbas & 0xf;
  const lbaShift = id.getUint8(nvme.NVME_ID_NS_LBAF + format * 4 + 2);
  const readOnly = (id.getUint8(nvme.NVME_ID_NS_NSATTR) & 1) !== 0;
  const metadataBytes = id.getUint16(nvme.NVME_ID_NS_LBAF + format * 4, true);
  const zoneSize = (await nvmeZoneBlocks(ctrl, nsid, format)) * 2 ** lbaShift;
  // nvme_update_disk_info(): metadata within the blocks cannot be carried, so there is nothing to read or write.
  const extended = (flbas & nvme.NVME_NS_FLBAS_META_EXT) !== 0 && metadataBytes > 0;
  const capacity = extended ? 0 : blocks * 2 ** lbaShift;
  return new NvmeNs(ctrl, nsid, capacity, { lbaShift, metadataBytes, readOnly, zoneSize });
}

/** nvme_identify_ns_descs() and nvme_query_zone_info(): blocks per zone; 0: it is not zoned. */
async function nvmeZoneBlocks(ctrl: NvmeCtrl, nsid: number, format: number): Promise<number> {
  if (!ctrl.multiCss) return 0;
  const list = await nvmeIdentify(ctrl, nvme.NVME_ID_CNS_NS_DESC_LIST, nsid);
  if (list === null || csiOf(list) !== nvme.NVME_CSI_ZNS) return 0;
  const id = await nvmeIdentify(ctrl, nvme.NVME_ID_CNS_CS_NS, nsid, nvme.NVME_CSI_ZNS);
  return id === null ? 0 : le64(id, nvme.NVME_ID_NS_ZNS_LBAFE + format * nvme.NVME_ID_NS_ZNS_LBAFE_BYTES);
}

/** The command set in a list of descriptors: type (1), length (1), two reserved bytes, the identifier. */
function csiOf(list: DataView): number {
  for (let at = 0; at + 4 < list.byteLength; at += 4 + list.getUint8(at + 1)) {
    const type = list.getUint8(at);
    if (type === nvme.NVME_NIDT_CSI) return list.getUint8(at + 4);
    if (type === 0) break;
  }
  return nvme.NVME_CSI_NVM;
}

/** nvme_ns_remove(): accept no new requests; those in flight end on their own. */
export function nvmeNsRemove(ns: NvmeNs): void {
  ns.dead = true;
  ns.capacity = 0;
  ns.ctrl.namespaces = ns.ctrl.namespaces.filter((other) => other !== ns);
}
