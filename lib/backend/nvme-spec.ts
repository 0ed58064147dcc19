/**
 * The constants of NVMe on which a controller and its driver must agree (NVM Express Base Specification 1.4
 * and the NVM command set). They have the kernel's names (include/linux/nvme.h) where it has one.
 *
 *     SQE, 64 bytes                               CQE, 16 bytes
 *      0  opcode │ flags (FUSE, PSDT) │ cid       0  result, low half
 *      4  nsid                                    4  result, high half (reserved in most commands)
 *     16  mptr                                    8  SQ head │ SQ id
 *     24  dptr: PRP1 + PRP2, or one SGL          12  cid │ phase (bit 0) + status (bits 15:1)
 *     40  cdw10 … cdw15
 */
import { hexNumber } from '../base/words.js';

// Controller registers (offsets in BAR 0).
export const NVME_REG_CAP = 0x00;
export const NVME_REG_VS = 0x08;
export const NVME_REG_INTMS = 0x0c;
export const NVME_REG_INTMC = 0x10;
export const NVME_REG_CC = 0x14;
export const NVME_REG_CSTS = 0x1c;
export const NVME_REG_NSSR = 0x20;
export const NVME_REG_AQA = 0x24;
export const NVME_REG_ASQ = 0x28;
export const NVME_REG_ACQ = 0x30;
export const NVME_REG_CMBLOC = 0x38;
export const NVME_REG_CMBSZ = 0x3c;
export const NVME_REG_CMBMSC = 0x50;
export const NVME_REG_CMBSTS = 0x58;
/** First doorbell; queue q has its SQ tail at DBS + 8q and its CQ head at DBS + 8q + 4 (CAP.DSTRD is 0). */
export const NVME_REG_DBS = 0x1000;

/** Version 1.4.0. */
export const NVME_VS_1_4 = 0x00010400;

// CAP. Bits 0-31 are read at NVME_REG_CAP, 32-63 at NVME_REG_CAP + 4.
export const NVME_CAP_LO_MQES_MASK = 0xffff;
export const NVME_CAP_LO_CQR = 1 << 16;
/** CAP.TO, in units of 500 ms. */
export const NVME_CAP_LO_TO_SHIFT = 24;
export const NVME_CAP_HI_DSTRD_MASK = 0xf;
/** CAP.CSS: the NVM command set. */
export const NVME_CAP_HI_CSS_NVM = 1 << 5;
/** CAP.CSS: one or more I/O command sets; a namespace says which is its own. */
export const NVME_CAP_HI_CSS_CSI = 1 << 11;
export const NVME_CAP_HI_MPSMIN_SHIFT = 16;
export const NVME_CAP_HI_MPSMAX_SHIFT = 20;
/** CAP.CMBS: there is a CMB, but CMBLOC/CMBSZ show it only after CMBMSC.CRE was set. */
export const NVME_CAP_HI_CMBS = 1 << 25;

// CC
export const NVME_CC_ENABLE = 1 << 0;
export const NVME_CC_CSS_SHIFT = 4;
/** CC.CSS: all supported I/O command sets. */
export const NVME_CC_CSS_CSI = 6 << NVME_CC_CSS_SHIFT;
export const NVME_CC_MPS_SHIFT = 7;
export const NVME_CC_AMS_SHIFT = 11;
export const NVME_CC_SHN_MASK = 3 << 14;
export const NVME_CC_SHN_NONE = 0 << 14;
export const NVME_CC_SHN_NORMAL = 1 << 14;
export const NVME_CC_SHN_ABRUPT = 2 << 14;
/** log2 of the SQE size, 6. */
export const NVME_CC_IOSQES_SHIFT = 16;
/** log2 of the CQE size, 4. */
export const NVME_CC_IOCQES_SHIFT = 20;

// CSTS
export const NVME_CSTS_RDY = 1 << 0;
export const NVME_CSTS_CFS = 1 << 1;
export const NVME_CSTS_SHST_MASK = 3 << 2;
export const NVME_CSTS_SHST_NORMAL = 0 << 2;
export const NVME_CSTS_SHST_OCCUR = 1 << 2;
export const NVME_CSTS_SHST_CMPLT = 2 << 2;

