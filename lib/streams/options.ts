/**
 * The stream options as one table. It validates the options and defines their TypeScript types, and the command's help and
 * the documentation use its descriptions.
 */

import type { FileHandle } from 'node:fs/promises';
import type { Origin } from '../backend/backend.js';
import { ENGINES } from '../backend/system-options.js';
import type { Bdf } from '../backend/topology.js';
import { optionError, shown, wrongOption } from '../base/arguments.js';
import { decisive, demandOf } from '../base/demand.js';
import { described } from '../base/described.js';
import { type ErrorCode, P2pdmaError } from '../base/errors.js';
import { didYouMean } from '../base/nearest.js';
import type { Sentence } from '../base/sentence.js';
import { size } from '../base/words.js';
import * as z from '../base/zod.js';
import { MOST_AHEAD_OF_ALL } from './ahead-budget.js';
import { Pace } from './pace.js';
import type { Transport } from './receipt.js';

/** Default chunk size: large enough that per-chunk costs are negligible, small enough that two pipes can share a 16 MiB CMB. */
export const DEFAULT_CHUNK = 512 * 1024;
const DEFAULT_DEPTH = 8;
/**
 * As many bytes are read ahead for a consumer that gets Buffers of its own, but at least two chunks. They wait for it in memory that
 * the processor's caches should still hold when it gets there, and a server has many such consumers.
 */
const MOST_AHEAD = 1024 * 1024;

// Types without a description of their own serve many rows: making one takes as long as many parses.
const flag = z.boolean();
const word = z.string().check(z.minLength(1));
const engine = z.enum(ENGINES);
const offset = z.int().check(z.nonnegative());
const signal = z.custom<AbortSignal>((value) => value instanceof AbortSignal, { error: 'an AbortSignal' });

const depth = z.int().check(z.minimum(1), z.maximum(1024));

const shared = {
  start: described('First byte, counted from 0.', z._default(offset, 0)),
  highWaterMark: described(
    'Chunk size in bytes.',
    z.optional(z.int().check(z.positive())),
    `${size(DEFAULT_CHUNK)}, less in a small CMB`,
  ),
  queueDepth: described('Transfers kept in flight.', z._default(depth, DEFAULT_DEPTH)),
  provider: described(
    "Whose CMB to use: 'auto', 'none', a PCI address or a controller's name.",
    z._default(word, 'auto'),
  ),
  memory: described(
    "'cmb' lends CMB chunks to any consumer, who must release() them; 'host' never uses a CMB.",
    z._default(z.enum(['auto', 'cmb', 'host']), 'auto'),
  ),
  requireP2p: described('Fail rather than fall back to host memory.', z._default(flag, false)),
  allowUnproven: described(
    'Where peer-to-peer is required, also use a route that success does not prove, as on some filesystems.',
    z._default(flag, false),
  ),
  engine: described('Natively: what submits the I/O.', z._default(engine, 'auto')),
  autoClose: described('Close the target when the stream ends or fails.', z._default(flag, true)),
  emitClose: described("Emit 'close' at the end.", z._default(flag, true)),
  encoding: described(
    'For text: a reader delivers strings in it, and a writer encodes strings with it unless a write names another.',
    z.optional(
      z.custom<BufferEncoding | '' | null>((value) => !value || Buffer.isEncoding(value as string), {
        error: 'an encoding of text',
      }),
    ),
  ),
  signal: described('Destroys the stream when aborted.', z.optional(signal)),
};

/** As in node:fs, a wrong value is an error of opening: see open-flags.ts and path-source.ts. */
const checkedWhenOpened = z.custom<string | number | null>(() => true);

/** Options of streams only, because a copy opens its ends itself. */
const opening = {
  mode: described(
    'The permissions of a new file, before the umask; without it 0o666.',
    z.optional(checkedWhenOpened),
  ),
  fd: described(
    'A descriptor or FileHandle to use instead of the path. node:fs reads and writes it; it is closed like a path.',
    z.optional(z.custom<number | FileHandle | null>(isDescriptor, { error: 'a descriptor or a FileHandle' })),
  ),
};

function isDescriptor(value: unknown): boolean {
  const number = typeof value === 'object' && value !== null ? (value as { fd?: unknown }).fd : value;
  return value === null || (typeof number === 'number' && Number.isInteger(number));
}

