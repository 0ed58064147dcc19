/** Opens, copies, verifies, destroys in the middle, closes, on whatever runtime runs it: natively and emulated. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSystem, type System } from '../../lib/index.js';

const MIB = 1024 * 1024;
const directory = mkdtempSync(join(process.env.P2PDMA_TEST_DIR ?? tmpdir(), 'p2pdma-smoke-'));

async function destroyed(system: System, source: string): Promise<boolean> {
  const stream = system.createReadStream(source, { highWaterMark: 64 * 1024, end: 8 * MIB - 1 });
  let seen = 0;
  await new Promise<void>((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      seen += chunk.length;
      stream.destroy();
    });
    stream.on('error', reject);
    stream.on('close', () => resolve());
  });
  return seen > 0 && seen < 8 * MIB;
}

async function native(): Promise<object> {
  const [source, copy] = [join(directory, 'source'), join(directory, 'copy')];
  const content = Buffer.alloc(8 * MIB + 777);
  for (let i = 0; i < content.length; i += 4) content[i] = (i * 2654435761) >>> 24;
  writeFileSync(source, content);
  const system = await openSystem({ backend: 'native' });
  try {
    const { verified, bytes } = await system.pipeline(source, copy, { verify: true });
    const equal = readFileSync(copy).equals(content);
    const cut = await destroyed(system, source);
    const memory = system.allocate(null, MIB);
    memory.free();
    return { verified, bytes: bytes === content.length, equal, cut, leaks: await system.close() };
  } finally {
    await system.close();
  }
}

async function emulated(): Promise<object> {
  const system = await openSystem({ machine: 'switch' });
  const { verified, transport } = await system.pipeline('nvme0n1', 'nvme1n1', {
    end: MIB - 1,
    verify: true,
    requireP2p: true,
  });
  const cut = await destroyed(system, 'nvme0n1');
  return { verified, transport, cut, leaks: await system.close() };
}

try {
  console.log(JSON.stringify({ native: await native(), emulated: await emulated() }));
  await sleep(10);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
