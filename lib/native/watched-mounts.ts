/**
 * This process' mounts, read again only when they have changed. The kernel announces each change of the mounts that a process
 * sees to whoever polls its open /proc/self/mountinfo (proc_pid_mountinfo(5)): a mount, an unmount, a move, other options of a
 * mount. Writing the list takes the kernel and reading it takes us longer than copying a small file does.
 */
import { thisTurn } from '../base/turn.js';
import type { Addon } from './addon.js';
import { isPermitted } from './permission.js';
import { type Mount, type MountSource, parseMountinfo } from './sysfs/mountinfo.js';

const PATH = '/proc/self/mountinfo';
const CHUNK = 64 * 1024;

export class WatchedMounts implements MountSource {
  readonly #addon: Addon;
  /** Negative: it cannot be opened, or is closed. */
  #fd: number;
  #known: Mount[] | null = null;
  /** The turn of the event loop in which the kernel was asked last. */
  #asOf = -1;

  constructor(addon: Addon) {
    this.#addon = addon;
    this.#fd = isPermitted(PATH, { write: false }) ? addon.openWatched(PATH) : -1;
  }

  mounts(): Mount[] | null {
    if (this.#fd < 0) return null;
    if (this.#addon.hasChanged(this.#fd)) this.#known = null;
    this.#asOf = thisTurn();
    if (this.#known !== null) return this.#known;
    const text = this.#read();
    if (text === null) return null;
    const mounts = parseMountinfo(text);
    // A filesystem that is mounted in other containers too can get other options there, which is not announced here. Only
    // btrfs has such options that matter (compression, checksums).
    if (!mounts.some(({ type }) => type === 'btrfs')) this.#known = mounts;
    return mounts;
  }

  mountsThisTurn(): Mount[] | null {
    return this.#known !== null && this.#asOf === thisTurn() ? this.#known : this.mounts();
  }

  #read(): string | null {
    const chunks: Uint8Array[] = [];
    let offset = 0;
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      const got = this.#addon.readAt(this.#fd, chunk, offset);
      if (got < 0) return null;
      if (got === 0) return Buffer.concat(chunks).toString();
      chunks.push(chunk.subarray(0, got));
      offset += got;
    }
  }

  close(): void {
    if (this.#fd >= 0) this.#addon.closeWatched(this.#fd);
    this.#fd = -1;
    this.#known = null;
  }
}
