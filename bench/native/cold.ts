import { fileURLToPath } from 'node:url';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import type { Job, JobResult } from './job.js';
import { run } from './run.js';

const JOB = fileURLToPath(new URL('job.js', import.meta.url));
const FLOOR = fileURLToPath(new URL('floor-job.js', import.meta.url));

type Wanted = Pick<Job, 'bytes' | 'chunk' | 'depth' | 'opened'>;

/**
 * `pipeline()` in a fresh process per run: nothing is compiled, no page of memory is there. Time and CPU time are those of the
 * call; `opened` says whether the look at the machine is part of it.
 */
export function ourCold(devices: Devices, wanted: Wanted): Competitor {
  return fresh(JOB, `p2pdma, ${wanted.opened ? 'cold, machine known' : 'cold'}`, devices, wanted);
}

/** The least that a fresh process of this runtime needs: the addon's pump alone. */
export function floorCold(devices: Devices, wanted: Omit<Wanted, 'opened'>): Competitor {
  return fresh(FLOOR, 'the addon alone, cold', devices, { ...wanted, opened: false });
}

function fresh(program: string, what: string, { source, destination }: Devices, wanted: Wanted): Competitor {
  const job: Job = { source, destination, ...wanted };
  return {
    name: `${what}, ${wanted.chunk / 1024} KiB, depth ${wanted.depth}`,
    run: async () => JSON.parse(await run(process.execPath, [program, JSON.stringify(job)])) as JobResult,
  };
}
