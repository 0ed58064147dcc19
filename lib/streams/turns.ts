/**
 * Work of one kind runs side by side, and that of another kind waits until it is over, in the order in which all of it came.
 *
 * A file's direct and buffered writes take turns: a direct write ends with the page cache being dropped over its range, and
 * where a buffered write has made the same page dirty meanwhile, the kernel reports EIO at the next fsync, for data that are
 * sound.
 */
export class Turns<Kind> {
  #kind: Kind | null = null;
  #running = 0;
  readonly #waiting: { readonly kind: Kind; readonly start: () => void }[] = [];

  /** Call `start` when it is its turn, perhaps at once. Whoever has started calls `over` once. */
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
