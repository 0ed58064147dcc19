/**
 * The data structures in which a controller describes itself: Identify (controller, namespace, lists) and the log
 * pages. Each function fills a zeroed buffer.
 */
import {
  NVME_AEN_CFG_NS_ATTR,
  NVME_CTRL_ONCS_COMPARE,
  NVME_CTRL_ONCS_DSM,
  NVME_CTRL_ONCS_WRITE_ZEROES,
  NVME_CTRL_SGLS_OVERSIZE,
  NVME_CTRL_SGLS_SUPPORTED,
  NVME_CTRL_VWC_PRESENT,
  NVME_ID_CTRL_ACL,
  NVME_ID_CTRL_AERL,
  NVME_ID_CTRL_CNTLID,
  NVME_ID_CTRL_CNTRLTYPE,
  NVME_ID_CTRL_CQES,
  NVME_ID_CTRL_ELPE,
  NVME_ID_CTRL_FR,
  NVME_ID_CTRL_FR_BYTES,
  NVME_ID_CTRL_LPA,
  NVME_ID_CTRL_MAXCMD,
  NVME_ID_CTRL_MDTS,
  NVME_ID_CTRL_MN,
  NVME_ID_CTRL_MN_BYTES,
  NVME_ID_CTRL_NN,
  NVME_ID_CTRL_OAES,
  NVME_ID_CTRL_ONCS,
  NVME_ID_CTRL_PSD0,
  NVME_ID_CTRL_SGLS,
  NVME_ID_CTRL_SN,
  NVME_ID_CTRL_SN_BYTES,
  NVME_ID_CTRL_SQES,
  NVME_ID_CTRL_SSVID,
  NVME_ID_CTRL_SUBNQN,
  NVME_ID_CTRL_VER,
  NVME_ID_CTRL_VID,
  NVME_ID_CTRL_VWC,
  NVME_ID_NS_DLFEAT,
  NVME_ID_NS_DPS,
  NVME_ID_NS_EUI64,
  NVME_ID_NS_FLBAS,
  NVME_ID_NS_LBAF,
  NVME_ID_NS_NCAP,
  NVME_ID_NS_NGUID,
  NVME_ID_NS_NLBAF,
  NVME_ID_NS_NSATTR,
  NVME_ID_NS_NSFEAT,
  NVME_ID_NS_NSZE,
  NVME_ID_NS_NUSE,
  NVME_ID_NS_ZNS_LBAFE,
  NVME_IDENTIFY_BYTES,
  NVME_NIDT_CSI,
  NVME_NIDT_EUI64,
  NVME_NIDT_NGUID,
  NVME_NS_FLBAS_META_EXT,
  NVME_VS_1_4,
} from '../../backend/nvme-spec.js';
import type { PciDev } from '../../backend/topology.js';
import type { NvmeDescription } from '../../machine/machine.js';
import type { NvmeErrorEntry, NvmeStatistics } from './state.js';
import type { NamespaceStore } from './store.js';
import type { Zones } from './zones.js';

const TWO_32 = 2 ** 32;

/** The maximum number of outstanding Abort commands and Asynchronous Event Requests; both fields are zero-based. */
export const ABORT_LIMIT = 4;
export const ASYNC_EVENT_LIMIT = 4;
export const ERROR_LOG_ENTRIES = 64;
const ERROR_ENTRY_BYTES = 64;
/** ONCS: Save and Select fields in Set and Get Features. */
const ONCS_SAVE_SELECT = 1 << 4;
/** VWC bits 2:1: a Flush for all namespaces at once is not supported. */
const VWC_NO_BROADCAST = 2 << 1;
/** LPA: extended data (lengths over 16 bits, offsets) in Get Log Page. */
const LPA_EXTENDED = 1 << 2;
const FIRMWARE = '1.0';
/** Kelvin. */
const TEMPERATURE = 313;
const WARNING_TEMPERATURE = 343;
const CRITICAL_TEMPERATURE = 353;
const ID_CTRL_WCTEMP = 266;
const ID_CTRL_CCTEMP = 268;

function structure(bytes: number): { bytes: Uint8Array; view: DataView } {
  const data = new Uint8Array(bytes);
  return { bytes: data, view: new DataView(data.buffer) };
}

function putText(into: Uint8Array, at: number, length: number, text: string): void {
  into.fill(0x20, at, at + length);
  for (let i = 0; i < Math.min(length, text.length); i++) into[at + i] = text.charCodeAt(i) & 0x7f;
}

function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

/** MDTS: log2 of the limit in pages. At least 1, since 0 would mean "no limit": the smallest limit is two pages. */
export function mdtsField(bytes: number): number {
  return Math.max(1, Math.floor(Math.log2(bytes / 4096)));
}