export const readOptions = z.strictObject({
  ...shared,
  ...opening,
  queueDepth: described(
    'Transfers kept in flight.',
    z.optional(depth),
    `${DEFAULT_DEPTH}; for a consumer that is no stream of this package, no more than ${size(MOST_AHEAD)} holds, but at least 2, and 1 while all such streams have ${size(MOST_AHEAD_OF_ALL)} read ahead`,
  ),
  flags: described('How a file is opened, as in node:fs.', z.optional(checkedWhenOpened)),
  end: described(
    'Last byte, inclusive.',
    z._default(
      z.union([offset, z.literal(Number.POSITIVE_INFINITY)], {
        error: 'a whole number of 0 or more, or Infinity',
      }),
      Number.POSITIVE_INFINITY,
    ),
    'its end',
  ),
  sparse: described(
    'Skip holes: they are not read, and this package’s writers leave or punch holes.',
    z._default(flag, false),
  ),
  bandwidth: described(
    'Limit on the bytes read per second (or a Pace, shared by several streams); holes do not count.',
    z.optional(
      z.union([z.number().check(z.positive()), z.instanceof(Pace)], {
        error: 'a finite number of bytes per second, or a Pace',
      }),
    ),
  ),
  canary: described(
    'Poison each slot before its read and fail if it comes back unchanged.',
    z._default(flag, false),
  ),
});

export const writeOptions = z.strictObject({
  ...shared,
  ...opening,
  flags: described(
    "How a file is opened, as in node:fs. With 'a', node:fs itself writes.",
    z.optional(checkedWhenOpened),
  ),
  flush: described('Make the data durable before finish.', z._default(flag, true)),
  force: described('Write to a device that is in use.', z._default(flag, false)),
});

/**
 * The phase of a copy. `recheck`: with a journal, what was copied before is compared; `copy`; `verify`: the destinations are
 * read back and compared, one after the other.
 * @inline
 */
export type ProgressPhase = 'recheck' | 'copy' | 'verify';

/**
 * The progress of a copy. `onProgress` is called with it, and `p2pdma copy --json` prints it as a line on stderr, with exactly
 * these keys.
 */
export interface Progress {
  /** Distinguishes it from the other lines that the command prints. */
  readonly type: 'progress';
  /**
   * The current phase. `recheck`: with a journal, what was copied before is compared; `copy`; `verify`: the destinations are
   * read back and compared, one after the other.
   */
  readonly phase: ProgressPhase;
  /** Bytes done in this phase; during `copy`, the bytes that the slowest destination has written. */
  readonly bytes: number;
  /** Total number of bytes in this phase; null: unknown. */
  readonly total: number | null;
  /** The average rate over the last three seconds of this phase; null: not known, as after a copy that was over at once. */
  readonly bytesPerSecond: number | null;
  /** Seconds until this phase is done, at the current rate; null: unknown. */
  readonly etaSeconds: number | null;
  /** How many transfers may be in flight; while comparing, at each end. */
  readonly queueDepth: number;
  /** The route of the data; null: it is not chosen yet, or this phase only compares, which goes through host memory. */
  readonly transport: Transport | null;
  /** PCI address of the function whose CMB is used, or null. */
  readonly provider: Bdf | null;
  /** Whether a real kernel or the emulator does the I/O; null: no stream is open yet. */
  readonly backend: Origin['backend'] | null;
  /** The name of the emulated machine; null: the machine is real. */
  readonly machine: string | null;
}

/** Called with the progress of a copy. */
export type OnProgress = (progress: Progress) => void;

/** The options of a copy: those options of readers and writers that make sense for a copy, and its own. */
export const copyOptions = z.strictObject({
  ...z.omit(readOptions, { autoClose: true, emitClose: true, encoding: true, mode: true, fd: true }).shape,
  ...z.pick(writeOptions, { flush: true, force: true }).shape,
  flags: described(
    'For files: truncate, create only, or write into an existing one.',
    z._default(z.enum(['w', 'wx', 'r+']), 'w'),
  ),
  destinationStart: described('First byte written in each destination.', z._default(offset, 0)),
  verify: described('Read the destinations back through host memory and compare.', z._default(flag, false)),
  stop: described(
    'Ends the copy early but cleanly: what was read so far is written, flushed and counted in the receipt.',
    z.optional(signal),
  ),
  onProgress: described(
    'Called ten times a second with the progress of the copy, as one object: the one that `p2pdma copy --json` prints.',
    z.optional(z.custom<OnProgress>((value) => typeof value === 'function', { error: 'a function' })),
  ),
});

