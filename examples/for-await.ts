/**
 * Hash a namespace with `for await`. Ordinary code consumes the stream, so it gets ordinary Buffers, which it may keep. Then
 * read a few bytes with a handle, as with a FileHandle of node:fs.
 *
 *     node dist/examples/for-await.js [FILE]
 */
import { createHash } from 'node:crypto';
import { openSystem, type P2pFileHandle } from 'p2pdma';

const system = await openSystem({ machine: 'switch' });
const path = process.argv[2] ?? 'nvme0n1';
const hash = createHash('sha256');
const reader = system.createReadStream(path, { end: 16 * 1024 * 1024 - 1 });
for await (const chunk of reader) hash.update(chunk);

console.log(`sha256 of ${reader.bytesRead} bytes of ${path}: ${hash.digest('hex')}`);
console.log(`transport: ${reader.transport} (${reader.receipt.reason})`);

/** Any bytes, at any offset: nothing has to be aligned. */
async function bytesAt(handle: P2pFileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
const handle = await system.open(path);
console.log(`bytes 510 to 514: ${(await bytesAt(handle, 510, 5)).toString('hex')}`);
await handle.close();
await system.close();
