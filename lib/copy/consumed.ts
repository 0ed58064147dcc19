import { PassThrough, Writable } from 'node:stream';
import { shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { thrownBy } from './thrown.js';

/** A function as a destination: it gets the data as an async iterable, and resolves when it is done with it. */
export type Consumer = (
  source: AsyncIterable<Buffer>,
  options: { readonly signal: AbortSignal },
) => Promise<unknown>;

const NAME = 'a function as a destination';

/** A Writable whose data a function gets. The function is called with the first chunk, or at the end if there is none. */
export class Consumed extends Writable {
  readonly #consume: Consumer;
  readonly #stop = new AbortController();
  readonly #through = new PassThrough();
  #result: Promise<unknown> | null = null;

  constructor(consume: Consumer) {
    super();
    this.#consume = consume;
    // Whoever stops reading destroys it, and is noticed when the function returns.
    this.#through.on('error', () => {});
  }

  /** @throws what the function throws; P2pdmaError ERR_INVALID_ARG_VALUE: it returned no promise */
  #begin(): Promise<unknown> {
    if (this.#result !== null) return this.#result;
    let result: unknown;
    try {
      result = this.#consume(this.#through, { signal: this.#stop.signal });
    } catch (reason) {
      throw thrownBy(NAME, reason);
    }
    if (typeof (result as PromiseLike<unknown> | null)?.then !== 'function') {
      throw new P2pdmaError(
        'ERR_INVALID_ARG_VALUE',
        `pipeline: ${NAME} must return a promise (returned ${shown(result)})`,
        { received: result, hint: 'Use an async function that reads its first argument with for await.' },
      );
    }
    this.#result = Promise.resolve(result as PromiseLike<unknown>).then(
      () => this.#assertAllRead(),
      (reason: unknown) => {
        throw thrownBy(NAME, reason);
      },
    );
    this.#result.catch((error: Error) => this.destroy(error));
    return this.#result;
  }

  #assertAllRead(): void {
    const { writableFinished, readableLength } = this.#through;
    if (writableFinished && readableLength === 0) return;
    throw new P2pdmaError(
      'ERR_STREAM_DESTROYED',
      `pipeline: ${NAME} returned before it had read everything`,
      { hint: 'Let it read to the end, or copy less: the option end says where the copy ends.' },
    );
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    try {
      this.#begin();
    } catch (error) {
      callback(error as Error);
      return;
    }
    // Called when the function has taken it out, or has at least room for it.
    this.#through.write(chunk, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    try {
      this.#begin().then(() => callback(), callback);
      this.#through.end();
    } catch (error) {
      callback(error as Error);
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.writableFinished) {
      this.#stop.abort(error ?? undefined);
      this.#through.destroy(error ?? undefined);
    }
    callback(error);
  }
}