/** The options of a handle's readFile(), writeFile() and appendFile(). */
export const wholeFileOptions = z.strictObject({
  encoding: shared.encoding,
  signal: described('Ends the call between two transfers when aborted.', z.optional(signal)),
  flush: described('Make the data durable before the call ends.', z._default(flag, false)),
});
export type WholeFileOptions = z.input<typeof wholeFileOptions>;

/** The options of a handle's readableWebStream(). */
export const webStreamOptions = z.strictObject({
  autoClose: described(
    'Close the handle when the stream ends, fails or is cancelled.',
    z._default(flag, false),
  ),
  type: described('It is always a stream of bytes.', z.optional(z.literal('bytes'))),
});

export const targetOptions = z.strictObject({
  write: described('Open for writing too.', z.optional(flag)),
  force: described('Write to a device that is mounted or held.', z.optional(flag)),
  engine: described(
    'Natively: what submits its I/O; without it, what the system’s option says.',
    z.optional(engine),
  ),
  controller: described(
    'Emulator: the controller (name or address) that a file is put on.',
    z.optional(word),
  ),
});

/** Excludes `memory: 'host'` together with `requireP2p: true`. */
type PossibleWay = { memory?: 'auto' | 'cmb' | undefined } | { requireP2p?: false | undefined };

/**
 * The options of a reader. They mean the same as in `fs.createReadStream` where the name is the same.
 * `memory: 'host'` with `requireP2p: true` does not type-check.
 * @interface
 */
export type ReadStreamOptions = z.input<typeof readOptions> & PossibleWay;
/**
 * The options of a writer. They mean the same as in `fs.createWriteStream` where the name is the same.
 * `memory: 'host'` with `requireP2p: true` does not type-check.
 * @interface
 */
export type WriteStreamOptions = z.input<typeof writeOptions> & PossibleWay;
export type ReadSettings = z.output<typeof readOptions>;
export type WriteSettings = z.output<typeof writeOptions>;

/** How a target is opened. */
export interface TargetOptions extends z.input<typeof targetOptions> {}
/** The options of a copy from a source to destinations. */
export type CopyOptions = z.input<typeof copyOptions> & PossibleWay;

/** What the option tables say about an option. @inline */
export interface OptionHelp {
  /** Its description. */
  readonly text: string;
  /** Its default value; undefined: it has none. */
  readonly value: unknown;
  /** Its default in words; empty: it has none. */
  readonly byDefault: string;
  /** All possible values, if there are only a few. */
  readonly choices: readonly string[];
}

/**
 * Help for each option, for help texts and documents: its description, its default as a value (undefined: it has none) and
 * in words, and all possible values, if there are only a few.
 */
export const optionHelp: Readonly<Record<keyof ReadStreamOptions | keyof WriteStreamOptions, OptionHelp>> =
  Object.fromEntries(
    Object.entries({ ...readOptions.shape, ...writeOptions.shape, ...copyOptions.shape }).map(
      ([name, type]) => [name, helpOf(type)],
    ),
  ) as never;

/** What a table says about one of its options. */
export function helpOf(type: z.core.$ZodType): OptionHelp {
  const value = type instanceof z.ZodMiniDefault ? type.def.defaultValue : undefined;
  const inner =
    type instanceof z.ZodMiniDefault || type instanceof z.ZodMiniOptional ? type.def.innerType : type;
  const { description = '', byDefault } = z.globalRegistry.get(type) ?? {};
  return {
    text: description,
    value,
    byDefault: typeof byDefault === 'string' ? byDefault : value === undefined ? '' : String(value),
    choices: inner instanceof z.ZodMiniEnum ? inner.options.map(String) : [],
  };
}

/** The `options` argument of a public call: nothing, an encoding, or an object. */
export type StreamArgument<T extends object> = T | BufferEncoding | null | undefined;

/**
 * Read the options as node:fs does: they may be missing, a string is the encoding, and inherited properties count. The option
 * `without` is left out.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE
 */