// CMBLOC
export const NVME_CMBLOC_BIR_MASK = 0x7;
/** The data pointers of one command (PRP lists and SGLs, not the data) may lie partly in the CMB and partly outside it. */
export const NVME_CMBLOC_CDPMLS = 1 << 5;
export const NVME_CMBLOC_CDPCILS = 1 << 6;
/** The data of one command may lie partly in the CMB and partly outside it. Clear here, as in drives seen so far. */
export const NVME_CMBLOC_CDMMMS = 1 << 7;
/** Offset of the CMB in its BAR, in CMBSZ.SZU units. */
export const NVME_CMBLOC_OFST_SHIFT = 12;

// CMBSZ
export const NVME_CMBSZ_SQS = 1 << 0;
export const NVME_CMBSZ_CQS = 1 << 1;
export const NVME_CMBSZ_LISTS = 1 << 2;
/** The data of commands that send data to the host (Read) may lie in the CMB. */
export const NVME_CMBSZ_RDS = 1 << 3;
/** The data of commands that take data from the host (Write) may lie in the CMB. */
export const NVME_CMBSZ_WDS = 1 << 4;
export const NVME_CMBSZ_SZU_SHIFT = 8;
export const NVME_CMBSZ_SZU_MASK = 0xf;
export const NVME_CMBSZ_SZ_SHIFT = 12;

/** Size of one unit of CMBSZ.SZU in bytes: 4 KiB × 16^SZU. */
export function cmbSizeUnit(szu: number): number {
  return 4096 * 16 ** szu;
}

// CMBMSC, low half; bits 63:12 are the CMB's bus address from the controller's point of view (CBA).
/** Capabilities registers enabled: CMBLOC and CMBSZ show the CMB. */
export const NVME_CMBMSC_CRE = 1 << 0;
/** Controller memory space enabled: the controller treats addresses from CBA on as its CMB. */
export const NVME_CMBMSC_CMSE = 1 << 1;
export const NVME_CMBSTS_CBAI = 1 << 0;

// Submission queue entry.
export const NVME_SQE_BYTES = 64;
export const NVME_CQE_BYTES = 16;
export const NVME_SQE_OPCODE = 0;
export const NVME_SQE_FLAGS = 1;
export const NVME_SQE_CID = 2;
export const NVME_SQE_NSID = 4;
export const NVME_SQE_CDW2 = 8;
export const NVME_SQE_CDW3 = 12;
export const NVME_SQE_MPTR = 16;
export const NVME_SQE_PRP1 = 24;
export const NVME_SQE_PRP2 = 32;
/** One SGL descriptor, in place of the two PRPs. */
export const NVME_SQE_SGL = 24;
export const NVME_SQE_CDW10 = 40;
export const NVME_SQE_CDW11 = 44;
export const NVME_SQE_CDW12 = 48;
export const NVME_SQE_CDW13 = 52;
export const NVME_SQE_CDW14 = 56;
export const NVME_SQE_CDW15 = 60;

// SQE flags.
export const NVME_CMD_FUSE_MASK = 0x03;
export const NVME_CMD_SGL_METABUF = 1 << 6;
export const NVME_CMD_SGL_METASEG = 1 << 7;
export const NVME_CMD_SGL_ALL = NVME_CMD_SGL_METABUF | NVME_CMD_SGL_METASEG;

// Completion queue entry.
export const NVME_CQE_RESULT = 0;
export const NVME_CQE_RESULT_HI = 4;
export const NVME_CQE_SQ_HEAD = 8;
export const NVME_CQE_SQ_ID = 10;
export const NVME_CQE_CID = 12;
/** 16 bits: phase, then the status (see NVME_SC_*) shifted left by one. */
export const NVME_CQE_STATUS = 14;

