/** What tests in the guest share: the drives by the description's names, the probe, marks for the witness. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import os from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { GuestPlan } from '../boot.js';
import { MARK_BLOCKS, type Mark } from '../witness.js';

export interface GuestDrive {
  /** The description's name: `'nvme0'`. */
  readonly name: string;
  readonly bdf: string;
  /** The kernel's name, which depends on the order of probing: `'nvme1'`. */
  readonly kernelName: string;
  /** `/dev/nvme1`, for admin commands. */
  readonly controller: string;
  /** `/dev/nvme1n1`, in the order of the namespace ids. */
  readonly disks: readonly string[];
  /** `/dev/ng1n1`. */
  readonly chars: readonly string[];
  readonly size: number;
  readonly blockSize: number;
  /** `/sys/bus/pci/devices/0000:03:00.0`. */
  readonly sysfs: string;
  /** p2pmem/allocate, or null if the kernel took no memory from this drive. */
  readonly allocate: string | null;
  readonly published: boolean | null;
  /** Physical window of the CMB's BAR; null if there is none. */
  readonly cmb: { readonly start: number; readonly size: number } | null;
}

export interface Guest {
  readonly machine: string;
  readonly release: string;
  readonly uptime: string;
  readonly drives: readonly GuestDrive[];
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

export function describeGuest(plan: GuestPlan): Guest {
  const drives = plan.drives.map((drive): GuestDrive => {
    const sysfs = `/sys/bus/pci/devices/${drive.guestBdf}`;
    const kernelName = list(`${sysfs}/nvme`)[0];
    if (kernelName === undefined)
      throw new Error(`${drive.name}: no NVMe controller at ${drive.guestBdf} in the guest`);
    const serial = read(`${sysfs}/nvme/${kernelName}/serial`);
    if (serial !== drive.serial)
      throw new Error(`${drive.name}: ${drive.guestBdf} has serial ${serial}, not ${drive.serial}`);
    const entries = list(`${sysfs}/nvme/${kernelName}`);
    // Not by name: Linux looks for namespaces in parallel, and numbers them as it finds them.
    const nsid = (entry: string) => Number(read(`/sys/block/${entry.replace(/^ng/, 'nvme')}/nsid`));
    const byNsid = (a: string, b: string) => nsid(a) - nsid(b);
    const disks = entries.filter((entry) => /^nvme\d+n\d+$/.test(entry)).sort(byNsid);
    const bar = read(`${sysfs}/resource`)?.split('\n')[2]?.split(' ') ?? [];
    const [start, end] = [Number(bar[0]), Number(bar[1])];
    const allocate = list(`${sysfs}/p2pmem`).includes('allocate') ? `${sysfs}/p2pmem/allocate` : null;
    const published = read(`${sysfs}/p2pmem/published`);
    return {
      name: drive.name,
      bdf: drive.guestBdf,
      kernelName,
      controller: `/dev/${kernelName}`,
      disks: disks.map((disk) => `/dev/${disk}`),
      chars: entries
        .filter((entry) => /^ng\d+n\d+$/.test(entry))
        .sort(byNsid)
        .map((entry) => `/dev/${entry}`),
      size: Number(read(`/sys/block/${disks[0]}/size`) ?? 0) * 512,
      blockSize: Number(read(`/sys/block/${disks[0]}/queue/logical_block_size`) ?? 512),
      sysfs,
      allocate,
      published: published === null ? null : published === '1',
      cmb: start > 0 ? { start, size: end - start + 1 } : null,
    };
  });
  return { machine: plan.machine, release: os.release(), uptime: os.uptime().toFixed(1), drives };
}

/** Write a function's ACS Control register as root may; what it reads back as, or null if it has none. */
export function setAcsControl(bdf: string, control: number): number | null {
  const fd = openSync(`/sys/bus/pci/devices/${bdf}/config`, 'r+');
  try {
    const config = Buffer.alloc(4096);
    const length = readSync(fd, config, 0, config.length, 0);
    for (let at = 0x100; at >= 0x100 && at + 8 <= length; ) {
      const header = config.readUInt32LE(at);
      if ((header & 0xffff) === 0x000d) {
        const register = Buffer.alloc(2);
        register.writeUInt16LE(control);
        writeSync(fd, register, 0, 2, at + 6);
        readSync(fd, register, 0, 2, at + 6);
        return register.readUInt16LE();
      }
      at = header >>> 20;
    }
    return null;
  } finally {
    closeSync(fd);
  }
}

export function guestPlan(): GuestPlan {
  return JSON.parse(readFileSync('/out/plan.json', 'utf8')) as GuestPlan;
}

export function guest(): Guest {
  return JSON.parse(readFileSync('/out/guest.json', 'utf8')) as Guest;
}

export function guestDrive(name: string): GuestDrive {
  const drive = guest().drives.find((d) => d.name === name);
  if (drive === undefined) throw new Error(`machine ${guest().machine} has no drive ${name}`);
  return drive;
}

/** `size`, `available` or `published` of the drive's p2pmem. */
export function p2pmem(drive: GuestDrive, attribute: 'size' | 'available' | 'published'): number {
  return Number(readFileSync(`${drive.sysfs}/p2pmem/${attribute}`, 'utf8'));
}

/** The kernel's log from the beginning. */
export function dmesg(): string[] {
  return spawnSync('dmesg', { encoding: 'utf8' }).stdout.split('\n');
}

export function sh(command: string): { readonly status: number | null; readonly text: string } {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
  return { status, text: `${stdout}${stderr}`.trim() };
}

/** `/tools/bin/copy`: bytes and seconds, or the errno it failed with. */
export function copyInC(
  source: string,
  destination: string,
  memory: string,
  bytes: number,
  chunk: number,
  threads = 1,
) {
  const { status, stdout, stderr } = spawnSync(
    '/tools/bin/copy',
    [source, destination, memory, String(bytes), String(chunk), String(threads)],
    {
      encoding: 'utf8',
    },
  );
  if (status === 0) return { errno: 0, ...(JSON.parse(stdout) as { bytes: number; seconds: number }) };
  const failed = JSON.parse(stderr) as { error: number; call: string };
  return { errno: failed.error, call: failed.call, bytes: 0, seconds: 0 };
}

/** Questions to the kernel through test/vm/probe.c. An answer is `'ok N'`, `'err ERRNO'`, `'differs N'`, `'status N'`. */
export class Probe {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    this.#child = spawn('/tools/bin/probe', { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async ask(question: string): Promise<string> {
    this.#child.stdin.write(`${question}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the probe ended at: ${question}`);
    return value as string;
  }

