import { finished, type Readable, Transform } from 'node:stream';
import type { Pace } from '../streams/pace.js';

/**
 * The first `most` bytes of a stream of another kind, at a limited rate. The rest of the stream is not read: once the last
 * byte has arrived, it is destroyed.
 */
export class Portion extends Transform {
  readonly most: number;
  readonly source: Readable;
  readonly pace: Pace | null;
  #flowing = false;
  #left: number;
  #wait: NodeJS.Timeout | undefined;

  constructor(source: Readable, most: number, pace: Pace | null) {
    super({ highWaterMark: source.readableHighWaterMark });
    this.most = most;
    this.#left = most;
    this.source = source;
    this.pace = pace;
    finished(source, { writable: false }, (error) => {
      if (error && this.#left > 0 && !this.destroyed) this.destroy(error);
    });
    if (most === 0) this.#complete();
  }

  /** Nothing is read from the source before something is wanted here: see pour.ts. */
  override _read(size: number): void {
    if (!this.#flowing && this.#left > 0) this.source.pipe(this);
    this.#flowing = true;
    super._read(size);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const part = chunk.length > this.#left ? chunk.subarray(0, this.#left) : chunk;
    const give = () => {
      const now = performance.now();
      const delay = this.pace?.delay(now) ?? 0;
      if (delay > 0) {
        this.#wait = setTimeout(give, delay);
        return;
      }
      this.pace?.spend(part.length, now);
      this.#left -= part.length;
      this.push(part);
      if (this.#left === 0) this.#complete();
      done();
    };
    if (part.length === 0) done();
    else give();
  }

  #complete(): void {
    this.push(null);
    this.source.unpipe(this);
    this.source.destroy();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#wait);
    this.source.destroy();
    callback(error);
  }
}

/** The part of this stream that the options ask for; the stream itself if that is all of it. */
export function portionOf(source: Readable, end: number, pace: Pace | null): Readable {
  const whole = !Number.isFinite(end) && pace === null;
  // One that was used to its end before is refused by the copy.
  return whole || source.readableEnded || source.destroyed ? source : new Portion(source, end + 1, pace);
}
