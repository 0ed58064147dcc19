import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import { run } from './run.js';

/** `cp`: through the page cache. */
export function cp({ source, destination, settle }: Devices): Competitor {
  return {
    name: 'cp',
    run: async () => {
      const began = performance.now();
      await run('cp', [source, destination], 'coreutils');
      const seconds = (performance.now() - began) / 1000;
      await settle();
      return { seconds };
    },
  };
}
