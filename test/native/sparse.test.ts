/** Sparse copies on this machine's filesystem: holes are neither read nor written. */
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSystem } from '../../lib/index.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'p2pdma-sparse-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const system = await openSystem({ backend: 'native' }).catch((error: Error) => error);

/** Data at [1 MiB, 1 MiB + 5000) and at the last byte of `size`. */
async function sparseFile(name: string, size: number): Promise<string> {
  const path = join(folder, name);
  const file = await open(path, 'w');
  await file.write(Buffer.alloc(5000, 'data'), 0, 5000, MIB);
  await file.truncate(size);
  await file.sync();
  await file.close();
  return path;
}

const allocated = async (path: string) => (await stat(path)).blocks * 512;

if (system instanceof Error) t.pass('sparse', { skip: system.message });
else {
  t.teardown(() => system.close());
  const SIZE = 64 * MIB + 77;

  t.test('a new file has the same holes, and nothing of them was read', async (t) => {
    const source = await sparseFile('source', SIZE);
    const destination = join(folder, 'new');
    const receipt = await system.pipeline(source, destination, { sparse: true, verify: true });
    t.match(receipt, { bytes: SIZE, verified: true });
    t.ok(receipt.path.hostDram < MIB, `${receipt.path.hostDram} bytes of DMA for ${SIZE}`);
    t.equal((await stat(destination)).size, SIZE);
    t.ok((await allocated(destination)) < MIB, 'it takes no more room than the source');
    t.ok((await readFile(destination)).equals(await readFile(source)));
  });

  t.test('holes are punched into what is there', async (t) => {
    const source = await sparseFile('source', SIZE);
    const destination = join(folder, 'full');
    const file = await open(destination, 'w');
    await file.write(Buffer.alloc(65 * MIB, 0xee));
    await file.sync();
    await file.close();
    await system.pipeline(source, destination, { sparse: true, flags: 'r+', verify: true });
    const after = await readFile(destination);
    t.ok(after.subarray(0, SIZE).equals(await readFile(source)));
    t.ok(
      after.subarray(SIZE).every((byte) => byte === 0xee),
      'what lies behind stays',
    );
    t.ok((await allocated(destination)) < 3 * MIB);
  });

  t.test('a range that begins and ends inside holes', async (t) => {
    const source = await sparseFile('source', SIZE);
    const destination = join(folder, 'part');
    const receipt = await system.pipeline(source, destination, {
      sparse: true,
      start: 1003,
      end: 3 * MIB + 9,
    });
    t.equal(receipt.bytes, 3 * MIB + 9 - 1003 + 1);
    t.ok((await readFile(destination)).equals((await readFile(source)).subarray(1003, 3 * MIB + 10)));
  });

  t.test('a foreign consumer gets zeros that are its own', async (t) => {
    const source = await sparseFile('source', 3 * MIB);
    const chunks: Buffer[] = [];
    for await (const chunk of system.createReadStream(source, { sparse: true })) {
      chunks.push(Buffer.from(chunk));
      chunk.fill(1);
    }
    t.ok(Buffer.concat(chunks).equals(await readFile(source)));
  });

  t.test('an empty file, and one that is all hole', async (t) => {
    for (const size of [0, 5 * MIB + 3]) {
      const path = join(folder, 'hole');
      const file = await open(path, 'w');
      await file.truncate(size);
      await file.close();
      const receipt = await system.pipeline(path, join(folder, 'hole2'), { sparse: true, verify: true });
      t.equal(receipt.bytes, size);
      t.equal((await stat(join(folder, 'hole2'))).size, size);
      t.ok((await allocated(join(folder, 'hole2'))) <= 4096, 'at most the block that the end lies in');
    }
  });
}
