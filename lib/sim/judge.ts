/**
 * Checks an operation's result against what is expected: every byte of its destinations, what it delivered, acknowledged and
 * counted, and whether anything explains its error. A sentence for each thing that is wrong goes to the simulation.
 */

import type { PathBytes } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import type { Fault, Machine } from '../machine/machine.js';
import type { System } from '../system.js';
import type { Cached } from './cached.js';
import { bytesOfContent } from './content.js';
import type { Expected } from './expected.js';
import { type Content, firstWrong, overlaid } from './expected.js';
import { codeOf, isExplained, type Seen } from './explained.js';
import type { Files } from './files.js';
import { contentOf, perform, type Result, type Scene } from './perform.js';
import type { Disturbance, Op, Part, Scenario } from './scenario.js';
import type { World } from './world.js';

type JournalOp = Extract<Op, { kind: 'journal' }>;

/** The simulation, as far as it is judged. */
export interface Judged {
  readonly scenario: Scenario;
  readonly machine: Machine;
  readonly world: World;
  readonly system: System;
  readonly files: Files;
  readonly media: ReadonlyMap<string, Cached>;
  readonly expected: Expected;
  /** Bytes of I/O commands by route, as the fabric counts them. */
  readonly fabric: PathBytes;
  /** Gets a sentence for each thing that is wrong. */
  readonly wrong: string[];
  /** Gets what belongs to the history that the hash is of. */
  note(text: string): void;
}

/** A destination, and what is to be in it. */
interface Aim {
  readonly part: Part;
  readonly data: Buffer;
  readonly before: Content;
  /** The file, or the same length of the device, if all goes well. */
  readonly after: Buffer;
}

/** What was so when the operation began. */
export interface Began {
  readonly source: Buffer;
  /** What the source was made by others since. */
  readonly versions: Buffer[];
  readonly aims: readonly Aim[];
  readonly seen: Seen;
  over: boolean;
}

const PADDING = 4096;
const MIRRORS = new Set(['raid1', 'raid10']);

export class Judge {
  readonly #sim: Judged;
  readonly #members: Set<string>;
  readonly #arrays: ReadonlyMap<string, string>;
  /** Devices whose content cannot be known any more. */
  readonly #unknown = new Set<string>();
  readonly #journals = new Map<JournalOp, Began>();
  readonly #paths = zeroPath();
  /** Peer writes may be lost from now on. */
  #lossy = false;
  /** A drive may have lost a write. */
  #loses = false;
  #uncounted = false;
  #failed = false;

  constructor(sim: Judged) {
    this.#sim = sim;
    const { arrays } = sim.machine;
    this.#members = new Set(arrays.flatMap(({ members }) => members.map((one) => one.replace(/p\d+$/, ''))));
    this.#arrays = new Map(arrays.map(({ name, level }) => [name, level]));
  }

  injected(fault: Fault): void {
    if (fault.kind === 'drop-peer-writes') this.#lossy = true;
  }

  /** This disk will lose a write. */
  losing(disk: string): void {
    this.#lossy = true;
    this.#loses = true;
    // The legs of a mirror may then hold different data.
    for (const { name, members } of this.#sim.machine.arrays)
      if (members.some((one) => one.startsWith(disk))) this.#unknown.add(name);
  }

  /** What the arrays hold follows from their members. */
  async learnArrays(): Promise<void> {
    for (const name of this.#arrays.keys()) {
      const bytes = await this.#read(name, 0, Number.POSITIVE_INFINITY);
      if (bytes === null) this.#unknown.add(name);
      else this.#sim.expected.set(name, bytes);
    }
  }

  // ---- Before and after one operation

  begin(op: Op): Began {
    const { expected } = this.#sim;
    const from = 'from' in op ? op.from : null;
    if (op.kind === 'journal') this.#settle(op.from.end);
    const whole = from === null ? null : this.#content(from.end);
    const length = op.kind === 'journal' ? Number.POSITIVE_INFINITY : 'length' in op ? op.length : 0;
    const source =
      from === null || whole === null
        ? Buffer.alloc(0)
        : Buffer.from(whole.subarray(from.at, from.at + length));
    const data = op.kind === 'write' ? contentOf(op) : source;
    const flags = 'knobs' in op ? op.knobs.flags : 'r+';
    const aims = this.#destinations(op).map((part): Aim => {
      const before = this.#content(part.end);
      const after = isFile(part.end) ? overlaid(flags === 'r+' ? before : null, part.at, data) : data;
      const most = Math.max(data.length, 'length' in op ? op.length : 0);
      const kept = isFile(part.end) ? before : Buffer.from(before!.subarray(part.at, part.at + most));
      if (isFile(part.end) && !expected.names.includes(part.end)) expected.set(part.end, null);
      expected.begin(part.end, isFile(part.end) ? 0 : part.at, after);
      return { part, data, before: kept, after };
    });
    const began: Began = {
      ...{ source, versions: [source], aims, over: false },
      seen: {
        sourceMissing: from !== null && whole === null,
        destinationMissing: flags === 'r+' && aims.some(({ before }) => before === null),
        // Of a file whose content is not known, the size is not known either.
        beyond: from !== null && (source.length === 0 || this.#unknown.has(from.end)),
      },
    };
    if ('disturbance' in op && op.disturbance !== null) this.#disturb(op.disturbance, op.from, length, began);
    if (op.kind === 'journal') this.#journals.set(op, began);
    return began;
  }

