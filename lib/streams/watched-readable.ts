import { Readable } from 'node:stream';

/**
 * A Readable that is notified when a consumer wants to see its data: before the listener is added, by whichever method.
 */
export abstract class WatchedReadable extends Readable {
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
  override on(event: 'open', listener: (name: string) => void): this;
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
