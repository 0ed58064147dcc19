/**
 * Back up a namespace to a compressed file, restore it to another drive, and compare the two. gzip is not a stream of this
 * package, so it gets ordinary Buffers; the restored bytes are collected into aligned writes.
 *
 *     node dist/examples/gzip-backup.js
 */
import { createReadStream as fsRead, createWriteStream as fsWrite } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { openSystem } from 'p2pdma';

const BYTES = 8 * 1024 * 1024 + 123;
const system = await openSystem({ machine: 'switch' });
const disk = await system.target('nvme0n1', { write: true });
const seed = system.allocate(null, 1024 * 1024);
for (let i = 0; i < seed.buffer.length; i++) seed.buffer[i] = (i * i) >> 7;
for (let at = 0; at < 8; at++) await disk.write(seed.buffer, at * seed.buffer.length);

const folder = await mkdtemp(join(tmpdir(), 'p2pdma-'));
const file = join(folder, 'nvme0n1.gz');
await pipeline(disk.createReadStream({ end: BYTES - 1 }), createGzip(), fsWrite(file));
console.log(`backed up ${BYTES} bytes in ${(await stat(file)).size}`);

await pipeline(fsRead(file), createGunzip(), system.createWriteStream('nvme1n1'));
const compare = await system.target('nvme1n1');
const [a, b] = [system.allocate(null, 1024 * 1024), system.allocate(null, 1024 * 1024)];
await disk.read(a.buffer, 8 * 1024 * 1024 - 1024 * 1024);
await compare.read(b.buffer, 8 * 1024 * 1024 - 1024 * 1024);
console.log(`restored: ${a.buffer.equals(b.buffer) ? 'identical' : 'DIFFERENT'}`);
await rm(folder, { recursive: true });
await system.close();
