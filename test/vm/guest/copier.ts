/** Copies between two drives for ever, and says when it has begun: to be killed in the middle of it. */
import { openSystem } from '../../../lib/index.js';

const [from, to, engine, provider] = process.argv.slice(2) as [string, string, 'uring' | 'threads', string];
const system = await openSystem({ backend: 'native', engine });
let begun = false;
for (;;) {
  await system.pipeline(from, to, {
    provider,
    requireP2p: true,
    highWaterMark: 64 * 1024,
    onProgress: ({ bytes }) => {
      if (bytes > 0 && !begun) process.stdout.write('copying\n');
      begun ||= bytes > 0;
    },
  });
}
