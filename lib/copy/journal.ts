/**
 * The journal of a copy records how far the data is durable. It is text with one record per line. Each line has a
 * checksum that covers the ID of the copy and the line number, so a line from another journal, or from another position,
 * is not accepted:
 *
 *     p2pdma-journal 1 {"id":"…","source":{…},"destinations":[{…}],"start":0,"bytes":268435456,…} 5f0c9a…
 *     1 {"pid":4711,"since":"8812345","boot":"…","space":"…"} 21bd77…       a session begins
 *     2 {"done":4194304} 90ab13…                                            flushed so far
 *     3 {"done":12582912} e00f52…
 *
 * The first two lines are created atomically (temporary file, fsync, link, fsync of the directory), before any data is
 * written, and only where no file exists: if two copies begin with the same journal, only one succeeds. Further lines
 * are appended and fsynced after the flush of the destinations. A power loss may tear the last line. It is then ignored:
 * it has no newline, or it contains the zeros that some filesystems leave. Anything else that does not match is damage,
 * and a damaged journal is refused.
 * A process that resumes from a journal claims it first (journal-owner.ts).
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EISDIR } from '../base/errno.js';
import { errnoError, hostError, P2pdmaError } from '../base/errors.js';
import * as z from '../base/zod.js';
import { claim, NO_LINKS, type Owner, own, owner, whyAlive } from './journal-owner.js';

const BEGINNING = 'p2pdma-journal ';
const MAGIC = `${BEGINNING}1`;
/** A journal grows by one line of about 60 bytes per second: this limit is reached after a year. */
const MAX_BYTES = 2 ** 31;

const whole = z.int().check(z.nonnegative());

const end = z.strictObject({
  path: z.string(),
  kind: z.enum(['namespace', 'block', 'file']),
  /** Set for a device; null for a file. */
  device: z.nullable(
    z.strictObject({ size: whole, identity: z.nullable(z.string()), boot: z.nullable(z.string()) }),
  ),
  /** Set for a file; null for a device. */
  file: z.nullable(z.strictObject({ inode: z.string() })),
});

const header = z.strictObject({
  id: z.uuid(),
  created: z.string(),
  source: z.extend(end, {
    /** Of a file: used to check that it has not been changed since. */
    size: whole,
    modified: z.nullable(z.string()),
  }),
  destinations: z
    .array(
      z.extend(end, {
        /** Of a file: its length when the copy began (0: it was truncated). */
        length: whole,
      }),
    )
    .check(z.minLength(1)),
  start: whole,
  bytes: whole,
  destinationStart: whole,
  sparse: z.boolean(),
});

const record = z.union([z.strictObject({ done: whole }), owner]);

export type JournalHeader = z.output<typeof header>;
export type JournalEnd = z.output<typeof end>;

/** An open journal: `done` bytes of `header.bytes` are durable. */
export class Journal {
  readonly path: string;
  readonly header: JournalHeader;
  /** Every recorded value of `done`, in order; the last one is the current one. */
  readonly marks: number[];
  #file: FileHandle | null;
  #lines: number;
  /** The length of the valid lines in bytes; what follows them is a torn line. */
  readonly #length: number;

  private constructor(path: string, parsed: Omit<Parsed, 'session'>, file: FileHandle | null) {
    this.path = path;
    this.header = parsed.head;
    this.marks = parsed.marks;
    this.#lines = parsed.lines;
    this.#length = parsed.length;
    this.#file = file;
  }

  get done(): number {
    return this.marks.at(-1) ?? 0;
  }

  /**
   * Create a journal and begin a session. No file may exist at `path`.
   * @throws P2pdmaError EBUSY (another copy has created it in the meantime), ENOENT, EACCES, ENOSPC
   */
  static async create(path: string, about: Omit<JournalHeader, 'id' | 'created'>): Promise<Journal> {
    const head: JournalHeader = { id: randomUUID(), created: new Date().toISOString(), ...about };
    const json = JSON.stringify(head);
    const session = JSON.stringify(own());
    const lines = [
      `${MAGIC} ${json} ${checksum(head.id, 0, json)}\n`,
      `1 ${session} ${checksum(head.id, 1, session)}\n`,
    ];
    const draft = join(dirname(path), `.${basename(path)}.${head.id.slice(0, 8)}`);
    const file = await open(draft, 'ax', 0o600).catch((error: unknown) => fail(error, 'open', path));
    try {
      await file.appendFile(lines.join(''));
      await file.sync();
      if (!(await putInPlace(draft, path))) {
        await Journal.read(path);
        throw inUse(path, 'another copy that has just begun');
      }
      await syncDirectory(path);
      return new Journal(path, { head, marks: [], lines: lines.length, length: 0 }, file);
    } catch (error) {
      await file.close();
      await unlink(draft).catch(() => {});
      return fail(error, 'write', path);
    }
  }

