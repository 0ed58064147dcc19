/**
 * Where a process that wants to be observed listens, and what it says. The folder belongs to one user, and only that user may
 * enter it:
 *
 *     $XDG_RUNTIME_DIR/p2pdma/1234.0.sock          process 1234, its main thread
 *     /tmp/p2pdma-1000/1234.0.sock                 the same where there is no such directory
 */
import { lstatSync, mkdirSync, type Stats } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { Origin, PathBytes } from '../backend/backend.js';
import { EACCES } from '../base/errno.js';
import { errnoError, hostError } from '../base/errors.js';
import type { P2pmemUse } from '../streams/metrics.js';

/** The sum of what the streams of one machine moved with one provider and one client. */
export interface FlowSum extends Origin {
  /** PCI address of the function whose CMB is used; null: host memory. */
  readonly provider: string | null;
  /** PCI address of the function that does the DMA; null: not known, or several do. */
  readonly client: string | null;
  /** Bytes by the route they took, since the process began to be observed. */
  readonly path: PathBytes;
  /** How many streams of it are open now. */
  open: number;
}

/** What a process says of itself: one line of JSON. */
export interface Observation {
  readonly pid: number;
  /** The number of its thread, as in node:worker_threads: 0 is the main thread. Each thread answers for itself. */
  readonly thread: number;
  /** Its command line without the interpreter: `'p2pdma copy a nvme1n1'`. */
  readonly command: string;
  readonly flows: readonly FlowSum[];
  /** Requests in flight now. */
  readonly inFlight: number;
  /** The providers of its emulated machines. Those of this machine are in sysfs for everyone. */
  readonly memory: readonly (Origin & P2pmemUse)[];
}

export const SOCKET = /^\d+\.\d+\.sock$/;

/** The folders that are looked in; a process listens in the first. */
export function folders(): string[] {
  const { XDG_RUNTIME_DIR: runtime = '' } = process.env;
  const own = join(tmpdir(), `p2pdma-${process.geteuid?.() ?? 0}`);
  return isAbsolute(runtime) ? [join(runtime, 'p2pdma'), own] : [own];
}

/** @throws P2pdmaError EACCES: it does not belong to this user alone; or the error of making it */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const failed = error as NodeJS.ErrnoException;
    // After `su`, XDG_RUNTIME_DIR may still be that of the user before.
    const hint = failed.code === 'EACCES' ? 'Set XDG_RUNTIME_DIR to a directory of this user.' : undefined;
    if (failed.code !== 'EEXIST') throw hostError(failed, 'mkdir', path, { hint });
  }
  if (isPrivate(path)) return;
  throw errnoError(-EACCES, 'open', path, {
    what: 'it must be a directory of this user that nobody else may enter',
    hint: `Remove it, or set XDG_RUNTIME_DIR to another directory.`,
  });
}

/** Whether it is a directory, and not a link to one, of this user alone. */
export function isPrivate(path: string): boolean {
  const there = lstatOrNull(path);
  if (there === null) return false;
  return there.isDirectory() && there.uid === process.geteuid?.() && (there.mode & 0o077) === 0;
}

/** Null: it is not there, or it is in a directory that this user may not enter, so it is no directory of this user's. */
function lstatOrNull(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (error) {
    const failed = error as NodeJS.ErrnoException;
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(failed.code ?? '')) return null;
    throw hostError(failed, 'lstat', path);
  }
}
