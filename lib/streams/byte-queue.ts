/** A list of chunks as one sequence of bytes. Bytes are taken from its front. */
export class ByteQueue {
  readonly #chunks: readonly Uint8Array[];
  #index = 0;
  #used = 0;
  #length: number;
  readonly #total: number;

  constructor(chunks: readonly Uint8Array[]) {
    this.#chunks = chunks;
    this.#total = lengthOf(chunks);
    this.#length = this.#total;
  }

  /** True: memory of its chunks (a CMB) is gone, and their bytes with it; then nothing may be taken any more. */
  get isGone(): boolean {
    return lengthOf(this.#chunks) < this.#total;
  }

  get length(): number {
    return this.#length;
  }

  /** Take the next bytes, at most this number, as views without a copy. */
  cut(bytes: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    this.#walk(bytes, (view) => views.push(view));
    return views;
  }

  /** Take the next bytes and copy them into `into`, until it is full. */
  fill(into: Uint8Array): void {
    this.#walk(into.length, (view, at) => into.set(view, at));
  }

  #walk(bytes: number, visit: (view: Uint8Array, at: number) => void): void {
    for (let at = 0; at < bytes && this.#index < this.#chunks.length; ) {
      const chunk = this.#chunks[this.#index]!;
      const take = Math.min(chunk.length - this.#used, bytes - at);
      if (take > 0) visit(take === chunk.length ? chunk : chunk.subarray(this.#used, this.#used + take), at);
      at += take;
      this.#used += take;
      this.#length -= take;
      if (this.#used < chunk.length) continue;
      this.#used = 0;
      this.#index++;
    }
  }
}

export function lengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}

/** One view of all chunks. It is a copy unless there is only one chunk. */
export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** The same memory as a Buffer. */
export function asBuffer(view: Uint8Array): Buffer {
  return Buffer.isBuffer(view) ? view : Buffer.from(view.buffer, view.byteOffset, view.length);
}
