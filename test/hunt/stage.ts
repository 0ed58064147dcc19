/** What a case plays on: the system, its ends, what happened so far, and who disturbs. */
import { setImmediate as turn } from 'node:timers/promises';
import type { EmulatorBackend } from '../../lib/emulator/backend.js';
import type { Receipt, System } from '../../lib/index.js';
import { P2pReadStream, P2pWriteStream } from '../../lib/index.js';
import type { Content } from '../../lib/sim/content.js';
import type { Case } from './draw.js';
import type { FilePlace, Place } from './places.js';

/** A chunk that a consumer got: as it was when it came, and as it is kept. */
export interface Delivery {
  /** Null: it was given back. */

  chunk: Buffer | null;
  readonly copy: Buffer;
}

/** What a destination was promised. */
export interface Promised {
  /** Bytes whose callbacks came without an error, from the start on. */
  acknowledged: number;
  stream: P2pWriteStream | null;
}

export class Stage {
  readonly drawn: Case;
  readonly system: System;
  readonly source: Place;
  readonly destinations: readonly Place[];
  readonly journal: string;
  /** What the source is and was. */
  readonly versions: Content[];
  readonly aborter = new AbortController();
  readonly stopper = new AbortController();
  reader: P2pReadStream | null = null;
  readonly promised: Promised[];
  readonly deliveries: Delivery[] = [];
  /** Deliveries began with the first byte. */
  deliveredFromStart = true;
  receipt: Receipt | null = null;
  /** Null: it is still under way, or went well. */
  error: Error | null = null;
  /** All of it went well, as far as those who did it were told. */
  complete = false;
  ended = false;
  disturbed = false;
  /** It was being read when it was disturbed. */
  late = false;
  /** Something that was seen to be wrong while it went. */
  readonly wrong: string[] = [];
  /** Reads of this system before the case began. */
  #filled = 0;

  constructor(
    drawn: Case,
    system: System,
    ends: { source: Place; destinations: readonly Place[]; journal: string },
  ) {
    this.drawn = drawn;
    this.system = system;
    this.source = ends.source;
    this.destinations = ends.destinations;
    this.journal = ends.journal;
    this.versions = [drawn.source.content];
    this.promised = ends.destinations.map(() => ({ acknowledged: 0, stream: null }));
  }

  /** How many bytes it was to be, as things were before any disturbance. */
  get span(): number {
    const { start, end, source } = this.drawn;
    return Math.max(0, Math.min((end ?? source.content.size - 1) + 1, source.content.size) - start);
  }

  /** Moves while anything goes on. */
  get progress(): number {
    const written = this.promised.map(
      ({ stream, acknowledged }) => (stream?.bytesWritten ?? 0) + acknowledged,
    );
    const read = (this.reader?.bytesRead ?? 0) + this.deliveries.length;
    const { bytes, transfers } = this.system.metrics();
    return (
      read + written.reduce((a, b) => a + b, 0) + bytes.read + bytes.write + transfers.read + transfers.write
    );
  }

  get readOptions(): object {
    const { start, end, chunk, depth, memory, provider, sparse, bandwidth } = this.drawn;
    return {
      ...{ start, queueDepth: depth, memory, provider, sparse },
      ...(end === null ? {} : { end }),
      ...(chunk === null ? {} : { highWaterMark: chunk }),
      ...(bandwidth === null ? {} : { bandwidth }),
    };
  }

  get writeOptions(): object {
    const { destinationStart, writerChunk, depth, flags, flush } = this.drawn;
    return {
      ...{ start: destinationStart, queueDepth: depth, flags, flush },
      ...(writerChunk === null ? {} : { highWaterMark: writerChunk }),
    };
  }

  openReader(more: object = {}): P2pReadStream {
    this.reader = this.system.createReadStream(this.source.path, { ...this.readOptions, ...more });
    this.reader.on('error', () => {});
    return this.reader;
  }

  openWriter(i: number, more: object = {}): P2pWriteStream {
    const writer = this.system.createWriteStream(this.destinations[i]!.path, {
      ...this.writeOptions,
      ...more,
    });
    this.promised[i]!.stream = writer;
    writer.on('error', () => {});
    return writer;
  }

  /** Everybody whom a case opened, shut. */
  async shut(): Promise<void> {
    for (const stream of [this.reader, ...this.promised.map(({ stream }) => stream)]) {
      if (stream instanceof P2pReadStream || stream instanceof P2pWriteStream) await stream.shutdown();
    }
  }

  note(chunk: Buffer): void {
    this.deliveries.push({ chunk, copy: Buffer.from(chunk) });
  }

