/**
 * Mirrors drivers/nvme/host/multipath.c (6.12, 7.2): one disk over all the paths to a namespace.
 *
 *     nvme0n1 (head) ─┬─▶ nvme0c0n1: a namespace of the controller nvme0       the first that is alive takes it
 *                     └─▶ nvme0c1n1: the same namespace, by nvme1
 *
 * A request that fails because its path is gone is sent over another path; an error of the drive is returned to the
 * caller. Passthrough commands go to the path's own queue, which takes peer memory on kernels where the head's queue
 * does not.
 */
import type { KernelRelease } from '../backend/kernel-release.js';
import { EIO } from '../base/errno.js';
import { trace, tracing } from '../base/trace.js';
import {
  type Bio,
  type BlkQueueLimits,
  bioClone,
  bioEndClone,
  bioEndio,
  bioEndWith,
  type Gendisk,
  submitBio,
} from './bio.js';
import { blkStackLimits } from './blk-settings.js';
import type { NvmeNs } from './nvme-core.js';
import { holds } from './releases/rule.js';
import { MULTIPATH_HEAD } from './releases/table.js';

/** struct nvme_ns_head with its gendisk. */
export class NvmeNsHead implements Gendisk {
  readonly name: string;
  readonly limits: BlkQueueLimits;
  readonly readOnly: boolean;
  readonly #paths: readonly NvmeNs[];
  readonly #capacity: number;

  constructor(name: string, paths: readonly NvmeNs[], release: KernelRelease | null) {
    this.name = name;
    this.#paths = paths;
    this.readOnly = paths.some((path) => path.readOnly);
    this.#capacity = Math.min(...paths.map(({ capacity }) => capacity));
    const pciP2pdma = holds(MULTIPATH_HEAD, release) === 'yes';
    this.limits = blkStackLimits(
      paths.map(({ limits }) => limits),
      { pciP2pdma },
    );
  }

  get dead(): boolean {
    return this.#paths.every(({ dead }) => dead);
  }

  get capacity(): number {
    return this.dead ? 0 : this.#capacity;
  }

  /** nvme_find_path(): a path whose controller is live, otherwise one whose controller is being reset; null: there is none. */
  findPath(): NvmeNs | null {
    const alive = this.#paths.filter(({ dead }) => !dead);
    return alive.find(({ ctrl }) => ctrl.state === 'NVME_CTRL_LIVE') ?? alive[0] ?? null;
  }

  /** nvme_ns_head_submit_bio() */
  submitBio(bio: Bio): void {
    const path = this.findPath();
    if (path === null) {
      bioEndWith(bio, -EIO);
      return;
    }
    const clone = bioClone(bio, path);
    const endIo = (ended: Bio) => {
      const { status } = ended;
      if (status !== 0 && path.dead && this.findPath() !== null) {
        if (tracing()) trace('nvme-multipath', 'failover', { head: this.name, from: path.ctrl.name });
        bioEndClone(ended, bio);
        this.submitBio(bio);
        return;
      }
      bioEndClone(ended, bio);
      if (status !== 0) bio.status = status;
      bioEndio(bio);
    };
    clone.endIo = endIo;
    submitBio(clone);
  }
}
