/**
 * `-` as an end of a copy: stdin as the source, stdout as a destination.
 *
 *     zstd -dc image.zst │ p2pdma copy - nvme1n1          p2pdma copy nvme0n1 - │ zstd > image.zst
 *
 * A pipe has no positions and cannot be read again, so some options have no meaning there; they are refused.
 */
import { createReadStream, createWriteStream, fstatSync, type Stats, statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { PipeReader } from '../../copy/pipe-reader.js';
import { PipeWriter } from '../../copy/pipe-writer.js';
import type { CopyPlan } from '../../index.js';
import { CommandError } from '../errors.js';

const PIPE = '-';
// A look at process.stdin would make a pipe non-blocking for every process that shares it. For stdout, Node does so when it starts
// the command, and undoes it when the command ends.
const STDIN = 0;
const STDOUT = 1;

export interface Ends {
  readonly source: string | Readable;
  readonly destinations: readonly (string | Writable)[];
  /** Their names in texts. */
  readonly names: { readonly source: string; readonly destinations: readonly string[] };
  /** stdin is the source. */
  readonly stdin: boolean;
  /** stdout is a destination. */
  readonly stdout: boolean;
  /** What a user may want to know about them, or null. */
  readonly remark: string | null;
  /** Call this when nothing is read from stdin any more. */
  close(): void;
}

/** The options whose meaning depends on the kind of the ends. */
export interface PipeOptions {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
  readonly destinationStart?: number | undefined;
  readonly sparse?: boolean | undefined;
  readonly resume?: string | undefined;
  readonly verify?: boolean | undefined;
}

/** @throws CommandError ERR_INVALID_ARG_VALUE, ERR_OVERLAP: this cannot be an end */
export function endsOf(source: string, destinations: readonly string[], options: PipeOptions): Ends {
  const stdin = source === PIPE;
  const stdout = destinations.includes(PIPE);
  checkLine(source, destinations, options);
  const input = stdin ? openStdin(destinations.filter((name) => name !== PIPE)) : null;
  const output = stdout ? openStdout(source) : null;
  return {
    source: input?.stream ?? source,
    destinations: destinations.map((name) => (name === PIPE ? output!.stream : name)),
    names: {
      source: stdin ? 'stdin' : source,
      destinations: destinations.map((name) => (name === PIPE ? 'stdout' : name)),
    },
    ...{ stdin, stdout, remark: input?.remark ?? output?.remark ?? null },
    close: () => input?.stream.destroy(),
  };
}

/** What the line alone shows. */
function checkLine(source: string, destinations: readonly string[], options: PipeOptions): void {
  const stdin = source === PIPE;
  const stdout = destinations.filter((name) => name === PIPE).length;
  if (!stdin && stdout === 0) return;
  if (stdin && stdout > 0) {
    throw refused('from stdin to stdout there is nothing for p2pdma to do', 'Use cat, pv or dd.');
  }
  if (stdout > 1) throw refused("'-' is named twice as a destination", 'Name stdout once; tee(1) copies it.');
  if (options.resume !== undefined) {
    throw refused(
      '--resume: a pipe cannot be read or written again',
      'Drop it, or copy between devices and files.',
    );
  }
  if (stdin) checkInput(options);
  else checkOutput(options, destinations.length > 1);
}

function checkInput({ start, end, sparse }: PipeOptions): void {
  if (start !== undefined || end !== undefined) {
    throw refused(
      `${start === undefined ? '--end' : '--start'}: stdin has no positions, it is read from where it is`,
      'Give --bytes for how many bytes to take, and --destination-start for where they go.',
    );
  }
  if (sparse) {
    throw refused(
      '--sparse: a pipe has no holes that could be skipped',
      'Drop it: every byte that arrives is written. Or name the file itself as the source.',
    );
  }
}

function checkOutput({ destinationStart, sparse, verify }: PipeOptions, others: boolean): void {
  if (destinationStart !== undefined && !others) {
    throw refused('--destination-start: stdout has no positions', 'Drop it.');
  }
  if (sparse) {
    throw refused('--sparse: a hole cannot be passed through a pipe', 'Drop it: holes are passed as zeros.');
  }
  if (verify) {
    throw refused(
      '--verify: what went into a pipe cannot be read back',
      'Drop it, or let whoever receives the data compare it, for example with sha256sum.',
    );
  }
}

function openStdin(destinations: readonly string[]): { stream: Readable; remark: string | null } {
  const there = fstatSync(STDIN);
  if (isatty(STDIN)) {
    throw refused(
      'stdin is a terminal',
      'Pipe the data into it: zstd -dc image.zst | p2pdma copy - nvme1n1.',
    );
  }
  refuseDevice('stdin', there, 'source');
  refuseSame(there, destinations, 'stdin', 'destination');
  if (there.isFIFO() || there.isSocket()) return { stream: new PipeReader(STDIN), remark: null };
  return {
    stream: createReadStream('', { fd: STDIN, autoClose: false, highWaterMark: 1024 * 1024 }),
    remark: there.isFile() ? namedInstead('stdin', 'source') : null,
  };
}

function openStdout(source: string): { stream: Writable; remark: string | null } {
  const there = fstatSync(STDOUT);
  if (isatty(STDOUT)) {
    throw refused(
      'stdout is a terminal, and this is not text',
      'Pipe it on: p2pdma copy nvme0n1 - | zstd > image.zst. Or name a file.',
    );
  }
  refuseDevice('stdout', there, 'destination');
  refuseSame(there, [source], 'stdout', 'source');
  // It does not block this thread when its reader is slow, so a signal still stops the copy.
  if (there.isFIFO() || there.isSocket()) return { stream: new PipeWriter(STDOUT, 'stdout'), remark: null };
  return {
    stream: createWriteStream('', { fd: STDOUT, autoClose: false }),
    remark: there.isFile() ? namedInstead('stdout', 'destination') : null,
  };
}

/** Under its name a device is checked for what it holds and who uses it. */
function refuseDevice(which: string, there: Stats, role: string): void {
  if (!there.isBlockDevice()) return;
  throw refused(
    `${which} is a block device`,
    `Name it as the ${role} instead of '-': then it is checked, and the data can go peer to peer.`,
  );
}

/** A file that is read and written at once would be truncated before it is read, or grow for ever. */
function refuseSame(there: Stats, others: readonly string[], which: string, other: string): void {
  if (!there.isFile()) return;
  for (const path of others) {
    const end = statSync(path, { throwIfNoEntry: false });
    if (end === undefined || end.dev !== there.dev || end.ino !== there.ino) continue;
    throw new CommandError(
      'ERR_OVERLAP',
      `${which} and the ${other} are the same file: '${path}'`,
      'Choose a destination that does not overlap the source.',
    );
  }
}

function namedInstead(which: string, role: string): string {
  return `${which} is a regular file: named as the ${role} instead of '-', it could go peer to peer`;
}

function refused(message: string, hint: string): CommandError {
  return new CommandError('ERR_INVALID_ARG_VALUE', message, hint);
}

/** The plan with the names of stdin and stdout. */
export function inNames(plan: CopyPlan, { names }: Ends): CopyPlan {
  const named = <T extends CopyPlan['source']>(end: T, name: string): T =>
    end.kind === 'stream' ? { ...end, name, path: name } : end;
  return {
    ...plan,
    source: named(plan.source, names.source),
    destinations: plan.destinations.map((end, i) => named(end, names.destinations[i]!)),
  };
}

/** The error of a pipe, which may be Node's, in the words of the command; any other error as it is. */
export function pipeError(error: unknown, { stdin, stdout }: Ends): unknown {
  const { code, message, syscall, path } = error as NodeJS.ErrnoException;
  const isNodes = error instanceof Error && error.constructor === Error && syscall !== undefined;
  if (code === 'EPIPE' && stdout && (isNodes || path === 'stdout')) {
    return new CommandError(
      'EPIPE',
      'whoever reads stdout has gone',
      'The receipt says how much it may have got.',
    );
  }
  if (!isNodes || (!stdin && !stdout)) return error;
  return new CommandError(
    'ERR_INCOMPLETE',
    `${stdin ? 'stdin' : 'stdout'}: ${message}`,
    'Look at the receipt.',
  );
}
