/**
 * The ends of a copy, opened once. Streams over them come and go (a copy with a journal is a row of short ones), and what
 * was written is read back through what it was written through; the ends are closed when the copy is over.
 */
import { existsSync } from 'node:fs';
import { stat, unlink } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import type { BlockTarget, OpenOptions } from '../backend/backend.js';
import { ENOENT } from '../base/errno.js';
import { errnoError, P2pdmaError } from '../base/errors.js';
import { fileRange } from '../host/file-range.js';
import {
  type ReadStreamOptions,
  readOptions,
  type WriteStreamOptions,
  writeOptions,
} from '../streams/options.js';
import { writeFlags } from '../streams/paths.js';
import { P2pReadStream } from '../streams/read-stream.js';
import type { Source } from '../streams/source.js';
import { Target } from '../streams/target.js';
import { P2pWriteStream } from '../streams/write-stream.js';
import { whyNotZones } from '../streams/zones.js';
import { pathAgain, type ReadBack, readAgain } from './read-back.js';
import { type CopyOptions, type CopyRequest, PathEnd } from './request.js';

/** A path, opened when it is wanted first. */
export class OpenEnd {
  readonly #end: PathEnd;
  readonly #options: OpenOptions;
  #opening: Promise<BlockTarget> | null = null;
  /** The file is there because of the copy. */
  #made = false;
  #begun = false;

  constructor(end: PathEnd, options: OpenOptions) {
    this.#end = end;
    this.#options = options;
  }

  open(): Promise<BlockTarget> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<BlockTarget> {
    const { context, path, now } = this.#end;
    const { write = false, exclusive = false } = this.#options;
    const zoned = write ? whyNotZones(path, now.place?.zones) : null;
    if (zoned !== null) throw zoned;
    // Not waited for: ends are opened in the order in which they were named, which decides where an emulated machine puts them.
    const there = write && existsSync(path);
    const target = await context.openTarget(path, { ...this.#options, truncate: false, end: now });
    this.#made = write && target.kind === 'file' && (!there || exclusive);
    return target;
  }

  /**
   * `use` it to read what was written: the same, unless its name leads elsewhere by now, or this process may not read it;
   * then opening it again says so.
   */
  async readBack<T>(use: (target: BlockTarget) => Promise<T>): Promise<T> {
    const target = await this.open();
    const { context, path } = this.#end;
    return target.readable && isThere(target) ? use(target) : readAgain({ context, path }, use);
  }

  /** @throws P2pdmaError ENOENT, ERR_JOURNAL_MISMATCH: what is written goes on to a file that nobody finds */
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
   * For a stream over it. A copy that fails before its first byte leaves everything as it was: a file is emptied when the
   * first byte comes.
   */
  source(empties: boolean): Source {
    const { context, path } = this.#end;
    return {
      path,
      owned: true,
      kept: true,
      open: async () => ({ context, target: await this.open() }),
      begin: async (target) => {
        this.#begun = true;
        if (empties && target.kind === 'file') await target.truncate(0);
      },
    };
  }

  /** A file that was made for the copy and got nothing is removed. */
  async close(): Promise<void> {
    const target = await this.#opening?.catch(() => null);
    if (target == null) return;
    const { context, path } = this.#end;
    await context.closeTarget(target);
    if (!this.#made || this.#begun) return;
    // Not if somebody else has put something there meanwhile.
    const there = await stat(path).catch(() => null);
    if (there?.size === 0) await unlink(path);
  }
}

/** A file's name still leads to what is open. What is no file cannot be replaced under an open descriptor. */
function isThere({ kind, path, ranges }: BlockTarget): boolean {
  return kind !== 'file' || fileRange(path).on === ranges[0]!.on;
}

export class OpenEnds {
  readonly #request: CopyRequest;
  /** Of ends that are paths; null: it is something else. */
  readonly from: OpenEnd | null;
  readonly to: readonly (OpenEnd | null)[];
  readonly #over = new WeakMap<Readable | Writable, OpenEnd>();

  constructor(request: CopyRequest) {
    const { source, destinations, options } = request;
    const write = writeFlags(pick(options, writeOptions));
    this.#request = request;
    this.from = source instanceof PathEnd ? new OpenEnd(source, { engine: options.engine ?? 'auto' }) : null;
    this.to = destinations.map((end) => (end instanceof PathEnd ? new OpenEnd(end, write) : null));
  }

  /** The source, open; null: it is a stream. @throws P2pdmaError whatever opening it says */
  async source(): Promise<BlockTarget | null> {
    const { source } = this.#request;
    return source instanceof Target ? source.blockTarget : ((await this.from?.open()) ?? null);
  }

  /** Streams over the ends. The source is open before a destination is: one that cannot be read truncates nothing. */
  async streams(options: CopyOptions): Promise<{ reader: Readable; writers: Writable[] }> {
    const { source, destinations } = this.#request;
    const { destinationStart, verify = false } = options;
    const readSettings: ReadStreamOptions = { canary: verify, ...pick(options, readOptions) };
    const writeSettings: WriteStreamOptions = pick(options, writeOptions);
    if (destinationStart === undefined) delete writeSettings.start;
    else writeSettings.start = destinationStart;
    // run() listens to it, for all ends at once.
    delete readSettings.signal;
    delete writeSettings.signal;
    const reader = this.#reader(readSettings);
    const opened: (Readable | Writable)[] = [reader];
    try {
      // Its 'error' comes after the rejection, when nobody else listens yet.
      if (reader !== source) reader.on('error', () => {});
      if (reader instanceof P2pReadStream) await reader.attachment.opened();
      const writers = destinations.map((_, i) => {
        const writer = this.#writer(i, writeSettings);
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
    if (!(source instanceof PathEnd)) return source;
    const reader = P2pReadStream.over(this.from!.source(false), settings);
    this.#over.set(reader, this.from!);
    return reader;
  }

  #writer(i: number, settings: WriteStreamOptions): Writable {
    const to = this.#request.destinations[i]!;
    if (to instanceof Target) return to.createWriteStream(settings);
    if (!(to instanceof PathEnd)) return to;
    const empties = writeFlags(settings).truncate === true;
    const writer = P2pWriteStream.over(this.to[i]!.source(empties), settings);
    this.#over.set(writer, this.to[i]!);
    return writer;
  }

  /** Streams over the ends are read back through them, others through what their path is by now. */
  readonly readBack: ReadBack = (stream, use) => {
    const end = this.#over.get(stream);
    return end === undefined ? pathAgain(stream, use) : end.readBack(use);
  };

  /** Before it goes on after a while. @throws P2pdmaError ENOENT, ERR_JOURNAL_MISMATCH */
  async assertThere(): Promise<void> {
    for (const end of [this.from, ...this.to]) await end?.assertThere();
  }

  /** @throws P2pdmaError what closing the first of them that failed said */
  async close(): Promise<void> {
    const ends = [this.from, ...this.to].filter((end) => end !== null);
    const results = await Promise.allSettled(ends.map((end) => end.close()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }
}

/** Those of the options that this table has, without the undefined ones. */
function pick(options: CopyOptions, table: { readonly shape: object }): object {
  const known = Object.entries(options).filter(
    ([name, value]) => value !== undefined && Object.hasOwn(table.shape, name),
  );
  return Object.fromEntries(known);
}
