import { atLeast, atMost, type Figure, race, type Settings } from '../harness.js';
import { bufferCopies } from './buffer-copies.js';
import { fileCompetitors } from './files.js';
import { perIo } from './per-io.js';
import { ourPipe } from './pipe.js';
import { rssGrowth } from './rss.js';

const MIB = 1024 * 1024;

/** The emulator's figures: ratios to what the same machine does with bare copies, at the same time. */
export async function figures({ rounds, only, log }: Settings): Promise<Figure[]> {
  const report: Figure[] = [];
  const part = (name: string) => {
    if (!name.includes(only)) return false;
    log(name);
    return true;
  };

  if (part('memory')) {
    for (const chunk of [MIB, 64 * 1024]) {
      const copies = bufferCopies(chunk);
      const pipe = await ourPipe(chunk);
      const results = await race([copies, pipe], rounds);
      const ratio = results.get(copies.name)!.seconds / results.get(pipe.name)!.seconds;
      report.push(
        atLeast(`pipe, memory-backed, ${chunk / 1024} KiB chunks, against two bare copies`, ratio, 0.6),
      );
      await pipe.close();
    }
  }

  if (part('files')) {
    for (const chunk of [64 * 1024, MIB]) {
      const files = await fileCompetitors(chunk);
      const results = await race(files.competitors, rounds);
      const ratio = results.get('fs streams')!.seconds / results.get('p2pdma')!.seconds;
      report.push(atLeast(`pipe, file-backed, ${chunk / 1024} KiB chunks, against fs streams`, ratio, 1));
      await files.close();
    }
  }

  if (part('io')) {
    const costs = await perIo([1, 8, 64], rounds);
    for (const [depth, micros] of costs) {
      report.push(atMost(`4 KiB read through the whole stack, depth ${depth}`, micros, 20, 'µs'));
    }
  }

  if (part('rss')) {
    report.push(
      atMost('RSS growth over an 8 GiB copy, beyond the pool', await rssGrowth(8 * 1024), 64, 'MiB'),
    );
  }
  return report;
}
