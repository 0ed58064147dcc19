/** How far a reader reads ahead of a consumer that gets Buffers of its own. */

import { once } from 'node:events';
import t from 'tap';
import { openSystem, type ReadStreamOptions } from '../../lib/index.js';

const KIB = 1024;

/** The reads that were begun while the consumer looks at the first chunk and takes nothing. */
async function readsAhead(options: ReadStreamOptions): Promise<number> {
  await using system = await openSystem({ machine: 'switch' });
  const reader = system.createReadStream('nvme0n1', options);
  await once(reader, 'readable');
  let before: number;
  do {
    before = system.metrics().transfers.read;
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (system.metrics().transfers.read !== before || system.metrics().inFlight > 0);
  reader.destroy();
  await once(reader, 'close');
  return before;
}

t.test('as many reads as 1 MiB holds, from 2 to 8, beside the chunk in the stream', async (t) => {
  t.equal(await readsAhead({}), 1 + 2, 'chunks of 512 KiB');
  t.equal(await readsAhead({ highWaterMark: 256 * KIB }), 1 + 4);
  t.equal(await readsAhead({ highWaterMark: 64 * KIB }), 1 + 8);
  t.equal(await readsAhead({ highWaterMark: 4 * KIB }), 1 + 8, 'small chunks are read together');
  t.equal(await readsAhead({ highWaterMark: 4096 * KIB }), 1 + 2);
});

t.test('as many as were asked for', async (t) => {
  t.equal(await readsAhead({ queueDepth: 8 }), 1 + 8);
  t.equal(await readsAhead({ queueDepth: 1 }), 1 + 1);
  t.equal(await readsAhead({ highWaterMark: 64 * KIB, queueDepth: 20 }), 1 + 20);
});