  /**
   * Read a journal without changing it. Null: there is none.
   * @throws P2pdmaError ERR_JOURNAL_DAMAGED, EBUSY (another process is using it)
   */
  static async read(path: string): Promise<Journal | null> {
    const found = await look(path);
    if (found === null) return null;
    const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) =>
      fail(error, 'open', path),
    );
    try {
      const there = await file.stat();
      if (!there.isFile()) throw noJournal(path, 'it is not a regular file');
      if (!(await beginsAsJournal(file))) throw noJournal(path, 'it is not a journal of p2pdma');
      if (there.size > MAX_BYTES) throw damaged(path, `it is ${there.size} bytes long`);
      const { session, ...parsed } = parse(path, await readFile(file));
      const who = session === null ? null : whyAlive(session, there);
      if (who !== null) throw inUse(path, who);
      return new Journal(path, parsed, null);
    } catch (error) {
      return fail(error, 'read', path);
    } finally {
      await file.close();
    }
  }

  /**
   * Call before the first mark: claims the journal and cuts off a torn last line. A new journal needs no claim.
   * @throws P2pdmaError EBUSY (another copy has resumed from it in the meantime), EACCES, ENOSPC
   */
  async begin(): Promise<void> {
    if (this.#file !== null) return;
    const release = await claim(this.path, this.#lines).catch((error: unknown) =>
      fail(error, 'open', this.path),
    );
    try {
      if (release === null) throw inUse(this.path, 'another copy that is resuming from it');
      // What was read before the claim may be out of date.
      const now = await Journal.read(this.path);
      if (now?.header.id !== this.header.id || now.#lines !== this.#lines) {
        throw inUse(this.path, 'another copy, which resumed from it in the meantime');
      }
      this.#file = await open(this.path, 'a');
      await this.#file.truncate(this.#length);
      await this.#append(own());
    } catch (error) {
      await this.close();
      fail(error, 'open', this.path);
    } finally {
      await release?.();
    }
  }

  /** Record that `done` bytes are durable in every destination. Resolves when the record is durable, too. */
  async mark(done: number): Promise<void> {
    await this.#append({ done });
    this.marks.push(done);
  }

  async #append(what: z.output<typeof record>): Promise<void> {
    const json = JSON.stringify(what);
    const line = `${this.#lines} ${json} ${checksum(this.header.id, this.#lines, json)}\n`;
    try {
      await this.#file!.appendFile(line);
      await this.#file!.datasync();
    } catch (error) {
      fail(error, 'write', this.path);
    }
    this.#lines++;
  }

  /** Close the journal and leave the file as it is. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  /** The copy is complete. If the journal stayed, the next run of the same command would do nothing. */
  async remove(): Promise<void> {
    await unlink(this.path);
    await syncDirectory(this.path);
    await this.close();
  }
}

function checksum(id: string, line: number, json: string): string {
  return createHash('sha256').update(`${id} ${line} ${json}`).digest('hex').slice(0, 32);
}

interface Parsed {
  head: JournalHeader;
  marks: number[];
  session: Owner | null;
  /** Number of complete lines, and their length in bytes. */
  lines: number;
  length: number;
}