  /** Several questions; the answers in order. */
  async all(questions: readonly string[]): Promise<string[]> {
    const answers: string[] = [];
    for (const question of questions) answers.push(await this.ask(question));
    return answers;
  }

  /** Let it exit, which gives back every mapping; `'SIGKILL'` for the abrupt way. */
  async end(signal?: NodeJS.Signals): Promise<void> {
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    if (signal === undefined) this.#child.stdin.end();
    else this.#child.kill(signal);
    await closed;
  }
}

const MARKS = '/out/marks.jsonl';

/**
 * Put a named place into the witness's trace: a read of one certain block of the first drive. What the drives
 * do between two marks is what the host's witness attributes to `expect`.
 */
export function mark(name: string, expect?: Mark['expect']): void {
  record(readMark(), name, expect);
}

function readMark(): Pick<Mark, 'n' | 'lba'> {
  const drive = guest().drives[0]!;
  const n = (read(MARKS) ?? '').split('\n').filter((line) => line !== '').length;
  if (n >= MARK_BLOCKS) throw new Error('too many marks in one boot');
  const fd = openSync(drive.disks[0]!, constants.O_RDONLY | constants.O_DIRECT);
  const position = drive.size - (MARK_BLOCKS - n) * drive.blockSize;
  readSync(fd, Buffer.allocUnsafeSlow(drive.blockSize), 0, drive.blockSize, position);
  closeSync(fd);
  return { n, lba: position / drive.blockSize };
}

function record(place: Pick<Mark, 'n' | 'lba'>, name: string, expect?: Mark['expect']): void {
  const line: Mark = { ...place, name, ...(expect === undefined ? {} : { expect }) };
  appendFileSync(MARKS, `${JSON.stringify(line)}\n`);
}

/**
 * Run `work` between two marks; its DMA must be what `expect` says, which the host checks after the boot. What is
 * expected may depend on the result, as a receipt does.
 */
export async function witnessed<T>(
  name: string,
  expect: NonNullable<Mark['expect']> | ((result: T) => NonNullable<Mark['expect']>),
  work: () => T | Promise<T>,
): Promise<T> {
  const place = readMark();
  let expected = typeof expect === 'function' ? undefined : expect;
  try {
    const result = await work();
    if (typeof expect === 'function') expected = expect(result);
    return result;
  } finally {
    record(place, name, expected);
    mark(`end of ${name}`);
  }
}

/** Fill `bytes` of a disk with a pattern that no other seed has. */
export function writePattern(disk: string, bytes: number, seed: number): void {
  const block = Buffer.alloc(65536);
  const fd = openSync(disk, constants.O_WRONLY);
  for (let at = 0; at < bytes; at += block.length) {
    for (let i = 0; i < block.length; i += 8) {
      block.writeUInt32LE((at + i) >>> 0, i);
      block.writeUInt32LE((seed * 0x9e3779b1 + i * 31) >>> 0, i + 4);
    }
    const length = Math.min(block.length, bytes - at);
    for (let done = 0; done < length; ) done += writeSync(fd, block, done, length - done, at + done);
  }
  closeSync(fd);
  sh(`sync; echo 3 > /proc/sys/vm/drop_caches`);
}
