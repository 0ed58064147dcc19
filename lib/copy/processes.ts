/** What /proc reports about processes, including this one. Without /proc nothing is known. */
import { type Stats, statSync } from 'node:fs';
import { SysfsTree } from '../native/sysfs/tree.js';

const tree = new SysfsTree('/');
const OPTIONAL = { optional: true } as const;
/** The file is one line of numbers and a name of at most 16 bytes. */
const MAX_STAT = 4096;

/** When a process began, in ticks since boot. Null: it is gone, or this is not known here. */
export function startOf(pid: number): string | null {
  const text = tree.text(`proc/${pid}/stat`, MAX_STAT, OPTIONAL);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // A zombie no longer runs, but in a container it may stay forever.
  return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
}

export function bootId(): string | null {
  return tree.text('proc/sys/kernel/random/boot_id', 256, OPTIONAL);
}

/** The PID namespace of this process. */
export function pidSpace(): string | null {
  return tree.dir('proc/self/ns', OPTIONAL)?.linkName('pid') ?? null;
}

/** Whether a thread of this process has the file open for writing. False where that cannot be determined. */
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

/** Null: the descriptor was closed in the meantime, like the one through which the list was read. */
function statOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}
