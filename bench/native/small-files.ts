import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import type { System } from 'p2pdma';
import type { Competitor } from '../harness.js';

const COUNT = 500;
const BYTES = 64 * 1024;

/** Many small files, and what is done with each; nothing is flushed, as node:fs does not flush. */
export interface SmallFiles {
  readonly words: string;
  /** Copies each file to another one that is there already. `atOnce`: how many are under way. */
  copying(atOnce: number): Record<'fs' | 'fsByNode' | 'pipeline' | 'pipe' | 'node', Competitor>;
  /** Reads each file with `for await`. */
  reading(atOnce: number): { fs: Competitor; ours: Competitor };
  close(): void;
}

/** In `P2PDMA_BENCH_DIR`; by default in the temporary folder. */
export function openSmallFiles(system: System): SmallFiles {
  const folder = mkdtempSync(join(process.env.P2PDMA_BENCH_DIR ?? tmpdir(), 'p2pdma-small-'));
  const from = Array.from({ length: COUNT }, (_, i) => join(folder, `from${i}`));
  const to = Array.from({ length: COUNT }, (_, i) => join(folder, `to${i}`));
  for (const path of [...from, ...to]) writeFileSync(path, Buffer.alloc(BYTES, 7));
  const competitor = (name: string, atOnce: number, work: (i: number) => Promise<unknown>): Competitor => ({
    name: `${name}, ${atOnce} at a time`,
    run: () => forEach(atOnce, work),
  });
  const options = { flush: false };
  return {
    words: `${COUNT} files of ${BYTES / 1024} KiB in ${folder}`,
    copying: (atOnce) => ({
      fs: competitor('fs streams, pipe', atOnce, (i) =>
        finished(createReadStream(from[i]!).pipe(createWriteStream(to[i]!))),
      ),
      fsByNode: competitor("fs streams, Node's pipeline()", atOnce, (i) =>
        pipeline(createReadStream(from[i]!), createWriteStream(to[i]!)),
      ),
      pipeline: competitor('p2pdma, pipeline()', atOnce, (i) => system.pipeline(from[i]!, to[i]!, options)),
      pipe: competitor('p2pdma, pipe', atOnce, (i) =>
        finished(system.createReadStream(from[i]!).pipe(system.createWriteStream(to[i]!, options))),
      ),
      node: competitor("p2pdma, Node's pipeline()", atOnce, (i) =>
        pipeline(system.createReadStream(from[i]!), system.createWriteStream(to[i]!, options)),
      ),
    }),
    reading: (atOnce) => ({
      fs: competitor('fs streams, for await', atOnce, (i) => readAll(createReadStream(from[i]!))),
      ours: competitor('p2pdma, for await', atOnce, (i) => readAll(system.createReadStream(from[i]!))),
    }),
    close() {
      const wrong = to.filter((path) => statSync(path).size !== BYTES);
      rmSync(folder, { recursive: true });
      if (wrong.length > 0) throw new Error(`${wrong.length} copies are not ${BYTES} bytes long`);
    },
  };
}

async function forEach(atOnce: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < COUNT) await work(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function readAll(stream: AsyncIterable<Uint8Array>): Promise<void> {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  if (bytes !== BYTES) throw new Error(`read ${bytes} of ${BYTES} bytes`);
}
