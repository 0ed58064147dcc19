/**
 * The owner of a journal. A session records its process, so a process that was killed by SIGKILL, or that ended with its
 * machine, leaves no lock behind. When two processes want to resume from the same journal, a claim decides. A claim is a
 * file beside the journal that only one process can create:
 *
 *     .copy.journal.17.0     the first to go on from line 17; created in one step, by link()
 *     .copy.journal.17.1     the next, if the first was killed before its session was in the journal
 *
 * A claim is removed once its session is in the journal. A process that has made a claim reads the journal once more: it
 * then sees either the other process's claim or its session.
 */
import { randomUUID } from 'node:crypto';
import { constants, type Stats, statSync } from 'node:fs';
import { copyFile, link, readFile, unlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as z from '../base/zod.js';
import { bootId, isWrittenHere, pidSpace, startOf } from './processes.js';

export const owner = z.strictObject({
  pid: z.int().check(z.nonnegative()),
  /**
   * When the process began, in ticks since boot; this tells it from a later process with the same PID. Null: not known
   * here.
   */
  since: z.nullable(z.string()),
  /** The ID of the boot during which the process ran. */
  boot: z._default(z.nullable(z.string()), null),
  /** The PID namespace of `pid`: a container has its own. */
  space: z._default(z.nullable(z.string()), null),
});

export type Owner = z.output<typeof owner>;

/** The owner record of this process. */
export function own(): Owner {
  return { pid: process.pid, since: startOf(process.pid), boot: bootId(), space: pidSpace() };
}

/**
 * Processes in one container cannot be seen from another. A process that is copying has written a mark at most this long
 * ago.
 */
const SILENCE_MS = 30_000;

/** If the owner may still be using the journal, a description of it; null: it is gone. */
export function whyAlive(who: Owner, journal: Pick<Stats, 'dev' | 'ino' | 'mtimeMs'>): string | null {
  const { pid, since, boot, space } = who;
  const here = own();
  // The process ended when that boot did.
  if (boot !== null && here.boot !== null && boot !== here.boot) return null;
  if (space !== null && here.space !== null && space !== here.space) {
    const silent = Date.now() - journal.mtimeMs;
    if (silent > SILENCE_MS) return null;
    return `a process of another container, or was ${Math.round(silent / 1000)} s ago`;
  }
  if (pid === process.pid) {
    const same = since === here.since && isWrittenHere(journal);
    return same ? 'another copy of this process' : null;
  }
  const alive = since === null ? exists(pid) : startOf(pid) === since;
  return alive ? `process ${pid}` : null;
}

/**
 * Claim the journal at `path`, which has `lines` lines. Null: another process has claimed it.
 * @returns a function that releases this claim, and removes stale claims that were found
 */
export async function claim(path: string, lines: number): Promise<(() => Promise<void>) | null> {
  const base = join(dirname(path), `.${basename(path)}`);
  const draft = `${base}.${randomUUID().slice(0, 8)}`;
  await writeFile(draft, JSON.stringify(own()), { flag: 'wx', mode: 0o600 });
  const passed: string[] = [];
  try {
    for (;;) {
      const name = `${base}.${lines}.${passed.length}`;
      passed.push(name);
      if (await make(draft, name)) break;
      if (await isHeld(name)) return null;
    }
  } finally {
    await unlink(draft);
  }
  return async () => {
    for (const name of passed) await unlink(name).catch(() => {});
  };
}

async function make(draft: string, name: string): Promise<boolean> {
  try {
    await link(draft, name).catch((error: NodeJS.ErrnoException) => {
      if (!NO_LINKS.has(error.code ?? '')) throw error;
      return copyFile(draft, name, constants.COPYFILE_EXCL);
    });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** The errors that link() returns on a filesystem without hard links. */
export const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** Whether the claim belongs to a process that is alive (this one included), or is just being created. */
async function isHeld(name: string): Promise<boolean> {
  let stats: Stats;
  let text: string;
  try {
    stats = statSync(name);
    text = await readFile(name, 'utf8');
  } catch {
    // If the claim has been removed, its session is in the journal, which is read next.
    return false;
  }
  try {
    const who = owner.parse(JSON.parse(text));
    return (who.pid === process.pid && who.since === startOf(process.pid)) || whyAlive(who, stats) !== null;
  } catch {
    return Date.now() - stats.mtimeMs < SILENCE_MS;
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
