import { finished } from 'node:stream/promises';
import { openSystem } from 'p2pdma';
import type { Competitor } from '../harness.js';
import { BYTES } from './buffer-copies.js';

/** `readable.pipe(writable)` between two memory-backed namespaces, through the first drive's CMB. */
export async function ourPipe(chunk: number): Promise<Competitor & { close(): Promise<void> }> {
  const system = await openSystem({ machine: 'switch' });
  const target = await system.target('nvme0n1', { write: true });
  const seed = system.allocate(null, 1024 * 1024);
  seed.buffer.fill(1);
  for (let at = 0; at < BYTES; at += seed.buffer.length) await target.write(seed.buffer, at);
  await target.close();
  return {
    name: 'p2pdma',
    async run() {
      const reader = system.createReadStream('nvme0n1', { end: BYTES - 1, highWaterMark: chunk });
      const writer = system.createWriteStream('nvme1n1', { highWaterMark: chunk });
      await finished(reader.pipe(writer));
      if (writer.transport !== 'p2p-bus') throw new Error(`not peer to peer: ${writer.receipt.reason}`);
      return { seconds: writer.receipt.seconds };
    },
    async close() {
      await system.close();
    },
  };
}
