/**
 * The soak: copies between loop devices in small chunks, for minutes, beside other load, and watched: what stands still is
 * caught while it does, with the stacks of those who could hold it.
 *
 *     npm run soak -- --minutes 30 [--load 2] [--fio]
 *
 *     lane (a process): loop A ─▶ loop B, again and again      4 KiB, 16 KiB × io_uring, threads
 *     fio, for comparison: the same on loop devices of its own, at the same time
 *     load: processes that dirty the page cache and fsync, on the file system of the loops' images
 *     here: /sys/block/loopN/stat ten times a second; no completion for --limit seconds: look who holds it
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    load: { type: 'string', default: '2' },
    limit: { type: 'string', default: '5' },
    fio: { type: 'boolean', default: false },
    dir: { type: 'string', default: tmpdir() },
  },
});
const [minutes, load, limit] = [values.minutes, values.load, values.limit].map(Number) as [
  number,
  number,
  number,
];

const DEVICE_BYTES = 64 * 1024 * 1024;
const LOOK_MS = 100;

/** One that copies, and the devices by which it is watched. */
interface Lane {
  readonly name: string;
  readonly devices: readonly [from: string, to: string];
  readonly child: ChildProcess;
  completions: number;
  /** Its first request is done: until then it is being started. */
  began: boolean;
  since: number;
  longest: number;
  /** A look at each second of this stall from the limit on. */
  looks: number;
  stalls: number;
  ended: boolean;
}

if (process.getuid?.() !== 0) {
  process.stderr.write('the soak makes loop devices: it needs root\n');
  process.exit(2);
}
const folder = mkdtempSync(join(values.dir, 'p2pdma-soak-'));
const loops: string[] = [];
const children: ChildProcess[] = [];

function loop(name: string): string {
  const image = join(folder, name);
  writeFileSync(image, '');
  truncateSync(image, DEVICE_BYTES);
  const { status, stdout, stderr } = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`losetup: ${stderr}`);
  loops.push(stdout.trim());
  return stdout.trim();
}

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  children.push(child);
  return child;
}

function lane(name: string, run: (from: string, to: string) => ChildProcess): Lane {
  const devices = [loop(`${name}-from`), loop(`${name}-to`)] as const;
  const child = run(...devices);
  const made: Lane = {
    ...{ name, devices, child },
    ...{ completions: devices.map(completionsOf).reduce((a, b) => a + b), began: false },
    ...{ since: performance.now(), longest: 0, looks: 0, stalls: 0, ended: false },
  };
  child.once('exit', (code, signal) => {
    if (over) return;
    made.ended = true;
    process.stdout.write(`${name} ended: ${signal ?? code}\n`);
  });
  return made;
}

/** Reads, writes, discards and flushes that are done (Documentation/block/stat.rst). */
function completionsOf(device: string): number {
  const words = readFileSync(`/sys/block/${basename(device)}/stat`, 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);
  return words[0]! + words[4]! + (words[11] ?? 0) + (words[15] ?? 0);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    return (error as Error).message;
  }
}

/** Who holds it: the process, the workers of its loop devices, and the state of the machine's memory and disks. */
function lookAt({ child, devices }: Lane): string {
  const said: string[] = [];
  for (const device of devices) {
    const name = basename(device);
    said.push(
      `${name}: inflight ${read(`/sys/block/${name}/inflight`)}, stat ${read(`/sys/block/${name}/stat`)}`,
    );
  }
  said.push(...tasksOf(child.pid!));
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const comm = read(`/proc/${pid}/comm`);
    const held = /^State:\s+D/m.test(read(`/proc/${pid}/status`));
    if (held || devices.some((device) => comm.includes(basename(device)))) {
      said.push(`${pid} ${comm}${held ? ' (D)' : ''}: ${stackOf(`/proc/${pid}`)}`);
    }
  }
  const memory = read('/proc/meminfo').match(/^(Dirty|Writeback|MemFree):.*$/gm) ?? [];
  said.push(memory.join(', '), `io pressure: ${read('/proc/pressure/io').split('\n')[0]}`);
  return said.map((line) => `    ${line}`).join('\n');
}