  get #emulator(): EmulatorBackend {
    return this.system.context.backend as EmulatorBackend;
  }

  /** Everything is in its place. */
  begin(): void {
    this.#filled = this.system.metrics().transfers.read;
  }

  /** Disturb at the moment that was drawn; resolves when that is done, or the case ended before. */
  async disturb(): Promise<void> {
    const { kind, turns, bytes } = this.drawn.disturbance;
    if (kind === 'none' || kind === 'full') return;
    const early = turns % 2 === 0;
    for (let i = 0; i < turns && !this.ended; i++) await turn();
    while (!early && !this.ended && !this.#reached(bytes)) await turn();
    if (this.ended) return;
    this.disturbed = true;
    this.late = this.system.metrics().transfers.read > this.#filled;
    await this.#strike();
  }

  #reached(bytes: number): boolean {
    const least = Math.min(bytes, Math.floor(this.span / 2));
    const far = Math.max(
      this.reader?.bytesRead ?? 0,
      ...this.promised.map(({ stream }) => stream?.bytesWritten ?? 0),
    );
    return far >= least || (this.reader === null && this.promised[0]?.stream === null);
  }

  async #strike(): Promise<void> {
    const { kind, bytes } = this.drawn.disturbance;
    const { reader } = this;
    const writer = this.promised[0]?.stream ?? null;
    switch (kind) {
      case 'cut':
      case 'grow':
      case 'replace':
      case 'overwrite':
        return this.#changeSource(kind, bytes);
      case 'abort':
        return this.aborter.abort(new Error('the hunt aborts'));
      case 'stop':
        return this.stopper.abort();
      case 'destroy-reader':
        reader?.destroy();
        return;
      case 'destroy-writer':
        writer?.destroy();
        return;
      case 'unpipe':
        if (reader === null || writer === null) return;
        reader.unpipe(writer);
        for (let i = 0; i < bytes % 7; i++) await turn();
        if (reader.destroyed) writer.end();
        else if (!writer.destroyed) reader.pipe(writer);
        return;
      case 'listener':
        this.deliveredFromStart = false;
        reader?.on('data', (chunk: Buffer) => this.note(chunk));
        return;
      case 'pause':
        // A copy holds its source until the destinations are there: set going before, it would flow to nobody.
        if (reader === null || reader.isPaused()) return;
        reader.pause();
        for (let i = 0; i < bytes % 7; i++) await turn();
        reader.resume();
        return;
      case 'media-error':
      case 'remove':
      case 'pool-exhausted':
        return this.#break(kind, bytes);
      case 'none':
      case 'full':
        return;
      default:
        kind satisfies never;
    }
  }

  async #changeSource(kind: 'cut' | 'grow' | 'replace' | 'overwrite', bytes: number): Promise<void> {
    const place = this.source as FilePlace;
    const { content } = this.drawn.source;
    const other = { ...content, generation: content.generation ^ 0x55aa, sparse: false };
    switch (kind) {
      case 'cut': {
        const size = Math.min(content.size, bytes);
        this.versions.push({ ...content, size });
        place.cut(size);
        return;
      }
      case 'grow': {
        const grown = { ...content, sparse: false, size: content.size + (bytes % 200_000) };
        // Behind the old end a sparse content goes on with data, so nothing of the old is said anew.
        this.versions.push(grown);
        place.grow(grown);
        return;
      }
      case 'replace':
        this.versions.push(other);
        return place.replace(other);
      case 'overwrite':
        this.versions.push(other);
        place.overwrite(
          other,
          Math.floor(bytes / 3) % Math.max(1, content.size),
          Math.min(content.size, bytes),
        );
        return;
      default:
        kind satisfies never;
    }
  }

  #break(kind: 'media-error' | 'remove' | 'pool-exhausted', bytes: number): void {
    const { controllers } = this.system;
    const [from, to] = [this.source, this.destinations[0]];
    switch (kind) {
      case 'media-error': {
        const op = bytes % 2 === 0 || to === undefined ? 'read' : 'write';
        const place = op === 'read' ? from : to!;
        if (!place.device) return;
        this.#emulator.inject({ kind, namespace: place.path, lba: Math.floor(bytes / 512), op });
        return;
      }
      case 'remove': {
        const { name } = controllers[bytes % controllers.length]!;
        this.#emulator.inject({ kind, controller: name, afterBytes: bytes });
        return;
      }
      case 'pool-exhausted': {
        const owner = controllers.find(({ pdev }) => pdev?.p2pmem != null);
        if (owner !== undefined)
          this.#emulator.inject({ kind, controller: owner.name, available: bytes % 65_536 });
        return;
      }
      default:
        kind satisfies never;
    }
  }

  /** What was broken works again, as far as it is still there. */
  mend(): void {
    if (this.system.backend !== 'emulator') return;
    for (const { hardware } of this.#emulator.running.drives) hardware.faults.clear();
  }
}
