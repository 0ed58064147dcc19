/**
 * Bytes behind a volatile cache: what was written since the last flush is kept apart until it is durable, and when the
 * power is cut, each piece of it survives or not, whatever was written after it.
 */
import type { Random } from './random.js';

/** A piece of a write that the power cut keeps or loses as a whole. */
const PIECE = 4096;

type Change = { readonly at: number; readonly bytes: Buffer } | { readonly length: number };

/** Bytes that grow when something is written past their end. What they begin as is copied at the first change. */
class Growing {
  #room: Buffer;
  #own = false;
  length: number;

  constructor(bytes: Buffer) {
    this.#room = bytes;
    this.length = bytes.length;
  }

  #copy(): void {
    if (this.#own) return;
    this.#own = true;
    this.#room = Buffer.from(this.bytes);
  }

  get bytes(): Buffer {
    return this.#room.subarray(0, this.length);
  }

  resize(length: number): void {
    this.#copy();
    if (length > this.#room.length) {
      const room = Buffer.alloc(length * 2);
      room.set(this.bytes);
      this.#room = room;
    } else if (length > this.length) this.#room.fill(0, this.length, length);
    this.length = length;
  }

  read(at: number, into: Uint8Array): void {
    this.#room.copy(into, 0, at, at + into.length);
  }

  write(at: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#copy();
    if (at + bytes.length > this.length) this.resize(at + bytes.length);
    this.#room.set(bytes, at);
  }
}

export class Cached {
  /** Something was written since it was filled. */
  changed = false;
  #now: Growing;
  /** What is there whatever happens. */
  #durable: Growing;
  #unsettled: Change[] = [];
  /** Changes that are durable by now. */
  #settled = 0;

  constructor(size: number) {
    const zeros = Buffer.alloc(size);
    this.#now = new Growing(zeros);
    this.#durable = new Growing(zeros);
  }

  /** What is read now. */
  get bytes(): Buffer {
    return this.#now.bytes;
  }

  get length(): number {
    return this.#now.length;
  }

  /** Sets everything, durably. Nobody changes `bytes` afterwards. */
  fill(bytes: Buffer): void {
    this.#now = new Growing(bytes);
    this.#durable = new Growing(bytes);
    this.#settled += this.#unsettled.length;
    this.#unsettled = [];
  }

  /** Fills `into` with the bytes at `at`. */
  read(at: number, into: Uint8Array): void {
    this.#now.read(at, into);
  }

  write(at: number, bytes: Uint8Array): void {
    this.changed = true;
    this.#now.write(at, bytes);
    this.#unsettled.push({ at, bytes: Buffer.from(bytes) });
  }

  resize(length: number): void {
    this.changed = true;
    this.#now.resize(length);
    this.#unsettled.push({ length });
  }

  /** A flush that begins now covers every change up to this mark. */
  mark(): number {
    return this.#settled + this.#unsettled.length;
  }

  /** The flush that began at `mark` is complete. */
  settle(mark: number): void {
    const count = Math.max(0, mark - this.#settled);
    for (const change of this.#unsettled.splice(0, count)) {
      if ('length' in change) this.#durable.resize(change.length);
      else this.#durable.write(change.at, change.bytes);
    }
    this.#settled += count;
  }

  /** The power is cut. */
  cut(random: Random): void {
    for (const change of this.#unsettled) {
      if ('length' in change) {
        if (random.chance(0.5)) this.#durable.resize(change.length);
        continue;
      }
      const { at, bytes } = change;
      for (let from = 0; from < bytes.length; ) {
        const to = Math.min(bytes.length, from + PIECE - ((at + from) % PIECE));
        if (random.chance(0.5)) this.#durable.write(at + from, bytes.subarray(from, torn(random, from, to)));
        from = to;
      }
    }
    this.#settled += this.#unsettled.length;
    this.#unsettled = [];
    this.#now = new Growing(Buffer.from(this.#durable.bytes));
  }
}

/** Where the last piece that was written ends: now and then within a block. */
function torn(random: Random, from: number, to: number): number {
  return random.chance(0.1) ? from + random.below(to - from + 1) : to;
}
