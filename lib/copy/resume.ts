/**
 * A copy with a journal: after an interruption by a signal, a crash or a power loss, it resumes where it was.
 *
 *     source  │████████████│████████████│██████······│                │
 *              stretch, flushed, marked   under way when it ended
 *                          └─ resumed here, after the stretch before it was compared with the source
 *
 * It is a series of ordinary copies ("stretches") of about a second each. A mark is written after the flush of all
 * destinations, so marked data is durable. Each stretch may choose a different route; the receipt is the sum, and names
 * the least direct route.
 */

import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { optionError } from '../base/arguments.js';
import { P2pdmaError } from '../base/errors.js';
import { Pace } from '../streams/pace.js';
import type { OpenContext } from '../streams/paths.js';
import { type Receipt, receiptOf, withReceipt, worse } from '../streams/receipt.js';
import type { StreamContext } from '../streams/session.js';
import { copyOver } from './copy.js';
import { Journal, type JournalEnd, type JournalHeader } from './journal.js';
import { OpenEnds } from './open-ends.js';
import { assertJournalApart } from './overlap.js';
import { type CopyPlan, type KnownPlan, type PlannedEnd, planRequest } from './plan.js';
import { bootId } from './processes.js';
import { type Moment, type Report, reportTo } from './progress.js';
import { type CopyOptions, makePathRequest, type PathRequest } from './request.js';
import { type Onlooker, onlookerOf, verifyRanges } from './verify.js';

const MIB = 1024 * 1024;
const FIRST_STRETCH = MIB;
const LONGEST_STRETCH = 4096 * MIB;
const STRETCH_SECONDS = 1;
/** What is compared before resuming: the beginning, and at least this much before the last mark. */
const HEAD_CHECK = MIB;
const TAIL_CHECK = 8 * MIB;

/**
 * `planCopy`, with a journal: `resume` says where the copy would resume; a journal in use is a problem.
 * @throws as `resumableCopy`
 */
export async function planResumable(
  open: OpenContext,
  source: string | URL,
  destinations: readonly (string | URL)[],
  options: CopyOptions,
  path: string,
): Promise<KnownPlan> {
  const request = await makePathRequest(open, source, destinations, options);
  try {
    return (await prepare(request, path)).plan;
  } catch (error) {
    // Another copy is using the journal. That stops this copy, but only until the other one ends.
    if (!(error instanceof P2pdmaError) || error.code !== 'EBUSY' || error.path !== path) throw error;
    const plan = await planRequest(request);
    return { ...plan, problems: [error, ...plan.problems] };
  }
}

async function prepare(asked: PathRequest, path: string) {
  const { options } = asked;
  assertJournalApart(asked, path);
  assertLasting(asked);
  const kept = await Journal.read(path);
  // Files that the copy was to create may exist by now; once a mark was written, they do.
  const given = options.flags ?? 'w';
  const flags = kept === null ? given : kept.marks.length > 0 ? 'r+' : given === 'wx' ? 'w' : given;
  const request = { ...asked, options: { ...options, flags } };
  const plan = await planRequest(request);
  const about = await describe(plan, options);
  if (kept !== null) assertSame(kept, about);
  const resume = kept === null ? null : { journal: path, done: kept.done };
  return { plan: { ...plan, resume }, about, kept, request };
}

/**
 * A journal is only useful after this process has ended, and the memory of an emulated drive is gone by then.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE
 */
function assertLasting({ context: { backend }, destinations }: PathRequest): void {
  for (const { path, now } of destinations) {
    if (!now.endsWithProcess) continue;
    const what = `'${path}' of the emulated machine '${backend.machine}' exists only in this process, so the copy could not be resumed`;
    throw optionError('ERR_INVALID_ARG_VALUE', 'journal', what, {
      path,
      hint: `Copy to a file, or keep the namespace in one: "store": "file", "file": "NAME" in the machine's JSON. Without a journal it can be copied as it is.`,
    });
  }
}

/**
 * Copy, or resume copying, with the journal at `journal`. It is removed when the copy is complete.
 * @throws P2pdmaError ERR_OVERLAP, ERR_JOURNAL_DAMAGED, ERR_JOURNAL_MISMATCH (nothing was written in these cases), and
 * the errors of a copy
 */
