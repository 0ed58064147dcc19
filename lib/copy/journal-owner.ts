/**
 * Whose a journal is. A session names its process; a process that is gone, by SIGKILL or with its machine, leaves no lock
 * behind. Between two that would go on with one journal a claim decides, a file beside it that only one can make:
 *
 *     .copy.journal.17.0     the first to go on from line 17; made whole, by link()
 *     .copy.journal.17.1     the next, if the first was killed before its session was in the journal
 *
 * A claim goes when its session is in the journal, and who claims reads the journal once more: either the claim is
 * seen or the session.
 */
import { randomUUID } from 'node:crypto';
import { constants, type Stats, statSync } from 'node:fs';
import { copyFile, link, readFile, unlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from '../base/zod.js';
import { bootId, isWrittenHere, pidSpace, startOf } from './processes.js';

export const owner = z.strictObject({
  pid: z.int().nonnegative(),
  /** When it began, in ticks since boot: a number that is given again has another. Null: not known here. */
  since: z.string().nullable(),
  /** The boot that it lived in. */
  boot: z.string().nullable().default(null),
  /** The PID namespace that its number counts in: a container's is its own. */
  space: z.string().nullable().default(null),
});

export type Owner = z.output<typeof owner>;

/** This process. */
export function own(): Owner {
  return { pid: process.pid, since: startOf(process.pid), boot: bootId(), space: pidSpace() };
}

/** A container's processes cannot be seen from another; one that writes marks has done so not long ago. */
const SILENCE_MS = 30_000;

/** Who it is if it may still be at the journal, in words; null: it is gone. */
export function whyAlive(who: Owner, journal: Pick<Stats, 'dev' | 'ino' | 'mtimeMs'>): string | null {
  const { pid, since, boot, space } = who;
  const here = own();
  // With the boot that it lived in it ended.
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
 * Claim the journal at `path`, of so many lines. Null: another has.
 * @returns lets go of it, and of claims that were left behind
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

/** What link() answers on a filesystem without hard links. */
export const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** By one that lives, this process among them, or one that is just being made. */
async function isHeld(name: string): Promise<boolean> {
  let stats: Stats;
  let text: string;
  try {
    stats = statSync(name);
    text = await readFile(name, 'utf8');
  } catch {
    // Then its session is in the journal, which is read next.
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
