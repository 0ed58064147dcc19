/** Numbers that are the same for the same seed: every case has a generator of its own. */
export class Random {
  #state: number;

  constructor(seed: number, index: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0;
    for (let i = 0; i < 4; i++) this.#next();
  }

  /** mulberry32 */
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** From 0 to less than 1. */
  fraction(): number {
    return this.#next() / 2 ** 32;
  }

  /** From 0 to n − 1. */
  below(n: number): number {
    return Math.floor((this.#next() / 2 ** 32) * n);
  }

  /** From `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  chance(probability: number): boolean {
    return this.#next() / 2 ** 32 < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** Lengths of interest: nothing, a few bytes, about a block, about a page, up to `most`; odd as often as round. */
  length(most: number): number {
    const magnitude = this.pick([0, 1, 100, 512, 4096, 70_000, most, most, most]);
    const length = Math.min(most, this.between(Math.floor(magnitude / 4), magnitude));
    if (this.chance(0.6)) return length;
    return Math.min(most, Math.ceil(length / 4096) * 4096);
  }
}
