/** Short texts about the machine: `uname -a`, /proc/version and /proc/cpuinfo, alone or among other texts. */

import { readRelease } from '../native/sysfs/kernel.js';
import { SysfsTree } from '../native/sysfs/tree.js';
import type { Gathered, Reader, SentText } from './sent.js';

/** `Linux box 6.12.30 #1 SMP …`: kernel, host, release, version. */
const UNAME = /^Linux \S+ (\d+\.\d+\S*) #/m;
/** Also the first line of the kernel's log. */
export const LINUX_VERSION = /^Linux version (\d+\.\d+\S*) \(/m;
const CPUINFO = ['proc', 'cpuinfo'];
const PROCESSOR = /^processor[ \t]*:[ \t]*\d+[ \t]*$/m;
/** What decides of a processor, each in a line that is whole. */
const DECIDES: readonly RegExp[] = [/^vendor_id\s*:.*\n/m, /^cpu family\s*:.*\n/m];
/** Processors of other makes have no vendor_id: Arm, RISC-V, POWER. */
const OF_OTHERS = /^(?:CPU implementer|isa|timebase)\s*:.*\n/m;

export const uname: Reader = {
  fits: ({ start }) => UNAME.test(start),
  read({ start }, into) {
    into.recognised('uname -a');
    tellRelease(UNAME.exec(start)![1]!, 'uname', into);
  },
};

export const procVersion: Reader = {
  fits: ({ start }) => LINUX_VERSION.test(start),
  read({ start }, into) {
    into.recognised('/proc/version');
    tellRelease(LINUX_VERSION.exec(start)![1]!, '/proc/version', into);
  },
};

export const cpuinfo: Reader = {
  fits: ({ start }) => PROCESSOR.test(start),
  read: readCpuinfo,
};

function readCpuinfo({ name, start }: SentText, into: Gathered): void {
  const told = DECIDES.flatMap((line) => line.exec(start)?.[0] ?? []);
  if (told.length < DECIDES.length && !OF_OTHERS.test(start)) {
    into.notKnown(`what '${name}' says of the processor`, 'it is cut');
    return;
  }
  into.recognised('/proc/cpuinfo');
  // Never empty: an empty file means that it was not captured.
  const text = told.length === DECIDES.length ? told.join('') : 'processor\t: 0\n';
  if (into.files.put(CPUINFO, text)) return;
  const before = new SysfsTree(into.files).text(CPUINFO.join('/')) ?? '';
  if (DECIDES.some((line) => plain(line.exec(`${before}\n`)) !== plain(line.exec(text)))) {
    into.contradiction(`'${name}' tells of another processor than what was sent before it; the first counts`);
  }
}

function plain(found: RegExpExecArray | null): string {
  return found?.[0].replaceAll(/\s+/g, ' ') ?? '';
}

/** Record the kernel; two texts that differ are a contradiction, and the first one counts. */
export function tellRelease(release: string, from: string, into: Gathered): void {
  const before = into.release;
  if (before === null) {
    into.release = { text: release, from };
    into.files.put(['proc', 'sys', 'kernel', 'osrelease'], `${release}\n`);
  } else if (before.text !== release) {
    into.contradiction(`${before.from} says Linux ${before.text}, ${from} says ${release}; the first counts`);
  }
}

/** What the kernel's own files tell counts before any text. */
export function takeRelease(into: Gathered): void {
  const release = readRelease(new SysfsTree(into.files));
  if (release !== null) into.release = { text: release, from: '/proc' };
}
