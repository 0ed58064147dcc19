import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import type { Competitor, Measured } from '../harness.js';

const IDLE_MS = 500;

/**
 * `figures.delayMs`: by how much the 99th percentile of the event loop's delay while the competitor runs is above that of an
 * idle loop just before. What Node measures is how long its own timer of 1 ms takes, and that is more than 1 ms in an idle loop
 * too.
 */
export function withEventLoopDelay(competitor: Competitor): Competitor {
  return {
    name: competitor.name,
    run: async () => {
      const idle = await delayDuring(() => setTimeout(IDLE_MS));
      const busy = await delayDuring(() => competitor.run());
      return { ...(busy.result as Measured | undefined), delayMs: busy.p99Ms - idle.p99Ms };
    },
  };
}

async function delayDuring<T>(work: () => Promise<T>): Promise<{ result: T; p99Ms: number }> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  try {
    const result = await work();
    return { result, p99Ms: delay.percentile(99) / 1e6 };
  } finally {
    delay.disable();
  }
}
