import type { System } from 'p2pdma';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';

const BLOCK = 4096;

/** 4 KiB random reads by `Target.read`, `depth` of them in flight; `figures.iops`. */
export function ourRandomReads(
  system: System,
  { source, bytes }: Devices,
  depth: number,
  seconds: number,
): Competitor {
  return {
    name: `p2pdma Target.read, depth ${depth}`,
    run: async () => {
      const target = await system.target(source);
      const memory = system.allocate(null, BLOCK * depth);
      const blocks = bytes / BLOCK;
      const began = performance.now();
      const until = began + seconds * 1000;
      const cpu = process.cpuUsage();
      let reads = 0;
      const lane = async (i: number) => {
        const view = memory.buffer.subarray(i * BLOCK, (i + 1) * BLOCK);
        while (performance.now() < until) {
          await target.read(view, Math.floor(Math.random() * blocks) * BLOCK);
          reads++;
        }
      };
      await Promise.all(Array.from({ length: depth }, (_, i) => lane(i)));
      const iops = reads / ((performance.now() - began) / 1000);
      const userCpu = process.cpuUsage(cpu).user / 1e6;
      memory.free();
      await target.close();
      return { iops, userCpu };
    },
  };
}
