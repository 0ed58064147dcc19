import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Competitor, Measured } from '../harness.js';
import type { Devices } from './devices.js';
import { run } from './run.js';

const SOURCE = fileURLToPath(new URL('../../../bench/native/ring-copy.c', import.meta.url));

/** Compiles ring-copy.c, and runs `use` with the program. */
export async function withRingCopy<T>(use: (program: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'p2pdma-bench-'));
  try {
    const program = join(folder, 'ring-copy');
    await run('cc', ['-O2', '-o', program, SOURCE], 'gcc libc6-dev');
    return await use(program);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * A plain program in C that does nothing but copy, with the same chunks and as many of them in flight. Neither its start nor the
 * allocation of its memory is in its times.
 */
export function ringCopy(
  program: string,
  { source, destination, bytes }: Devices,
  chunk: number,
  depth: number,
  offset = 0,
): Competitor {
  return {
    name: `io_uring in C, ${chunk / 1024} KiB, depth ${depth}`,
    run: async () => {
      const numbers = [bytes, chunk, depth, offset].map(String);
      return JSON.parse(await run(program, [source, destination, ...numbers])) as Measured;
    },
  };
}

/** Several of them at once, each with its share of the devices, as the copies of `ourPipe` have. */
export function ringCopies(
  program: string,
  devices: Devices,
  { chunk, depth, count }: { chunk: number; depth: number; count: number },
): Competitor {
  const bytes = devices.bytes / count;
  const copies = Array.from({ length: count }, (_, i) =>
    ringCopy(program, { ...devices, bytes }, chunk, depth, i * bytes),
  );
  return {
    name: `io_uring in C, ${count} at once`,
    run: async () => {
      await Promise.all(copies.map((copy) => copy.run()));
    },
  };
}
