import { fileURLToPath } from 'node:url';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import type { Job, JobResult } from './job.js';
import { run } from './run.js';

const JOB = fileURLToPath(new URL('job.js', import.meta.url));
const FLOOR = fileURLToPath(new URL('floor-job.js', import.meta.url));

/**
 * `pipeline()` in a fresh process per run: nothing is compiled, no page of memory is there. Time and CPU time are those of the
 * call; `opened` says whether the look at the machine is part of it.
 */
export function ourCold(
  { source, destination }: Devices,
  wanted: Pick<Job, 'bytes' | 'chunk' | 'depth' | 'opened'>,
): Competitor {
  const { chunk, depth, opened } = wanted;
  const job: Job = { source, destination, ...wanted };
  return {
    name: `p2pdma, ${opened ? 'cold, machine known' : 'cold'}, ${chunk / 1024} KiB, depth ${depth}`,
    run: async () => JSON.parse(await run(process.execPath, [JOB, JSON.stringify(job)])) as JobResult,
  };
}

/** The least that a fresh process of this runtime needs: the addon's pump alone. */
export function floorCold(
  { source, destination }: Devices,
  wanted: Pick<Job, 'bytes' | 'chunk' | 'depth'>,
): Competitor {
  const { chunk, depth } = wanted;
  const job: Job = { source, destination, ...wanted, opened: false };
  return {
    name: `the addon alone, cold, ${chunk / 1024} KiB, depth ${depth}`,
    run: async () => JSON.parse(await run(process.execPath, [FLOOR, JSON.stringify(job)])) as JobResult,
  };
}
