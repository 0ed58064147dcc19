import { finished } from 'node:stream/promises';
import { openSystem } from 'p2pdma';

/** RSS growth in MiB over a copy of `mebibytes`, beyond the pool; the source is sparse and the same part is written over and over. */
export async function rssGrowth(mebibytes: number): Promise<number> {
  const PART = 256;
  const system = await openSystem({ machine: 'switch' });
  const pass = async () => {
    const reader = system.createReadStream('nvme0n1', { end: PART * 2 ** 20 - 1 });
    const writer = system.createWriteStream('nvme1n1');
    await finished(reader.pipe(writer));
  };
  await pass();
  const before = process.memoryUsage.rss();
  let most = before;
  for (let done = 0; done < mebibytes; done += PART) {
    await pass();
    most = Math.max(most, process.memoryUsage.rss());
  }
  await system.close();
  return Math.max(0, (most - before) / 2 ** 20 - 16);
}
