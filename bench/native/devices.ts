import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './run.js';

/** What is copied, and to where; the same for every competitor. */
export interface Devices {
  readonly source: string;
  readonly destination: string;
  readonly bytes: number;
  /** Loop devices over tmpfs, or files on a disk. */
  readonly loop: boolean;
  readonly words: string;
  /** Forget cached and write back dirty pages, so that nobody pays or gains by who ran before. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

const MIB = 1024 * 1024;

/** Two loop devices over tmpfs files, when root; else two files to be opened with O_DIRECT. */
export async function openDevices(bytes: number): Promise<Devices> {
  const root = process.getuid?.() === 0;
  const folder = mkdtempSync(
    join(root ? '/dev/shm' : (process.env.P2PDMA_BENCH_DIR ?? tmpdir()), 'p2pdma-bench-'),
  );
  const files = [join(folder, 'source'), join(folder, 'destination')];
  for (const [i, file] of files.entries()) fill(file, bytes, i);
  const loops: string[] = [];
  const remove = () => {
    for (const loop of loops) spawnSync('losetup', ['-d', loop]);
    rmSync(folder, { recursive: true, force: true });
  };
  // Interrupted, too: gigabytes of memory must not stay behind.
  const interrupted = () => {
    remove();
    process.exit(130);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupted);
  const close = async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.removeListener(signal, interrupted);
    remove();
  };
  try {
    for (const file of root ? files : []) {
      loops.push((await run('losetup', ['-f', '--show', file], 'mount')).trim());
    }
  } catch (error) {
    await close();
    throw error;
  }
  const [source, destination] = root ? loops : files;
  return {
    source: source!,
    destination: destination!,
    bytes,
    loop: root,
    words: `${root ? 'loop devices over tmpfs' : `files in ${folder}`}, ${bytes / MIB} MiB`,
    settle: async () => {
      for (const loop of loops) await run('blockdev', ['--flushbufs', loop], 'util-linux');
      if (!root) await run('sync', [destination!], 'coreutils');
    },
    close,
  };
}

/** Every page there from the beginning: the first to write must not pay for the allocation. */
function fill(file: string, bytes: number, seed: number): void {
  const fd = openSync(file, 'w');
  const chunk = Buffer.alloc(MIB);
  for (let at = 0; at < bytes; at += MIB) {
    chunk.fill((at / MIB + seed) % 251);
    chunk.writeDoubleLE(at, 0);
    writeSync(fd, chunk, 0, Math.min(MIB, bytes - at));
  }
  fsyncSync(fd);
  closeSync(fd);
}
