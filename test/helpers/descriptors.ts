import { constants, readFileSync } from 'node:fs';

/** Whether the file that a process has open under this number has O_NONBLOCK. */
export function isNonBlocking(pid: number | 'self', fd: number): boolean {
  const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))![1]!;
  return (Number.parseInt(flags, 8) & constants.O_NONBLOCK) !== 0;
}
