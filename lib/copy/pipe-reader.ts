import { readSync } from 'node:fs';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { Backend } from '../backend/backend.js';
import { builtin } from '../base/builtin.js';

/** A smaller one would be written to a file through the page cache (range-writer.ts), which is slower in a long copy. */
const CHUNK = 1024 * 1024;
/** What a pipe holds, and what one read of it gives at most, unless it was made larger. */
const PIPE_HOLDS = 64 * 1024;

type MovePipe = NonNullable<Backend['movePipe']>;

/**
 * A pipe or a socket that can be read in two ways, of which one copy uses one.
 *
 *     as any Readable          pipe ── readSync until it is empty ──▶ chunk ──▶ push
 *                                └────── empty: the socket says when there is something again
 *     fill(), see pour.ts      pipe ── read by a thread of the backend ──▶ the caller's memory
 *
 * A Socket over the descriptor makes it non-blocking, so that `readSync` returns what the pipe holds and never waits. It costs
 * a fraction of what a Socket's own reads (one event, one Buffer, one write per 64 KiB) or reads in a thread of Node cost.
 */
export class PipeReader extends Readable {
  readonly #fd: number;
  /** Null: nothing was read as a Readable. */
  #socket: Socket | null = null;
  #chunk = Buffer.alloc(0);

  constructor(fd: number) {
    super({ highWaterMark: CHUNK });
    this.#fd = fd;
  }

  /** One call at a time. See Backend.movePipe for what `done` gets. */
  fill(movePipe: MovePipe, view: Uint8Array, done: (moved: number, ended: boolean) => void): void {
    movePipe({ op: 'read', fd: this.#fd, view }, done);
  }

  #open(): Socket {
    const onread = {
      buffer: Buffer.allocUnsafeSlow(PIPE_HOLDS),
      callback: (bytes: number, buffer: Uint8Array) => {
        this.push(Buffer.from(buffer.subarray(0, bytes)));
        // It pauses until the next `resume`.
        return false;
      },
    };
    const inTurns = { fd: this.#fd, readable: true, writable: false, manualStart: true, onread };
    const { Socket } = builtin('node:net');
    const socket = new Socket(inTurns);
    socket.on('error', (error) => this.destroy(error));
    socket.on('end', () => this.push(null));
    return socket;
  }

  override _read(): void {
    this.#socket ??= this.#open();
    const chunk = this.#chunk.length >= PIPE_HOLDS ? this.#chunk : Buffer.allocUnsafeSlow(CHUNK);
    let filled = 0;
    let got: number | null = 0;
    while (filled < chunk.length) {
      got = this.#readInto(chunk.subarray(filled));
      if (got === null || got === 0) break;
      filled += got;
    }
    this.#chunk = chunk.subarray(filled);
    // After a part of a chunk, the next `_read` finds the pipe empty, or at its end, again.
    if (filled > 0) this.push(chunk.subarray(0, filled));
    else if (got === 0) this.push(null);
    else if (!this.destroyed) this.#socket.resume();
  }

  /** 0: the end; null: the pipe is empty, or it failed. */
  #readInto(into: Buffer): number | null {
    try {
      return readSync(this.#fd, into);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return null;
      this.destroy(error as Error);
      return null;
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#socket?.destroy();
    callback(error);
  }
}
