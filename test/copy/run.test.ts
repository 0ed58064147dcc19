/** The receipt of a copy is that of all its streams. */
import { join } from 'node:path';
import t from 'tap';
import { openSystem } from '../../lib/index.js';

t.test(
  'what a writer could not do is in the reason once, however many writers could not do it',
  async (t) => {
    const folder = t.testdir({});
    for (const [machine, transport] of [
      ['switch', 'p2p-bus'],
      ['zen', 'p2p-host-bridge'],
    ] as const) {
      const system = await openSystem({ machine });
      for (const names of [['a'], ['b', 'c']]) {
        const to = names.map((name) => join(folder, name));
        const receipt = await system.pipeline('nvme0n1', to, { end: 10_000 });
        t.equal(receipt.transport, transport);
        t.match(receipt.reason, /; the last 273 bytes, less than a block, went through the page cache$/);
        t.equal(receipt.reason.split('page cache').length, 2, `${machine}: ${names.length}`);
      }
      await system.close();
    }
  },
);