  async end(op: Op, result: Result, began: Began): Promise<void> {
    const { wrong, scenario, world } = this.#sim;
    const { error } = result;
    began.over = true;
    wrong.push(...result.wrong.map((words) => `${op.kind}: ${words}`));
    if (op.kind === 'journal') this.#journals.delete(op);
    if (op.kind === 'journal' && error === null) this.#removed(op);
    if (error !== null) this.#failed = true;
    if (error !== null && !isExplained(op, codeOf(error), scenario, world.steps, began.seen))
      wrong.push(`${op.kind}: nothing explains ${error.stack}`);
    this.#count(op, result);
    this.#delivered(op, result, began);
    for (const aim of began.aims) await this.#destination(op, result, began, aim);
  }

  #count(op: Op, result: Result): void {
    for (const path of result.paths) addPath(this.#paths, path);
    if (op.kind === 'target' || op.kind === 'journal') this.#uncounted = true;
    const { receipt, error, counted } = result;
    if (error !== null || receipt === null) return;
    if (counted !== null && counted !== receipt.bytes)
      this.#sim.wrong.push(`${op.kind}: it counts ${counted} bytes, and its receipt ${receipt.bytes}`);
    const { path, transport } = receipt;
    if (
      transport !== 'host-memory' &&
      receipt.bytes > 0 &&
      path.peerBus + path.hostBridge + path.internal === 0
    )
      this.#sim.wrong.push(`${op.kind}: its receipt says ${transport}, and no byte went peer to peer`);
  }

  #delivered(op: Op, { delivered, counted, error }: Result, { versions, source }: Began): void {
    if (op.kind !== 'read' || this.#unknown.has(op.from.end)) return;
    const { wrong } = this.#sim;
    const all = Buffer.concat(delivered);
    if (this.#lossy && op.way === 'lent') return;
    const at = firstWrong(
      all,
      0,
      versions.map((bytes) => ({ at: 0, bytes })),
    );
    if (!(all.length <= source.length && all.equals(source.subarray(0, all.length))) && at >= 0)
      wrong.push(
        `invariant 3: the byte delivered for ${op.from.at + at} of '${op.from.end}' was never there`,
      );
    if (error !== null) return;
    if (counted !== all.length)
      wrong.push(`read: ${all.length} bytes were delivered, and bytesRead is ${counted}`);
    if (versions.length === 1 && all.length !== source.length)
      wrong.push(
        `read: ${all.length} of ${source.length} bytes were delivered, and it ended without an error`,
      );
  }

  async #destination(op: Op, result: Result, began: Began, aim: Aim): Promise<void> {
    const { part } = aim;
    if ('from' in op && this.#unknown.has(op.from.end)) this.#unknown.add(part.end);
    if (this.#unknown.has(part.end)) return;
    const isMirror = MIRRORS.has(this.#arrays.get(part.end) ?? '');
    // A kernel ≥ 7.2 reports success to whoever writes peer memory to a mirror of which one leg refused it.
    const mayDiffer = op.kind === 'target' && op.provider !== null;
    if (isMirror && (result.error !== null || mayDiffer)) {
      this.#unknown.add(part.end);
      return;
    }
    const actual = isFile(part.end)
      ? this.#sim.files.peek(part.end)
      : await this.#actual(
          part.end,
          part.at,
          Math.max(aim.data.length, ...began.versions.map((one) => one.length)),
        );
    if (actual === null && !isFile(part.end)) {
      this.#unknown.add(part.end);
      return;
    }
    const certain = result.error === null && began.versions.length === 1 && !this.#mayLose(op, result);
    if (certain) this.#exact(op, aim, actual);
    else if (!this.#mayLose(op, result)) this.#partial(op, result, began, aim, actual);
    this.#keep(op, aim, actual, certain);
  }

  /** The data may have been lost on its way to a CMB or by a drive, and nobody has verified it. */
  #mayLose(op: Op, { error }: Result): boolean {
    if (!this.#lossy) return false;
    if (op.kind === 'write') return this.#loses;
    const verifies = op.kind === 'journal' || (op.kind === 'copy' && op.way !== 'pipe');
    return !(verifies && op.knobs.verify === true && error === null);
  }

  #exact(op: Op, { part, after }: Aim, actual: Content): void {
    const { wrong } = this.#sim;
    if (actual?.equals(after)) return;
    if (actual === null) wrong.push(`${op.kind}: complete, and '${part.end}' is not there`);
    else if (actual.length !== after.length)
      wrong.push(
        `${op.kind}: complete, and '${part.end}' has ${actual.length} bytes instead of ${after.length}`,
      );
    else {
      const at = firstWrong(actual, 0, [{ at: 0, bytes: after }]);
      wrong.push(`${op.kind}: complete, and byte ${at} after ${part.at} of '${part.end}' is wrong`);
    }
  }

  #partial(op: Op, result: Result, began: Began, aim: Aim, actual: Content): void {
    const { wrong } = this.#sim;
    const { part, data, before, after } = aim;
    if (actual === null) return;
    const base = isFile(part.end) ? part.at : 0;
    const allowed = [{ at: 0, bytes: after }, ...began.versions.map((bytes) => ({ at: base, bytes }))];
    if (before !== null) allowed.push({ at: 0, bytes: before });
    const at = firstWrong(actual, 0, allowed, isFile(part.end));
    if (at >= 0)
      wrong.push(`invariant 3: byte ${at} of '${part.end}' is neither old nor new after a ${op.kind}`);
    const grown = Math.max(...began.versions.map((bytes) => bytes.length), data.length);
    const most = Math.max(before?.length ?? 0, after.length, base + grown) + PADDING;
    if (actual.length > most)
      wrong.push(`${op.kind}: '${part.end}' has ${actual.length} bytes, and at most ${most} could be`);
    const sure = data.subarray(0, op.kind === 'write' ? result.acknowledged : 0);
    if (!actual.subarray(base, base + sure.length).equals(sure))
      wrong.push(`invariant 4: ${sure.length} bytes were acknowledged, and '${part.end}' does not have them`);
  }

  #keep(op: Op, { part, after }: Aim, actual: Content, certain: boolean): void {
    const { expected } = this.#sim;
    const flushed = certain && (op.kind === 'target' ? false : 'knobs' in op && op.knobs.flush !== false);
    if (isFile(part.end)) expected.became(part.end, actual === null ? null : Buffer.from(actual), flushed);
    else if (certain) expected.wrote(part.end, part.at, after, flushed);
    else expected.found(part.end, part.at, actual!);
  }

