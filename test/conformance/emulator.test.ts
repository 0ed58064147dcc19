import { mkdtempSync, rmSync } from 'node:fs';
import { open, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSystem, type System } from '../../lib/index.js';
import type { Backend, Rig } from './rig.js';
import { suite } from './suite.js';

const folder = mkdtempSync(join(tmpdir(), 'p2pdma-conformance-'));
t.teardown(() => rmSync(folder, { recursive: true }));

/** Through the machine, but with plain aligned I/O in host memory. */
async function blocks(
  system: System,
  path: string,
  start: number,
  length: number,
  write?: Buffer,
): Promise<Buffer> {
  const target = await system.target(path, { write: write !== undefined });
  const from = start - (start % 4096);
  const memory = system.allocate(null, Math.ceil((start + length - from) / 4096) * 4096);
  try {
    await target.read(memory.buffer, from);
    if (write !== undefined) {
      memory.buffer.set(write, start - from);
      await target.write(memory.buffer, from);
    }
    return Buffer.from(memory.buffer.subarray(start - from, start - from + length));
  } finally {
    memory.free();
    await target.close();
  }
}

function namespaces(machine: string, provider: string | null, noProvider = ''): Backend {
  return {
    name: `namespaces on '${machine}'`,
    open: async (): Promise<Rig> => {
      const system = await openSystem({ machine });
      return {
        system,
        source: 'nvme0n1',
        destinations: ['nvme1n1', 'nvme2n1', 'nvme3n1'],
        kind: 'block',
        provider,
        noProvider,
        peek: (path, start, length) => blocks(system, path, start, length),
        poke: async (path, start, bytes) => {
          await blocks(system, path, start, bytes.length, bytes);
        },
        length: async (path) => {
          const target = await system.target(path);
          await target.close();
          return target.size;
        },
      };
    },
  };
}

const files: Backend = {
  name: 'files on the drives',
  open: async () => {
    const system = await openSystem({ machine: 'four-drives' });
    const path = (name: string) => join(folder, name);
    for (const name of ['source', 'a', 'b', 'c']) {
      await writeFile(path(name), '');
      await truncate(path(name), 4 * 1024 * 1024);
    }
    return {
      system,
      source: path('source'),
      destinations: [path('a'), path('b'), path('c')],
      kind: 'file',
      provider: '0000:03:00.0',
      noProvider: '',
      peek: async (name, start, length) => {
        const file = await open(name, 'r');
        const buffer = Buffer.alloc(length);
        await file.read(buffer, 0, length, start);
        await file.close();
        return buffer;
      },
      poke: async (name, start, bytes) => {
        const file = await open(name, 'r+');
        await file.write(bytes, 0, bytes.length, start);
        await file.close();
      },
      length: async (name) => (await stat(name)).size,
    };
  },
};

suite(t, namespaces('four-drives', '0000:03:00.0'));
suite(t, files);
