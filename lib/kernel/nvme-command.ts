/**
 * Mirrors the part of include/linux/nvme.h (6.12) that is code: struct nvme_command, and its encoding as the 64 bytes
 * of a submission queue entry. The constants are in backend/nvme-spec.ts, which the hardware shares.
 */
import * as nvme from '../backend/nvme-spec.js';

const TWO_32 = 2 ** 32;

/** lower_32_bits() */
export function lower32(value: number): number {
  return value >>> 0;
}

/** upper_32_bits() */
export function upper32(value: number): number {
  return Math.floor(value / TWO_32);
}

/** struct nvme_command, without its id, which is the tag. Mutable: a request refills its own. */
export class NvmeCommand {
  opcode = 0;
  flags = 0;
  nsid = 0;
  cdw2 = 0;
  cdw3 = 0;
  /** PRP1, or the address in the SGL descriptor (flags & NVME_CMD_SGL_METABUF). */
  dptr = 0;
  prp2 = 0;
  sglLength = 0;
  /** Descriptor type << 4 | subtype. */
  sglType = 0;
  cdw10 = 0;
  cdw11 = 0;
  cdw12 = 0;
  cdw13 = 0;
  cdw14 = 0;
  cdw15 = 0;

  clear(): void {
    this.opcode = this.flags = this.nsid = this.cdw2 = this.cdw3 = 0;
    this.dptr = this.prp2 = this.sglLength = this.sglType = 0;
    this.cdw10 = this.cdw11 = this.cdw12 = this.cdw13 = this.cdw14 = this.cdw15 = 0;
  }

  copyFrom(other: NvmeCommand): void {
    this.opcode = other.opcode;
    this.flags = other.flags;
    this.nsid = other.nsid;
    this.cdw2 = other.cdw2;
    this.cdw3 = other.cdw3;
    this.dptr = other.dptr;
    this.prp2 = other.prp2;
    this.sglLength = other.sglLength;
    this.sglType = other.sglType;
    this.cdw10 = other.cdw10;
    this.cdw11 = other.cdw11;
    this.cdw12 = other.cdw12;
    this.cdw13 = other.cdw13;
    this.cdw14 = other.cdw14;
    this.cdw15 = other.cdw15;
  }
}

/** A command with some fields set. */
export function nvmeCommand(fields: Partial<Omit<NvmeCommand, 'clear' | 'copyFrom'>>): NvmeCommand {
  return Object.assign(new NvmeCommand(), fields);
}

/** The direction of a command's data transfer, from the low bits of its opcode (nvme_is_write()). */
export function nvmeIsWrite(opcode: number): boolean {
  return (opcode & 1) !== 0;
}

/** Write an address as eight bytes, little-endian. */
export function putLe64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

/** One SGL descriptor (struct nvme_sgl_desc). */
export function putSglDesc(view: DataView, at: number, address: number, length: number, type: number): void {
  putLe64(view, at, address);
  view.setUint32(at + 8, length, true);
  view.setUint32(at + 12, type * 0x1000000, true);
}

/** Write the submission queue entry at byte `at`. */
export function putSqe(sq: DataView, at: number, cid: number, cmd: NvmeCommand): void {
  sq.setUint32(at + nvme.NVME_SQE_OPCODE, (cmd.opcode | (cmd.flags << 8) | (cid << 16)) >>> 0, true);
  sq.setUint32(at + nvme.NVME_SQE_NSID, cmd.nsid, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW2, cmd.cdw2, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW3, cmd.cdw3, true);
  putLe64(sq, at + nvme.NVME_SQE_MPTR, 0);
  if ((cmd.flags & nvme.NVME_CMD_SGL_METABUF) !== 0) {
    putSglDesc(sq, at + nvme.NVME_SQE_SGL, cmd.dptr, cmd.sglLength, cmd.sglType);
  } else {
    putLe64(sq, at + nvme.NVME_SQE_PRP1, cmd.dptr);
    putLe64(sq, at + nvme.NVME_SQE_PRP2, cmd.prp2);
  }
  sq.setUint32(at + nvme.NVME_SQE_CDW10, cmd.cdw10, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW11, cmd.cdw11, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW12, cmd.cdw12, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW13, cmd.cdw13, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW14, cmd.cdw14, true);
  sq.setUint32(at + nvme.NVME_SQE_CDW15, cmd.cdw15, true);
}
