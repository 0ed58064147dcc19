import { Readable } from 'node:stream';

/**
 * A Readable that learns when somebody wants to see its data: before the listener is added, whichever way it comes.
 */
export abstract class WatchedReadable extends Readable {
  /** Somebody listens for data, or wants it as text. May be called more than once. @internal */
  protected abstract seen(): void;

  /** As in Node. Whoever listens for data gets ordinary Buffers that it may keep. */
  override on(event: 'data', listener: (chunk: Buffer) => void): this;
  override on(event: 'error', listener: (error: Error) => void): this;
  override on(event: 'open', listener: (name: string) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    if (showsData(event)) this.seen();
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  /** As `on`. */
  override addListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override addListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override addListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this {
    return this.on(event, listener as () => void);
  }

  /** As `on`, before the listeners that are there. */
  override prependListener(event: 'data', listener: (chunk: Buffer) => void): this;
  override prependListener(event: 'error', listener: (error: Error) => void): this;
  // biome-ignore lint/suspicious/noExplicitAny: as Node types the listeners of other events
  override prependListener(event: string | symbol, listener: (...args: any[]) => void): this;
  override prependListener(event: string | symbol, listener: (...args: never[]) => void): this {
    if (showsData(event)) this.seen();
    return super.prependListener(event, listener as (...args: unknown[]) => void);
  }

  /** As in Node: what is piped on is then the text. */
  override setEncoding(encoding: BufferEncoding): this {
    this.seen();
    return super.setEncoding(encoding);
  }
}

// No private method: Readable's own constructor may call on().
function showsData(event: string | symbol): boolean {
  return event === 'data' || event === 'readable';
}