export function givenOptions<T extends object>(
  value: StreamArgument<T>,
  without?: string,
): T & { encoding?: BufferEncoding } {
  return typeof value === 'string'
    ? ({ encoding: value } as T & { encoding: BufferEncoding })
    : objectOptions(value, without);
}

/** Same as `givenOptions`, for calls that do not accept an encoding. */
export function objectOptions<T extends object>(value: T | null | undefined, without?: string): T {
  if (typeof value !== 'object' && value !== undefined) {
    throw new P2pdmaError('ERR_INVALID_ARG_TYPE', `options must be an object (received ${shown(value)})`, {
      ...{ received: value, demand: 'an object' },
      ...(typeof value === 'string' ? { hint: 'Only streams accept an encoding here.' } : {}),
    });
  }
  const all: Record<string, unknown> = {};
  for (const name in value) if (name !== without) all[name] = value[name];
  return all as T;
}

function dropNulls(given: Record<string, unknown>): void {
  for (const name of ['highWaterMark', 'flush']) if (given[name] === null) delete given[name];
}

interface Table {
  readonly shape: Readonly<Record<string, z.ZodMiniType>>;
  /** What it says without a value: the defaults of its options. Null: not each of its options may be left out. */
  readonly defaults: Readonly<Record<string, unknown>> | null;
}

const tables = new WeakMap<z.ZodMiniType, Table>();

function tableOf(type: z.ZodMiniType): Table {
  const known = tables.get(type);
  if (known !== undefined) return known;
  const table =
    type instanceof z.ZodMiniObject
      ? { shape: type.shape as Table['shape'], defaults: defaultsOf(type) }
      : { shape: {}, defaults: null };
  tables.set(type, table);
  return table;
}

function defaultsOf(table: z.ZodMiniObject): Table['defaults'] {
  const options = Object.entries(table.shape);
  const free = options.every(
    ([, type]) => type instanceof z.ZodMiniDefault || type instanceof z.ZodMiniOptional,
  );
  const values = options.flatMap(([name, type]) =>
    type instanceof z.ZodMiniDefault ? [[name, type.def.defaultValue]] : [],
  );
  // A check of the table as a whole is not made by its options one by one.
  return free && (table.def.checks ?? []).length === 0 ? Object.fromEntries(values) : null;
}

/**
 * The options, if a table accepts each of them by itself; otherwise null, and the table says why. A table as a whole looks at
 * all that it knows, and a stream is given two or three of its twenty options.
 */
function eachAccepted({ shape, defaults }: Table, given: Readonly<Record<string, unknown>>): object | null {
  if (defaults === null) return null;
  const settings: Record<string, unknown> = { ...defaults };
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(shape, name)) return null;
    const result = shape[name]!.safeParse(given[name]);
    if (!result.success) return null;
    settings[name] = result.data;
  }
  return settings;
}

/**
 * Validate `value` against a table. Errors have Node's error codes, and their messages contain the option and the value.
 * @throws P2pdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_ENCODING
 */
export function parseOptions<T extends z.ZodMiniType>(table: T, value: unknown): z.output<T> {
  const known = tableOf(table);
  const { shape } = known;
  const given = ('encoding' in shape ? givenOptions : objectOptions)(value as object);
  // node:fs takes null for no value here.
  if ('autoClose' in shape) dropNulls(given as Record<string, unknown>);
  const accepted = eachAccepted(known, given as Record<string, unknown>);
  if (accepted !== null) return accepted as z.output<T>;
  const result = table.safeParse(given, { reportInput: true, error: demandOf });
  if (result.success) return result.data;
  throw issueError(decisive(result.error.issues)[0]!, Object.keys(shape));
}

/** @throws P2pdmaError ERR_OUT_OF_RANGE: the range ends before it begins */
export function assertInOrder({ start, end }: Pick<ReadSettings, 'start' | 'end'>): void {
  if (start <= end) return;
  const what: Sentence = (option) =>
    `must be <= ${option('end')} (received ${option('start')} ${start}, ${option('end')} ${end})`;
  throw optionError('ERR_OUT_OF_RANGE', 'start', what, { received: start, demand: 'end or less' });
}

/** Options of node:fs that do not exist here, and what to use instead. */
const ELSEWHERE = new Map([
  [
    'fd',
    'A copy opens its ends itself: pass a path, a target from system.target(), or a stream with this option.',
  ],
  ['fs', 'I/O goes to the device itself, so fs cannot be replaced.'],
  ['mode', 'A new file gets 0o666 minus the umask; change it with fs.chmod.'],
]);

