/**
 * The ends of a copy, opened once. Streams are created and destroyed over them (a copy with a journal is a series of
 * short copies), and written data is read back through the same open file. The ends are closed when the copy is over.
 */
import { existsSync } from 'node:fs';
import { type FileHandle, stat, unlink } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { type BlockTarget, type OpenOptions, sizeThisTurn } from '../backend/backend.js';
import { ENOENT } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { fileRange } from '../host/file-range.js';
import { P2pFileHandle } from '../streams/file-handle.js';
import {
  type ReadStreamOptions,
  readOptions,
  type WriteStreamOptions,
  writeOptions,
} from '../streams/options.js';
import { Pace } from '../streams/pace.js';
import { pathSource } from '../streams/path-source.js';
import { writeFlags } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import type { StreamContext } from '../streams/session.js';
import type { Source } from '../streams/source.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { whyNotZones } from '../streams/zones.js';
import { readableOf, writableOf } from './foreign.js';
import { PipeWriter } from './pipe-writer.js';
import { portionOf } from './portion.js';
import { pathAgain, type ReadBack, readAgain } from './read-back.js';
import { type CopyOptions, type CopyRequest, isFileHandle, PathEnd } from './request.js';

/** A path that is opened on first use. */
export class OpenEnd {
  readonly #end: PathEnd;
  readonly #options: OpenOptions;
  #opening: Promise<BlockTarget> | null = null;
  #begun = false;

  constructor(end: PathEnd, options: OpenOptions) {
    this.#end = end;
    this.#options = options;
  }

  /** As the caller gave it. */
  get path(): string {
    return this.#end.path;
  }

