/**
 * Pipe one namespace into another: `readable.pipe(writable)`, chunks lent from the first drive's CMB.
 *
 *     node dist/examples/pipe.js [MACHINE]
 */
import { finished } from 'node:stream/promises';
import { openSystem } from 'p2pdma';

const system = await openSystem({ machine: process.argv[2] ?? 'switch' });

const source = await system.target('nvme0n1', { write: true });
const seed = system.allocate(null, 1024 * 1024);
for (let i = 0; i < seed.buffer.length; i++) seed.buffer[i] = i % 251;
await source.write(seed.buffer, 0);

const reader = system.createReadStream('nvme0n1', { start: 0, end: 1024 * 1024 - 1 });
const writer = system.createWriteStream('nvme1n1', { start: 4096 });
await finished(reader.pipe(writer));

console.log(`${reader.bytesRead} bytes, ${reader.transport}`);
console.log('read: ', JSON.stringify(reader.receipt.path));
console.log('write:', JSON.stringify(writer.receipt.path));

console.log('left over:', JSON.stringify(await system.close()));
