import type { System } from 'p2pdma';
import type { Devices } from './devices.js';
import { ourPipe } from './ours.js';

const MIB = 1024 * 1024;

/** RSS growth in MiB, beyond the pool, while the devices are copied `passes` times. */
export async function rssGrowth(system: System, devices: Devices, passes: number): Promise<number> {
  const pool = 16 * 0.5;
  const before = process.memoryUsage.rss();
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  for (let i = 0; i < passes; i++) await ourPipe(system, devices).run();
  clearInterval(watch);
  return Math.max(0, (most - before) / MIB - pool);
}
