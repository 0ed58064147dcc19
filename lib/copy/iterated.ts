import { Readable } from 'node:stream';
import { shown } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { thrownBy } from './thrown.js';

/** What an iterable may deliver. */
type Chunk = string | NodeJS.ArrayBufferView;
export type Chunks = AsyncIterable<Chunk> | Iterable<Chunk>;

/** What chunks come from, and what else ends with them. */
export interface Iteration {
  /** Called when the first chunk is wanted. The signal is aborted when no more are. */
  begin(signal: AbortSignal): unknown;
  /** What the chunks come from, in words for errors. */
  readonly name: string;
  /** Called when the stream is destroyed: `return()` of an iterator has to wait for the chunk that is under way. */
  destroyed?(error: Error | null): void;
}

/**
 * A Readable over an iterable of chunks. Readable.from() would pass on chunks that are no bytes, for which the writer throws
 * where nobody can catch it, and tells a function only at its next chunk that it should stop.
 */
export class Iterated extends Readable {
  readonly #of: Iteration;
  readonly #stop = new AbortController();
  #iterator: AsyncIterator<unknown> | Iterator<unknown> | null = null;
  #pulling = false;
  #ended = false;

  constructor(of: Iteration) {
    super();
    this.#of = of;
  }

  override _read(): void {
    if (this.#pulling) return;
    this.#pulling = true;
    this.#pull().then(
      () => {
        this.#pulling = false;
      },
      (reason: unknown) => this.destroy(thrownBy(this.#of.name, reason)),
    );
  }

  /** Push until the stream has enough. */
  async #pull(): Promise<void> {
    this.#iterator ??= iteratorOf(this.#of.begin(this.#stop.signal), this.#of.name);
    for (let more = true; more && !this.destroyed; ) {
      const { done = false, value } = await this.#iterator.next();
      if (this.destroyed) return;
      if (done) {
        this.#ended = true;
        this.push(null);
        return;
      }
      const bytes = bytesOf(await value, this.#of.name);
      if (bytes.length > 0 && !this.destroyed) more = this.push(bytes);
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#stop.abort(error ?? undefined);
    if (!this.#ended) this.#of.destroyed?.(error);
    const over = this.#ended ? undefined : this.#iterator?.return?.();
    const returned = Promise.resolve(over).then(
      () => null,
      (reason: unknown) => thrownBy(this.#of.name, reason),
    );
    // A generator returns after the chunk that is under way, which may never come.
    if (this.#pulling) callback(error);
    else returned.then((failed) => callback(error ?? failed));
  }
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: the function returned something else */
function iteratorOf(value: unknown, name: string): AsyncIterator<unknown> | Iterator<unknown> {
  if (typeof value === 'object' && value !== null) {
    if (Symbol.asyncIterator in value) return (value as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    if (Symbol.iterator in value) return (value as Iterable<unknown>)[Symbol.iterator]();
  }
  throw new P2pdmaError(
    'ERR_INVALID_ARG_VALUE',
    `pipeline: ${name} must return an iterable or async iterable (returned ${shown(value)})`,
    { received: value, hint: 'Use a generator: async function* () { yield chunk; }.' },
  );
}

function bytesOf(chunk: unknown, name: string): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk);
  if (ArrayBuffer.isView(chunk)) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  throw new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `pipeline: ${name} must deliver strings, Buffers, TypedArrays or DataViews (received ${shown(chunk)})`,
    { received: chunk, demand: 'a string, Buffer, TypedArray or DataView' },
  );
}
