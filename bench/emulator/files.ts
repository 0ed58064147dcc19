import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openSystem } from 'p2pdma';
import type { Competitor } from '../harness.js';

const BYTES = 256 * 1024 * 1024;

/** The same two files on the same disk: node:fs streams, and ours over file-backed namespaces, without a flush for either. */
export async function fileCompetitors(
  chunk: number,
): Promise<{ competitors: Competitor[]; close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'p2pdma-bench-'));
  const [source, destination] = [join(folder, 'source'), join(folder, 'destination')];
  await writeFile(source, Buffer.alloc(BYTES, 'p2pdma'));
  const system = await openSystem({ machine: 'switch' });
  return {
    competitors: [
      {
        name: 'fs streams',
        async run() {
          await pipeline(
            createReadStream(source, { highWaterMark: chunk }),
            createWriteStream(destination, { highWaterMark: chunk }),
          );
        },
      },
      {
        name: 'p2pdma',
        async run() {
          await pipeline(
            system.createReadStream(source, { highWaterMark: chunk }),
            system.createWriteStream(destination, { highWaterMark: chunk, flush: false }),
          );
        },
      },
    ],
    async close() {
      await system.close();
      await rm(folder, { recursive: true });
    },
  };
}
