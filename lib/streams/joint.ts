/** What has been done of a piece: all of it, or the bytes from its front before `error`. */
export type Ended = (error: Error | null, moved: number) => void;

/**
 * Several pieces that end as one: with the error of the first that failed, in their order, and the bytes before it. Ends when
 * all that were begun have ended and `close` was called.
 */
export class Joint {
  #open = 1;
  readonly #parts: { readonly bytes: number; moved: number; error: Error | null }[] = [];
  readonly #ended: Ended;
  /** One has failed: no other need be begun. */
  failed = false;

  constructor(ended: Ended) {
    this.#ended = ended;
  }

  /** The next piece, of `bytes`. @returns to be called when it has ended */
  piece(bytes: number): Ended {
    const part = { bytes, moved: 0, error: null as Error | null };
    this.#parts.push(part);
    this.#open++;
    return (error, moved) => {
      part.error = error;
      part.moved = moved;
      this.failed ||= error !== null;
      this.close();
    };
  }

  close(): void {
    if (--this.#open > 0) return;
    let moved = 0;
    for (const part of this.#parts) {
      moved += part.moved;
      if (part.error !== null) return this.#ended(part.error, moved);
    }
    this.#ended(null, moved);
  }
}
