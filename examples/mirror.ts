/**
 * One read and three writes: every chunk is read once into a CMB and written from there to three drives.
 *
 *     node dist/examples/mirror.js
 */
import { openSystem } from 'p2pdma';

const system = await openSystem({ machine: 'four-drives' });
const source = await system.target('nvme0n1', { write: true });
const seed = system.allocate(null, 4 * 1024 * 1024);
for (let i = 0; i < seed.buffer.length; i += 4) seed.buffer.writeUInt32LE(i, i);
await source.write(seed.buffer, 0);

const receipt = await system.pipeline('nvme0n1', ['nvme1n1', 'nvme2n1', 'nvme3n1'], {
  end: seed.buffer.length - 1,
  verify: true,
});
console.log(
  `${receipt.bytes} bytes to each of three drives, ${receipt.transport} through ${receipt.provider}`,
);
console.log(
  `read once: ${receipt.path.internal} bytes; across the bus: ${receipt.path.peerBus}; host DRAM: ${receipt.path.hostDram}`,
);
console.log(`verified: ${receipt.verified}`);
await system.close();
