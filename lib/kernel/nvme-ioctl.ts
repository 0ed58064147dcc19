/**
 * Mirrors drivers/nvme/host/ioctl.c (6.12; RFC patch 13 behind it): the passthrough door. A command as the caller
 * wrote it, with the caller's memory mapped by blk-map.
 *
 *     NVME_IOCTL_IO64_CMD     namespace's queue: P2P memory goes straight, if aligned
 *     NVME_IOCTL_ADMIN64_CMD  admin queue, which never has the P2P feature: P2P memory is EREMOTEIO
 */
import type { PassthroughCommand, PathBytes } from '../backend/backend.js';
import * as nvme from '../backend/nvme-spec.js';
import { EINVAL } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import { type Bio, bioAlloc, bioPut, type RequestQueue } from './bio.js';
import { blkRqMapUserIov, blkRqUnmapUser } from './blk-map.js';
import { iovIterUbuf, READ, WRITE } from './iov_iter.js';
import type { Mm } from './memremap.js';
import { nvmeCommand, nvmeIsWrite } from './nvme-command.js';
import type { NvmeCtrl, NvmeNs } from './nvme-core.js';

/** How a passthrough command ended. */
export interface NvmeUserResult {
  /** 0, or the errno of a command the drive did not answer. */
  readonly errno: number;
  /** NVMe status: code type << 8 | code. */
  readonly status: number;
  readonly resultLo: number;
  readonly resultHi: number;
  readonly path: PathBytes;
  /** The data went through kernel memory because it was misaligned; nobody is told that by a real kernel. */
  readonly bounced: boolean;
}

/** nvme_submit_user_cmd(). `ns` null: an admin command. Never rejects. */
export function nvmeSubmitUserCmd(
  mm: Mm,
  ctrl: NvmeCtrl,
  ns: NvmeNs | null,
  user: PassthroughCommand,
): Promise<NvmeUserResult> {
  const queue: RequestQueue = ns ?? ctrl.adminQueue;
  const write = nvmeIsWrite(user.opcode);
  const path: PathBytes = { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
  const refused = (errno: number): NvmeUserResult => ({
    errno,
    status: 0,
    resultLo: 0,
    resultHi: 0,
    path,
    bounced: false,
  });

  // nvme_validate_passthru_nsid(): a namespace's door is for that namespace only.
  if (ns !== null && user.nsid !== undefined && user.nsid !== ns.nsid)
    return Promise.resolve(refused(-EINVAL));

  let bio: Bio | null = null;
  if (user.data !== undefined && user.data.byteLength > 0) {
    if (user.data.byteLength > queue.limits.maxTransfer) return Promise.resolve(refused(-EINVAL));
    bio = bioAlloc(queue, write ? 'write' : 'read');
    const error = blkRqMapUserIov(mm, bio, iovIterUbuf(write ? WRITE : READ, user.data));
    if (error !== 0) {
      bioPut(bio);
      return Promise.resolve(refused(error));
    }
  }
  const cmd = nvmeCommand({
    opcode: user.opcode,
    nsid: user.nsid ?? ns?.nsid ?? 0,
    cdw2: user.cdw2 ?? 0,
    cdw3: user.cdw3 ?? 0,
    cdw10: user.cdw10 ?? 0,
    cdw11: user.cdw11 ?? 0,
    cdw12: user.cdw12 ?? 0,
    cdw13: user.cdw13 ?? 0,
    cdw14: user.cdw14 ?? 0,
    cdw15: user.cdw15 ?? 0,
  });
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
      let error = errno;
      const bounced = bio?.bounced ?? false;
      if (bio !== null) {
        Object.assign(path, bio.path);
        const copied = blkRqUnmapUser(mm, bio);
        if (error === 0) error = copied;
        bioPut(bio);
      }
      resolve({ errno: error, status: status & nvme.NVME_SC_MASK, resultLo, resultHi, path, bounced });
    };
    ctrl.ops.submitCmd({ cmd, bio, timeout, end }, ns === null);
  });
}