// SGL descriptor: address (8 bytes), length (4), 3 reserved bytes, type << 4 | subtype.
export const NVME_SGL_DESC_BYTES = 16;
export const NVME_SGL_FMT_DATA_DESC = 0x00;
export const NVME_SGL_FMT_BIT_BUCKET = 0x01;
export const NVME_SGL_FMT_SEG_DESC = 0x02;
export const NVME_SGL_FMT_LAST_SEG_DESC = 0x03;

// Admin opcodes.
export const nvmeAdminDeleteSq = 0x00;
export const nvmeAdminCreateSq = 0x01;
export const nvmeAdminGetLogPage = 0x02;
export const nvmeAdminDeleteCq = 0x04;
export const nvmeAdminCreateCq = 0x05;
export const nvmeAdminIdentify = 0x06;
export const nvmeAdminAbortCmd = 0x08;
export const nvmeAdminSetFeatures = 0x09;
export const nvmeAdminGetFeatures = 0x0a;
export const nvmeAdminAsyncEvent = 0x0c;
export const nvmeAdminDownloadFw = 0x11;
export const nvmeAdminNsAttach = 0x15;

// NVM command set opcodes. The low two bits give the direction: 1 host to controller, 2 controller to host.
export const nvmeCmdFlush = 0x00;
export const nvmeCmdWrite = 0x01;
export const nvmeCmdRead = 0x02;
export const nvmeCmdCompare = 0x05;
export const nvmeCmdWriteZeroes = 0x08;
export const nvmeCmdDsm = 0x09;
export const nvmeCmdResvRegister = 0x0d;
export const nvmeCmdResvReport = 0x0e;
export const nvmeCmdResvAcquire = 0x11;
export const nvmeCmdResvRelease = 0x15;
export const nvmeCmdZoneMgmtSend = 0x79;
export const nvmeCmdZoneMgmtRecv = 0x7a;
export const nvmeCmdZoneAppend = 0x7d;

// Create I/O queue: CDW11.
export const NVME_QUEUE_PHYS_CONTIG = 1 << 0;
export const NVME_CQ_IRQ_ENABLED = 1 << 1;

// Read and Write: CDW12, high half.
export const NVME_RW_LR = 0x80000000;
export const NVME_RW_FUA = 1 << 30;
/** The drive generates the protection information on a write, and checks and strips it on a read. */
export const NVME_RW_PRINFO_PRACT = 1 << 29;

// Dataset Management.
export const NVME_DSMGMT_AD = 1 << 2;
export const NVME_DSM_RANGE_BYTES = 16;
export const NVME_DSM_MAX_RANGES = 256;

// Write Zeroes: CDW12.
export const NVME_WZ_DEAC = 1 << 25;

// Identify: CNS values, and offsets of the fields that a driver needs.
export const NVME_IDENTIFY_BYTES = 4096;
export const NVME_ID_CNS_NS = 0x00;
export const NVME_ID_CNS_CTRL = 0x01;
export const NVME_ID_CNS_NS_ACTIVE_LIST = 0x02;
export const NVME_ID_CNS_NS_DESC_LIST = 0x03;
export const NVME_ID_CNS_CS_NS = 0x05;

export const NVME_ID_CTRL_VID = 0;
export const NVME_ID_CTRL_SSVID = 2;
export const NVME_ID_CTRL_SN = 4;
export const NVME_ID_CTRL_SN_BYTES = 20;
export const NVME_ID_CTRL_MN = 24;
export const NVME_ID_CTRL_MN_BYTES = 40;
export const NVME_ID_CTRL_FR = 64;
export const NVME_ID_CTRL_FR_BYTES = 8;
/** log2 of the largest transfer in 4 KiB pages; 0: no limit. */
export const NVME_ID_CTRL_MDTS = 77;
export const NVME_ID_CTRL_CNTLID = 78;
export const NVME_ID_CTRL_VER = 80;
export const NVME_ID_CTRL_OAES = 92;
export const NVME_ID_CTRL_CNTRLTYPE = 111;
export const NVME_ID_CTRL_ACL = 258;
export const NVME_ID_CTRL_AERL = 259;
export const NVME_ID_CTRL_LPA = 261;
export const NVME_ID_CTRL_ELPE = 262;
export const NVME_ID_CTRL_SQES = 512;
export const NVME_ID_CTRL_CQES = 513;
export const NVME_ID_CTRL_MAXCMD = 514;
export const NVME_ID_CTRL_NN = 516;
export const NVME_ID_CTRL_ONCS = 520;
export const NVME_ID_CTRL_VWC = 525;
export const NVME_ID_CTRL_SGLS = 536;
export const NVME_ID_CTRL_SUBNQN = 768;
export const NVME_ID_CTRL_PSD0 = 2048;