export function identifyController(pdev: PciDev, description: NvmeDescription, maxNsid: number): Uint8Array {
  const { bytes, view } = structure(NVME_IDENTIFY_BYTES);
  view.setUint16(NVME_ID_CTRL_VID, pdev.vendor, true);
  view.setUint16(NVME_ID_CTRL_SSVID, pdev.vendor, true);
  putText(bytes, NVME_ID_CTRL_SN, NVME_ID_CTRL_SN_BYTES, description.serial);
  putText(bytes, NVME_ID_CTRL_MN, NVME_ID_CTRL_MN_BYTES, description.model);
  putText(bytes, NVME_ID_CTRL_FR, NVME_ID_CTRL_FR_BYTES, FIRMWARE);
  bytes[NVME_ID_CTRL_MDTS] = mdtsField(description.mdts);
  view.setUint16(NVME_ID_CTRL_CNTLID, 0, true);
  view.setUint32(NVME_ID_CTRL_VER, NVME_VS_1_4, true);
  view.setUint32(NVME_ID_CTRL_OAES, NVME_AEN_CFG_NS_ATTR, true);
  bytes[NVME_ID_CTRL_CNTRLTYPE] = 1;
  bytes[NVME_ID_CTRL_ACL] = ABORT_LIMIT - 1;
  bytes[NVME_ID_CTRL_AERL] = ASYNC_EVENT_LIMIT - 1;
  bytes[NVME_ID_CTRL_LPA] = LPA_EXTENDED;
  bytes[NVME_ID_CTRL_ELPE] = ERROR_LOG_ENTRIES - 1;
  view.setUint16(ID_CTRL_WCTEMP, WARNING_TEMPERATURE, true);
  view.setUint16(ID_CTRL_CCTEMP, CRITICAL_TEMPERATURE, true);
  bytes[NVME_ID_CTRL_SQES] = 0x66;
  bytes[NVME_ID_CTRL_CQES] = 0x44;
  view.setUint16(NVME_ID_CTRL_MAXCMD, 0, true);
  view.setUint32(NVME_ID_CTRL_NN, maxNsid, true);
  view.setUint16(
    NVME_ID_CTRL_ONCS,
    NVME_CTRL_ONCS_COMPARE | NVME_CTRL_ONCS_DSM | NVME_CTRL_ONCS_WRITE_ZEROES | ONCS_SAVE_SELECT,
    true,
  );
  bytes[NVME_ID_CTRL_VWC] = NVME_CTRL_VWC_PRESENT | VWC_NO_BROADCAST;
  const sgls = description.sgls ? NVME_CTRL_SGLS_SUPPORTED | NVME_CTRL_SGLS_OVERSIZE : 0;
  view.setUint32(NVME_ID_CTRL_SGLS, sgls, true);
  const nqn = `nqn.2014.08.org.nvmexpress:p2pdma:${description.serial.trim()}`;
  for (let i = 0; i < nqn.length; i++) bytes[NVME_ID_CTRL_SUBNQN + i] = nqn.charCodeAt(i) & 0x7f;
  // Power state 0: 25 W, in units of 0.01 W.
  view.setUint16(NVME_ID_CTRL_PSD0, 2500, true);
  return bytes;
}

/** FNV-1a over the serial number and the namespace id: stable identifiers that need no registered vendor. */
function uniqueId(serial: string, nsid: number, salt: number): number {
  let hash = 0x811c9dc5 ^ salt;
  for (const c of `${serial}/${nsid}`) hash = Math.imul(hash ^ c.charCodeAt(0), 0x01000193);
  return hash >>> 0;
}

function putEui64(view: DataView, at: number, serial: string, nsid: number): void {
  // 0x02: locally administered.
  view.setUint32(at, ((uniqueId(serial, nsid, 1) & 0x00ffffff) | 0x02000000) >>> 0);
  view.setUint32(at + 4, uniqueId(serial, nsid, 2));
}

function putNguid(view: DataView, at: number, serial: string, nsid: number): void {
  for (let i = 0; i < 4; i++) view.setUint32(at + 4 * i, uniqueId(serial, nsid, 3 + i));
}

