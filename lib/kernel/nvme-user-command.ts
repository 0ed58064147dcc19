/**
 * The memory that a passthrough command must have. The kernel (drivers/nvme/host/ioctl.c) does not check it: if
 * memory is missing or too short, a pointer in the command stays 0, and a drive treats 0 like any other address.
 *
 *     opcode     moves                          memory it needs
 *     Read …     (NLB + 1) blocks               data; metadata too, where blocks have some and MPTR (separate) or longer
 *                                               blocks (extended) carry it, which this door cannot yet
 *     others     what their dwords say          data
 */

import type { PassthroughCommand } from '../backend/backend.js';
import * as nvme from '../backend/nvme-spec.js';
import { EOPNOTSUPP } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { hexNumber } from '../base/words.js';

/** The format of a namespace's blocks. */
export interface NamespaceFormat {
  /** Bytes of data. */
  readonly blockSize: number;
  /** Bytes of metadata per block; null: could not be determined. */
  readonly metadataBytes: number | null;
}

type Bytes = (command: PassthroughCommand, format: NamespaceFormat) => number;

const dwords = (zeroBased: number): number => (zeroBased + 1) * 4;
const blocks: Bytes = ({ cdw12 = 0 }, { blockSize }) => ((cdw12 & 0xffff) + 1) * blockSize;

/** Opcodes of I/O commands that transfer blocks and therefore their metadata. */
const MOVES_BLOCKS: ReadonlySet<number> = new Set([
  nvme.nvmeCmdWrite,
  nvme.nvmeCmdRead,
  nvme.nvmeCmdCompare,
  nvme.nvmeCmdZoneAppend,
]);

/** Number of bytes that each I/O command transfers, including commands whose data is not blocks of the namespace. */
const IO: ReadonlyMap<number, Bytes> = new Map<number, Bytes>([
  ...[...MOVES_BLOCKS].map((opcode) => [opcode, blocks] as const),
  [nvme.nvmeCmdDsm, ({ cdw10 = 0 }) => ((cdw10 & 0xff) + 1) * nvme.NVME_DSM_RANGE_BYTES],
  [nvme.nvmeCmdResvRegister, () => 16],
  [nvme.nvmeCmdResvReport, ({ cdw10 = 0 }) => dwords(cdw10)],
  [nvme.nvmeCmdResvAcquire, () => 16],
  [nvme.nvmeCmdResvRelease, () => 8],
  [nvme.nvmeCmdZoneMgmtRecv, ({ cdw12 = 0 }) => dwords(cdw12)],
]);

/** Zone Management Send has data for only one of its actions. */
const MAY_BE_WITHOUT: ReadonlySet<number> = new Set([nvme.nvmeCmdZoneMgmtSend]);

/** Admin commands that always have data; the others may have none. */
const ADMIN: ReadonlyMap<number, Bytes> = new Map<number, Bytes>([
  [
    nvme.nvmeAdminGetLogPage,
    ({ cdw10 = 0, cdw11 = 0 }) => dwords((cdw10 >>> 16) + (cdw11 & 0xffff) * 0x10000),
  ],
  [nvme.nvmeAdminIdentify, () => nvme.NVME_IDENTIFY_BYTES],
  [nvme.nvmeAdminDownloadFw, ({ cdw10 = 0 }) => dwords(cdw10)],
  [nvme.nvmeAdminNsAttach, () => nvme.NVME_IDENTIFY_BYTES],
]);

/** Does the opcode transfer data to or from the drive, according to its two low bits? */
export function movesData(opcode: number): boolean {
  return (opcode & 3) !== 0;
}

/** Can the command transfer metadata? For an unknown opcode, the answer is yes. */
export function mayMoveMetadata({ admin, opcode }: PassthroughCommand): boolean {
  if (admin === true || !movesData(opcode)) return false;
  return MOVES_BLOCKS.has(opcode) || !(IO.has(opcode) || MAY_BE_WITHOUT.has(opcode));
}

/**
 * Refuse a command that would be sent with a pointer of 0.
 * @param format of the namespace; requested only if the command may transfer its blocks
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: no memory, or less than the command transfers; EOPNOTSUPP: blocks with
 * metadata
 */
export function assertSendable(command: PassthroughCommand, path: string, format: NamespaceFormat): void {
  if (mayMoveMetadata(command)) assertNoMetadata(path, format.metadataBytes);
  const { admin, opcode, data } = command;
  const given = data?.byteLength ?? 0;
  const name = `opcode ${hexNumber(opcode, 2)}`;
  const bytes = (admin === true ? ADMIN : IO).get(opcode);
  if (bytes === undefined) {
    if (given > 0 || admin === true || !movesData(opcode) || MAY_BE_WITHOUT.has(opcode)) return;
    throw invalid(`${name} moves data (its low two bits say so), and data is not given`, path);
  }
  const needed = bytes(command, format);
  if (given < needed)
    throw invalid(`${name} moves ${needed} bytes as its dwords say, and data has ${given}`, path);
}

function invalid(message: string, path: string): P2pdmaError {
  return new P2pdmaError('ERR_INVALID_ARG_VALUE', `passthrough: ${message}`, {
    path,
    hint: 'Give memory for all of it: where there is none, the drive would read or write at address 0.',
  });
}

/** @throws P2pdmaError EOPNOTSUPP: the namespace's blocks have metadata, or it is not known whether they do */
export function assertNoMetadata(path: string, metadataBytes: number | null): void {
  if (metadataBytes === 0) return;
  const what =
    metadataBytes === null
      ? `whether its blocks have metadata could not be found out`
      : `each of its blocks has ${metadataBytes} bytes of metadata`;
  throw errnoError(-EOPNOTSUPP, 'ioctl', path, {
    what: `${what}, and raw NVMe commands sent from here carry none: the drive would look for it at address 0`,
    hint:
      metadataBytes === null
        ? 'Run as root, who may ask the drive, or leave the engine to ‘auto’: the kernel’s own reads and writes carry metadata.'
        : 'Leave the engine to ‘auto’: the kernel’s own reads and writes carry the metadata. Or format the namespace without any (`nvme format --lbaf`), which erases it.',
  });
}

/** Bytes of metadata per block, from the 4 KiB that Identify Namespace returns. */
export function metadataOf(identify: DataView): number {
  const flbas = identify.getUint8(nvme.NVME_ID_NS_FLBAS);
  const format = (flbas & 0xf) | ((flbas & 0x60) >> 1);
  return identify.getUint16(nvme.NVME_ID_NS_LBAF + format * 4, true);
}