export const NVME_CTRL_ONCS_COMPARE = 1 << 0;
export const NVME_CTRL_ONCS_DSM = 1 << 2;
export const NVME_CTRL_ONCS_WRITE_ZEROES = 1 << 3;
export const NVME_CTRL_VWC_PRESENT = 1 << 0;
export const NVME_CTRL_SGLS_SUPPORTED = 0x1;
/** An SGL may describe more than the command moves. */
export const NVME_CTRL_SGLS_OVERSIZE = 1 << 18;

/** Number of blocks in the namespace, 8 bytes; then capacity and utilization. */
export const NVME_ID_NS_NSZE = 0;
export const NVME_ID_NS_NCAP = 8;
export const NVME_ID_NS_NUSE = 16;
export const NVME_ID_NS_NSFEAT = 24;
export const NVME_ID_NS_NLBAF = 25;
/** Which LBA format is in use (bits 3:0). */
export const NVME_ID_NS_FLBAS = 26;
/** Bit 4 of it: the metadata lies within the blocks (extended LBA). */
export const NVME_NS_FLBAS_META_EXT = 1 << 4;
/** Bits 2:0: type of the protection information; 0: none. */
export const NVME_ID_NS_DPS = 29;
export const NVME_ID_NS_DLFEAT = 33;
/** Bit 0: the namespace is write protected. */
export const NVME_ID_NS_NSATTR = 99;
export const NVME_ID_NS_NGUID = 104;
export const NVME_ID_NS_EUI64 = 120;
/** LBA formats, 4 bytes each: metadata size (2), log2 of the block size (1), relative performance (1). */
export const NVME_ID_NS_LBAF = 128;

export const NVME_NIDT_EUI64 = 1;
export const NVME_NIDT_NGUID = 2;
export const NVME_NIDT_CSI = 4;

/** Command set identifiers. In CDW11 of Identify, they are in the top byte. */
export const NVME_CSI_NVM = 0;
export const NVME_CSI_ZNS = 2;
export const NVME_IDENTIFY_CSI_SHIFT = 24;
/** Identify Namespace of the zoned command set: LBA format extensions, 16 bytes each; the zone size in blocks (8) is first. */
export const NVME_ID_NS_ZNS_LBAFE = 2816;
export const NVME_ID_NS_ZNS_LBAFE_BYTES = 16;

// Features.
export const NVME_FEAT_ARBITRATION = 0x01;
export const NVME_FEAT_POWER_MGMT = 0x02;
export const NVME_FEAT_TEMP_THRESH = 0x04;
export const NVME_FEAT_ERR_RECOVERY = 0x05;
export const NVME_FEAT_VOLATILE_WC = 0x06;
export const NVME_FEAT_NUM_QUEUES = 0x07;
export const NVME_FEAT_IRQ_COALESCE = 0x08;
export const NVME_FEAT_IRQ_CONFIG = 0x09;
export const NVME_FEAT_WRITE_ATOMIC = 0x0a;
export const NVME_FEAT_ASYNC_EVENT = 0x0b;

// Log pages.
export const NVME_LOG_ERROR = 0x01;
export const NVME_LOG_SMART = 0x02;
export const NVME_LOG_FW_SLOT = 0x03;
export const NVME_LOG_CHANGED_NS = 0x04;

