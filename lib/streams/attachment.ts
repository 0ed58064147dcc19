import type { Readable, Writable } from 'node:stream';
import type { BlockTarget } from '../backend/backend.js';
import type { P2pdmaError } from '../base/errors.js';
import type { Metered } from './metrics.js';
import { Outcome } from './outcome.js';
import type { StreamContext } from './session.js';
import { closedError, type Source } from './source.js';

type Done = (error?: Error | null) => void;
type OurStream = (Readable | Writable) & Metered & { readonly autoClose: boolean; shutdown(): Promise<void> };

/** Connects a stream to its target, from its construction until nothing is in flight and the target is closed. */
export class Attachment {
  readonly source: Source;
  readonly #stream: OurStream;
  readonly #opened = new Outcome<BlockTarget>();
  readonly #settled = new Outcome<void>();
  #closed = false;
  #refused: Error | null = null;
  /** The context of the stream's system; null until the stream is open. */
  context: StreamContext | null = null;
  /** Null until it is open. */
  target: BlockTarget | null = null;

  constructor(stream: OurStream, source: Source) {
    this.#stream = stream;
    this.source = source;
    source.whenGone?.(() => stream.destroy());
  }

  /** Resolves when its target is open. */
  opened(): Promise<BlockTarget> {
    return this.#opened.promise;
  }

  /** Resolves when nothing is in flight and the target is closed. */
  settled(): Promise<void> {
    return this.#settled.promise;
  }

  /** If it is not open yet, it will not be opened, and fails with this error instead. */
  refuse(error: Error): void {
    this.#refused = error;
  }

  /** The number of the open descriptor; null: it has none, it is not open yet, or it is closed. */
  get fd(): number | null {
    return this.#closed ? null : (this.source.fd ?? this.target?.fd ?? null);
  }

  /** True until it is open, and again when it is closed. */
  get pending(): boolean {
    return this.#closed || (this.target === null && this.source.fd === undefined);
  }

  /** Implements the stream's _construct. */
  construct(adopt: (target: BlockTarget, context: StreamContext) => void, callback: Done): void {
    const stream = this.#stream;
    (this.#refused === null ? this.source.open() : Promise.reject(this.#refused)).then(
      ({ context, target }) => {
        this.context = context;
        this.target = target;
        try {
          context.add(stream);
          adopt(target, context);
        } catch (error) {
          this.#opened.reject(error as Error);
          return callback(this.#failure(error as P2pdmaError));
        }
        this.#opened.resolve(target);
        callback();
        // As in node:fs: what was open already is not announced.
        if (this.source.fd !== undefined) return;
        // To hand out the descriptor takes a system call.
        if (stream.listenerCount('open') > 0) stream.emit('open', target.fd ?? target.name);
        stream.emit('ready');
      },
      (error: P2pdmaError) => {
        this.#opened.reject(error);
        callback(this.#failure(error));
      },
    );
  }

  /** It is not a failure if the stream was destroyed before it was open, and the system closed in the meantime. */
  #failure(error: P2pdmaError): P2pdmaError | null {
    return this.#stream.destroyed && error.code === 'ERR_STREAM_DESTROYED' ? null : error;
  }

  /** Implements the stream's _destroy. `cleanUp` resolves when nothing is in flight any more and the target is closed. */
  end(error: Error | null, cleanUp: () => Promise<void>, callback: Done): void {
    if (error !== null) this.context?.failed(error);
    if (this.target === null) this.#opened.reject(error ?? closedError(this.source.path));
    const over = (why: Error | null) => {
      this.context?.remove(this.#stream);
      this.#settled.resolve();
      callback(why);
    };
    cleanUp().then(
      () => over(error),
      (failed: Error) => over(error ?? failed),
    );
  }

  /** Close the target, if it belongs to the stream, or else tell its owner. */
  close(): Promise<void> {
    const { owned, kept = false, fd } = this.source;
    this.#closed = true;
    // A descriptor that its stream was not to close stays open when the system closes: its number may be another file's by now.
    if (fd !== undefined && !this.#stream.autoClose && this.context?.closed === true)
      return Promise.resolve();
    const isOurs = owned && !kept && this.target !== null;
    const closed = isOurs ? this.context!.closeTarget(this.target!) : Promise.resolve();
    return this.source.released === undefined ? closed : closed.then(() => this.source.released!());
  }
}
