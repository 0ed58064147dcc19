import { finished, Readable } from 'node:stream';
import type { Attachment } from './attachment.js';
import { dispose } from './dispose.js';
import type { ReadSettings } from './options.js';
import { pathGiven } from './source.js';

/**
 * A Readable that is notified when a consumer wants to see its data: before the listener is added, by whichever method. It
 * also has the properties that every fs.ReadStream has.
 */
export abstract class WatchedReadable extends Readable {
  /** @internal */
  abstract readonly attachment: Attachment;
  /** @internal */
  protected abstract readonly settings: ReadSettings;

  /** The path as the caller gave it; as in node:fs, a stream over an `fd` has none. */
  get path(): string | Buffer {
    return pathGiven(this.attachment.source);
  }
  /** For this package's own functions. @internal */
  get meteredPath(): string {
    return this.attachment.source.path;
  }
  /** Offset of the first byte that it reads. */
  get start(): number {
    return this.settings.start;
  }
  /** Offset of the last byte that it reads; Infinity: the last one there is. */
  get end(): number {
    return this.settings.end;
  }
  /** How the file is opened, as the caller said it. */
  get flags(): string | number | null {
    return this.settings.flags === undefined ? 'r' : this.settings.flags;
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

  /** Destroy the stream, as in Node. `callback` is called when its target is closed, with an error if it had not ended. */
  close(callback?: (error?: Error | null) => void): void {
    if (callback !== undefined) finished(this, callback);
    this.destroy();
  }

  /** Destroy it now. Resolves when nothing is in flight and the target is closed. Used when the system closes. @internal */
  shutdown(): Promise<void> {
    if (!this.destroyed) this.destroy();
    return this.attachment.settled();
  }

  /**
   * As in Node: destroys the stream, with an `AbortError` unless it has ended. Resolves when it is closed and nothing is in
   * flight.
   */
  override async [Symbol.asyncDispose](): Promise<void> {
    await dispose(this, this.readableEnded);
    await this.shutdown();
  }

  /** Called when a consumer listens for data, or wants it as text. May be called more than once. @internal */
  protected abstract seen(): void;
  /** Called when data is requested, by a consumer or by Node for one. May be called more than once. @internal */
  protected abstract wanted(): void;

  /** As in Node. */
  override resume(): this {
    super.resume();
    this.wanted();
    return this;
  }

  /** As in Node. */
  // biome-ignore lint/suspicious/noExplicitAny: as Node types what it returns
  override read(size?: number): any {
    // Node itself calls read(0), which requests more but returns nothing.
    if (size !== 0) this.wanted();
    return super.read(size);
  }

  /** As in Node. A consumer that listens for data gets ordinary Buffers, which it may keep. */
  override on(event: 'data', listener: (chunk: Buffer) => void): this;
  override on(event: 'error', listener: (error: Error) => void): this;
  override on(event: 'open', listener: (fd: number | string) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    if (showsData(event)) this.seen();
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  /** Same as `on`. */
  override addListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override addListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override addListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this {
    return this.on(event, listener as () => void);
  }

  /** Same as `on`, but the listener is added before the existing ones. */
  override prependListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override prependListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override prependListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override prependListener(event: string | symbol, listener: (...args: never[]) => void): this {
    if (showsData(event)) this.seen();
    return super.prependListener(event, listener as (...args: unknown[]) => void);
  }

  /** As in Node. From then on, the text is what is piped to destinations. */
  override setEncoding(encoding: BufferEncoding): this {
    this.seen();
    return super.setEncoding(encoding);
  }
}

// This is not a private method because Readable's own constructor may call on().
function showsData(event: string | symbol): boolean {
  return event === 'data' || event === 'readable';
}
