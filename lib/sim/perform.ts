/** The operations of a scenario, through the doors that its users have. */
import { finished } from 'node:stream/promises';
import type { PathBytes } from '../backend/backend.js';
import type { P2pReadStream } from '../streams/read-stream.js';
import type { Receipt } from '../streams/receipt.js';
import type { P2pWriteStream } from '../streams/write-stream.js';
import type { PipelineOptions, System } from '../system.js';
import { bytesOfContent } from './content.js';
import type { Knobs, Op, Part } from './scenario.js';
import type { World } from './world.js';

/** What became of an operation. */
export interface Result {
  error: Error | null;
  /** Of a copy. */
  receipt: Receipt | null;
  /** Routes that were counted, of the streams or of the copy. */
  paths: PathBytes[];
  /** What a reader delivered. */
  delivered: Buffer[];
  /** What a reader or writer says itself. */
  counted: number | null;
  /** Bytes whose write was acknowledged. */
  acknowledged: number;
  /** Sentences about what must not happen, as seen from inside. */
  wrong: string[];
}

export interface Scene {
  readonly world: World;
  readonly system: System;
  /** Chunks that are still lent when the system closes. */
  readonly kept: Buffer[];
}

type Kind<K extends Op['kind']> = Extract<Op, { kind: K }>;

/** What `write` writes. */
export function contentOf({ generation, pieces }: Kind<'write'>): Buffer {
  const size = pieces.reduce((a, b) => a + b, 0);
  return bytesOfContent({ generation, size, sparse: false }, 0, size);
}

export async function perform(scene: Scene, op: Op, result: Result): Promise<void> {
  const aborter = new AbortController();
  if ('abort' in op && op.abort !== null)
    scene.world.atStep(scene.world.steps + op.abort, () => aborter.abort());
  const { signal } = aborter;
  try {
    switch (op.kind) {
      case 'copy':
        await (op.way === 'paths'
          ? copyPaths(scene, op, result, { signal })
          : copyStreams(scene, op, result, signal));
        break;
      case 'journal':
        await copyPaths(scene, op, result, { signal, journal: op.journal });
        break;
      case 'read':
        await read(scene, op, result, signal);
        break;
      case 'write':
        await write(scene, op, result, signal);
        break;
      case 'target':
        await move(scene, op, result);
        break;
      case 'trespass':
        await trespass(scene, op.end, result);
        break;
      default:
        op satisfies never;
    }
  } catch (error) {
    result.error = error as Error;
  }
}

function readKnobs({ highWaterMark, queueDepth, memory, provider }: Knobs) {
  return {
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
    ...(queueDepth === undefined ? {} : { queueDepth }),
    ...{ memory: memory ?? 'auto', provider: provider ?? 'auto' },
  };
}

function writeKnobs({ flags, flush, ...knobs }: Knobs) {
  return { ...readKnobs(knobs), flags: flags ?? 'w', flush: flush ?? true, force: true };
}

async function copyPaths(
  { system }: Scene,
  { from, to, length, knobs, kind }: Kind<'copy'> | Kind<'journal'>,
  result: Result,
  more: Pick<PipelineOptions, 'signal' | 'journal'>,
): Promise<void> {
  const options = {
    ...writeKnobs(knobs),
    ...{ start: from.at, destinationStart: to[0]!.at, verify: knobs.verify ?? false, ...more },
    ...(kind === 'journal' ? {} : { end: from.at + length - 1 }),
  };
  const ends = to.map(({ end }) => end);
  result.receipt = await system.pipeline(from.end, ends, options);
  result.paths.push(result.receipt.path);
}

async function copyStreams(
  { system }: Scene,
  { from, to, length, knobs, way }: Kind<'copy'>,
  result: Result,
  signal: AbortSignal,
): Promise<void> {
  const reader = openReader(system, from, length, knobs, way === 'pipe' ? signal : undefined);
  const writers = to.map((part) =>
    system.createWriteStream(part.end, { ...writeKnobs(knobs), start: part.at }),
  );
  const streams = [reader, ...writers];
  try {
    if (way === 'streams') {
      result.receipt = await system.pipeline(reader, writers, { verify: knobs.verify ?? false, signal });
      return;
    }
    for (const stream of streams) stream.on('error', () => {});
    for (const writer of writers) reader.pipe(writer);
    await untilOver(reader, writers);
    result.counted = reader.bytesRead;
  } finally {
    for (const stream of streams) {
      stream.destroy();
      await stream.shutdown();
    }
    if (result.receipt === null) result.paths.push(...streams.map((stream) => stream.receipt.path));
    else result.paths.push(result.receipt.path);
  }
}

/** Who pipes by hand looks after both ends. */
async function untilOver(reader: P2pReadStream, writers: readonly P2pWriteStream[]): Promise<void> {
  const failed = new Promise<never>((_, reject) => {
    reader.once('error', reject);
    reader.once('close', () => {
      if (!reader.readableEnded) reject(closedEarly());
    });
  });
  await Promise.race([Promise.all(writers.map(closed)), failed]);
}

