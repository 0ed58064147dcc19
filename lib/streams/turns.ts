/**
 * Tasks of one kind run in parallel. Tasks of another kind wait until these are done. All tasks start in the order in which
 * they came.
 *
 * A file's direct and buffered writes take turns: at the end of a direct write the kernel drops the page cache of its range.
 * If a buffered write has made the same page dirty in the meantime, the kernel reports EIO at the next fsync, although the
 * data is correct.
 */
export class Turns<Kind> {
  #kind: Kind | null = null;
  #running = 0;
  readonly #waiting: { readonly kind: Kind; readonly start: () => void }[] = [];

  /** Call `start` when it is its turn, possibly at once. Each task that was started must call `over` once. */
  run(kind: Kind, start: () => void): void {
    if (this.#waiting.length > 0 || (this.#running > 0 && this.#kind !== kind)) {
      this.#waiting.push({ kind, start });
      return;
    }
    this.#kind = kind;
    this.#running++;
    start();
  }

  over(): void {
    this.#running--;
    while (this.#waiting.length > 0 && (this.#running === 0 || this.#waiting[0]!.kind === this.#kind)) {
      const { kind, start } = this.#waiting.shift()!;
      this.#kind = kind;
      this.#running++;
      start();
    }
  }
}