export async function resumableCopy(
  open: OpenContext,
  source: string | URL,
  destinations: readonly (string | URL)[],
  options: CopyOptions,
  path: string,
): Promise<Receipt> {
  const asked = await makePathRequest(open, source, destinations, options);
  const { plan, about, kept, request } = await prepare(asked, path);
  const [problem] = plan.problems;
  if (problem !== undefined) throw problem;
  const journal = kept ?? (await Journal.create(path, about));
  const ends = new OpenEnds(request);
  try {
    await journal.begin();
    return await new ResumableCopy(request, ends, plan, journal).run();
  } finally {
    await ends.close().catch(() => {});
    await journal.close();
  }
}

class ResumableCopy {
  readonly #context: StreamContext;
  readonly #options: CopyOptions;
  readonly #ends: OpenEnds;
  readonly #plan: KnownPlan;
  readonly #journal: Journal;
  readonly #tell: Report | undefined;
  #receipt: Receipt | null = null;

  constructor({ context, options }: PathRequest, ends: OpenEnds, plan: KnownPlan, journal: Journal) {
    this.#context = context;
    this.#options = options;
    this.#ends = ends;
    this.#plan = plan;
    this.#journal = journal;
    this.#tell = reportTo(options);
  }

  async run(): Promise<Receipt> {
    try {
      return await this.#run();
    } catch (error) {
      const last = receiptOf(error);
      if (last !== null && last !== this.#receipt) this.#add(last);
      throw this.#receipt === null ? error : withReceipt(error, this.#receipt);
    }
  }

  async #run(): Promise<Receipt> {
    const { bytes, destinations } = this.#plan;
    const { stop, verify = false } = this.#options;
    const from = this.#journal.done === 0 ? 0 : await this.#trusted();
    // Stopped before it was known which data can be trusted: the journal is left as it is.
    if (from === null) return nothingCopied(this.#plan);
    if (from !== this.#journal.done) await this.#journal.mark(from);
    // With 'w' and 'wx' the first stretch truncates.
    if (this.#options.flags === 'r+') await this.#cutBack(from);
    const done = from > 0 && from === bytes ? from : await this.#stretches(from);
    const receipt = this.#receipt ?? nothingCopied(this.#plan);
    receipt.resumedFrom = from;
    if (done < bytes) return receipt;
    if (verify && !stop?.aborted) {
      const onlooker = onlookerOf(bytes * destinations.length, stop, this.#report('verify'));
      for (const i of destinations.keys()) {
        receipt.digest = await this.#compare(i, 0, bytes, onlooker.next());
      }
      receipt.verified = !stop?.aborted;
    }
    // The ends are closed while the journal still exists, so that an error of closing keeps the journal.
    await this.#ends.close();
    // If it was stopped during verification, the journal stays: it records what is missing.
    if (!verify || receipt.verified) await this.#journal.remove();
    return receipt;
  }

  /** Compare a range of the copy, in bytes of the copy, in one destination. */
  async #compare(i: number, from: number, to: number, onlooker: Onlooker): Promise<string | null> {
    const { start, destinationStart } = this.#journal.header;
    const { path } = this.#plan.destinations[i]!;
    const allocate = (size: number) => this.#context.backend.memory.allocBuffer(size);
    return this.#ends.from!.readBack((left) =>
      this.#ends.to[i]!.readBack(async (right) => {
        // A copy of zero bytes does not extend a file.
        if (to > from && right.size < destinationStart + to) {
          throw new P2pdmaError('ERR_VERIFY_MISMATCH', `'${path}' is only ${right.size} bytes long`, {
            path,
          });
        }
        const ranges = [
          { target: left, start: start + from },
          { target: right, start: destinationStart + from },
        ] as const;
        return await verifyRanges(...ranges, to - from, allocate, onlooker);
      }),
    );
  }

