import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import { run } from './run.js';

interface FioJob {
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly job_runtime: number;
  readonly read: FioSide;
  readonly write: FioSide;
}

interface FioSide {
  readonly runtime: number;
  readonly iops: number;
}

const COMMON = [
  '--output-format=json',
  '--ioengine=io_uring',
  '--direct=1',
  '--group_reporting=0',
  '--invalidate=1',
];

async function fio(args: readonly string[]): Promise<FioJob[]> {
  const text = await run('fio', [...COMMON, ...args], 'fio');
  // Notes of fio's own may come before the JSON.
  return (JSON.parse(text.slice(text.indexOf('{'))) as { jobs: FioJob[] }).jobs;
}

/** Of the work, in seconds: the start of fio and its laying out are not in it. */
function cpuOf(jobs: readonly FioJob[]): { userCpu: number; cpu: number } {
  const seconds = (of: (job: FioJob) => number) =>
    jobs.reduce((sum, job) => sum + ((of(job) / 100) * job.job_runtime) / 1000, 0);
  return { userCpu: seconds((job) => job.usr_cpu), cpu: seconds((job) => job.usr_cpu + job.sys_cpu) };
}

/**
 * The ceiling: one job reads the source, one writes the destination, at the same time and independently. Its time is that
 * of the slower.
 */
export function fioReadAndWrite(
  { source, destination, bytes }: Devices,
  chunk: number,
  depth: number,
): Competitor {
  const shared = [`--bs=${chunk}`, `--iodepth=${depth}`, `--size=${bytes}`];
  return {
    name: `fio, ${chunk / 1024} KiB, depth ${depth}`,
    run: async () => {
      const jobs = await fio([
        ...shared,
        ...['--name=read', '--rw=read', `--filename=${source}`],
        ...['--name=write', '--rw=write', `--filename=${destination}`],
      ]);
      const seconds = Math.max(...jobs.map((job) => Math.max(job.read.runtime, job.write.runtime))) / 1000;
      return { seconds, ...cpuOf(jobs) };
    },
  };
}

/** 4 KiB random reads of the source; `figures.iops`. */
export function fioRandomReads({ source, bytes }: Devices, depth: number, seconds: number): Competitor {
  return {
    name: `fio, random reads, depth ${depth}`,
    run: async () => {
      const jobs = await fio([
        ...['--name=random', '--rw=randread', '--bs=4096', `--iodepth=${depth}`, '--norandommap'],
        ...[`--filename=${source}`, `--size=${bytes}`, '--time_based', `--runtime=${seconds}`],
      ]);
      return { iops: jobs[0]!.read.iops, ...cpuOf(jobs) };
    },
  };
}
