/** How far a reader reads ahead of a consumer that gets Buffers of its own. */

import { once } from 'node:events';
import t from 'tap';
import { openSystem, type ReadStreamOptions, type System } from '../../lib/index.js';

const KIB = 1024;

/** The reads that were begun while the consumer looks at the first chunk and takes nothing. */
async function readsAhead(options: ReadStreamOptions): Promise<number> {
  await using system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('nvme0n1', options);
  await once(reader, 'readable');
  await settled(system);
  const { read } = system.metrics().transfers;
  reader.destroy();
  await once(reader, 'close');
  return read;
}

/** Resolves when nothing is read any more. */
async function settled(system: System): Promise<void> {
  let before: number;
  do {
    before = system.metrics().transfers.read;
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (system.metrics().transfers.read !== before || system.metrics().inFlight > 0);
}

t.test('as many reads as 1 MiB holds, from 2 to 8, beside the chunk in the stream', async (t) => {
  t.equal(await readsAhead({}), 1 + 2, 'chunks of 512 KiB');
  t.equal(await readsAhead({ highWaterMark: 256 * KIB }), 1 + 4);
  t.equal(await readsAhead({ highWaterMark: 64 * KIB }), 1 + 8);
  t.equal(await readsAhead({ highWaterMark: 4 * KIB }), 1 + 8, 'small chunks are read together');
  t.equal(await readsAhead({ highWaterMark: 4096 * KIB }), 1 + 2);
});

t.test('readers share 8 MiB, beside one chunk each, and give back what they had', async (t) => {
  await using system = await openSystem({ machine: 'switch' });
  const started = () => system.metrics().transfers.read;
  for (const how of ['destroyed', 'aborted', 'read to the end'] as const) {
    const before = started();
    const aborters = Array.from({ length: 20 }, () => new AbortController());
    const readers = aborters.map(({ signal }) =>
      system.createReadStream('nvme0n1', { end: 4096 * KIB - 1, signal }),
    );
    for (const reader of readers) reader.on('error', () => {});
    await Promise.all(readers.map((reader) => once(reader, 'readable')));
    await settled(system);
    // The chunk in the stream, and one ahead; 16 chunks are 8 MiB, of which some readers have a second one.
    const most = 20 * 2 + 16;
    t.ok(started() - before >= 20 * 2 && started() - before <= most, `${started() - before} reads`);
    const closed = readers.map((reader) => new Promise((resolve) => reader.on('close', resolve)));
    for (const reader of readers) {
      if (how === 'destroyed') reader.destroy();
      if (how === 'read to the end') reader.resume();
    }
    if (how === 'aborted') for (const aborter of aborters) aborter.abort();
    await Promise.all(closed);
    const alone = started();
    const reader = system.createReadStream('nvme0n1');
    await once(reader, 'readable');
    await settled(system);
    t.equal(started() - alone, 1 + 2, `after readers that were ${how}`);
    reader.destroy();
    await once(reader, 'close');
  }
});

t.test('as many as were asked for', async (t) => {
  t.equal(await readsAhead({ queueDepth: 8 }), 1 + 8);
  t.equal(await readsAhead({ queueDepth: 1 }), 1 + 1);
  t.equal(await readsAhead({ highWaterMark: 64 * KIB, queueDepth: 20 }), 1 + 20);
});
