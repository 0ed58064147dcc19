/** A web stream of bytes over a P2pFileHandle, as `readableWebStream()` of node:fs's FileHandle creates it. */
import type { ReadableByteStreamController } from 'node:stream/web';
import { DEFAULT_CHUNK } from './options.js';

interface Handle {
  /** Reads where the handle stands; 0: there is no more. */
  read(view: Uint8Array): Promise<number>;
  /** It ended, failed or was cancelled. */
  over(): void;
}

/**
 * Nothing is read before a reader asks for it: into the reader's own buffer, or else into a new one of at most `DEFAULT_CHUNK`
 * bytes.
 */
export class HandleWebStream {
  readonly stream: ReadableStream<Uint8Array>;
  #controller: ReadableByteStreamController | null = null;

  constructor(handle: Handle) {
    this.stream = new ReadableStream({
      type: 'bytes',
      autoAllocateChunkSize: DEFAULT_CHUNK,
      start: (controller) => {
        this.#controller = controller;
      },
      pull: (controller) => this.#pull(handle, controller),
      cancel: () => {
        this.#controller = null;
        handle.over();
      },
    });
  }

  /** A pending read, and each later one, rejects with `error`: a stream that only ended would look complete. */
  fail(error: Error): void {
    this.#controller?.error(error);
    this.#controller = null;
  }

  async #pull(handle: Handle, controller: ReadableByteStreamController): Promise<void> {
    const request = controller.byobRequest;
    const { buffer, byteOffset, byteLength } = request!.view as Uint8Array;
    try {
      const bytes = await handle.read(new Uint8Array(buffer, byteOffset, byteLength));
      // It was cancelled, or the handle was closed.
      if (this.#controller === null) return;
      if (bytes === 0) {
        this.#controller = null;
        controller.close();
        handle.over();
      }
      request!.respond(bytes);
    } catch (error) {
      this.fail(error as Error);
      handle.over();
    }
  }
}
