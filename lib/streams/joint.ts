/** Called when a piece has ended. `moved`: all its bytes, or those from its start that were moved before `error`. */
export type Ended = (error: Error | null, moved: number) => void;

/**
 * Combines several pieces into one. It ends when all pieces that were begun have ended and `close` was called. The result is
 * the error of the first failed piece (in the order of the pieces), and the number of bytes before it.
 */
export class Joint {
  #open = 1;
  readonly #parts: { readonly bytes: number; moved: number; error: Error | null }[] = [];
  readonly #ended: Ended;
  /** A piece has failed, so no other piece needs to begin. */
  failed = false;

  constructor(ended: Ended) {
    this.#ended = ended;
  }

  /** Add the next piece, of `bytes` bytes. @returns the function to call when it has ended */
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
