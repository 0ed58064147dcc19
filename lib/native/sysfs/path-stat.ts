/** What the kernel says of a path of this machine, as far as anything here asks for it. */
import { type BigIntStats, type Stats, statSync } from 'node:fs';
import { deviceNumber } from '../../host/file-range.js';

export class PathStat {
  readonly #stats: Stats | BigIntStats;

  private constructor(stats: Stats | BigIntStats) {
    this.#stats = stats;
  }

  /** Null: there is nothing, or it cannot be asked about. */
  static of(path: string): PathStat | null {
    try {
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats === undefined) return null;
      // Larger numbers are exact only as a bigint, which takes twice as long to get.
      const exact = [stats.dev, stats.ino, stats.rdev, stats.size].every(Number.isSafeInteger);
      return new PathStat(exact ? stats : statSync(path, { bigint: true }));
    } catch {
      return null;
    }
  }

  get isFile(): boolean {
    return this.#stats.isFile();
  }

  get isBlockDevice(): boolean {
    return this.#stats.isBlockDevice();
  }

  get isCharacterDevice(): boolean {
    return this.#stats.isCharacterDevice();
  }

  /** In bytes. */
  get size(): number {
    return Number(this.#stats.size);
  }

  /** Its st_dev and st_ino, as in `'65025:12'`. */
  get identity(): string {
    return `${this.#stats.dev}:${this.#stats.ino}`;
  }

  /** The number of the device that its filesystem is on, `'259:1'`. */
  get on(): string {
    return deviceNumber(this.#stats.dev);
  }

  /** Of a device node, the number of the device. */
  get device(): string {
    return deviceNumber(this.#stats.rdev);
  }
}
