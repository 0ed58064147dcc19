import type { Socket } from 'node:net';
import { Writable } from 'node:stream';
import type { Backend } from '../backend/backend.js';
import { builtin } from '../base/builtin.js';
import { ECANCELED } from '../base/errno.js';
import { errnoError } from '../base/errors.js';
import { fileOfNumber, type PlainFile } from '../host/plain-file.js';
import { PlainTarget } from '../host/plain-target.js';
import type { WriteStreamOptions } from '../streams/options.js';
import type { StreamContext } from '../streams/session.js';
import { P2pWriteStream } from '../streams/write-stream.js';

const REASON = 'a pipe takes its bytes in order, from host memory';

type Done = (error?: Error | null) => void;

/**
 * A pipe or a socket that can be written in two ways, of which one copy uses one.
 *
 *     as any Writable     chunk ── a Socket: it waits in the event loop ──▶ pipe
 *     writerOver()        slot ── written by a thread of the backend ────▶ pipe
 *
 * In the second way no chunk passes through a Node stream: a reader of this package fills slots ahead, as for any other writer
 * of this package, and nothing changes the flags of the descriptor. A full pipe blocks nothing in either way.
 */
export class PipeWriter extends Writable {
  readonly #fd: number;
  /** What errors, receipts and metrics call it. */
  readonly #name: string;
  /** Null: nothing was written as to any Writable. */
  #socket: Socket | null = null;

  constructor(fd: number, name: string) {
    super();
    this.#fd = fd;
    this.#name = name;
  }

  /** Null: the backend has no threads, so it is written as any Writable. The writer leaves the descriptor open. */
  writerOver(context: StreamContext, settings: WriteStreamOptions): P2pWriteStream | null {
    const { backend } = context;
    if (backend.movePipe === undefined) return null;
    const [fd, path] = [this.#fd, this.#name];
    const file = { ...fileOfNumber(fd), write: writing(backend, fd, () => writer.destroyed) };
    const target = new PlainTarget(file, { path, reason: REASON, positioned: false });
    const source = { path, fd, owned: true, kept: true, open: async () => ({ context, target }) };
    const writer = P2pWriteStream.over(source, settings);
    return writer;
  }

  #open(): Socket {
    const { Socket } = builtin('node:net');
    const socket = new Socket({ fd: this.#fd, readable: false, writable: true });
    socket.on('error', (error) => this.destroy(error));
    return socket;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Done): void {
    this.#socket ??= this.#open();
    this.#socket.write(chunk, callback);
  }

  override _final(callback: Done): void {
    if (this.#socket === null) callback();
    else this.#socket.end(callback);
  }

  override _destroy(error: Error | null, callback: Done): void {
    this.#socket?.destroy();
    callback(error);
  }
}

/** `isOver`: nobody waits for the write any more, for which a pipe that nobody reads would have no room. */
function writing(backend: Backend, fd: number, isOver: () => boolean): PlainFile['write'] {
  const write: PlainFile['write'] = (view, position, done) =>
    backend.movePipe!({ op: 'write', fd, view }, (moved) => {
      if (moved > 0) done(null, moved);
      else if (moved < 0) done(errnoError(moved, 'write', null), 0);
      else if (isOver()) done(errnoError(-ECANCELED, 'write', null), 0);
      else write(view, position, done);
    });
  return write;
}
