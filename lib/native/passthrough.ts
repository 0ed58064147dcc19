/** Reads and writes as NVMe commands, for the engine 'passthrough', and the encoding of a command for the addon. */
import { type IoRequest, PAGE_SIZE, type QueueLimits } from '../backend/backend.js';
import { nvmeCmdRead, nvmeCmdWrite } from '../backend/nvme-spec.js';
import type { Memory } from './memory.js';

/** NLB has 16 bits, and 0 means one block. */
const MAX_BLOCKS = 65536;
const WORD = 2 ** 32;

/**
 * Opcode, nsid, cdw2, cdw3, cdw10…cdw15 and timeout of the command that moves as much of the first segment as one command can.
 * Null: the segment is not a whole number of blocks.
 */
export function nvmeReadWrite(
  io: IoRequest,
  nsid: number,
  limits: QueueLimits,
  memory: Memory,
): { words: number[]; bytes: number } | null {
  const block = limits.logicalBlockSize;
  // The kernel does not split a command, and host memory may be in as many pieces as it has pages.
  const scattered =
    memory.provider === null ? (limits.maxSegments - 1) * PAGE_SIZE : Number.POSITIVE_INFINITY;
  const most = Math.min(io.segments[0]!.byteLength, limits.maxTransfer, scattered);
  const blocks = Math.min(Math.floor(most / block), MAX_BLOCKS);
  if (blocks === 0 || io.offset % block !== 0) return null;
  const lba = io.offset / block;
  const opcode = io.op === 'read' ? nvmeCmdRead : nvmeCmdWrite;
  return {
    words: [opcode, nsid, 0, 0, lba % WORD, Math.floor(lba / WORD), blocks - 1, 0, 0, 0, 0],
    bytes: blocks * block,
  };
}

/** A command's words, followed by its data: address, length, mapping. */
export function nvmeData(
  words: number[],
  memory: Memory | null,
  byteOffset: number,
  bytes: number,
): number[] {
  if (memory === null) words.push(0, 0, -1);
  else words.push(memory.address + byteOffset, bytes, memory.mapping);
  return words;
}