  #report(phase: Moment['phase']): ((done: number, total: number) => void) | undefined {
    const report = this.#tell;
    const { backend, machine } = this.#plan;
    const route = { transport: null, provider: null, backend, machine };
    return report && ((bytes, total) => report({ bytes, total, phase, ...route }));
  }

  async #holds(from: number, to: number): Promise<P2pdmaError | null> {
    const { destinations } = this.#plan;
    const total = (to - from) * destinations.length;
    const onlooker = onlookerOf(total, this.#options.stop, this.#report('recheck'));
    for (const i of destinations.keys()) {
      try {
        await this.#compare(i, from, to, onlooker.next());
      } catch (error) {
        if (error instanceof P2pdmaError && error.code === 'ERR_VERIFY_MISMATCH') return error;
        throw error;
      }
    }
    return null;
  }

  /**
   * How far the destinations hold what was marked. If the beginning differs, a destination has been used for something
   * else. If only the end differs, a drive has lost data that it had reported as flushed, and the mark before it is
   * tried.
   * Null: stopped in the meantime.
   */
  async #trusted(): Promise<number | null> {
    const { marks, done, path } = this.#journal;
    const { stop } = this.#options;
    const head = await this.#holds(0, Math.min(HEAD_CHECK, done));
    if (head !== null) {
      throw new P2pdmaError(
        'ERR_JOURNAL_MISMATCH',
        `the journal '${path}' does not fit: a destination does not hold what was copied to it (${head.message})`,
        {
          path,
          hint: 'The source or destination has been used for something else since. To copy from the beginning, remove the journal.',
        },
      );
    }
    let at = done;
    for (;;) {
      const before = marks.findLast((mark) => mark <= at - TAIL_CHECK) ?? 0;
      const differs = await this.#holds(before, at);
      if (stop?.aborted) return null;
      if (differs === null) return at;
      // The loop ends: the head matched, and at the latest there is nothing left to compare.
      if (before === 0) return 0;
      at = before;
    }
  }

  /**
   * Truncate files that are longer than the trusted data: by padding to whole blocks that was not cut yet, or by data
   * without a mark.
   */
  async #cutBack(from: number): Promise<void> {
    const { destinations, destinationStart } = this.#journal.header;
    for (const [i, { kind }] of this.#plan.destinations.entries()) {
      if (kind !== 'file') continue;
      const length = Math.max(destinations[i]!.length, destinationStart + from);
      const target = await this.#ends.to[i]!.open();
      if (target.size > length) await target.truncate(length);
    }
  }

  async #stretches(from: number): Promise<number> {
    const { bytes } = this.#plan;
    const { stop, bandwidth, flags = 'w', ...options } = this.#options;
    const report = this.#tell;
    const { start, destinationStart } = this.#journal.header;
    const pace = Pace.of(bandwidth) ?? undefined;
    let done = from;
    let length = FIRST_STRETCH;
    // Runs once even for zero bytes: this creates the files.
    do {
      const target = Math.min(bytes, roundUp(start + done + length) - start);
      const base = done;
      const fresh = this.#journal.marks.length === 0;
      const settings: CopyOptions = {
        ...options,
        // The whole copy is verified at the end. During each stretch the slots are watched, as they are in a verified copy.
        canary: options.verify ?? false,
        verify: false,
        flush: true,
        flags: fresh ? flags : 'r+',
        start: start + done,
        destinationStart: destinationStart + done,
      };
      if (target > done) settings.end = start + target - 1;
      if (pace !== undefined) settings.bandwidth = pace;
      if (stop !== undefined) settings.stop = stop;
      await this.#ends.assertThere();
      const receipt = await copyOver(
        this.#ends,
        settings,
        report && ((now) => report({ ...now, bytes: base + now.bytes, total: bytes })),
      );
      this.#add(receipt);
      done += receipt.bytes;
      await this.#journal.mark(done);
      if (stop?.aborted || receipt.bytes < target - base) break;
      length = nextLength(length, receipt);
    } while (done < bytes && !stop?.aborted);
    return done;
  }

  #add(part: Receipt): void {
    const sum = this.#receipt;
    if (sum === null) {
      this.#receipt = { ...part, path: { ...part.path } };
      return;
    }
    const path = zeroPath();
    addPath(path, sum.path);
    addPath(path, part.path);
    const decisive = part.bytes > 0 && worse(sum.transport, part.transport) !== sum.transport ? part : sum;
    this.#receipt = {
      ...decisive,
      bytes: sum.bytes + part.bytes,
      seconds: sum.seconds + part.seconds,
      unproven: sum.unproven ?? part.unproven,
      path,
    };
  }
}

/** The receipt when everything had been copied before. */
function nothingCopied({ backend, machine, provider, transport, reason, unproven }: CopyPlan): Receipt {
  const rest = { bytes: 0, seconds: 0, path: zeroPath(), verified: false, digest: null };
  return { ...rest, backend, machine, provider, transport, reason, unproven };
}

/** Stretches end at whole MiB of the source, so the next one begins at a block boundary. */
function roundUp(offset: number): number {
  return Math.ceil(offset / MIB) * MIB;
}

