/**
 * Commands to a namespace (drivers/nvme/host/ioctl.c): passthrough(), and reads and writes as commands for the engine
 * 'passthrough'. They go to the generic character device through the ring, or to the block device's ioctl.
 */

import { constants } from 'node:fs';
import {
  type BlockTarget,
  type IoRequest,
  PAGE_SIZE,
  type PassthroughCommand,
  type PassthroughResult,
  type PathBytes,
  type QueueLimits,
} from '../backend/backend.js';
import {
  NVME_ID_CNS_NS,
  NVME_IDENTIFY_BYTES,
  nvmeAdminIdentify,
  nvmeCmdRead,
  nvmeCmdWrite,
} from '../backend/nvme-spec.js';
import { zeroPath } from '../backend/path-bytes.js';
import { EFAULT, EINVAL, ENOTTY } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import { nvmeErrorStatus } from '../kernel/nvme-core.js';
import {
  assertNoMetadata,
  assertSendable,
  mayMoveMetadata,
  metadataOf,
} from '../kernel/nvme-user-command.js';
import { type Addon, loadAddon } from './addon.js';
import {
  type Completer,
  FLAG_ADMIN,
  FLAG_THREAD,
  FLAG_URING_CMD,
  type NativeEngine,
  OP_PASSTHROUGH,
} from './engine.js';
import { type Memory, memoryOf } from './memory.js';
import { isPermitted } from './permission.js';

/** NLB has 16 bits, and 0 means one block. */
const MAX_BLOCKS = 65536;
const WORD = 2 ** 32;

/** What the commands need of the target that they are for, which stays open while they are under way. */
export interface Commanded {
  readonly target: BlockTarget;
  readonly fd: number;
  readonly writable: boolean;
  readonly engine: NativeEngine;
  /** The fds that the target closes. */
  readonly fds: number[];
  /** Per block; null: sysfs does not report it. */
  readonly metadataBytes: number | null;
  /** Count the bytes of `view` by the route that they took. */
  book(view: Uint8Array, path: PathBytes): void;
}

export class NvmeIoctl {
  readonly #addon: Addon = loadAddon();
  readonly #to: Commanded;
  #metadataBytes: number | null;
  /** An fd of the NVMe generic device; undefined until it is needed, -1 if there is none. */
  #generic: number | undefined;
  #nsid: number | undefined;

  constructor(to: Commanded) {
    this.#to = to;
    this.#metadataBytes = to.metadataBytes;
  }

  /**
   * Queue a transfer as a read or write command; 0, or a negative errno. It covers only the first segment; if there are more,
   * it is a short transfer.
   */
  queue(completer: Completer<IoRequest>, io: IoRequest): number {
    const view = io.segments[0]!;
    const memory = memoryOf(view);
    if (memory.errno !== 0) return memory.errno;
    const nsid = this.#namespaceId();
    if (nsid < 0) return nsid;
    const command = nvmeReadWrite(io, nsid, this.#to.target.limits, memory);
    if (command === null) return -EINVAL;
    const words = nvmeData(command.words, memory, view.byteOffset, command.bytes);
    const answer: Completer<IoRequest> = {
      completed: (token, result, low, high) => {
        const moved = result < 0 ? result : result === 0 ? command.bytes : nvmeErrorStatus(result);
        completer.completed(token, moved, low, high);
      },
    };
    return this.#to.engine.command(answer, io, { op: OP_PASSTHROUGH, ...this.#door(false), words });
  }

  async passthrough(command: PassthroughCommand): Promise<PassthroughResult> {
    const { target } = this.#to;
    if (target.kind !== 'namespace') throw errnoError(-ENOTTY, 'ioctl', target.path);
    const metadataBytes = mayMoveMetadata(command) ? await this.#metadata() : 0;
    assertSendable(command, target.path, { blockSize: target.limits.logicalBlockSize, metadataBytes });
    return await this.#send(command);
  }

  /** @throws P2pdmaError EOPNOTSUPP */
  async assertNoMetadata(): Promise<void> {
    assertNoMetadata(this.#to.target.path, await this.#metadata());
  }

  /** Bytes of metadata per block of the namespace, from sysfs or else from the drive; null: neither reports it. */
  async #metadata(): Promise<number | null> {
    if (this.#metadataBytes !== null) return this.#metadataBytes;
    const nsid = this.#namespaceId();
    const data = new Uint8Array(NVME_IDENTIFY_BYTES);
    try {
      const { status } = await this.#send({
        admin: true,
        opcode: nvmeAdminIdentify,
        nsid,
        cdw10: NVME_ID_CNS_NS,
        data,
      });
      if (status === 0) this.#metadataBytes = metadataOf(new DataView(data.buffer));
    } catch {
      // Usually this is not permitted. Then the value is not known, and null is returned.
    }
    return this.#metadataBytes;
  }

