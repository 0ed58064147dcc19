/**
 * One copy in a process of its own: `node job.js '<JSON of Job>'`. It prints a line of JSON per run, with the time and the CPU
 * time from the call to its end: the start of the runtime and the loading of the package are not included.
 */
import { openSystem, pipeline, type System } from 'p2pdma';

export interface Job {
  readonly source: string;
  readonly destination: string;
  readonly bytes: number;
  readonly chunk: number;
  readonly depth: number;
  /** True: the machine is looked at before the clock starts. False: `pipeline()` looks at it, as a program's first call does. */
  readonly opened: boolean;
}

export interface JobResult {
  readonly seconds: number;
  readonly userCpu: number;
  readonly cpu: number;
  [figure: string]: number;
}

const job = JSON.parse(process.argv[2]!) as Job;
const system = job.opened ? await openSystem({ backend: 'native' }) : undefined;
const before = process.cpuUsage();
const began = performance.now();
await copy(job, system);
const seconds = (performance.now() - began) / 1000;
const { user, system: kernel } = process.cpuUsage(before);
const result: JobResult = { seconds, userCpu: user / 1e6, cpu: (user + kernel) / 1e6 };
console.log(JSON.stringify(result));
await system?.close();

async function copy({ source, destination, bytes, chunk, depth }: Job, system?: System): Promise<void> {
  const shared = { highWaterMark: chunk, queueDepth: depth, flush: false, ...(system && { system }) };
  const receipt = await pipeline(source, destination, { ...shared, flags: 'r+', end: bytes - 1 });
  if (receipt.bytes !== bytes) throw new Error(`copied ${receipt.bytes} of ${bytes} bytes`);
}