  #destinations(op: Op): readonly Part[] {
    if (op.kind === 'copy' || op.kind === 'journal') return op.to;
    return op.kind === 'write' || op.kind === 'target' ? [op.to] : [];
  }

  // ---- Others

  #disturb({ kind, after, bytes }: Disturbance, from: Part, length: number, began: Began): void {
    const { world, files, expected } = this.#sim;
    world.atStep(world.steps + after, () => {
      const now = files.peek(from.end);
      if (now === null || began.over) return;
      files.poke(from.end, (data) => {
        if (kind === 'shorten') data.resize(Math.min(bytes, data.length));
        else {
          const at = kind === 'grow' ? data.length : Math.min(bytes, data.length);
          const most = kind === 'grow' ? bytes : data.length - at;
          data.write(at, bytesOfContent({ generation: 99, size: most, sparse: false }, 0, most));
        }
      });
      const changed = Buffer.from(files.peek(from.end)!);
      expected.became(from.end, changed, false);
      const version = Buffer.from(changed.subarray(from.at, from.at + length));
      began.versions.push(version);
      // The power may be cut before the operation ends.
      for (const { part } of began.aims) expected.begin(part.end, isFile(part.end) ? 0 : part.at, version);
    });
  }

  /** Somebody has synced the file before. */
  #settle(path: string): void {
    const now = this.#sim.files.peek(path);
    if (now === null) return;
    const bytes = Buffer.from(now);
    this.#sim.files.put(path, bytes);
    this.#sim.expected.set(path, bytes);
  }

  // ---- At the end

  async everything(): Promise<void> {
    const { expected, wrong } = this.#sim;
    for (const end of expected.names) {
      if (this.#unknown.has(end) || this.#members.has(end)) continue;
      const content = expected.now(end);
      const actual = isFile(end) ? this.#sim.files.peek(end) : await this.#actual(end, 0, content!.length);
      if (actual === null && !isFile(end)) continue;
      if (actual === null ? content === null : content?.equals(actual)) continue;
      const at = actual === null || content === null ? 0 : firstWrong(actual, 0, [{ at: 0, bytes: content }]);
      wrong.push(`at the end, byte ${at} of '${end}' is not what it was`);
    }
  }

  /** Receipts against what the fabric counted. Verification and arrays that are read here go through host memory. */
  routes(): void {
    const { fabric, wrong } = this.#sim;
    for (const route of ['internal', 'peerBus', 'hostBridge'] as const) {
      const [said, counted] = [this.#paths[route], fabric[route]];
      const fits = this.#failed || this.#uncounted ? said <= counted : said === counted;
      if (!fits) wrong.push(`receipts: ${said} bytes of ${route}, and the fabric counted ${counted}`);
    }
  }

  // ---- After a power cut

  afterCut(): void {
    const { expected, wrong, files, media } = this.#sim;
    for (const [op, began] of this.#journals) this.#marked(op, began);
    for (const end of expected.names) {
      if (isFile(end)) {
        const sure = expected.fileAfterCut(end);
        const actual = files.peek(end);
        if (sure !== undefined && !(sure === null ? actual === null : actual?.equals(sure)))
          wrong.push(`invariant 4: '${end}' was flushed, and is not the same after the power cut`);
        continue;
      }
      if (this.#arrays.has(end) || this.#members.has(end) || this.#unknown.has(end) || this.#lossy) continue;
      const at = expected.wrongAfterCut(end, media.get(end)!.bytes);
      if (at >= 0)
        wrong.push(`invariant 4: byte ${at} of '${end}' was flushed, and is another after the power cut`);
    }
  }

  /** What a journal says is durable is there. */
  #marked(op: JournalOp, { source }: Began): void {
    const { files, wrong } = this.#sim;
    const text = files.peek(op.journal)?.toString('latin1') ?? '';
    const marks = [...text.matchAll(/^\d+ \{"done":(\d+)\} [0-9a-f]{32}\n/gm)];
    const done = Number(marks.at(-1)?.[1] ?? 0);
    const { end, at } = op.to[0]!;
    const actual = files.peek(end)?.subarray(at, at + done) ?? Buffer.alloc(0);
    if (!this.#lossy && !actual.equals(source.subarray(0, done)))
      wrong.push(`journal: it says that ${done} bytes are durable, and '${end}' does not have them`);
  }

  /** A copy that the power cut interrupted goes on with its journal, and is complete. */
  async resume(scene: Scene): Promise<void> {
    for (const [op, began] of this.#journals) {
      if (began.seen.sourceMissing) continue;
      const result: Result = {
        ...{
          error: null,
          receipt: null,
          paths: [],
          delivered: [],
          counted: null,
          acknowledged: 0,
          wrong: [],
        },
      };
      await perform(scene, { ...op, abort: null }, result);
      const { wrong, files } = this.#sim;
      this.#sim.note(
        `resumed ${result.receipt?.resumedFrom} ${result.error === null ? '' : codeOf(result.error)}`,
      );
      if (result.error !== null) {
        const explained = began.seen.beyond || op.knobs.highWaterMark !== undefined || this.#lossy;
        if (!explained) wrong.push(`journal: after the power cut nothing explains ${result.error.stack}`);
        continue;
      }
      const aim = began.aims[0]!;
      const actual = files.peek(aim.part.end);
      if (!this.#lossy && !actual?.equals(aim.after))
        wrong.push(`journal: resumed and complete, and '${aim.part.end}' is wrong`);
      this.#removed(op);
    }
  }

  #removed({ journal }: JournalOp): void {
    if (this.#sim.files.peek(journal) !== null)
      this.#sim.wrong.push('journal: complete, and the journal is still there');
  }

  // ---- What there is

  #content(end: string): Content {
    const { expected } = this.#sim;
    return expected.names.includes(end) ? expected.now(end) : isFile(end) ? null : Buffer.alloc(0);
  }

  async #actual(end: string, at: number, length: number): Promise<Buffer | null> {
    const medium = this.#sim.media.get(end);
    if (medium !== undefined) return Buffer.from(medium.bytes.subarray(at, at + length));
    return this.#read(end, at, length);
  }

  /** Through the system, and host memory. Null: it cannot be read. */
  async #read(end: string, at: number, length: number): Promise<Buffer | null> {
    const { system } = this.#sim;
    try {
      const target = await system.target(end);
      const from = Math.floor(at / PADDING) * PADDING;
      const to = Math.min(target.size, Math.ceil((at + length) / PADDING) * PADDING);
      const memory = system.allocate(null, Math.max(PADDING, to - from));
      try {
        const got = to > from ? await target.read(memory.buffer.subarray(0, to - from), from) : 0;
        if (got < to - from) return null;
        return Buffer.from(memory.buffer.subarray(at - from, Math.min(to, at + length) - from));
      } finally {
        memory.free();
        await target.close();
      }
    } catch {
      return null;
    }
  }
}

function isFile(end: string): boolean {
  return end.startsWith('/');
}
