/** Mirrors blk_partition_remap() of block/blk-core.c: a partition is its disk with a different start offset. */
import type { Bio, BlkQueueLimits, Gendisk } from './bio.js';

export class Partition implements Gendisk {
  readonly name: string;
  readonly #disk: Gendisk;
  readonly #start: number;
  readonly #size: number;

  constructor(
    name: string,
    disk: Gendisk,
    { start, size }: { readonly start: number; readonly size: number },
  ) {
    this.name = name;
    this.#disk = disk;
    this.#start = start;
    this.#size = size;
  }

  get limits(): BlkQueueLimits {
    return this.#disk.limits;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  get dead(): boolean {
    return this.#disk.dead;
  }

  get capacity(): number {
    return this.dead ? 0 : this.#size;
  }

  submitBio(bio: Bio): void {
    bio.queue = this.#disk;
    bio.sector += this.#start;
    this.#disk.submitBio(bio);
  }
}
