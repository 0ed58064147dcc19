/**
 * Does the destination hold the same data as the source? Both are read back through host memory, whatever route the copy
 * took, and compared byte by byte. The digest is computed over the destination, in order.
 */
import { createHash } from 'node:crypto';
import type { BlockTarget } from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import { transfer } from '../streams/transfer.js';

const STEP = 1024 * 1024;

export interface Range {
  readonly target: BlockTarget;
  readonly start: number;
}

/** Reads `[start, start + bytes)` of a target in order, with any alignment, through host memory, one step ahead. */
async function* readBack({ target, start }: Range, bytes: number, allocate: (bytes: number) => Uint8Array) {
  const block = target.limits.logicalBlockSize;
  const end = start + bytes;
  const begin = (position: number) => {
    const from = position - (position % block);
    const to = Math.min(from + STEP, Math.ceil(end / block) * block);
    const view = allocate(to - from);
    // All bytes to compare must arrive: a file that was truncated in the meantime gives ERR_SHORT_TRANSFER.
    const expect = Math.min(end, to) - from;
    const read = transfer(target, { op: 'read', view, offset: from, expect }).then(() =>
      view.subarray(position - from, expect),
    );
    read.catch(() => {});
    return { read, next: Math.min(end, to) };
  };
  let ahead = bytes > 0 ? begin(start) : null;
  while (ahead !== null) {
    const { read, next }: { read: Promise<Uint8Array>; next: number } = ahead;
    ahead = next < end ? begin(next) : null;
    yield await read;
  }
}

/** Controls and observes a comparison. */
export interface Onlooker {
  readonly stop?: AbortSignal | undefined;
  /** Called with the number of bytes compared. */
  readonly progress?: ((done: number) => void) | undefined;
}

const PROGRESS_MS = 100;

/**
 * The onlooker of several consecutive comparisons: `report` is called ten times a second with the number of bytes
 * compared in all of them, and once at the end.
 */
export function onlookerOf(
  total: number,
  stop: AbortSignal | undefined,
  report: ((done: number, total: number) => void) | undefined,
): { next(): Onlooker } {
  let [base, last, heard] = [0, 0, performance.now()];
  return {
    next: () => {
      base += last;
      last = 0;
      const progress = (done: number) => {
        last = done;
        const now = performance.now();
        if (now - heard < PROGRESS_MS && base + done < total) return;
        heard = now;
        report?.(base + done, total);
      };
      return { stop, progress: report && progress };
    },
  };
}

/**
 * Compare `bytes` bytes of two targets. Resolves to the digest of the destination; null when it was stopped.
 * @throws P2pdmaError ERR_VERIFY_MISMATCH with the offset (in the destination) of the first byte that differs
 */
export async function verifyRanges(
  source: Range,
  destination: Range,
  bytes: number,
  allocate: (bytes: number) => Uint8Array,
  { stop, progress }: Onlooker = {},
): Promise<string | null> {
  const hash = createHash('sha256');
  const left = readBack(source, bytes, allocate);
  const right = readBack(destination, bytes, allocate);
  let at = destination.start;
  let a = Buffer.alloc(0);
  let b = Buffer.alloc(0);
  try {
    for (let done = 0; done < bytes; ) {
      if (stop?.aborted) return null;
      if (a.length === 0) a = toBuffer((await left.next()).value!);
      if (b.length === 0) {
        b = toBuffer((await right.next()).value!);
        hash.update(b);
      }
      const length = Math.min(a.length, b.length);
      if (a.compare(b, 0, length, 0, length) !== 0) {
        let first = 0;
        while (a[first] === b[first]) first++;
        throw mismatch(source.target.path, destination.target.path, at + first);
      }
      a = a.subarray(length);
      b = b.subarray(length);
      at += length;
      done += length;
      progress?.(done);
    }
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
  return `sha256:${hash.digest('hex')}`;
}

function toBuffer(view: Uint8Array): Buffer<ArrayBuffer> {
  return Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.length);
}

function mismatch(source: string, destination: string, offset: number): P2pdmaError {
  return new P2pdmaError(
    'ERR_VERIFY_MISMATCH',
    `verify: '${destination}' differs from '${source}' at offset ${offset}`,
    { path: destination, syscall: 'verify', offset },
  );
}

/**
 * The same for a source that cannot be read twice: its data is digested step by step as it passes through, and the
 * destination is compared with the digests step by step.
 */
export class PassingDigest {
  #steps: string[] = [];
  #hash = createHash('sha256');
  #fill = 0;
  #bytes = 0;

  update(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const take = Math.min(STEP - this.#fill, chunk.length - at);
      this.#hash.update(chunk.subarray(at, at + take));
      this.#fill += take;
      this.#bytes += take;
      at += take;
      if (this.#fill === STEP) this.#closeStep();
    }
  }

  #closeStep(): void {
    this.#steps.push(this.#hash.digest('hex'));
    this.#hash = createHash('sha256');
    this.#fill = 0;
  }

  /** Call this once, after the last update. */
  async verify(
    destination: Range,
    allocate: (bytes: number) => Uint8Array,
    { stop, progress }: Onlooker = {},
  ): Promise<string | null> {
    if (this.#fill > 0) this.#closeStep();
    const whole = createHash('sha256');
    const seen = new PassingDigest();
    for await (const chunk of readBack(destination, this.#bytes, allocate)) {
      if (stop?.aborted) return null;
      whole.update(chunk);
      seen.update(chunk);
      progress?.(seen.#bytes);
    }
    if (seen.#fill > 0) seen.#closeStep();
    const wrong = this.#steps.findIndex((digest, i) => digest !== seen.#steps[i]);
    if (wrong >= 0)
      throw mismatch('the source stream', destination.target.path, destination.start + wrong * STEP);
    return `sha256:${whole.digest('hex')}`;
  }
}