/** Node's finished() takes a stream for finished that was destroyed once it was told to end. */
async function closed(writer: P2pWriteStream): Promise<void> {
  await finished(writer);
  if (!writer.writableFinished) throw closedEarly();
}

function closedEarly(): Error {
  return Object.assign(new Error('it was closed before its end'), { code: 'SIM_CLOSED' });
}

function openReader(
  system: System,
  from: Part,
  length: number,
  knobs: Knobs,
  signal?: AbortSignal,
): P2pReadStream {
  return system.createReadStream(from.end, {
    ...readKnobs(knobs),
    ...{ start: from.at, end: from.at + length - 1 },
    ...(signal === undefined ? {} : { signal }),
  });
}

async function read(
  scene: Scene,
  { from, length, knobs, way }: Kind<'read'>,
  result: Result,
  signal: AbortSignal,
): Promise<void> {
  const asked = way === 'lent' ? { ...knobs, memory: 'cmb' as never } : knobs;
  const reader = openReader(scene.system, from, length, asked, signal);
  try {
    if (way === 'for-await') for await (const chunk of reader) result.delivered.push(Buffer.from(chunk));
    else {
      reader.on('data', (chunk: Buffer) => {
        result.delivered.push(Buffer.from(chunk));
        if (way === 'lent') lend(scene, reader, chunk, result);
      });
      await finished(reader);
    }
    result.counted = reader.bytesRead;
  } finally {
    reader.destroy();
    await reader.shutdown();
    result.paths.push(reader.receipt.path);
  }
}

/** Keeps the chunk for a while, and looks whether it is the same when it is handed back. */
function lend({ world, kept }: Scene, reader: P2pReadStream, chunk: Buffer, result: Result): void {
  const copy = Buffer.from(chunk);
  kept.push(chunk);
  world.complete(() =>
    world.complete(() => {
      // Destroyed before its end, a reader takes back what it lent.
      if (reader.destroyed && !reader.readableEnded) return;
      if (chunk.length > 0 && !chunk.equals(copy)) result.wrong.push('invariant 1: a lent chunk changed');
      try {
        reader.release(chunk);
      } catch (error) {
        if (!reader.destroyed) result.wrong.push(`release: ${(error as Error).message}`);
      }
    }),
  );
}

async function write(
  { system }: Scene,
  op: Kind<'write'>,
  result: Result,
  signal: AbortSignal,
): Promise<void> {
  const content = contentOf(op);
  const writer = system.createWriteStream(op.to.end, { ...writeKnobs(op.knobs), start: op.to.at, signal });
  try {
    writer.on('error', () => {});
    let at = 0;
    for (const [i, size] of op.pieces.entries()) {
      if (writer.destroyed) break;
      const chunk = content.subarray(at, at + size);
      at += size;
      if (i % 4 === 3) writer.cork();
      const more = writer.write(chunk, (error) => {
        if (error == null) result.acknowledged += chunk.length;
      });
      if (i % 4 === 3) writer.uncork();
      if (!more) await drained(writer);
    }
    if (!writer.destroyed) writer.end();
    await closed(writer);
    result.counted = writer.bytesWritten;
  } finally {
    writer.destroy();
    await writer.shutdown();
    result.paths.push(writer.receipt.path);
  }
}

/** There is room again, or there never will be. */
function drained(writer: P2pWriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (writer.closed) resolve();
    else writer.once('drain', resolve).once('close', resolve);
  });
}

/** Positioned I/O in whole blocks. */
async function move(
  { system }: Scene,
  { from, to, length, step, provider }: Kind<'target'>,
  result: Result,
): Promise<void> {
  const source = await system.target(from.end);
  const opened = [source];
  let free = () => {};
  try {
    const destination = await system.target(to.end, { write: true, force: true });
    opened.push(destination);
    const memory = system.allocate(provider, step);
    free = () => memory.free();
    for (let at = 0; at < length; at += step) {
      const wanted = Math.min(step, length - at);
      // Nothing is left of memory whose drive was removed.
      if (memory.buffer.length === 0)
        throw Object.assign(new Error('the memory is gone'), { code: 'SIM_SHORT' });
      const view = memory.buffer.subarray(0, wanted);
      const got = await source.read(view, from.at + at);
      if (got < wanted) throw Object.assign(new Error('a short read'), { code: 'SIM_SHORT' });
      const put = await destination.write(view, to.at + at);
      result.acknowledged += put;
      if (put < wanted) throw Object.assign(new Error('a short write'), { code: 'SIM_SHORT' });
    }
    result.counted = length;
  } finally {
    for (const target of opened) await target.close();
    free();
  }
}

async function trespass({ system }: Scene, end: string, result: Result): Promise<void> {
  const first = await system.target(end, { write: true, force: true });
  try {
    const second = await system.target(end, { write: true });
    result.wrong.push(`invariant 6: '${end}' is open for writing twice without force`);
    await second.close();
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EBUSY') throw error;
  } finally {
    await first.close();
  }
}
