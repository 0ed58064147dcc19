import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine } from '../../lib/machine/machine.js';
import { cacheFolder, needSpace, repository, run, tailOf, VmError, which } from './host.js';
import type { Userland } from './initramfs.js';
import type { Kernel } from './kernel.js';
import { type DriveOptions, type QemuMachine, qemuMachine } from './machine.js';
import type { Image } from './pack.js';
import { readTap, type TapSummary } from './tap.js';
import { TRACE_EVENTS } from './witness.js';

const here = path.dirname(fileURLToPath(import.meta.url));

export interface GuestTest {
  /** A compiled test file, relative to the compiled test/vm. */
  readonly file: string;
  readonly args?: readonly string[];
  /** A file that takes longer is killed and failed. Default 300 s. */
  readonly limitSeconds?: number;
}

export interface BootOptions {
  readonly kernel: Kernel;
  readonly userland: Userland;
  /** What the guest starts from: see pack.ts. */
  readonly image: Image;
  readonly machine: Machine;
  /** Run by node in the guest, in this order. */
  readonly tests: readonly GuestTest[];
  /** A boot that takes longer is killed and failed. Default 900 s. */
  readonly limitSeconds?: number;
  /** Handed to the tests as it is: readGuestPlan().data. */
  readonly data?: unknown;
  readonly memoryMiB?: number;
  readonly driveOptions?: DriveOptions;
  readonly kernelArgs?: readonly string[];
  /** Called with each line of the guest's TAP as it arrives. */
  readonly onLine?: (line: string) => void;
}

/** What the guest finds in /out/plan.json. */
export interface GuestPlan {
  readonly machine: string;
  readonly iommu: string;
  readonly drives: QemuMachine['drives'];
  readonly acs: QemuMachine['acs'];
  readonly tests: readonly Required<GuestTest>[];
  readonly data: unknown;
}

export interface BootResult {
  readonly ok: boolean;
  /** Why not: what went wrong with the boot, or how many tests failed. Null if ok. */
  readonly failure: string | null;
  readonly tap: TapSummary;
  readonly seconds: number;
  /** From power-on to the runner's first line; null if it never came. */
  readonly bootSeconds: number | null;
  readonly qemu: QemuMachine;
  /** Comments that tests wrote for the summary: `t.comment('note: …')`. */
  readonly notes: readonly string[];
  /** Holds console.log, trace.log, results.tap and out/ (what the guest wrote); removed by `discard`. */
  readonly folder: string;
  discard(): void;
}

/**
 * QEMU 7.2 takes the place of an SGL's descriptor list for the place of the data: a drive refuses a list of two
 * or more pieces of its own CMB (Invalid Use of Controller Memory Buffer). With PRPs, which a threshold of 0
 * makes the driver use always, it does what a drive does.
 *
 * At boot the kernel counts timer interrupts over a short loop, to see that they come. An emulated processor that the host
 * has just put aside gets none in that time, and the kernel panics ("timer doesn't work through Interrupt-remapped IO-APIC").
 */
const QEMU_QUIRKS = ['nvme.sgl_threshold=0', 'no_timer_check'];

/** Last line of a guest that went to its end. Anything else is a failure. */
export const DONE = '# guest done';

