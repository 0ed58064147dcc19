/**
 * Pipe one namespace into another with `readable.pipe(writable)`. The chunks are lent from the first drive's CMB.
 *
 *     node dist/examples/pipe.js [MACHINE]
 */
import { finished } from 'node:stream/promises';
import {
  createReadStream,
  createWriteStream,
  openSystem,
  type P2pReadStream,
  type P2pWriteStream,
  type PathBytes,
} from 'p2pdma';

const system = await openSystem({ machine: process.argv[2] ?? 'switch' });

const source = await system.target('nvme0n1', { write: true });
const seed = system.allocate(null, 1024 * 1024);
for (let i = 0; i < seed.buffer.length; i++) seed.buffer[i] = i % 251;
await source.write(seed.buffer, 0);

const reader = createReadStream('nvme0n1', { system, start: 0, end: 1024 * 1024 - 1 });
const writer = createWriteStream('nvme1n1', { system, start: 4096 });
await finished(reader.pipe(writer));

console.log(`${reader.bytesRead} bytes, ${reader.transport}`);
console.log('read: ', wayOf(reader));
console.log('write:', wayOf(writer));

console.log('left over:', JSON.stringify(await system.close()));

/** Each stream's receipt covers its own half of the route: where the bytes of its drive went, or where they came from. */
function wayOf({ receipt }: P2pReadStream | P2pWriteStream): string {
  const ways: [keyof PathBytes, string][] = [
    ['internal', 'inside a drive, to its own CMB'],
    ['peerBus', 'from drive to drive, below the root complex'],
    ['hostBridge', 'from drive to drive, through the host bridge'],
    ['hostDram', 'through host DRAM'],
  ];
  const taken = ways.filter(([way]) => receipt.path[way] !== 0);
  return taken.map(([way, words]) => `${receipt.path[way]} bytes ${words}`).join(', ');
}
