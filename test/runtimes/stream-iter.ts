/** node:stream/iter over the streams of this package, on whatever Node runs it: prints what it saw, as JSON. */
import type { Readable, Writable } from 'node:stream';
import { openSystem } from '../../lib/index.js';
import { bytesOf } from '../helpers/copies.js';

// biome-ignore lint/suspicious/noExplicitAny: it is an experiment of Node's, and its types are not in @types/node
const iter: any = await import('node:stream/iter' as string);
const { bytes, from, fromReadable, fromWritable, ondrain, pipeTo, pull, text } = iter;

const data = bytesOf(3_000_001, 7);
const range = { end: data.length - 1 };
const system = await openSystem({ machine: 'switch' });
const read = (options: object = range) => system.createReadStream('nvme0n1', options);
const same = (got: Uint8Array) => data.equals(got);

async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return await run();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code ?? message;
  }
}

/**
 * In Node 24, a write that does not wait for room is refused, which pipeTo() does not heed, to node:fs as well. In Node 26.12, one
 * that waits may wait for ever, to node:fs as well, but not if the chunks' size does not divide the buffer's.
 */
async function writeAll(chunks: AsyncIterable<Uint8Array[]>, name: string): Promise<string> {
  const stream = system.createWriteStream(name, { highWaterMark: 600_000 });
  const writer = fromWritable(stream);
  for await (const batch of chunks) {
    for (const chunk of batch) {
      await ondrain(writer);
      await writer.write(chunk);
    }
  }
  await writer.end();
  await closed(stream);
  return `${stream.bytesWritten} bytes, finished: ${stream.writableFinished}`;
}

/** Not once() of node:events, which rejects with an error that comes before. */
function closed(stream: Readable | Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', () => resolve());
  });
}

async function stored(name: string): Promise<boolean> {
  return same(Buffer.concat(await system.createReadStream(name, range).toArray()));
}

const seen: Record<string, unknown> = {};
const target = system.createWriteStream('nvme0n1');
seen['pipeTo(from(buffer), fromWritable(stream))'] = await pipeTo(from(data), fromWritable(target));
await closed(target);
seen['what was written'] = await stored('nvme0n1');
seen['bytes(stream)'] = same(await bytes(read()));
seen['bytes(from(stream))'] = same(await bytes(from(read())));
seen['bytes(fromReadable(stream))'] = same(await bytes(fromReadable(read())));
seen['text(stream with an encoding)'] =
  (await text(read({ end: 99, encoding: 'hex' }))) === data.toString('hex', 0, 100);
let counted = 0;
const count = (chunks: Uint8Array[] | null) => {
  for (const chunk of chunks ?? []) counted += chunk.length;
  return chunks;
};
seen['bytes(pull(stream, transform))'] = same(await bytes(pull(read(), count))) && counted === data.length;
seen['from(stream) to fromWritable(stream)'] = await writeAll(from(read()), 'nvme1n1');
seen['its bytes'] = await stored('nvme1n1');

const left = read();
for await (const _ of from(left)) break;
seen['a loop that is left destroys the stream'] = left.destroyed;
const limited = read();
seen['a limit'] = await outcome(() => bytes(from(limited), { limit: 1000 }));
seen['after the limit'] = limited.destroyed;
const stopped = read();
const control = new AbortController();
const stopping = outcome(() => bytes(from(stopped), { signal: control.signal }));
control.abort(new Error('enough'));
const why = await stopping;
await closed(stopped);
seen['a signal'] = [why, stopped.destroyed];
seen['a drive that is not there'] = await outcome(() => bytes(from(system.createReadStream('nvme9n9'))));
const failing = system.createWriteStream('nvme1n1');
failing.on('error', () => {});
const broken = (async function* () {
  yield data.subarray(0, 1000);
  throw new Error('broken');
})();
seen['a source that fails'] = [await outcome(() => pipeTo(broken, fromWritable(failing))), failing.destroyed];
seen.leaks = await system.close();
console.log(JSON.stringify(seen));
