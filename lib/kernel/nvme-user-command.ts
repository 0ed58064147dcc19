/**
 * What a passthrough command must bring along. The kernel's door (drivers/nvme/host/ioctl.c) looks at none of it: memory that
 * is missing or too short leaves a pointer of the command at 0, and a drive takes 0 for an address like any other.
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

/** What a namespace's blocks are like. */
export interface NamespaceFormat {
  /** Bytes of data. */
  readonly blockSize: number;
  /** Bytes of metadata beside them; null: could not be found out. */
  readonly metadataBytes: number | null;
}

type Bytes = (command: PassthroughCommand, format: NamespaceFormat) => number;

const dwords = (zeroBased: number): number => (zeroBased + 1) * 4;
const blocks: Bytes = ({ cdw12 = 0 }, { blockSize }) => ((cdw12 & 0xffff) + 1) * blockSize;

/** Opcodes of the I/O queues that move blocks, and with them their metadata. */
const MOVES_BLOCKS: ReadonlySet<number> = new Set([
  nvme.nvmeCmdWrite,
  nvme.nvmeCmdRead,
  nvme.nvmeCmdCompare,
  nvme.nvmeCmdZoneAppend,
]);

/** Bytes that I/O commands move; of those whose data is none of the namespace's blocks too. */
const IO: ReadonlyMap<number, Bytes> = new Map<number, Bytes>([
  ...[...MOVES_BLOCKS].map((opcode) => [opcode, blocks] as const),
  [nvme.nvmeCmdDsm, ({ cdw10 = 0 }) => ((cdw10 & 0xff) + 1) * nvme.NVME_DSM_RANGE_BYTES],
  [nvme.nvmeCmdResvRegister, () => 16],
  [nvme.nvmeCmdResvReport, ({ cdw10 = 0 }) => dwords(cdw10)],
  [nvme.nvmeCmdResvAcquire, () => 16],
  [nvme.nvmeCmdResvRelease, () => 8],
  [nvme.nvmeCmdZoneMgmtRecv, ({ cdw12 = 0 }) => dwords(cdw12)],
]);

/** Zone Management Send has data for one of its actions only. */
const MAY_BE_WITHOUT: ReadonlySet<number> = new Set([nvme.nvmeCmdZoneMgmtSend]);

/** Of admin commands those that always have data; the others may go without. */
const ADMIN: ReadonlyMap<number, Bytes> = new Map<number, Bytes>([
  [
    nvme.nvmeAdminGetLogPage,
    ({ cdw10 = 0, cdw11 = 0 }) => dwords((cdw10 >>> 16) + (cdw11 & 0xffff) * 0x10000),
  ],
  [nvme.nvmeAdminIdentify, () => nvme.NVME_IDENTIFY_BYTES],
  [nvme.nvmeAdminDownloadFw, ({ cdw10 = 0 }) => dwords(cdw10)],
  [nvme.nvmeAdminNsAttach, () => nvme.NVME_IDENTIFY_BYTES],
]);

/** Does the opcode move data to or from the drive, as its low two bits say? */
export function movesData(opcode: number): boolean {
  return (opcode & 3) !== 0;
}

/** May metadata travel with it? Of an opcode that is not known here, yes. */
export function mayMoveMetadata({ admin, opcode }: PassthroughCommand): boolean {
  if (admin === true || !movesData(opcode)) return false;
  return MOVES_BLOCKS.has(opcode) || !(IO.has(opcode) || MAY_BE_WITHOUT.has(opcode));
}

/**
 * Refuse a command that would go out with a pointer at 0.
 * @param format of the namespace; only asked for where the command may move its blocks
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: no memory, or less than it moves; EOPNOTSUPP: blocks with metadata
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

/** @throws P2pdmaError EOPNOTSUPP: the namespace's blocks have metadata, or whether they do is not known */
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

/** Bytes of metadata with each block, from the 4 KiB that Identify Namespace answers. */
export function metadataOf(identify: DataView): number {
  const flbas = identify.getUint8(nvme.NVME_ID_NS_FLBAS);
  const format = (flbas & 0xf) | ((flbas & 0x60) >> 1);
  return identify.getUint16(nvme.NVME_ID_NS_LBAF + format * 4, true);
}
