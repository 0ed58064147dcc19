/**
 * The medium of a simulated drive: it completes commands in any order, at times that the seed draws, and has a volatile
 * write cache. What a flush did not cover may be lost when the power is cut, block by block, in any order.
 */
import { NVME_SC_COMPARE_FAILED, NVME_SC_SUCCESS } from '../backend/nvme-spec.js';
import { type NamespaceStore, STORE_PENDING, type StoreIo } from '../emulator/nvme/store.js';
import type { NamespaceDescription } from '../machine/machine.js';
import { Cached } from './cached.js';
import type { World } from './world.js';

export class Medium implements NamespaceStore {
  readonly size: number;
  readonly blockSize: number;
  readonly metadataBytes: number;
  readonly readOnly: boolean;
  readonly deallocatedReadsZero = true;
  readonly volatileCache = true;
  readonly data: Cached;
  /** So many writes are stored before one that is lost. */
  storedBeforeLoss = Number.POSITIVE_INFINITY;
  readonly #world: World;

  constructor(world: World, { size, blockSize, metadata, readOnly }: NamespaceDescription, data?: Cached) {
    this.size = size;
    this.blockSize = blockSize;
    this.metadataBytes = metadata;
    this.readOnly = readOnly;
    this.#world = world;
    this.data = data ?? new Cached(size);
  }

  get used(): number {
    return this.size;
  }

  read(offset: number, _length: number, io: StoreIo): number {
    return this.#later(io, () => {
      eachWindow(io, offset, (bytes, at) => this.data.read(at, bytes));
      return NVME_SC_SUCCESS;
    });
  }

  write(offset: number, _length: number, io: StoreIo): number {
    if (this.storedBeforeLoss-- === 0) return this.#later(io, () => NVME_SC_SUCCESS);
    return this.#later(io, () => {
      eachWindow(io, offset, (bytes, at) => this.data.write(at, bytes));
      return NVME_SC_SUCCESS;
    });
  }

  compare(offset: number, _length: number, io: StoreIo): number {
    return this.#later(io, () => {
      let status = NVME_SC_SUCCESS;
      eachWindow(io, offset, (bytes, at) => {
        if (this.data.bytes.compare(bytes, 0, bytes.length, at, at + bytes.length) !== 0)
          status = NVME_SC_COMPARE_FAILED;
      });
      return status;
    });
  }

  writeZeroes(offset: number, length: number, io: StoreIo): number {
    return this.#later(io, () => {
      this.deallocate(offset, length);
      return NVME_SC_SUCCESS;
    });
  }

  deallocate(offset: number, length: number): void {
    this.data.write(offset, Buffer.alloc(length));
  }

  flush(io: StoreIo): number {
    const covered = this.data.mark();
    this.#world.complete(() => {
      this.data.settle(covered);
      io.stored(NVME_SC_SUCCESS);
    });
    return STORE_PENDING;
  }

  async close(): Promise<void> {}

  /**
   * The data moves when the command arrives or when it completes. So memory that is used for something else in the
   * meantime shows.
   */
  #later(io: StoreIo, move: () => number): number {
    if (this.#world.random.chance(0.3)) {
      const status = move();
      this.#world.complete(() => io.stored(status));
    } else this.#world.complete(() => io.stored(move()));
    return STORE_PENDING;
  }
}

function eachWindow(io: StoreIo, offset: number, use: (bytes: Uint8Array, at: number) => void): void {
  let at = offset;
  for (const { bytes } of io.windows) {
    use(bytes, at);
    at += bytes.length;
  }
}
