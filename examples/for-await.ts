/**
 * Hash a namespace with `for await`. Ordinary code consumes the stream, so it gets ordinary Buffers, which it may keep.
 *
 *     node dist/examples/for-await.js [FILE]
 */
import { createHash } from 'node:crypto';
import { openSystem } from 'p2pdma';

const system = await openSystem({ machine: 'switch' });
const path = process.argv[2] ?? 'nvme0n1';
const hash = createHash('sha256');
const reader = system.createReadStream(path, { end: 16 * 1024 * 1024 - 1 });
for await (const chunk of reader) hash.update(chunk);

console.log(`sha256 of ${reader.bytesRead} bytes of ${path}: ${hash.digest('hex')}`);
console.log(`transport: ${reader.transport} (${reader.receipt.reason})`);
await system.close();
