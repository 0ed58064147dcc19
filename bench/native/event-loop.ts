import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Competitor, Measured } from '../harness.js';

/** `figures.delayMs`: the 99th percentile of what a timer of 1 ms takes in this process while the competitor runs. */
export function withEventLoopDelay(competitor: Competitor): Competitor {
  return {
    name: competitor.name,
    run: async () => {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const measured = (await competitor.run()) as Measured | undefined;
      delay.disable();
      return { ...measured, delayMs: delay.percentile(99) / 1e6 };
    },
  };
}
