import { createReadStream, createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';

/** node:fs, as everybody writes it. `chunk` undefined: with Node's own chunk sizes. */
export function fsStreams({ source, destination, settle }: Devices, chunk?: number): Competitor {
  const highWaterMark = chunk === undefined ? {} : { highWaterMark: chunk };
  return {
    name: `fs streams, ${chunk === undefined ? 'default' : `${chunk / 1024} KiB`}`,
    run: async () => {
      const began = performance.now();
      const cpu = process.cpuUsage();
      await finished(
        createReadStream(source, highWaterMark).pipe(
          createWriteStream(destination, { flags: 'r+', ...highWaterMark }),
        ),
      );
      const seconds = (performance.now() - began) / 1000;
      const userCpu = process.cpuUsage(cpu).user / 1e6;
      await settle();
      return { seconds, userCpu };
    },
  };
}
