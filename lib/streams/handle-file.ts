/**
 * What a P2pFileHandle reads and writes: any byte range of a target, from and into any memory. A read covers whole blocks in
 * memory of its own and copies what was asked for; a write goes as RangeWriter says, which changes parts of blocks under a lock.
 */
import type { BlockTarget } from '../backend/backend.js';
import { RangeWriter } from './range-writer.js';
import type { StreamContext } from './session.js';
import { transfer } from './transfer.js';
import { WriteTally } from './write-tally.js';

const STEP = 1024 * 1024;

export class BlockFile {
  readonly target: BlockTarget;
  readonly #context: StreamContext;
  readonly #writer: RangeWriter;

  constructor(context: StreamContext, target: BlockTarget) {
    this.#context = context;
    this.target = target;
    // Nobody asks how far it was written without a gap.
    const tally = new WriteTally(Number.MAX_SAFE_INTEGER);
    this.#writer = new RangeWriter(context, target, tally, { queueDepth: 8 });
  }

  /** Fewer bytes than the view has: the target ends there. */
  async read(view: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < view.length) {
      const wanted = view.subarray(done, done + STEP);
      const got = await this.#readStep(wanted, position + done);
      done += got;
      if (got < wanted.length) break;
    }
    return done;
  }

  async #readStep(view: Uint8Array, position: number): Promise<number> {
    const { kind, limits, size } = this.target;
    const block = limits.logicalBlockSize;
    const from = position % block;
    const end = kind === 'file' ? position + view.length : Math.min(size, position + view.length);
    if (end <= position) return 0;
    const length = Math.ceil((end - (position - from)) / block) * block;
    const whole = this.#context.backend.memory.allocBuffer(length);
    const expect = kind === 'file' ? 0 : length;
    const moved = await transfer(this.target, { op: 'read', view: whole, offset: position - from, expect });
    const bytes = whole.subarray(from, Math.max(from, Math.min(moved, from + (end - position))));
    view.set(bytes);
    return bytes.length;
  }

  write(view: Uint8Array, position: number): Promise<number> {
    if (view.length === 0) return Promise.resolve(0);
    return new Promise((resolve, reject) => {
      this.#writer.gather([view], position, null, (error, moved) => {
        if (error === null) resolve(moved);
        else reject(error);
      });
    });
  }

  flush(): Promise<void> {
    return this.target.flush();
  }

  truncate(length: number): Promise<void> {
    return this.target.truncate(length);
  }

  close(): Promise<void> {
    return this.#context.closeTarget(this.target);
  }
}
