/**
 * What every byte may be. For each end (a device, or a file) it is known
 *
 *     now       what is read
 *     durable   what is there after a power cut …
 *     loose     … and what else may be there, because it was written and not flushed
 *
 * After an operation that failed, each byte of its destination is the old one or the new one, and what is found is what is
 * expected from then on. Bytes from any other place are never right.
 */

/** Null: there is no such file. */
export type Content = Buffer | null;

interface Loose {
  readonly at: number;
  readonly bytes: Buffer;
}

interface Known {
  /** Shared with others until it is changed. */
  shared: boolean;
  now: Content;
  durable: Content;
  loose: Loose[];
  /** False: an operation on this file was under way or failed, so that after a power cut it may be anything of its own. */
  certain: boolean;
}

export class Expected {
  readonly #ends = new Map<string, Known>();

  set(end: string, bytes: Content): void {
    this.#ends.set(end, {
      shared: true,
      now: bytes,
      durable: bytes,
      loose: [],
      certain: true,
    });
  }

  get names(): string[] {
    return [...this.#ends.keys()];
  }

  now(end: string): Content {
    return this.#known(end).now;
  }

  /** Bytes of `[at, at + length)`, as far as the end has them. */
  part(end: string, at: number, length: number): Buffer {
    return Buffer.from((this.now(end) ?? Buffer.alloc(0)).subarray(at, at + length));
  }

  /** An operation begins that may put these bytes there. */
  begin(end: string, at: number, bytes: Buffer): void {
    const known = this.#known(end);
    known.loose.push({ at, bytes });
    known.certain = false;
  }

  /** A device has these bytes at `at`, durably if they were flushed. */
  wrote(end: string, at: number, bytes: Buffer, flushed: boolean): void {
    const known = this.#known(end);
    own(known);
    bytes.copy(known.now!, at);
    if (!flushed) return;
    bytes.copy(known.durable!, at);
    known.loose = known.loose.filter((one) => one.at < at || one.at + one.bytes.length > at + bytes.length);
  }

  /** A file is this. */
  became(end: string, bytes: Content, flushed: boolean): void {
    const known = this.#known(end);
    known.now = bytes;
    known.shared = true;
    known.certain = flushed;
    if (!flushed) return;
    known.durable = bytes;
    known.loose = [];
  }

  /** What was found is what is expected from now on. */
  found(end: string, at: number, bytes: Buffer): void {
    const known = this.#known(end);
    own(known);
    if (known.now !== null) bytes.copy(known.now, at);
  }

  /** @returns where a device is wrong after a power cut, or −1 */
  wrongAfterCut(end: string, actual: Buffer): number {
    const { durable, loose } = this.#known(end);
    if (durable!.equals(actual)) return -1;
    return firstWrong(actual, 0, [{ at: 0, bytes: durable! }, ...loose]);
  }

  /** What a file is for certain after a power cut; undefined: that is not known. */
  fileAfterCut(end: string): Content | undefined {
    const { durable, certain } = this.#known(end);
    return certain ? durable : undefined;
  }

  #known(end: string): Known {
    const known = this.#ends.get(end);
    if (known === undefined) throw new Error(`the simulation does not know '${end}'`);
    return known;
  }
}

function own(known: Known): void {
  if (!known.shared) return;
  known.shared = false;
  if (known.now !== null) known.now = Buffer.from(known.now);
  if (known.durable !== null) known.durable = Buffer.from(known.durable);
}

/** The first position whose byte none of these has there, or −1. `bytes` begin at `at`. */
export function firstWrong(bytes: Buffer, at: number, allowed: readonly Loose[], zeros = false): number {
  for (let i = 0; i < bytes.length; i++) {
    // Mostly whole blocks are right.
    while (i % BLOCK === 0 && i + BLOCK <= bytes.length && isRight(bytes, at, i, allowed)) i += BLOCK;
    if (i === bytes.length) return -1;
    const position = at + i;
    if (zeros && bytes[i] === 0) continue;
    const fits = allowed.some((one) => {
      const inside = position - one.at;
      return inside >= 0 && inside < one.bytes.length && one.bytes[inside] === bytes[i];
    });
    if (!fits) return position;
  }
  return -1;
}

const BLOCK = 4096;

/** Is this block of `bytes` that of one of these? */
function isRight(bytes: Buffer, at: number, i: number, allowed: readonly Loose[]): boolean {
  return allowed.some((one) => {
    const inside = at + i - one.at;
    if (inside < 0 || inside + BLOCK > one.bytes.length) return false;
    return bytes.compare(one.bytes, inside, inside + BLOCK, i, i + BLOCK) === 0;
  });
}

/** A file after `data` was written at `at`, into what was there before or (null) into a new file. */
export function overlaid(before: Content, at: number, data: Buffer): Buffer {
  const whole = Buffer.alloc(Math.max(before?.length ?? 0, data.length > 0 ? at + data.length : 0));
  before?.copy(whole);
  data.copy(whole, at);
  return whole;
}