function parse(path: string, bytes: Buffer): Parsed {
  const firstEnd = bytes.indexOf('\n');
  const first = bytes.toString('utf8', 0, firstEnd < 0 ? bytes.length : firstEnd);
  if (!first.startsWith(`${MAGIC} `)) {
    const old = /^p2pdma-journal (\S+) /.exec(first);
    throw damaged(
      path,
      old === null
        ? 'its first line is cut off'
        : `its version is ${old[1]}, but only version 1 is supported`,
    );
  }
  const head = firstEnd < 0 ? null : readLine(first.slice(MAGIC.length - 1), header, null, 1);
  if (head === null) throw damaged(path, 'line 1 does not match its checksum');
  const marks: number[] = [];
  let session: Owner | null = null;
  let at = firstEnd + 1;
  let lines = 1;
  while (at < bytes.length) {
    const lineEnd = bytes.indexOf('\n', at);
    // A torn append: the line has no newline or contains zeros, and no complete line follows.
    const last = lineEnd < 0 || bytes.indexOf('\n', lineEnd + 1) < 0;
    if (lineEnd < 0 || (last && bytes.subarray(at, lineEnd).includes(0))) break;
    const entry = readLine(bytes.toString('utf8', at, lineEnd), record, head.id, lines);
    if (entry === null) throw damaged(path, `line ${lines + 1} does not match its checksum`);
    if ('pid' in entry) session = entry;
    else {
      if (entry.done > head.bytes) throw damaged(path, `line ${lines + 1} is beyond the end of the copy`);
      marks.push(entry.done);
    }
    lines++;
    at = lineEnd + 1;
  }
  return { head, marks, session, lines, length: at };
}

/**
 * Parses `<number> <json> <checksum>`; null if the line does not match. The first line contains the ID that all
 * checksums cover.
 */
function readLine<T extends z.ZodMiniType>(
  line: string,
  table: T,
  id: string | null,
  number: number,
): z.output<T> | null {
  const match = /^(\d+) (\{.*\}) ([0-9a-f]{32})$/.exec(line);
  if (match === null || Number(match[1]) !== number) return null;
  let json: unknown;
  try {
    json = JSON.parse(match[2]!);
  } catch {
    return null;
  }
  const own = id ?? (json as { id?: unknown }).id;
  if (typeof own !== 'string' || checksum(own, id === null ? 0 : number, match[2]!) !== match[3]) return null;
  return table.safeParse(json).data ?? null;
}

/** Whether the file was created as a journal, even if it is damaged now: only then may it be removed. */
async function beginsAsJournal(file: FileHandle): Promise<boolean> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, 0);
  return buffer.toString('latin1', 0, bytesRead) === BEGINNING;
}

const ANOTHER = 'Name another file for the journal.';

function noJournal(path: string, why: string): P2pdmaError {
  return new P2pdmaError('ERR_JOURNAL_DAMAGED', `'${path}' cannot be the journal: ${why}`, {
    path,
    hint: ANOTHER,
  });
}

function inUse(path: string, by: string): P2pdmaError {
  return new P2pdmaError('EBUSY', `the journal '${path}' is in use by ${by}`, {
    path,
    hint: 'Wait for that copy to end, or stop it. A different copy needs a journal of its own.',
  });
}

/**
 * Checks the type before the file is opened: opening a FIFO or a device can block or have side effects. Null: there is
 * no file.
 */
async function look(path: string): Promise<true | null> {
  const there = await stat(path).catch((error: NodeJS.ErrnoException) =>
    error.code === 'ENOENT' ? null : fail(error, 'open', path),
  );
  if (there === null) return null;
  if (there.isDirectory()) throw errnoError(-EISDIR, 'open', path, { hint: ANOTHER });
  if (!there.isFile()) throw noJournal(path, 'it is not a regular file');
  return true;
}

/** Move the draft to `path` atomically, and only if no file exists there. False: there is one. */
async function putInPlace(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    await unlink(draft);
    return true;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (!NO_LINKS.has(code)) throw error;
  }
  // A filesystem without hard links: create an empty file under the name first, then rename the draft over it.
  try {
    await (await open(path, 'wx', 0o600)).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  await rename(draft, path);
  return true;
}

function damaged(path: string, why: string): P2pdmaError {
  return new P2pdmaError('ERR_JOURNAL_DAMAGED', `the journal '${path}' is damaged: ${why}`, { path });
}

/** Converts errors of node:fs to P2pdmaError. */
function fail(error: unknown, syscall: string, path: string): never {
  if (error instanceof P2pdmaError) throw error;
  throw hostError(error as NodeJS.ErrnoException, syscall, path, {
    because: 'it was to be the journal',
    hint: 'Name a file that can be created and written, preferably not on a drive that is being copied to.',
  });
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a directory, and needs no fsync of one.
  if (process.platform === 'win32') return;
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
