import { openSystem } from 'p2pdma';
import { median } from '../harness.js';

const COUNT = 20_000;

/** µs per 4 KiB read of a memory-backed namespace into CMB memory, at each depth: medians of interleaved rounds. */
export async function perIo(depths: readonly number[], rounds: number): Promise<Map<number, number>> {
  const system = await openSystem({ machine: 'switch' });
  const target = await system.target('nvme0n1', { write: true });
  const memory = system.allocate('nvme0', 4096 * Math.max(...depths));
  await target.write(memory.buffer, 0);
  const samples = new Map(depths.map((depth) => [depth, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const depth of depths) {
      let left = COUNT;
      const began = performance.now();
      await Promise.all(
        Array.from({ length: depth }, async (_, lane) => {
          const view = memory.buffer.subarray(lane * 4096, (lane + 1) * 4096);
          while (left-- > 0) await target.read(view, ((left * 7919) % 1024) * 4096);
        }),
      );
      if (round > 0) samples.get(depth)!.push(((performance.now() - began) * 1000) / COUNT);
    }
  }
  memory.free();
  await system.close();
  return new Map([...samples].map(([depth, values]) => [depth, median(values)]));
}