function nextLength(length: number, { bytes, seconds }: Receipt): number {
  const inTime = seconds === 0 ? LONGEST_STRETCH : (bytes / seconds) * STRETCH_SECONDS;
  return Math.max(MIB, Math.min(2 * length, roundUp(inTime), LONGEST_STRETCH));
}

// --- is it the same copy? ---

type About = Omit<JournalHeader, 'id' | 'created'>;

async function describe(plan: KnownPlan, options: CopyOptions): Promise<About> {
  const source = await endOf(plan.source);
  const there = plan.source.kind === 'file' ? await stat(plan.source.path, { bigint: true }) : null;
  return {
    source: { ...source, size: plan.source.size, modified: there === null ? null : String(there.mtimeNs) },
    destinations: await Promise.all(
      plan.destinations.map(async (end) => ({
        ...(await endOf(end)),
        length: end.kind === 'file' && (options.flags ?? 'w') === 'r+' ? end.size : 0,
      })),
    ),
    start: plan.start,
    bytes: plan.bytes,
    destinationStart: options.destinationStart ?? 0,
    sparse: options.sparse ?? false,
  };
}

async function endOf({ path: given, kind, size, identity }: PlannedEnd): Promise<JournalEnd> {
  const path = resolve(given);
  if (kind === 'stream') throw new TypeError('a copy of a stream has no journal');
  if (kind !== 'file') {
    return { path, kind, device: { size, identity, boot: identity === null ? bootId() : null }, file: null };
  }
  const there = await stat(path, { bigint: true }).catch(() => null);
  return { path, kind, device: null, file: there === null ? null : { inode: String(there.ino) } };
}

/** @throws P2pdmaError ERR_JOURNAL_MISMATCH, which names the difference */
function assertSame({ header: then, path }: Journal, now: About): void {
  const why =
    otherEnd('source', then.source, now.source) ??
    otherDestinations(then.destinations, now.destinations) ??
    otherRange(then, now) ??
    changedSource(then.source, now.source);
  if (why === null) return;
  throw new P2pdmaError('ERR_JOURNAL_MISMATCH', `the journal '${path}' belongs to another copy: ${why}`, {
    path,
  });
}

function otherEnd(which: string, then: JournalEnd, now: JournalEnd): string | null {
  if (then.path !== now.path) return `its ${which} is '${then.path}', not '${now.path}'`;
  if (then.kind !== now.kind) return `its ${which} was a ${then.kind}, and is a ${now.kind}`;
  if (then.device !== null && now.device !== null) {
    const { size, identity, boot } = then.device;
    if (size !== now.device.size) {
      return `'${then.path}' had ${size} bytes, and has ${now.device.size}: it is another device`;
    }
    if (identity !== now.device.identity) {
      return `'${then.path}' was ${identity ?? 'a device without a stable identifier'}, and is ${now.device.identity ?? 'one without'}`;
    }
    if (boot !== now.device.boot) {
      return `'${then.path}' has no stable identifier, and after a reboot its name may be another device's`;
    }
  }
  // A destination that the copy was to create had no inode when the journal was created.
  if (then.file !== null && then.file.inode !== now.file?.inode) {
    return `'${then.path}' is a different file than when the journal began (inode ${then.file.inode} then, ${now.file?.inode ?? 'none'} now)`;
  }
  return null;
}

function otherDestinations(then: readonly JournalEnd[], now: readonly JournalEnd[]): string | null {
  if (then.length !== now.length) return `it has ${then.length} destinations, not ${now.length}`;
  for (const [i, end] of then.entries()) {
    const why = otherEnd('destination', end, now[i]!);
    if (why !== null) return why;
  }
  return null;
}

function otherRange(then: About, now: About): string | null {
  if (then.start !== now.start) return `it begins at byte ${then.start} of the source, not ${now.start}`;
  if (then.destinationStart !== now.destinationStart) {
    return `it begins at byte ${then.destinationStart} of the destination, not ${now.destinationStart}`;
  }
  if (then.bytes !== now.bytes) return `it is of ${then.bytes} bytes, not ${now.bytes}`;
  return then.sparse === now.sparse ? null : `it was begun ${then.sparse ? 'with' : 'without'} sparse`;
}

function changedSource(then: About['source'], now: About['source']): string | null {
  if (then.size !== now.size) return `the source had ${then.size} bytes, and has ${now.size}`;
  return then.modified === now.modified ? null : 'the source was modified since';
}