function tasksOf(pid: number): string[] {
  const tasks = existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : [];
  return tasks.map((task) => {
    const at = `/proc/${pid}/task/${task}`;
    const state = /^State:\s+(\S+)/m.exec(read(`${at}/status`))?.[1] ?? '?';
    return `${pid}/${task} ${read(`${at}/comm`)} (${state}): ${stackOf(at)}`;
  });
}

function stackOf(at: string): string {
  const stack = read(`${at}/stack`);
  const calls = stack.split('\n').map((line) => line.replace(/^\[<0>\] /, '').replace(/\+0x.*/, ''));
  return calls.slice(0, 12).join(' < ') || read(`${at}/wchan`);
}

let over = false;

function look(lanes: readonly Lane[]): void {
  const now = performance.now();
  for (const one of lanes) {
    if (one.ended) continue;
    const completions = one.devices.map(completionsOf).reduce((a, b) => a + b);
    const still = one.began ? (now - one.since) / 1000 : 0;
    one.longest = Math.max(one.longest, still);
    if (completions !== one.completions) {
      one.began = true;
      if (one.looks > 0) process.stdout.write(`${stamp()} ${one.name} goes on after ${still.toFixed(1)} s\n`);
      if (still > limit) one.stalls++;
      [one.completions, one.since, one.looks] = [completions, now, 0];
    } else if (still > limit + one.looks * 5) {
      one.looks++;
      process.stdout.write(`${stamp()} ${one.name} stands still for ${still.toFixed(1)} s\n${lookAt(one)}\n`);
    }
  }
}

function stamp(): string {
  return new Date().toISOString().slice(11, 19);
}

const copier = fileURLToPath(new URL('soak-copier.js', import.meta.url));
const lanes: Lane[] = [];
try {
  for (const engine of ['uring', 'threads']) {
    for (const chunk of [4096, 16_384]) {
      lanes.push(
        lane(`${engine}-${chunk}`, (from, to) =>
          start(process.execPath, [copier, engine, String(chunk), from, to]),
        ),
      );
    }
  }
  if (values.fio) {
    for (const chunk of [4096, 16_384]) {
      const job = (rw: string, filename: string) => [`--name=${rw}`, `--rw=${rw}`, `--filename=${filename}`];
      const common = `--direct=1 --bs=${chunk} --iodepth=8 --ioengine=io_uring --time_based --fsync=4096 --runtime=${minutes * 60}`;
      lanes.push(
        lane(`fio-${chunk}`, (from, to) =>
          start('fio', [
            '--output=/dev/null',
            ...common.split(' '),
            ...job('read', from),
            ...job('write', to),
          ]),
        ),
      );
    }
  }
  for (let i = 0; i < load; i++) {
    const file = join(folder, `load${i}`);
    // Dirty pages, written back by fsync; and a processor that is never idle.
    start('sh', [
      '-c',
      `while :; do dd if=/dev/zero of=${file} bs=1M count=512 conv=fsync 2>/dev/null; done`,
    ]);
    start(process.execPath, ['-e', 'for (;;) Math.sqrt(2)']);
  }
  let end = performance.now() + minutes * 60_000;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      end = 0;
    });
  }
  let said = performance.now();
  while (performance.now() < end) {
    await sleep(LOOK_MS);
    look(lanes);
    if (performance.now() - said > 60_000) {
      said = performance.now();
      process.stdout.write(
        `${stamp()} ${lanes.map(({ name, completions, longest }) => `${name} ${completions} (${longest.toFixed(1)} s)`).join(', ')}\n`,
      );
    }
  }
} finally {
  over = true;
  for (const child of children) child.kill('SIGKILL');
  await sleep(2000);
  for (const device of loops) spawnSync('losetup', ['-d', device]);
  rmSync(folder, { recursive: true, force: true });
}
for (const { name, completions, longest, stalls, ended } of lanes) {
  const what = `${name}: ${completions} completions, longest stall ${longest.toFixed(1)} s, ${stalls} over ${limit} s`;
  process.stdout.write(`${what}${ended ? ', and it ended early' : ''}\n`);
}
const ours = lanes.filter(({ name }) => !name.startsWith('fio'));
process.exit(ours.some(({ longest, ended }) => longest > limit || ended) ? 1 : 0);