export async function boot(options: BootOptions): Promise<BootResult> {
  const qemuBinary = which('qemu-system-x86_64');
  if (qemuBinary === null) throw new VmError('No QEMU. Run: apt-get install qemu-system-x86');
  const { machine, limitSeconds = 900, memoryMiB = 1024 } = options;
  needSpace(cacheFolder('run'), 2 ** 30, 'A boot');
  const folder = mkdtempSync(path.join(cacheFolder('run'), `${machine.name.replace(/\W+/g, '-')}-`));
  const file = (name: string) => path.join(folder, name);
  const qemu = qemuMachine(machine, folder, options.driveOptions);
  for (const image of qemu.images) {
    writeFileSync(image.file, '');
    truncateSync(image.file, image.size);
  }
  mkdirSync(file('out'));
  const { modules } = options.kernel;
  if (modules !== null) {
    await run('sh', ['-c', `cat '${options.image.file}' '${modules}' > '${file('initramfs')}'`]);
  }
  const plan: GuestPlan = {
    machine: machine.name,
    iommu: machine.iommu,
    drives: qemu.drives,
    acs: qemu.acs,
    tests: options.tests.map((test) => ({
      file: path.relative(repository, path.join(here, test.file)),
      args: test.args ?? [],
      limitSeconds: test.limitSeconds ?? 300,
    })),
    data: options.data ?? null,
  };
  writeFileSync(file('out/plan.json'), JSON.stringify(plan));
  writeFileSync(file('out/runner'), path.relative(repository, path.join(here, 'guest/runner.js')));

  const share = (tag: string, from: string, slot: number, readOnly: boolean) => [
    '-fsdev',
    `local,id=${tag},path=${from},security_model=none,multidevs=remap${readOnly ? ',readonly=on' : ''}`,
    '-device',
    `virtio-9p-pci,fsdev=${tag},mount_tag=${tag},bus=pcie.0,addr=0x${slot.toString(16)}`,
  ];
  const append = [
    'console=ttyS0',
    'panic=-1',
    'oops=panic',
    'loglevel=7',
    ...QEMU_QUIRKS,
    ...qemu.kernelArgs,
    ...(options.kernelArgs ?? []),
  ];
  const args = [
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-smp', '2', '-m', String(memoryMiB)],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
    ...['-serial', `file:${file('console.log')}`, '-serial', 'stdio'],
    ...[
      '-kernel',
      options.kernel.image,
      '-initrd',
      modules === null ? options.image.file : file('initramfs'),
      '-append',
      append.join(' '),
    ],
    ...share('tools', options.userland.tools, 0x1d, true),
    ...share('out', file('out'), 0x1e, false),
    ...TRACE_EVENTS.flatMap((event) => ['-trace', event]),
    ...['-D', file('trace.log')],
    ...qemu.args,
  ];
  writeFileSync(file('qemu.txt'), [qemuBinary, ...args].join('\n'));

  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const child = spawn(qemuBinary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, limitSeconds * 1000);
  const killOnExit = () => child.kill('SIGKILL');
  process.once('exit', killOnExit);
  let bootSeconds: number | null = null;
  let stderr = '';
  const lines: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    bootSeconds ??= elapsed();
    const parts = (rest + text).replaceAll('\r', '').split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) {
      lines.push(line);
      options.onLine?.(line);
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const exit = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) =>
      resolve(code === 0 ? '' : `QEMU ended with ${signal ?? `status ${code}`}`),
    );
  });
  clearTimeout(timer);
  process.off('exit', killOnExit);

  writeFileSync(file('results.tap'), `${lines.join('\n')}\n`);
  const tap = readTap(lines);
  const reason = failureOf({
    timedOut,
    limitSeconds,
    exit,
    stderr,
    lines,
    tap,
    console: readOr(file('console.log')),
  });
  const failure =
    reason === null
      ? null
      : `machine ${machine.name}: ${reason}\n--- the guest's console, last lines (whole log: ${file('console.log')})\n${tailOf(file('console.log'), 25)}`;
  return {
    ok: failure === null,
    failure,
    tap,
    seconds: elapsed(),
    bootSeconds,
    qemu,
    notes: lines.flatMap((line) => /^\s*# note: (.*)$/.exec(line)?.[1] ?? []),
    folder,
    discard: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function readOr(file: string): string {
  try {
    return readFileSync(file, 'latin1').replaceAll('\r', '');
  } catch {
    return '';
  }
}

interface Ending {
  readonly timedOut: boolean;
  readonly limitSeconds: number;
  readonly exit: string;
  readonly stderr: string;
  readonly lines: readonly string[];
  readonly tap: TapSummary;
  readonly console: string;
}

/** What went wrong, worst first; null if nothing did. Only a guest that says it is done can pass. */
export function failureOf(ending: Ending): string | null {
  const { console: log } = ending;
  const last = ending.lines.findLast((line) => line.trim() !== '') ?? '(nothing)';
  const panic = /Kernel panic - not syncing: (.*)/.exec(log)?.[1];
  if (/initramfs unpacking failed/i.test(log))
    return 'the guest has too little memory to unpack its initramfs (memoryMiB)';
  if (panic !== undefined && /out of memory/i.test(panic))
    return 'the guest ran out of memory (give the boot more memoryMiB)';
  if (panic !== undefined) return `the guest's kernel panicked: ${panic}`;
  const oops = /(BUG: .*|Oops: .*|general protection fault.*)/.exec(log)?.[1];
  if (oops !== undefined) return `the guest's kernel failed: ${oops}`;
  if (/Out of memory: Killed process/.test(log))
    return 'the guest ran out of memory (give the boot more memoryMiB)';
  if (ending.timedOut) return `hung: not done after ${ending.limitSeconds} s; last result line: ${last}`;
  if (ending.exit !== '') return `${ending.exit}: ${ending.stderr.trim() || 'no message'}`;
  if (ending.lines.length === 0) return 'the guest never reported: it did not reach its runner';
  if (!ending.lines.includes(DONE)) return `the guest stopped before its end; last result line: ${last}`;
  if (!ending.tap.complete) return 'the guest’s results are not complete TAP (the plan does not match)';
  if (ending.tap.failed.length > 0)
    return `${ending.tap.failed.length} failed:\n  ${ending.tap.failed.join('\n  ')}`;
  if (ending.tap.passed === 0) return 'no test ran in the guest';
  return null;
}