// Asynchronous events: result = type | info << 8 | log page << 16.
export const NVME_AER_ERROR = 0;
export const NVME_AER_NOTICE = 2;
export const NVME_AER_ERROR_INVALID_DB_REG = 0x00;
export const NVME_AER_ERROR_INVALID_DB_VALUE = 0x01;
export const NVME_AER_NOTICE_NS_CHANGED = 0x00;
/** Feature 0x0b, bit 8: report when namespaces appear or disappear. */
export const NVME_AEN_CFG_NS_ATTR = 1 << 8;

// Status: code type << 8 | code. A completion carries it above the phase bit, with DNR as bit 14.
export const NVME_SC_SUCCESS = 0x000;
export const NVME_SC_INVALID_OPCODE = 0x001;
export const NVME_SC_INVALID_FIELD = 0x002;
export const NVME_SC_CMDID_CONFLICT = 0x003;
export const NVME_SC_DATA_XFER_ERROR = 0x004;
export const NVME_SC_POWER_LOSS = 0x005;
export const NVME_SC_INTERNAL = 0x006;
export const NVME_SC_ABORT_REQ = 0x007;
export const NVME_SC_ABORT_QUEUE = 0x008;
export const NVME_SC_FUSED_FAIL = 0x009;
export const NVME_SC_FUSED_MISSING = 0x00a;
export const NVME_SC_INVALID_NS = 0x00b;
export const NVME_SC_CMD_SEQ_ERROR = 0x00c;
export const NVME_SC_SGL_INVALID_LAST = 0x00d;
export const NVME_SC_SGL_INVALID_COUNT = 0x00e;
export const NVME_SC_SGL_INVALID_DATA = 0x00f;
export const NVME_SC_SGL_INVALID_METADATA = 0x010;
export const NVME_SC_SGL_INVALID_TYPE = 0x011;
/**
 * The command must not use the CMB in this way: its data is partly in the drive's own CMB and partly outside it, or CMBSZ does
 * not allow this use.
 */
export const NVME_SC_CMB_INVALID_USE = 0x012;
export const NVME_SC_PRP_INVALID_OFFSET = 0x013;
export const NVME_SC_NS_WRITE_PROTECTED = 0x020;
export const NVME_SC_LBA_RANGE = 0x080;
export const NVME_SC_CAP_EXCEEDED = 0x081;
export const NVME_SC_NS_NOT_READY = 0x082;
export const NVME_SC_CQ_INVALID = 0x100;
export const NVME_SC_QID_INVALID = 0x101;
export const NVME_SC_QUEUE_SIZE = 0x102;
export const NVME_SC_ABORT_LIMIT = 0x103;
export const NVME_SC_ASYNC_LIMIT = 0x105;
export const NVME_SC_INVALID_VECTOR = 0x108;
export const NVME_SC_INVALID_LOG_PAGE = 0x109;
export const NVME_SC_INVALID_QUEUE = 0x10c;
export const NVME_SC_FEATURE_NOT_SAVEABLE = 0x10d;
export const NVME_SC_FEATURE_NOT_CHANGEABLE = 0x10e;
export const NVME_SC_READ_ONLY = 0x182;
export const NVME_SC_ZONE_BOUNDARY_ERROR = 0x1b8;
export const NVME_SC_ZONE_FULL = 0x1b9;
export const NVME_SC_ZONE_INVALID_WRITE = 0x1bc;
export const NVME_SC_WRITE_FAULT = 0x280;
export const NVME_SC_READ_ERROR = 0x281;
export const NVME_SC_COMPARE_FAILED = 0x285;
/** Defined by the driver: the host aborted the command (controller reset or removed). The controller never sends it. */
export const NVME_SC_HOST_ABORTED_CMD = 0x371;
/** Type and code of a status, without CRD, More and DNR. */
export const NVME_SC_MASK = 0x7ff;
/** Do not retry. */
export const NVME_STATUS_DNR = 0x4000;

export const NVME_NSID_ALL = 0xffffffff;

