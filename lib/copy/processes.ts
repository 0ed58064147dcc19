/** What /proc says of processes, this one among them. Where there is no /proc nothing is known. */
import { type Stats, statSync } from 'node:fs';
import { SysfsTree } from '../native/sysfs/tree.js';

const tree = new SysfsTree('/');
const OPTIONAL = { optional: true } as const;
/** One line of numbers, and a name of 16 bytes at most. */
const MAX_STAT = 4096;

/** When a process began, in ticks since boot. Null: it is gone, or that is not known here. */
export function startOf(pid: number): string | null {
  const text = tree.text(`proc/${pid}/stat`, MAX_STAT, OPTIONAL);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // A zombie does nothing any more: in a container it may stay for ever.
  return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
}

export function bootId(): string | null {
  return tree.text('proc/sys/kernel/random/boot_id', 256, OPTIONAL);
}

/** The PID namespace that this process counts in. */
export function pidSpace(): string | null {
  return tree.dir('proc/self/ns', OPTIONAL)?.linkName('pid') ?? null;
}

/** Some thread of this process has it open to be written. Where that cannot be seen, none has. */
export function isWrittenHere({ dev, ino }: Pick<Stats, 'dev' | 'ino'>): boolean {
  const infos = tree.dir('proc/self/fdinfo', OPTIONAL);
  if (infos === null) return false;
  return infos.names().some((fd) => {
    const there = statOf(`/proc/self/fd/${fd}`);
    if (there === null || there.dev !== dev || there.ino !== ino) return false;
    const flags = /^flags:\s*0*([0-7]+)/m.exec(infos.text(fd, OPTIONAL) ?? '')?.[1];
    return (Number.parseInt(flags ?? '0', 8) & 3) !== 0;
  });
}

/** Null: it was closed meanwhile, as the descriptor that the list was read through is. */
function statOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}