/** Flags of node:fs that a copy does not take, and what to use instead. */
const FLAGS = new Map([
  ['a', 'A copy does not append: pass a stream that was created with this flag.'],
  ['a+', 'A copy does not append: pass a stream that was created with this flag.'],
  ['w+', "A writer does not read; use 'w'."],
]);

function issueError(issue: z.core.$ZodIssue, known: readonly string[] = []): P2pdmaError {
  const name = issue.path.join('.') || 'options';
  if (issue.code === 'unrecognized_keys') {
    const meant = ELSEWHERE.get(issue.keys[0]!) ?? didYouMean(issue.keys[0]!, known);
    return new P2pdmaError('ERR_INVALID_ARG_VALUE', `unknown option '${issue.keys.join("', '")}'`, {
      option: issue.keys[0],
      hint: meant === '' ? undefined : meant,
    });
  }
  // A union reports the failure of each branch. It says itself what it takes, and its first branch, the usual one, gives the code.
  if (issue.code === 'invalid_union' && issue.errors[0]?.[0] !== undefined) {
    const { path, input, message } = issue;
    return issueError({ ...issue.errors[0][0], path, input, message } as z.core.$ZodIssue);
  }
  // node:fs has no range for it: any number that is not one is a wrong value.
  const code: ErrorCode =
    name === 'highWaterMark'
      ? 'ERR_INVALID_ARG_VALUE'
      : issue.code === 'too_small' || issue.code === 'too_big' || isFraction(issue.input)
        ? 'ERR_OUT_OF_RANGE'
        : issue.code === 'invalid_type' || issue.code === 'custom'
          ? 'ERR_INVALID_ARG_TYPE'
          : 'ERR_INVALID_ARG_VALUE';
  if (name === 'encoding') return noEncoding(issue.input);
  const choices = issue.code === 'invalid_value' ? issue.values.map(String) : [];
  // For flags, suggest no similar name: it could be a flag that destroys data which the user wants to keep.
  const meant =
    name === 'flags' || typeof issue.input !== 'string'
      ? FLAGS.get(String(issue.input))
      : didYouMean(issue.input, choices);
  const facts = { code, demand: issue.message, received: issue.input };
  return wrongOption(name, meant ? { ...facts, hint: meant } : facts);
}

/** The error for an unknown encoding, with the codes of node:fs, where 'buffer' passes the first check and fails the second. */
export function noEncoding(value: unknown): P2pdmaError {
  const code = value === 'buffer' ? 'ERR_UNKNOWN_ENCODING' : 'ERR_INVALID_ARG_VALUE';
  return optionError(code, 'encoding', `there is no encoding ${shown(value)}`, {
    received: value,
    hint: "Name one that Buffer.isEncoding() knows, such as 'utf8', or leave it out.",
  });
}

function isFraction(value: unknown): boolean {
  return typeof value === 'number' && !Number.isSafeInteger(value);
}

/** How many reads are kept in flight for this package's streams, or into chunks that are lent. */
export function depthOf({ queueDepth = DEFAULT_DEPTH }: Pick<ReadSettings, 'queueDepth'>): number {
  return queueDepth;
}

/** The most for a consumer that gets Buffers of its own, of so many bytes; an AheadBudget may allow less. */
export function depthAhead({ queueDepth }: Pick<ReadSettings, 'queueDepth'>, bytes: number): number {
  return queueDepth ?? Math.max(2, Math.min(DEFAULT_DEPTH, Math.floor(MOST_AHEAD / bytes)));
}

/**
 * The chunk size for a pool in a CMB of `available` bytes: the caller's size, or the default, reduced so that a full
 * pool takes no more than half of the available memory.
 */
export function chunkSize(highWaterMark: number | undefined, blockSize: number, available?: number): number {
  const wanted = highWaterMark ?? DEFAULT_CHUNK;
  const rounded = Math.max(blockSize, Math.ceil(wanted / blockSize) * blockSize);
  if (highWaterMark !== undefined || available === undefined) return rounded;
  let chunk = rounded;
  while (chunk > 4096 && chunk * 2 * DEFAULT_DEPTH * 2 > available) chunk /= 2;
  return Math.max(chunk, blockSize);
}
