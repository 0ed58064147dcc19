import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import { run } from './run.js';

/** `dd` with O_DIRECT on both sides: one transfer at a time. */
export function dd({ source, destination }: Devices): Competitor {
  return {
    name: 'dd',
    run: async () => {
      await run(
        'dd',
        [`if=${source}`, `of=${destination}`, 'bs=1M', 'iflag=direct', 'oflag=direct', 'conv=notrunc'],
        'coreutils',
      );
    },
  };
}
