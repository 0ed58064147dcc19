import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import type { Competitor, Measured } from '../harness.js';

const IDLE_MS = 500;

/**
 * `delayMs`: the 99th percentile of what a timer of 1 ms takes in this process while the competitor runs. `idleMs`: the same in an
 * idle loop just before, where it is more than 1 ms too.
 */
export function withEventLoopDelay(competitor: Competitor): Competitor {
  return {
    name: competitor.name,
    run: async () => {
      const idle = await delayDuring(() => setTimeout(IDLE_MS));
      const busy = await delayDuring(() => competitor.run());
      return { ...(busy.result as Measured | undefined), delayMs: busy.p99Ms, idleMs: idle.p99Ms };
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
