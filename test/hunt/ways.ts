/** The ways a copy can be made: every door of the public face, as its users go through it. */
import { Readable } from 'node:stream';
import { finished, pipeline as nodePipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import type { P2pWriteStream, PipelineDestination, PipelineOptions } from '../../lib/index.js';
import { bytesOfContent } from '../../lib/sim/content.js';
import type { Way } from './draw.js';
import { killed } from './killed.js';
import type { Stage } from './stage.js';

/** Play the case's way to its end; throws what its user would be thrown. */
export const WAYS: Record<Way, (stage: Stage) => Promise<void>> = {
  pipeline: copy,
  'fan-out': copy,
  journal,
  pipe,
  'pipe-fan-out': pipe,
  'node-pipeline': async (stage) => {
    const reader = stage.openReader();
    const writer = stage.openWriter(0);
    await nodePipeline(reader, writer, { signal: stage.aborter.signal });
  },
  'for-await-write': async (stage) => {
    const reader = stage.openReader({ signal: stage.aborter.signal });
    const writer = stage.openWriter(0);
    for await (const chunk of reader) {
      stage.note(chunk);
      if (!acknowledge(stage, writer, chunk)) await drained(writer);
      if (writer.destroyed) break;
    }
    await ended(writer);
  },
  read,
  lent: read,
  write: async (stage) => {
    const writer = stage.openWriter(0, { signal: stage.aborter.signal });
    const { pieces, disturbance } = stage.drawn;
    let at = 0;
    for (let i = 0; at < stage.drawn.source.content.size && !writer.destroyed; i++) {
      const size = Math.min(pieces[i % pieces.length]!, stage.drawn.source.content.size - at);
      const chunk = bytesOfContent(stage.drawn.source.content, at, at + size);
      at += size;
      if (i % 5 === disturbance.turns % 5) writer.cork();
      const more = acknowledge(stage, writer, chunk);
      if (i % 3 === 2) writer.uncork();
      if (!more && writer.writableCorked === 0) await drained(writer);
    }
    await ended(writer);
  },
  targets,
  kill: killed,
};

/** Write, and account for the callback: they come in order, each once, and after an error none without one. */
function acknowledge(stage: Stage, writer: P2pWriteStream, chunk: Buffer): boolean {
  const promise = stage.promised[0]!;
  return writer.write(chunk, (error?: Error | null) => {
    if (error != null) return;
    promise.acknowledged += chunk.length;
    if (promise.acknowledged > writer.bytesWritten) {
      stage.wrong.push(
        `${promise.acknowledged} bytes acknowledged, and bytesWritten is ${writer.bytesWritten}`,
      );
    }
  });
}

/** There is room again, or there never will be. */
function drained(writer: P2pWriteStream): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      writer.off('drain', over);
      writer.off('close', over);
      resolve();
    };
    if (writer.closed) resolve();
    else writer.on('drain', over).on('close', over);
  });
}

/** Node's finished() takes a stream for finished that was destroyed once it was told to end, or the other way round. */
async function closed(writer: P2pWriteStream): Promise<void> {
  await finished(writer);
  if (!writer.writableFinished) throw Object.assign(new Error('it was closed'), { code: 'HUNT_CLOSED' });
}

async function ended(writer: P2pWriteStream): Promise<void> {
  if (!writer.destroyed) writer.end();
  await closed(writer);
}

async function copy(stage: Stage): Promise<void> {
  const { system, drawn } = stage;
  const options: PipelineOptions = { ...copyOptions(stage), system };
  const destinations: PipelineDestination[] = [];
  if (drawn.ends === 'paths') {
    destinations.push(...stage.destinations.map(({ path }) => path));
    stage.receipt = await system.pipeline(stage.source.path, destinations, options);
    return;
  }
  if (drawn.ends === 'streams') {
    const source = stage.openReader();
    destinations.push(...stage.destinations.map((_, i) => stage.openWriter(i)));
    const { verify, signal, stop } = options;
    stage.receipt = await system.pipeline(source, destinations, {
      verify: verify!,
      signal: signal!,
      stop: stop!,
    });
    return;
  }
  const source = await system.target(stage.source.path);
  const opened = [source];
  try {
    for (const { path, device } of stage.destinations) {
      // A Target is never truncated, and a file must be there to become one.
      if (!device && drawn.destinations.some(({ content }) => content === null)) destinations.push(path);
      else {
        const target = await system.target(path, { write: true });
        opened.push(target);
        destinations.push(target);
      }
    }
    stage.receipt = await system.pipeline(source, destinations, options);
  } finally {
    for (const target of opened) await target.close();
  }
}

