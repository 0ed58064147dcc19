import { createHistogram, monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import type { Competitor, Measured } from '../harness.js';

const IDLE_MS = 500;

/**
 * `delayMs`: the 99th percentile of what a timer of 1 ms takes in this process while the competitor runs. `idleMs`: the same in
 * an idle loop just before, where it is more than 1 ms too. `busyMs`: the 99th percentile of the time for which the loop was
 * busy from one such timer to the next: nothing waited longer for this process. `longestMs`: the longest of these times.
 */
export function withEventLoopDelay(competitor: Competitor): Competitor {
  return {
    name: competitor.name,
    run: async () => {
      const { delayMs: idleMs } = await delayDuring(() => setTimeout(IDLE_MS));
      const { result, ...delays } = await delayDuring(() => competitor.run());
      return { ...(result as Measured | undefined), ...delays, idleMs };
    },
  };
}

interface Delays {
  readonly delayMs: number;
  readonly busyMs: number;
  readonly longestMs: number;
}

async function delayDuring<T>(work: () => Promise<T>): Promise<{ result: T } & Delays> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const busy = busyBetweenTicks();
  delay.enable();
  try {
    const result = await work();
    return { result, delayMs: delay.percentile(99) / 1e6, ...busy.stop() };
  } finally {
    delay.disable();
    busy.stop();
  }
}

/** The loop is not busy while it waits for events, also if the kernel is late in waking it. */
function busyBetweenTicks(): { stop(): Pick<Delays, 'busyMs' | 'longestMs'> } {
  const busy = createHistogram();
  let last = performance.eventLoopUtilization().active;
  const timer = setInterval(() => {
    const { active } = performance.eventLoopUtilization();
    busy.record(Math.max(1, Math.round((active - last) * 1e6)));
    last = active;
  }, 1);
  return {
    stop: () => {
      clearInterval(timer);
      return { busyMs: busy.percentile(99) / 1e6, longestMs: busy.max / 1e6 };
    },
  };
}
