/** The number of views that are kept of one piece of memory: a power of two. */
const KEPT = 64;

/**
 * Views of one piece of memory. A device moves data to and from the same places again and again (the buffers of a pool, the
 * lists of a request), so its views are kept: making one costs as much as a lookup in the whole fabric.
 */
export class Views<B extends ArrayBufferLike = ArrayBuffer> {
  readonly bytes: Uint8Array<B>;
  /** Asking a view for its buffer is a call into the runtime. */
  readonly #buffer: B;
  readonly #base: number;
  readonly #kept: Uint8Array<B>[] = [];
  /** Where they begin, which is faster to ask than a view's `byteOffset`. */
  readonly #starts: number[] = [];

  constructor(bytes: Uint8Array<B>) {
    this.bytes = bytes;
    this.#buffer = bytes.buffer;
    this.#base = bytes.byteOffset;
  }

  /** The `length` bytes from `offset` on. They must be in the memory, which must not be detached. */
  of(offset: number, length: number): Uint8Array<B> {
    const kept = this.#kept;
    const start = this.#base + offset;
    // Views of the same length, side by side or at multiples of 256 bytes, have different places.
    const place = ((offset / length) ^ (offset >>> 8)) & (KEPT - 1);
    if (place < kept.length) {
      const view = kept[place]!;
      if (this.#starts[place] === start && view.length === length) return view;
    }
    const view = new Uint8Array(this.#buffer, start, length);
    do {
      const next = Math.min(place, kept.length);
      kept[next] = view;
      this.#starts[next] = start;
    } while (kept.length <= place);
    return view;
  }
}