export function identifyNamespace(
  serial: string,
  nsid: number,
  store: NamespaceStore | undefined,
): Uint8Array {
  const { bytes, view } = structure(NVME_IDENTIFY_BYTES);
  if (store === undefined) return bytes;
  const blocks = store.size / store.blockSize;
  put64(view, NVME_ID_NS_NSZE, blocks);
  put64(view, NVME_ID_NS_NCAP, blocks);
  put64(view, NVME_ID_NS_NUSE, Math.min(blocks, Math.ceil(store.used / store.blockSize)));
  bytes[NVME_ID_NS_NSFEAT] = store.used < store.size ? 1 : 0;
  bytes[NVME_ID_NS_NLBAF] = 0;
  bytes[NVME_ID_NS_FLBAS] = store.extendedLba === true ? NVME_NS_FLBAS_META_EXT : 0;
  bytes[NVME_ID_NS_DLFEAT] = store.deallocatedReadsZero ? 1 : 0;
  bytes[NVME_ID_NS_NSATTR] = store.readOnly ? 1 : 0;
  putNguid(view, NVME_ID_NS_NGUID, serial, nsid);
  putEui64(view, NVME_ID_NS_EUI64, serial, nsid);
  bytes[NVME_ID_NS_DPS] = store.metadataBytes > 0 && store.extendedLba !== true ? 1 : 0;
  view.setUint32(NVME_ID_NS_LBAF, store.metadataBytes | (Math.log2(store.blockSize) << 16), true);
  return bytes;
}

/** The ids above `after` in ascending order, as many as fit. */
export function namespaceList(nsids: Iterable<number>, after: number): Uint8Array {
  const { bytes, view } = structure(NVME_IDENTIFY_BYTES);
  const sorted = [...nsids].filter((nsid) => nsid > after).sort((a, b) => a - b);
  for (let i = 0; i < Math.min(sorted.length, NVME_IDENTIFY_BYTES / 4); i++) {
    view.setUint32(4 * i, sorted[i]!, true);
  }
  return bytes;
}

/** Identify Namespace of the zoned command set. */
export function identifyZonedNamespace({ blockSize }: NamespaceStore, { zoneSize }: Zones): Uint8Array {
  const { bytes, view } = structure(NVME_IDENTIFY_BYTES);
  put64(view, NVME_ID_NS_ZNS_LBAFE, zoneSize / blockSize);
  return bytes;
}

/** `csi`: the command set of the namespace; null: the controller has only one. */
export function namespaceDescriptors(serial: string, nsid: number, csi: number | null): Uint8Array {
  const { bytes, view } = structure(NVME_IDENTIFY_BYTES);
  bytes[0] = NVME_NIDT_EUI64;
  bytes[1] = 8;
  putEui64(view, 4, serial, nsid);
  bytes[12] = NVME_NIDT_NGUID;
  bytes[13] = 16;
  putNguid(view, 16, serial, nsid);
  if (csi !== null) bytes.set([NVME_NIDT_CSI, 1, 0, 0, csi], 32);
  return bytes;
}

/** The entries are sorted with the newest first. */
export function errorLog(entries: readonly NvmeErrorEntry[]): Uint8Array {
  const { bytes, view } = structure(ERROR_LOG_ENTRIES * ERROR_ENTRY_BYTES);
  for (let i = 0; i < entries.length && i < ERROR_LOG_ENTRIES; i++) {
    const entry = entries[entries.length - 1 - i]!;
    const at = i * ERROR_ENTRY_BYTES;
    put64(view, at, entry.count);
    view.setUint16(at + 8, entry.sqid, true);
    view.setUint16(at + 10, entry.cid, true);
    view.setUint16(at + 12, (entry.status << 1) & 0xffff, true);
    // The location of the invalid parameter is not reported.
    view.setUint16(at + 14, 0xffff, true);
    put64(view, at + 16, entry.lba);
    view.setUint32(at + 24, entry.nsid, true);
  }
  return bytes;
}

export function smartLog(statistics: NvmeStatistics, hours: number): Uint8Array {
  const { bytes, view } = structure(512);
  view.setUint16(1, TEMPERATURE, true);
  bytes[3] = 100;
  bytes[4] = 10;
  // Data units are thousands of 512-byte blocks, rounded up.
  put64(view, 32, Math.ceil(statistics.bytesRead / 512_000));
  put64(view, 48, Math.ceil(statistics.bytesWritten / 512_000));
  put64(view, 64, statistics.readCommands);
  put64(view, 80, statistics.writeCommands);
  put64(view, 112, 1);
  put64(view, 128, Math.floor(hours));
  put64(view, 160, statistics.mediaErrors);
  put64(view, 176, statistics.errorLogEntries);
  view.setUint16(200, TEMPERATURE, true);
  return bytes;
}

export function firmwareLog(): Uint8Array {
  const { bytes } = structure(512);
  bytes[0] = 1;
  putText(bytes, 8, 8, FIRMWARE);
  return bytes;
}
