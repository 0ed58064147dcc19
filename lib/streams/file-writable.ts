import { Writable } from 'node:stream';
import type { Attachment } from './attachment.js';
import { dispose } from './dispose.js';
import type { WriteSettings } from './options.js';
import { pathGiven } from './source.js';

/** A Writable with the properties that every fs.WriteStream has. */
export abstract class FileWritable extends Writable {
  /** @internal */
  abstract readonly attachment: Attachment;
  /** @internal */
  protected abstract readonly settings: WriteSettings;

  /** The path as the caller gave it; as in node:fs, a stream over an `fd` has none. */
  get path(): string | Buffer {
    return pathGiven(this.attachment.source);
  }
  /** For this package's own functions. @internal */
  get meteredPath(): string {
    return this.attachment.source.path;
  }
  /** Offset of the first byte that it writes. */
  get start(): number {
    return this.settings.start;
  }
  /** How the file is opened, as the caller said it. */
  get flags(): string | number | null {
    return this.settings.flags === undefined ? 'w' : this.settings.flags;
  }
  /** The permissions of a new file, as the caller said them. */
  get mode(): number | string | null {
    return this.settings.mode === undefined ? 0o666 : this.settings.mode;
  }
  /** Whether the target is closed when the stream ends or fails. */
  get autoClose(): boolean {
    return this.settings.autoClose;
  }
  /** The number of the open descriptor; null: there is none, as on an emulated drive, or the stream is not open. */
  get fd(): number | null {
    return this.attachment.fd;
  }
  /** True until the target is open, and again when it is closed. */
  get pending(): boolean {
    return this.attachment.pending;
  }

  /** End the stream and close its target, as in Node. `callback` is called when that is done. */
  close(callback?: (error?: Error | null) => void): void {
    if (callback !== undefined) {
      if (this.closed) process.nextTick(callback);
      else this.once('close', callback);
    }
    if (!this.autoClose && this.writableFinished) this.destroy();
    else if (!this.autoClose) this.once('finish', () => this.destroy());
    this.end();
  }

  /** Same as `end`, as in Node. */
  destroySoon(): void {
    this.end();
  }

  /** Destroy it now. Resolves when nothing is in flight and the target is closed. Used when the system closes. @internal */
  shutdown(): Promise<void> {
    if (!this.destroyed) this.destroy();
    return this.attachment.settled();
  }

  /**
   * As in Node: destroys the stream, with an `AbortError` unless it is finished. Resolves when it is closed and nothing is in
   * flight.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await dispose(this, this.writableFinished);
    await this.shutdown();
  }
}
