import type { Readable } from 'node:stream';
import type { LendingEnd } from './lending.js';
import { isFull } from './refusal.js';
import { atFirstMissing } from './transfer.js';

type PipeOptions = { readonly end?: boolean | undefined } | undefined;

/** One of this package's writers that a reader was piped to. */
interface Joined {
  readonly destination: NodeJS.WritableStream;
  readonly end: LendingEnd;
  readonly options: PipeOptions;
  /** Removes the event listeners. */
  leave(): void;
}

const NOBODY: readonly Joined[] = [];

/**
 * This package's writers that a reader was piped to, while there is no other consumer. For them, this class does what Node's
 * pipe() does for other writers.
 */
export class JoinedWriters {
  readonly #reader: Readable;
  readonly #left: (end: LendingEnd) => void;
  #joined: readonly Joined[] = NOBODY;
  /**
   * The last writer has left and nobody else has asked for data since. What Node requested from the reader while it had writers
   * is not a request of anybody else then: nothing is read for it.
   */
  abandoned = false;

  /** @param left called when one writer has left, while the others stay */
  constructor(reader: Readable, left: (end: LendingEnd) => void) {
    this.#reader = reader;
    this.#left = left;
  }

  get size(): number {
    return this.#joined.length;
  }

  get ends(): LendingEnd[] {
    return this.#joined.map(({ end }) => end);
  }

  get destinations(): NodeJS.WritableStream[] {
    return this.#joined.map(({ destination }) => destination);
  }

  join(destination: NodeJS.WritableStream, end: LendingEnd, options: PipeOptions): void {
    this.part(destination);
    const part = () => this.part(destination);
    const atEnd = options?.end === false ? part : () => destination.end();
    destination.on('close', part);
    destination.on('finish', part);
    this.#reader.once('end', atEnd);
    const leave = () => {
      destination.removeListener('close', part);
      destination.removeListener('finish', part);
      this.#reader.removeListener('end', atEnd);
    };
    this.#joined = [...this.#joined, { destination, end, options, leave }];
    this.abandoned = false;
    destination.emit('pipe', this.#reader);
  }

  /** Disconnect this writer: it gets nothing more from the reader. */
  part(destination: NodeJS.WritableStream): void {
    const joined = this.#joined.find((one) => one.destination === destination);
    if (joined === undefined) return;
    joined.leave();
    this.#joined = this.#joined.filter((one) => one !== joined);
    this.abandoned = this.#joined.length === 0;
    this.#left(joined.end);
    destination.emit('unpipe', this.#reader, { hasUnpiped: false });
  }

  /** Disconnect and destroy a writer that failed. The others continue. */
  failed(end: LendingEnd, error: Error): void {
    for (const { destination, end: joined } of this.#joined) {
      if (joined !== end) continue;
      this.part(destination);
      const destroy = (why: Error) =>
        (destination as unknown as { destroy(error: Error): void }).destroy(why);
      if (isFull(error)) errorOf(end, error).then(destroy);
      else destroy(error);
    }
  }

  /** Disconnect all writers. @returns these writers with their pipe options, for Node's own pipe() */
  clear(): [NodeJS.WritableStream, PipeOptions][] {
    const all = this.#joined;
    this.#joined = NOBODY;
    this.abandoned = false;
    for (const { leave } of all) leave();
    return all.map(({ destination, options }) => [destination, options]);
  }
}

/**
 * The error for an end whose write failed. Transfers end in any order, so the position where the room ran out is known only when
 * all of them have ended.
 */
export async function errorOf(end: LendingEnd, error: Error): Promise<Error> {
  return isFull(error) ? atFirstMissing(error, await end.opened(), await end.settled()) : error;
}
