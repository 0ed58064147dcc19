/**
 * What a copy costs at least in a fresh process of this runtime: `node floor-job.js '<JSON of Job>'` loads the addon, opens the
 * two devices and runs the pump on them. Nothing is looked at, checked or reported. It prints the same as job.js.
 */
import { constants } from 'node:fs';
import { loadAddon } from '../../lib/native/addon.js';
import { LAYOUT, NativeEngine, OP_PUMP } from '../../lib/native/engine.js';
import type { Job, JobResult } from './job.js';

const job = JSON.parse(process.argv[2]!) as Job;
const { O_DIRECT, O_EXCL, O_RDONLY, O_RDWR } = constants;
const before = process.cpuUsage();
const began = performance.now();
const addon = loadAddon();
const engine = new NativeEngine('uring', 'it is measured');
const fds = [
  addon.openFile(job.source, O_RDONLY | O_DIRECT, 0),
  addon.openFile(job.destination, O_RDWR | O_DIRECT | O_EXCL, 0),
] as const;
// As many as the library takes: a chunk for each transfer, and as many that wait, up to 2 MiB of them.
const slots = 2 * job.depth + Math.min(2 * job.depth, Math.floor((2 * 1024 * 1024) / job.chunk));
const memory = addon.mapHost(slots * job.chunk);
if (memory.errno !== undefined || fds.some((fd) => fd < 0))
  throw new Error(`open: ${fds}, mmap: ${memory.errno}`);
const address = addon.addressOf(new Uint8Array(memory.buffer));
const state = new Float64Array(new ArrayBuffer((LAYOUT.pumpLegs + 2 * LAYOUT.pumpLegWords) * 8));
const result = await new Promise<number>((resolve) => {
  engine.command({ completed: (_, result) => resolve(result) }, state, {
    ...{ op: OP_PUMP, flags: 0, fd: fds[0], offset: 0 },
    words: [
      ...[job.bytes, job.chunk, job.depth, address, job.chunk, slots, addon.mappingAt(address)],
      addon.addressOf(new Uint8Array(state.buffer)),
      ...[fds[1], 0, 0],
    ],
  });
});
const seconds = (performance.now() - began) / 1000;
const { user, system: kernel } = process.cpuUsage(before);
const moved = state[LAYOUT.pumpMoved];
if (result < 0 || moved !== job.bytes) throw new Error(`copied ${moved} of ${job.bytes} bytes: ${result}`);
const figures: JobResult = { seconds, userCpu: user / 1e6, cpu: (user + kernel) / 1e6 };
console.log(JSON.stringify(figures));
process.exit();
