import type { Readable } from 'node:stream';
import type { LendingEnd } from './lending.js';
import { isFull } from './refusal.js';
import { atFirstMissing } from './transfer.js';

type PipeOptions = { readonly end?: boolean | undefined } | undefined;

/** A writer of ours that a reader was piped to. */
interface Joined {
  readonly end: LendingEnd;
  readonly options: PipeOptions;
  /** What listens to it for us. */
  leave(): void;
}

/** This package's writers that a reader was piped to, while nobody else looks on: what Node's pipe() keeps for others. */
export class JoinedWriters {
  readonly #reader: Readable;
  readonly #left: (end: LendingEnd) => void;
  readonly #joined = new Map<NodeJS.WritableStream, Joined>();

  /** @param left one is gone, while the others stay */
  constructor(reader: Readable, left: (end: LendingEnd) => void) {
    this.#reader = reader;
    this.#left = left;
  }

  get size(): number {
    return this.#joined.size;
  }

  get ends(): LendingEnd[] {
    return [...this.#joined.values()].map(({ end }) => end);
  }

  get destinations(): NodeJS.WritableStream[] {
    return [...this.#joined.keys()];
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
    this.#joined.set(destination, { end, options, leave });
    destination.emit('pipe', this.#reader);
  }

  /** It gets nothing more from here. */
  part(destination: NodeJS.WritableStream): void {
    const joined = this.#joined.get(destination);
    if (joined === undefined) return;
    joined.leave();
    this.#joined.delete(destination);
    this.#left(joined.end);
    destination.emit('unpipe', this.#reader, { hasUnpiped: false });
  }

  /** It failed, and the others go on. */
  failed(end: LendingEnd, error: Error): void {
    for (const [destination, joined] of this.#joined) {
      if (joined.end !== end) continue;
      this.part(destination);
      const destroy = (why: Error) =>
        (destination as unknown as { destroy(error: Error): void }).destroy(why);
      if (isFull(error)) errorOfFull(end, error).then(destroy);
      else destroy(error);
    }
  }

  /** None is joined any more. @returns who was, and how, for Node's own pipe() */
  clear(): [NodeJS.WritableStream, PipeOptions][] {
    const all = [...this.#joined];
    this.#joined.clear();
    for (const [, { leave }] of all) leave();
    return all.map(([destination, { options }]) => [destination, options]);
  }
}

/** Transfers end in any order; where room ran out is where the first byte is missing once all of them have ended. */
async function errorOfFull(end: LendingEnd, error: Error): Promise<Error> {
  return atFirstMissing(error, await end.opened(), await end.settled());
}