function copyOptions(stage: Stage): PipelineOptions {
  const { destinationStart, flags, flush, verify } = stage.drawn;
  return {
    ...(stage.readOptions as PipelineOptions),
    ...{ destinationStart, flags, flush, verify },
    ...{ signal: stage.aborter.signal, stop: stage.stopper.signal },
  };
}

/** Interrupted, and begun again with the same words until it is done. */
async function journal(stage: Stage): Promise<void> {
  const to = stage.destinations[0]!.path;
  const options = { ...copyOptions(stage), journal: stage.journal };
  const go = (more: Pick<PipelineOptions, 'signal' | 'stop'>) =>
    stage.system.pipeline(stage.source.path, to, { ...options, ...more });
  try {
    stage.receipt = await go({});
    if (!stage.stopper.signal.aborted) return;
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
  }
  const fresh = { signal: new AbortController().signal, stop: new AbortController().signal };
  stage.receipt = await go(fresh);
  stage.disturbed = false;
}

/** Not awaited by Node: who pipes by hand looks after both ends. */
async function pipe(stage: Stage): Promise<void> {
  const reader = stage.openReader({ signal: stage.aborter.signal });
  const writers = stage.destinations.map((_, i) => stage.openWriter(i));
  for (const writer of writers) reader.pipe(writer);
  const over = new Promise<void>((resolve, reject) => {
    reader.once('error', reject);
    reader.once('close', () => {
      if (!reader.readableEnded)
        reject(Object.assign(new Error('the reader was closed'), { code: 'HUNT_CLOSED' }));
    });
    Promise.all(writers.map(closed)).then(() => resolve(), reject);
  });
  await over;
}

async function read(stage: Stage): Promise<void> {
  const reader = stage.openReader({ signal: stage.aborter.signal });
  const lent = stage.drawn.way === 'lent';
  const back: Promise<unknown>[] = [];
  reader.on('data', (chunk: Buffer) => {
    stage.note(chunk);
    if (!lent) return;
    const waits = stage.deliveries.length % 3;
    const given = (async () => {
      for (let i = 0; i < waits; i++) await turn();
      // What is lent may be overwritten once it is given back.
      stage.deliveries.find((delivery) => delivery.chunk === chunk)!.chunk = null;
      reader.release(chunk);
    })().catch((error: Error) => {
      // Destroyed before its end, a reader takes back what it lent.
      if (!reader.destroyed || reader.readableEnded) stage.wrong.push(`release: ${error.message}`);
    });
    back.push(given);
  });
  try {
    await finished(reader);
  } finally {
    await Promise.all(back);
  }
}

/** Positioned I/O in whole blocks. */
async function targets(stage: Stage): Promise<void> {
  const { system, drawn } = stage;
  const source = await system.target(stage.source.path);
  const { path, device } = stage.destinations[0]!;
  if (!device && drawn.destinations[0]!.content === null) {
    await finished(Readable.from([]).pipe(system.createWriteStream(path)));
  }
  const destination = await system.target(path, { write: true });
  const block = Math.max(source.logicalBlockSize, destination.logicalBlockSize);
  const step = Math.ceil((drawn.chunk ?? 65_536) / block) * block;
  const memory = system.allocate(null, step);
  try {
    for (let at = 0; at < stage.span; at += step) {
      const room = destination.kind === 'file' ? step : Math.min(step, destination.size - at);
      if (room <= 0) break;
      const view = memory.buffer.subarray(0, room - (room % block));
      const got = await source.read(view, at);
      stage.note(Buffer.from(view.subarray(0, got)));
      if (got === 0) break;
      view.fill(0, got);
      await destination.write(view.subarray(0, Math.ceil(got / block) * block), at);
      stage.promised[0]!.acknowledged = at + got;
      if (got < view.length) break;
    }
    await destination.flush();
  } finally {
    memory.free();
    await source.close();
    await destination.close();
  }
}