  open(): Promise<BlockTarget> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<BlockTarget> {
    const { context, path, now } = this.#end;
    const { write = false } = this.#options;
    const zoned = write ? whyNotZones(context.backend, path, now.place?.zones) : null;
    if (zoned !== null) throw zoned;
    // Until here it is synchronous: ends are opened in the order in which they were named, which decides where an
    // emulated machine places them.
    // A field after a spread takes Node 20 as long as some system calls.
    return context.openTarget(path, Object.assign({}, this.#options, { truncate: false, end: now }));
  }

  /**
   * Call `use` with a target for reading what was written. This is the target that is open already, unless its path
   * leads to something else by now or it is not open for reading; then the path is opened again, and that reports the
   * error.
   */
  async readBack<T>(use: (target: BlockTarget) => Promise<T>): Promise<T> {
    const target = await this.open();
    const { context, path } = this.#end;
    return target.readable && isThere(target) ? use(target) : readAgain({ context, path }, use);
  }

  /** @throws P2pdmaError ENOENT, ERR_JOURNAL_MISMATCH: the path no longer leads to the file that is being written */
  async assertThere(): Promise<void> {
    if (this.#opening === null || isThere(await this.#opening)) return;
    const { path } = this.#end;
    if (!existsSync(path)) {
      throw errnoError(-ENOENT, 'open', path, { hint: 'It was removed while the copy was under way.' });
    }
    throw new P2pdmaError(
      'ERR_JOURNAL_MISMATCH',
      `'${path}' is no longer the file that it was when the copy began or resumed`,
      { path },
    );
  }

  /**
   * For a stream over this end. A copy that fails before its first byte leaves everything as it was: a file is only
   * truncated when the first byte is written.
   */
  source(empties: boolean): Source {
    const { context, path } = this.#end;
    return {
      path,
      owned: true,
      kept: true,
      open: async () => ({ context, target: await this.open() }),
      begin: async (target) => {
        this.begin();
        if (empties && target.kind === 'file') await target.truncate(0);
      },
    };
  }

  /** From now on the file may be changed. */
  begin(): void {
    this.#begun = true;
  }

  /**
   * Close the end. A file that was created for the copy, but to which nothing was written, is removed. It does not reject.
   * @returns the error of closing it, or null
   */
  async close(): Promise<unknown> {
    try {
      const target = await this.#opening?.catch(() => null);
      if (target != null) await this.#close(target);
      return null;
    } catch (error) {
      return error;
    }
  }

  async #close(target: BlockTarget): Promise<void> {
    const { context, path } = this.#end;
    await context.closeTarget(target);
    if (target.made !== true || this.#begun) return;
    // Not if another process has put data there in the meantime.
    const there = await stat(path).catch(() => null);
    if (there?.size === 0) await unlink(path);
  }
}

/** Whether a file's path still leads to the open file. Anything but a file cannot be replaced under an open descriptor. */
function isThere({ kind, path, ranges }: BlockTarget): boolean {
  return kind !== 'file' || fileRange(path).on === ranges[0]!.on;
}

/** A source as it was found when it was opened. To ask a file for its size is a system call. */
export interface OpenSource extends Pick<BlockTarget, 'path' | 'kind' | 'size'> {
  readonly target: BlockTarget;
}

export class OpenEnds {
  readonly #request: CopyRequest;
  /** Null for an end that is not a path. */
  readonly from: OpenEnd | null;
  readonly to: readonly (OpenEnd | null)[];
  /** The ends that the present streams are over. */
  #over = new Map<Readable | Writable, OpenEnd>();

  constructor(request: CopyRequest) {
    const { source, destinations, options } = request;
    const write = writeFlags(options);
    this.#request = request;
    this.from = source instanceof PathEnd ? new OpenEnd(source, { engine: options.engine ?? 'auto' }) : null;
    this.to = destinations.map((end) => (end instanceof PathEnd ? new OpenEnd(end, write) : null));
  }

  /** The ends of a copy between paths only; null: an end is something else. */
  paths(): { context: StreamContext; from: OpenEnd; to: readonly OpenEnd[] } | null {
    const { source } = this.#request;
    const to = this.to.filter((end) => end !== null);
    if (!(source instanceof PathEnd) || to.length < this.to.length) return null;
    return { context: source.context, from: this.from!, to };
  }

  /** The source, open; null: it is a stream. @throws P2pdmaError the error of opening it */
  async source(): Promise<OpenSource | null> {
    const { source } = this.#request;
    const target = source instanceof Target ? source.blockTarget : await this.from?.open();
    if (target === undefined) return null;
    const { path, kind } = target;
    // A target may have been opened long before, or have changed since.
    return { target, path, kind, size: source instanceof Target ? target.size : sizeThisTurn(target) };
  }

  /**
   * Create streams over the ends. The source is opened before any destination, so a source that cannot be read truncates
   * nothing.
   */
  async streams(options: CopyOptions): Promise<{ reader: Readable; writers: Writable[] }> {
    const { source, destinations } = this.#request;
    const { destinationStart, verify = false } = options;
    const readSettings: ReadStreamOptions = { canary: verify, ...pick(options, readOptions) };
    delete readSettings.flags;
    const writeSettings: WriteStreamOptions = pick(options, writeOptions);
    if (destinationStart === undefined) delete writeSettings.start;
    else writeSettings.start = destinationStart;
    // run() listens to the signal, for all ends together.
    delete readSettings.signal;
    delete writeSettings.signal;
    this.#over = new Map();
    const reader = this.#reader(readSettings);
    const opened: (Readable | Writable)[] = [reader];
    try {
      // Its 'error' event comes after the rejection, when there is no other listener yet.
      if (reader !== source) reader.on('error', () => {});
      if (reader instanceof P2pReadStream) await reader.attachment.opened();
      const pipes = destinations.some((end) => end instanceof PipeWriter) ? await this.#request.open() : null;
      const writers = destinations.map((_, i) => {
        const writer = this.#writer(i, writeSettings, pipes);
        opened.push(writer);
        return writer;
      });
      return { reader, writers };
    } catch (error) {
      for (const stream of opened) stream.destroy();
      throw error;
    }
  }

  #reader(settings: ReadStreamOptions): Readable {
    const { source } = this.#request;
    if (source instanceof Target) return source.createReadStream(settings);
    if (source instanceof P2pReadStream) return source;
    if (source instanceof P2pFileHandle) return source.readerOver({ ...settings, autoClose: false }, false);
    if (isFileHandle(source)) return P2pReadStream.over(this.#handle(source, settings, 'reader'), settings);
    if (!(source instanceof PathEnd)) {
      const { end = Number.POSITIVE_INFINITY, bandwidth } = settings;
      return portionOf(readableOf(source), end, Pace.of(bandwidth));
    }
    const reader = P2pReadStream.over(this.from!.source(false), settings);
    this.#over.set(reader, this.from!);
    return reader;
  }

  /** `pipes`: the context of pipes; null: there are none. */
  #writer(i: number, settings: WriteStreamOptions, pipes: StreamContext | null): Writable {
    const to = this.#request.destinations[i]!;
    if (to instanceof PipeWriter) return to.writerOver(pipes!, settings) ?? to;
    if (to instanceof Target) return to.createWriteStream(settings);
    if (to instanceof P2pWriteStream) return to;
    if (to instanceof P2pFileHandle) return to.writerOver({ ...settings, autoClose: false }, false);
    if (isFileHandle(to)) return P2pWriteStream.over(this.#handle(to, settings, 'writer'), settings);
    if (!(to instanceof PathEnd)) return writableOf(to);
    const empties = writeFlags(settings).truncate === true;
    const writer = P2pWriteStream.over(this.to[i]!.source(empties), settings);
    this.#over.set(writer, this.to[i]!);
    return writer;
  }

  /** It belongs to the caller, who closes it. */
  #handle(fd: FileHandle, { start }: { start?: number | undefined }, role: 'reader' | 'writer'): Source {
    return {
      ...pathSource(this.#request.open, null, { fd, ...(start === undefined ? {} : { start }) }, role),
      kept: true,
    };
  }

  /** Streams over these ends are read back through the open ends; for other streams the path is opened again. */
  readonly readBack: ReadBack = (stream, use) => {
    const end = this.#over.get(stream);
    return end === undefined ? pathAgain(stream, use) : end.readBack(use);
  };

  /** Call before resuming after a pause. @throws P2pdmaError ENOENT, ERR_JOURNAL_MISMATCH */
  async assertThere(): Promise<void> {
    for (const end of [this.from, ...this.to]) await end?.assertThere();
  }

  /** @throws P2pdmaError the first error of closing the ends */
  async close(): Promise<void> {
    const closing = [this.from, ...this.to].map((end) => end?.close() ?? null);
    let failed: unknown = null;
    for (const closed of closing) {
      const error = await closed;
      failed ??= error;
    }
    if (failed !== null) throw failed;
  }
}

/** The options that this table contains, without the undefined ones. */
function pick(options: CopyOptions, table: { readonly shape: object }): object {
  const known = Object.entries(options).filter(
    ([name, value]) => value !== undefined && Object.hasOwn(table.shape, name),
  );
  return Object.fromEntries(known);
}
