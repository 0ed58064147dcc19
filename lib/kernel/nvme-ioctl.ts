/**
 * Mirrors drivers/nvme/host/ioctl.c (6.12; RFC patch 13 behind it): passthrough. The command is sent as the caller
 * wrote it, with the caller's memory mapped by blk-map.
 *
 *     NVME_IOCTL_IO64_CMD     namespace's queue: P2P memory goes straight, if aligned
 *     NVME_IOCTL_ADMIN64_CMD  admin queue, which never has the P2P feature: P2P memory is EREMOTEIO
 */

import type { PassthroughCommand, PathBytes } from '../backend/backend.js';
import * as nvme from '../backend/nvme-spec.js';
import { zeroPath } from '../backend/path-bytes.js';
import { EINVAL } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Bio, bioAlloc, bioPut, type RequestQueue } from './bio.js';
import { blkRqMapUserIov, blkRqUnmapUser } from './blk-map.js';
import { iovIterUbuf, READ, WRITE } from './iov_iter.js';
import type { Mm } from './memremap.js';
import { type NvmeCommand, nvmeCommand, nvmeIsWrite } from './nvme-command.js';
import type { NvmeCtrl, NvmeNs } from './nvme-core.js';

/** The result of a passthrough command. */
export interface NvmeUserResult {
  /** 0, or the errno of a command that the drive did not complete. */
  readonly errno: number;
  /** NVMe status: code type << 8 | code. */
  readonly status: number;
  readonly resultLo: number;
  readonly resultHi: number;
  readonly path: PathBytes;
  /** The data went through kernel memory because it was misaligned; a real kernel does not report this. */
  readonly bounced: boolean;
}

/** nvme_submit_user_cmd(). `ns` is null for an admin command. Never rejects. */
export function nvmeSubmitUserCmd(
  mm: Mm,
  ctrl: NvmeCtrl,
  ns: NvmeNs | null,
  user: PassthroughCommand,
): Promise<NvmeUserResult> {
  const queue: RequestQueue = ns ?? ctrl.adminQueue;
  // nvme_validate_passthru_nsid(): a namespace's device accepts commands for that namespace only.
  if (ns !== null && user.nsid !== undefined && user.nsid !== ns.nsid)
    return Promise.resolve(refused(-EINVAL));
  const bio = mapUserData(mm, queue, user);
  if (typeof bio === 'number') return Promise.resolve(refused(bio));
  const cmd = commandOf(user, ns);
  if (tracing()) {
    trace('nvme-ioctl', 'submit_user_cmd', {
      controller: ctrl.name,
      admin: ns === null,
      opcode: user.opcode,
      bytes: bio?.size ?? 0,
      bounced: bio?.bounced ?? false,
    });
  }
  return new Promise((resolve) => {
    const timeout = user.timeoutMs ?? 0;
    const end = (errno: number, status: number, resultLo: number, resultHi: number) => {
      const bounced = bio?.bounced ?? false;
      const path = { ...(bio?.path ?? zeroPath()) };
      const copied = bio === null ? 0 : blkRqUnmapUser(mm, bio);
      if (bio !== null) bioPut(bio);
      const error = errno === 0 ? copied : errno;
      resolve({ errno: error, status: status & nvme.NVME_SC_MASK, resultLo, resultHi, path, bounced });
    };
    ctrl.ops.submitCmd({ cmd, bio, timeout, end }, ns === null);
  });
}

function refused(errno: number): NvmeUserResult {
  return { errno, status: 0, resultLo: 0, resultHi: 0, path: zeroPath(), bounced: false };
}

/** nvme_map_user_request(): the caller's memory as a bio; null if the caller passed none; a negative errno on failure. */
function mapUserData(mm: Mm, queue: RequestQueue, { opcode, data }: PassthroughCommand): Bio | null | number {
  if (data === undefined || data.byteLength === 0) return null;
  if (data.byteLength > queue.limits.maxTransfer) return -EINVAL;
  const write = nvmeIsWrite(opcode);
  const bio = bioAlloc(queue, write ? 'write' : 'read');
  const error = blkRqMapUserIov(mm, bio, iovIterUbuf(write ? WRITE : READ, data));
  if (error === 0) return bio;
  bioPut(bio);
  return error;
}

function commandOf(user: PassthroughCommand, ns: NvmeNs | null): NvmeCommand {
  const {
    opcode,
    nsid = ns?.nsid ?? 0,
    cdw2 = 0,
    cdw3 = 0,
    cdw10 = 0,
    cdw11 = 0,
    cdw12 = 0,
    cdw13 = 0,
    cdw14 = 0,
    cdw15 = 0,
  } = user;
  return nvmeCommand({ opcode, nsid, cdw2, cdw3, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 });
}
