/** One lane of the soak: `node soak-copier.js ENGINE CHUNK FROM TO`, again and again until it is killed. */
import { openSystem } from '../../lib/index.js';

const [engine, chunk, from, to] = process.argv.slice(2) as ['uring' | 'threads', string, string, string];
const system = await openSystem({ backend: 'native', engine });
for (let i = 0; ; i++) {
  // Now and then durable, as whole copies are; mostly the stream of small chunks itself.
  await system.pipeline(from, to, { highWaterMark: Number(chunk), flush: i % 4 === 0, verify: i % 8 === 7 });
}
