/**
 * What lies under a mounted filesystem, remembered while it stays mounted. Not everything may be: what a device-mapper device,
 * an array, a loop device or a multipath head consists of can change at any time. A disk or partition cannot change under a
 * mounted filesystem, which holds it open: its number belongs to no other device before it is unmounted.
 */
import type { QueueLimits } from '../../backend/backend.js';
import type { BlockDevices, Layer } from './devices.js';
import type { Mount } from './mountinfo.js';
import { maxTransferOf } from './nvme.js';
import { SysfsDir, type SysfsTree } from './tree.js';

/** What is the same for all files of a mounted filesystem. */
interface FactsOfMount {
  readonly number: string | null;
  readonly layers: readonly { readonly kind: Layer['kind'] }[];
  readonly limits: QueueLimits;
}

/** The machine as of now. */
interface Now {
  readonly tree: SysfsTree;
  readonly devices: BlockDevices;
}

interface Remembered<Facts> {
  readonly facts: Facts;
  /** The path of its disk's queue/, whose limit of a transfer may change; null: there is no disk. */
  readonly queue: readonly string[] | null;
}

export class MountedFacts<Facts extends FactsOfMount> {
  /** A mount that has changed is another object. */
  readonly #known = new WeakMap<Mount, Remembered<Facts>>();

  /** The facts of a mount as of now; `read` finds them out. */
  of(mount: Mount, now: Now, read: () => Facts): Facts {
    return this.recall(mount, now.tree) ?? this.#learn(mount, now, read());
  }

  /** The facts of a mount as of now; null: they are not known, and must be read. */
  recall(mount: Mount, tree: SysfsTree): Facts | null {
    const known = this.#known.get(mount);
    if (known === undefined) return null;
    const { facts, queue } = known;
    if (queue === null) return facts;
    // A drive that was removed has no queue.
    if (tree.files.kindOf(queue) === undefined) return null;
    return {
      ...facts,
      limits: new LimitsNow(facts.limits, new SysfsDir(tree, `/${queue.join('/')}`, queue)),
    };
  }

  #learn(mount: Mount, { devices }: Now, facts: Facts): Facts {
    const { layers, number } = facts;
    if (number === null && layers.length === 0) {
      if (!mount.source.startsWith('/dev/')) this.#known.set(mount, { facts, queue: null });
    } else if (
      number === mount.device &&
      layers.every(({ kind }) => kind === 'disk' || kind === 'partition')
    ) {
      const device = devices.byNumber(number);
      const queue = (device && devices.diskOf(device))?.dir.dir('queue')?.real ?? null;
      if (queue !== null) this.#known.set(mount, { facts, queue });
    }
    return facts;
  }
}

class LimitsNow implements QueueLimits {
  readonly logicalBlockSize: number;
  readonly dmaAlignment: number;
  readonly maxSegments: number;
  readonly pciP2pdma: boolean;
  readonly #known: QueueLimits;
  readonly #queue: SysfsDir;

  constructor(known: QueueLimits, queue: SysfsDir) {
    this.logicalBlockSize = known.logicalBlockSize;
    this.dmaAlignment = known.dmaAlignment;
    this.maxSegments = known.maxSegments;
    this.pciP2pdma = known.pciP2pdma;
    this.#known = known;
    this.#queue = queue;
  }

  /** It is read when it is asked for: the copy of a small file needs none. */
  get maxTransfer(): number {
    return maxTransferOf(this.#queue) ?? this.#known.maxTransfer;
  }
}