const statusText = new Map<number, string>([
  [NVME_SC_SUCCESS, 'Successful Completion'],
  [NVME_SC_INVALID_OPCODE, 'Invalid Command Opcode'],
  [NVME_SC_INVALID_FIELD, 'Invalid Field in Command'],
  [NVME_SC_CMDID_CONFLICT, 'Command ID Conflict'],
  [NVME_SC_DATA_XFER_ERROR, 'Data Transfer Error'],
  [NVME_SC_POWER_LOSS, 'Aborted due to Power Loss'],
  [NVME_SC_INTERNAL, 'Internal Error'],
  [NVME_SC_ABORT_REQ, 'Command Abort Requested'],
  [NVME_SC_ABORT_QUEUE, 'Aborted due to SQ Deletion'],
  [NVME_SC_FUSED_FAIL, 'Aborted due to Failed Fused Command'],
  [NVME_SC_FUSED_MISSING, 'Aborted due to Missing Fused Command'],
  [NVME_SC_INVALID_NS, 'Invalid Namespace or Format'],
  [NVME_SC_CMD_SEQ_ERROR, 'Command Sequence Error'],
  [NVME_SC_SGL_INVALID_LAST, 'Invalid SGL Segment Descriptor'],
  [NVME_SC_SGL_INVALID_COUNT, 'Invalid Number of SGL Descriptors'],
  [NVME_SC_SGL_INVALID_DATA, 'Data SGL Length Invalid'],
  [NVME_SC_SGL_INVALID_METADATA, 'Metadata SGL Length Invalid'],
  [NVME_SC_SGL_INVALID_TYPE, 'SGL Descriptor Type Invalid'],
  [NVME_SC_CMB_INVALID_USE, 'Invalid Use of Controller Memory Buffer'],
  [NVME_SC_PRP_INVALID_OFFSET, 'PRP Offset Invalid'],
  [NVME_SC_NS_WRITE_PROTECTED, 'Namespace is Write Protected'],
  [NVME_SC_LBA_RANGE, 'LBA Out of Range'],
  [NVME_SC_CAP_EXCEEDED, 'Capacity Exceeded'],
  [NVME_SC_NS_NOT_READY, 'Namespace Not Ready'],
  [NVME_SC_CQ_INVALID, 'Completion Queue Invalid'],
  [NVME_SC_QID_INVALID, 'Invalid Queue Identifier'],
  [NVME_SC_QUEUE_SIZE, 'Invalid Queue Size'],
  [NVME_SC_ABORT_LIMIT, 'Abort Command Limit Exceeded'],
  [NVME_SC_ASYNC_LIMIT, 'Asynchronous Event Request Limit Exceeded'],
  [NVME_SC_INVALID_VECTOR, 'Invalid Interrupt Vector'],
  [NVME_SC_INVALID_LOG_PAGE, 'Invalid Log Page'],
  [NVME_SC_INVALID_QUEUE, 'Invalid Queue Deletion'],
  [NVME_SC_FEATURE_NOT_SAVEABLE, 'Feature Identifier Not Saveable'],
  [NVME_SC_FEATURE_NOT_CHANGEABLE, 'Feature Not Changeable'],
  [NVME_SC_READ_ONLY, 'Attempted Write to Read Only Range'],
  [NVME_SC_ZONE_BOUNDARY_ERROR, 'Zoned Boundary Error'],
  [NVME_SC_ZONE_FULL, 'Zone Is Full'],
  [NVME_SC_ZONE_INVALID_WRITE, 'Zone Invalid Write'],
  [NVME_SC_WRITE_FAULT, 'Write Fault'],
  [NVME_SC_READ_ERROR, 'Unrecovered Read Error'],
  [NVME_SC_COMPARE_FAILED, 'Compare Failure'],
  [NVME_SC_HOST_ABORTED_CMD, 'Host Aborted Command'],
]);

/** A status in words, as in the kernel's log: `'Invalid Use of Controller Memory Buffer (sct 0x0 / sc 0x12)'`. */
export function nvmeStatusText(status: number): string {
  const bare = status & NVME_SC_MASK;
  const code = `sct ${hexNumber(bare >> 8)} / sc ${hexNumber(bare & 0xff)}`;
  return `${statusText.get(bare) ?? 'Unknown'} (${code})`;
}
