/** The suite on this Linux: files, and loop devices where they may be made, by both engines. No CMB here; test/vm has some. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSystem } from '../../lib/index.js';
import type { Backend, Rig } from './rig.js';
import { suite } from './suite.js';

const NAMES = ['source', 'a', 'b', 'c'] as const;
const SIZE = 4 * 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-native-'));
const loops: string[] = [];

t.teardown(() => {
  for (const loop of loops) spawnSync('losetup', ['-d', loop]);
  rmSync(folder, { recursive: true });
});

async function peek(path: string, start: number, length: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, start);
    return buffer;
  } finally {
    await file.close();
  }
}

/** Through the page cache, and out of it again before O_DIRECT looks. */
async function poke(path: string, start: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, start);
    await file.sync();
  } finally {
    await file.close();
  }
}

function rigs(kind: Rig['kind'], engine: 'uring' | 'threads', paths: () => string[]): Backend {
  return {
    name: `${kind === 'file' ? 'files' : 'loop devices'}, ${engine}`,
    open: async (): Promise<Rig> => {
      const [source, a, b, c] = paths() as [string, string, string, string];
      return {
        system: await openSystem({ backend: 'native', engine }),
        source,
        destinations: [a, b, c],
        kind,
        provider: null,
        noProvider: 'this machine has no p2pmem; test/vm runs this with a CMB',
        peek,
        poke,
        length: async (path) => (kind === 'file' ? (await stat(path)).size : SIZE),
      };
    },
  };
}

/** Fresh files for each test. */
function files(): string[] {
  return NAMES.map((name) => {
    const path = join(folder, name);
    writeFileSync(path, '');
    truncateSync(path, SIZE);
    return path;
  });
}

/** Four loop devices, or why there are none. */
function makeLoops(): string | null {
  if (process.getuid?.() !== 0) return 'making loop devices takes root';
  for (const name of NAMES) {
    const image = join(folder, `${name}.img`);
    writeFileSync(image, '');
    truncateSync(image, SIZE);
    const made = spawnSync('losetup', ['--find', '--show', image], { encoding: 'utf8' });
    if (made.status !== 0) return `losetup: ${made.error?.message ?? made.stderr.trim()}`;
    loops.push(made.stdout.trim());
  }
  return statSync(loops[0]!).isBlockDevice() ? null : 'losetup made no block device';
}

const native = await openSystem({ backend: 'native' }).then(
  async (system) => {
    await system.close();
    return null;
  },
  (error: Error) => error.message,
);
if (native !== null) t.pass('the suite, natively', { skip: native });
else {
  const noRing = await openSystem({ backend: 'native', engine: 'uring' }).then(
    async (system) => {
      await system.close();
      return null;
    },
    (error: Error) => error.message,
  );
  const noLoops = makeLoops();
  for (const engine of ['uring', 'threads'] as const) {
    if (engine === 'uring' && noRing !== null) {
      t.pass('io_uring', { skip: noRing });
      continue;
    }
    suite(t, rigs('file', engine, files));
    if (noLoops === null)
      suite(
        t,
        rigs('block', engine, () => loops),
      );
    else t.pass(`loop devices, ${engine}`, { skip: noLoops });
  }
}