  async #send(command: PassthroughCommand): Promise<PassthroughResult> {
    const { target, engine, book } = this.#to;
    const { data } = command;
    const memory = data === undefined ? null : memoryOf(data);
    if (memory !== null && memory.errno !== 0) throw errnoError(-EFAULT, 'ioctl', target.path);
    const nsid = command.nsid ?? (command.admin ? 0 : this.#namespaceId());
    const door = this.#door(command.admin === true);
    const words = nvmeData(
      [
        command.opcode,
        nsid,
        command.cdw2 ?? 0,
        command.cdw3 ?? 0,
        command.cdw10 ?? 0,
        command.cdw11 ?? 0,
        command.cdw12 ?? 0,
        command.cdw13 ?? 0,
        command.cdw14 ?? 0,
        command.cdw15 ?? 0,
        command.timeoutMs ?? 0,
      ],
      memory,
      data?.byteOffset ?? 0,
      data?.byteLength ?? 0,
    );
    const path = zeroPath();
    return await new Promise<PassthroughResult>((resolve, reject) => {
      const answer: Completer<Uint8Array | undefined> = {
        completed: (token, result, low, high) => {
          if (result < 0) {
            reject(errnoError(result, 'ioctl', target.path));
            return;
          }
          if (result === 0 && token !== undefined) book(token, path);
          const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
          resolve({ status: result & 0x7ff, result: value, path });
        },
      };
      engine.command(answer, data, { op: OP_PASSTHROUGH, ...door, words });
    });
  }

  #namespaceId(): number {
    const { target, fd } = this.#to;
    this.#nsid ??= target.kind === 'namespace' ? this.#addon.nsid(fd) : -ENOTTY;
    return this.#nsid;
  }

  /**
   * Where commands are sent: to the generic character device, which accepts them through the ring, or to the block device's ioctl.
   */
  #door(admin: boolean): { fd: number; flags: number } {
    const { fd } = this.#to;
    if (admin) return { fd, flags: FLAG_ADMIN | FLAG_THREAD };
    this.#generic ??= this.#openGeneric();
    return this.#generic >= 0 ? { fd: this.#generic, flags: FLAG_URING_CMD } : { fd, flags: FLAG_THREAD };
  }

  #openGeneric(): number {
    const { target, writable, engine, fds } = this.#to;
    const numbers = /^nvme(\d+n\d+)$/.exec(target.name)?.[1];
    if (numbers === undefined || engine.kind !== 'uring') return -1;
    const path = `/dev/ng${numbers}`;
    if (!isPermitted(path, { write: writable })) return -1;
    const fd = this.#addon.openFile(path, writable ? constants.O_RDWR : constants.O_RDONLY, 0);
    if (fd >= 0) fds.push(fd);
    return fd;
  }
}

/**
 * Opcode, nsid, cdw2, cdw3, cdw10…cdw15 and timeout of the command that moves as much of the first segment as one command can.
 * Null: the segment is not a whole number of blocks.
 */
function nvmeReadWrite(
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
function nvmeData(words: number[], memory: Memory | null, byteOffset: number, bytes: number): number[] {
  if (memory === null) words.push(0, 0, -1);
  else words.push(memory.address + byteOffset, bytes, memory.mapping);
  return words;
}
