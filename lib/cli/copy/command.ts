import { existsSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface } from 'node:readline/promises';
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import * as z from '../../base/zod.js';
import {
  type CopyPlan,
  optionHelp,
  type PipelineOptions,
  pipeline,
  planCopy,
  type Receipt,
  receiptOf,
  type System,
} from '../../index.js';
import { CommandError, inWords, resolving } from '../errors.js';
import { colours, columns, printable, wrap } from '../format.js';
import { LOOKS, type Manual, manual } from '../help.js';
import { flag, type OptionsOf, oneOf, row, withOptions } from '../option-table.js';
import {
  BYTES_OFFERED,
  CHUNK_OFFERED,
  choicesInHelp,
  count,
  DEPTH_OFFERED,
  inHelp,
  type MachineOptions,
  openMachine,
  P2P,
  PROVIDER,
  SIZES,
  size,
  withMachine,
} from '../options.js';
import { holdings, recognised } from '../recognise.js';
import { announce, ownJson, reminder, stdoutIsData, tell, voice } from '../whose.js';
import { named, resolvedText } from './names.js';
import { type Ends, endsOf, inNames, pipeError } from './pipes.js';
import { printPlan } from './plan.js';
import { copyOutput } from './progress.js';
import { printReceipt } from './receipt.js';
import { drawRoute } from './route.js';

const COPIED = {
  start: row(z.optional(size), { takes: '<byte>', text: `of the source: ${inHelp('start')}`, offers: [] }),
  end: row(z.optional(size), { takes: '<byte>', text: `of the source: ${inHelp('end')}`, offers: [] }),
  bytes: row(z.optional(size.check(z.refine((value) => value > 0, 'Give more than 0 bytes.'))), {
    takes: '<size>',
    text: 'how many, instead of --end',
    offers: BYTES_OFFERED,
  }),
  destinationStart: row(z.optional(size), {
    takes: '<byte>',
    text: 'where the first byte goes in every destination; an existing file is then not truncated',
    offers: [],
  }),
  sparse: row(flag, { text: 'skip holes: do not read them, and leave or punch them in the destinations' }),
};

const SAFETY = {
  dryRun: row(flag, {
    text: 'show what would be copied and how, and what would be overwritten; write nothing',
  }),
  verify: row(flag, { text: 'read every destination back through host memory, compare, print the digest' }),
  resume: row(z.optional(z.string()), {
    takes: '<journal>',
    text: 'keep a journal in this file; if it exists, resume the copy that it belongs to',
    offers: ['files'],
  }),
  force: row(flag, { text: 'write to a device that is in use; do not ask about what it holds' }),
};

/** A rate such as `50MiB` or `50MiB/s`, in bytes per second. */
const rate = z
  .pipe(
    z.pipe(
      z.string(),
      z.transform((text) => text.replace(/\/s$/i, '')),
    ),
    size,
  )
  .check(z.refine((value) => value > 0, 'Give more than 0 bytes per second.'));

const WAY = {
  ...P2P,
  provider: PROVIDER,
  chunk: row(z.optional(size), {
    takes: '<size>',
    text: inHelp('highWaterMark', ': 4096, 64KiB, 1M'),
    offers: CHUNK_OFFERED,
  }),
  depth: row(z.optional(count), { takes: '<n>', text: inHelp('queueDepth'), offers: DEPTH_OFFERED }),
  bwlimit: row(z.optional(rate), {
    takes: '<rate>',
    text: 'limit to this many bytes per second: 50MiB, 1g',
    offers: [{ words: ['100MiB', '500MiB', '1GiB'] }],
  }),
  engine: row(oneOf(optionHelp.engine.choices as NonNullable<PipelineOptions['engine']>[]), {
    takes: '<name>',
    text: choicesInHelp('engine'),
  }),
};

const OUTPUT = {
  observe: row(flag, { text: 'let `p2pdma top` show this copy while it runs' }),
  quiet: row(flag, { text: 'print no progress and no receipt; the exit code says how it went' }),
};

interface CopyOptions
  extends MachineOptions,
    OptionsOf<typeof COPIED & typeof SAFETY & typeof WAY & typeof OUTPUT> {
  /** Set by `careful`: existing files are not truncated. */
  keep?: boolean;
}

const MANUAL: Manual = {
  about: [
    'Copies bytes from one namespace, block device or file to one or several others, and says which way they went: ' +
      'drive to drive over PCIe where the machine can, else through host memory, which is never silent. It ends only ' +
      'when everything is written and flushed.',
    'A destination that holds a filesystem, partition table, RAID, LVM or LUKS, by its signatures, is asked about on a ' +
      'terminal and refused elsewhere. A device that is mounted or held is refused.',
  ],
  sections: [
    [
      'Naming a disk',
      'By its name (nvme1n1, /dev/nvme1n1), by a name that udev gave it (/dev/disk/by-id/…, also without the folders), or by ' +
        'its serial number, if only one disk has it; otherwise the candidates are listed. What a name stands for is said ' +
        'before anything is read. A word that is a disk and also a file in this folder is refused: put /dev/ or ./ before ' +
        'it. Model, serial number, partitions, labels and mount points are shown by --dry-run, and with the question ' +
        'whether a disk may be overwritten.',
    ],
    SIZES,
    [
      'Interrupting',
      'Ctrl-C once stops cleanly: what was read is written, flushed and in the receipt, and with --resume the journal ' +
        'says how far it came. Twice stops at once. The same command with the same --resume goes on, also after SIGKILL ' +
        'or power loss, having compared the last part that it had written.',
    ],
    [
      'Pipes',
      "As the source, '-' is stdin; as a destination, it is stdout. The data then goes through host memory. Nobody can be asked " +
        'what may be overwritten, as stdin is the data: without --force it is refused. A pipe that ends early looks like one ' +
        'that is complete: with --bytes, fewer are an error. With --verify what was written is read back and compared with ' +
        'the digest of what arrived. With stdout as a destination, the receipt is on stderr. What arrives is ' +
        'written in pieces of 1 MiB at most, unless --chunk says otherwise.',
    ],
    [
      'Progress',
      'A bar on stderr if that is a terminal: bytes, rate, time left, route, depth. SIGUSR1 (on BSD and macOS also SIGINFO, which is ' +
        'Ctrl-T) prints one line on stderr, as dd does, also without a terminal and with --quiet: kill -USR1 PID. It does not ' +
        'start Node’s inspector while a copy runs. With --json one JSON object a line: ' +
        '{"type": "progress", "phase": "copy", "bytes": …, "total": …, ' +
        '"bytesPerSecond": …, "etaSeconds": …, "queueDepth": …, "transport": …, "provider": …, "backend": …, "machine": …}; the phases are recheck (--resume), copy and verify. An error is the last line.',
    ],
  ],
  exitCodes: [
    ['0', 'everything that was requested was done'],
    ['1', 'it failed, copied less, or not peer to peer although --require-p2p was given'],
    ['2', 'usage error (no such source, an overlap, …); nothing was done'],
    ['130', 'stopped by Ctrl-C before all was done (143: by SIGTERM)'],
  ],
  environment: LOOKS,
  examples: [
    ['What would happen? Nothing is written.', 'p2pdma copy nvme0n1 nvme1n1 --dry-run'],
    ['Onto the disk with this serial number.', 'p2pdma copy disk.img S6Z1NJ0W123456'],
    ['Copy, read back, compare.', 'p2pdma copy nvme0n1 nvme1n1 --verify'],
    [
      'One read, two writes; nothing through host memory.',
      'p2pdma copy nvme0n1 nvme1n1 nvme2n1 --require-p2p',
    ],
    [
      'A piece into the middle; an existing file keeps its other bytes.',
      'p2pdma copy nvme0n1 nvme1n1 --bytes 64KiB --destination-start 1MiB',
    ],
    ['An image onto a drive, without its holes.', 'p2pdma copy disk.img nvme1n1 --sparse'],
    ['A compressed image onto a drive.', 'zstd -dc image.zst | p2pdma copy - nvme1n1 --verify'],
    ['A drive into a compressed image.', 'p2pdma copy nvme0n1 - | zstd > image.zst'],
    [
      'At most 200 MiB/s; the same command again goes on where it was interrupted.',
      'p2pdma copy nvme0n1 nvme1n1 --resume copy.journal --bwlimit 200M',
    ],
    [
      'For a program: the receipt on stdout, progress on stderr.',
      'p2pdma copy nvme0n1 nvme1n1 --json > receipt.json 2> progress.ndjson',
    ],
    [
      'On an emulated machine without CMBs this cannot be done (exit code 1).',
      'p2pdma copy nvme0n1 nvme1n1 --machine no-cmb --bytes 1MiB --require-p2p',
    ],
  ],
};

export function addCopy(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'What is copied:', COPIED);
  withOptions(command, 'Safety:', SAFETY);
  withOptions(command, 'Which way:', WAY);
  withMachine(command);
  withOptions(command, 'Output:', OUTPUT).action(
    async (source: string, destinations: string[], options: CopyOptions) => {
      const silent = options.json || (options.quiet && !options.dryRun);
      const ends = await resolving(() => endsOf(source, destinations, options));
      try {
        const system = await observed(options.observe, () => openMachine(options, silent ? 'data' : 'text'));
        if (ends.stdout) stdoutIsData();
        try {
          await careful(system, await devices(system, ends, options), options);
        } finally {
          await system.close();
        }
      } finally {
        ends.close();
      }
    },
  );
}

/** A system that is opened meanwhile is observed, if that is wanted here or in the environment. */
async function observed<T>(wanted: boolean | undefined, open: () => Promise<T>): Promise<T> {
  const before = process.env.P2PDMA_OBSERVE;
  if (!wanted) return open();
  process.env.P2PDMA_OBSERVE = '1';
  try {
    return await open();
  } finally {
    if (before === undefined) delete process.env.P2PDMA_OBSERVE;
    else process.env.P2PDMA_OBSERVE = before;
  }
}

/** The ends by their devices, having said which. */
async function devices(system: System, given: Ends, options: CopyOptions): Promise<Ends> {
  const { ends, resolved } = await resolving(() => named(system, given));
  const { say } = copyOutput(options);
  for (const one of resolved) {
    const { name, path, disk } = one;
    const { model = null, serial = null } = disk ?? {};
    say('resolved', resolvedText(one), { given: one.given, name, path, model, serial });
  }
  return ends;
}

/** Plan, check what the destinations hold, ask the user, copy. */
async function careful(system: System, ends: Ends, options: CopyOptions): Promise<void> {
  // If a piece is written into an existing file, the rest of the file is kept.
  if (options.destinationStart !== undefined && ends.names.destinations.some(isFile)) options.keep = true;
  const settings = settingsOf(system, options);
  const plan = await resolving(() => planned(ends, settings, options));
  // For a copy that resumes, the user was asked before; it compares what it had written first.
  const goesOn = plan.resume !== null && plan.resume.done > 0;
  const needsForce = !options.force && !goesOn && plan.destinations.some(({ holds }) => holds.length > 0);
  if (options.dryRun) {
    const refusal = needsForce && !asks(options) ? [refusalOf(plan)] : [];
    const problems = [...plan.problems, ...refusal].map(inWords);
    const shown = { ...plan, needsForce, problems };
    const text = options.json ? ownJson(shown) : printPlan(shown, colours(voice()), columns(voice()));
    tell(text);
    if (problems.length > 0) process.exitCode = 1;
    return;
  }
  const [problem] = plan.problems;
  if (problem !== undefined) throw problem;
  if (needsForce) await guard(plan, options);
  await copy(system, ends, options, plan);
}

/** The plan for the command line. @throws P2pdmaError, CommandError if the line, or something that it names, is not valid */
async function planned(
  ends: Ends,
  settings: PipelineOptions,
  { bytes, end }: CopyOptions,
): Promise<CopyPlan> {
  if (bytes !== undefined && end !== undefined) {
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      '--bytes and --end both say where the copy ends',
      'Drop one of them.',
    );
  }
  const plan = inNames(await planCopy(ends.source, ends.destinations, settings), ends);
  const { path, size, kind } = plan.source;
  if (kind === 'stream' || settings.end === undefined || settings.end < size) return plan;
  const [which, what] =
    bytes === undefined
      ? ['--end', `${end} is beyond the last byte of '${path}' (${size} bytes)`]
      : ['--bytes', `there are not ${bytes} bytes from byte ${plan.start} on in '${path}' (${size} bytes)`];
  throw new CommandError(
    'ERR_OUT_OF_RANGE',
    `option ${which}: ${what}`,
    `Is this the right source? Without ${which} it is copied to its end.`,
  );
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** On a terminal, the user can be asked. */
function asks({ json }: CopyOptions): boolean {
  return !json && isatty(0) && isatty(2);
}

function held({ destinations }: CopyPlan): string {
  const full = destinations.filter(({ holds }) => holds.length > 0);
  return full.map((end) => `${end.path} holds ${holdings(end.holds)}`).join('; ');
}

function refusalOf(plan: CopyPlan): CommandError {
  return new CommandError(
    'ERR_HOLDS_DATA',
    held(plan),
    plan.source.kind === 'stream'
      ? 'Nothing was written. stdin is the data, so you cannot be asked: pass --force if it may be destroyed.'
      : 'Nothing was written. Pass --force if it may be destroyed, or confirm on a terminal.',
  );
}

/** @throws CommandError ERR_HOLDS_DATA unless the user agrees that the existing data may be lost */
async function guard(plan: CopyPlan, options: CopyOptions): Promise<void> {
  if (!asks(options)) throw refusalOf(plan);
  const question = 'This will be destroyed. Copy all the same? [y/N] ';
  const text = [`${printable(held(plan))}.`, ...portrait(plan, columns(process.stderr)), question].join('\n');
  if (await yes(`${reminder()}${text}`)) return;
  throw new CommandError('ERR_HOLDS_DATA', `not copied: ${held(plan)}`, 'Nothing was written.');
}

/** What the disks are recognised by. */
function portrait({ destinations }: CopyPlan, width: number): string[] {
  const full = destinations.filter(({ holds }) => holds.length > 0);
  return full.flatMap((end) => [
    ...(full.length > 1 ? wrap(printable(end.path), width) : []),
    ...recognised(end).flatMap(([label, text]) => wrap(text, width, `  ${label.padEnd(10)}`)),
    ...(end.inUse === null ? [] : wrap(printable(end.inUse), width, `  ${'in use'.padEnd(10)}`)),
  ]);
}

async function yes(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  try {
    const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
    const answer = await Promise.race([lines.question(question), closed]);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}

/** Copy, show the progress, and print the receipt with the route of the bytes. */
export async function copy(system: System, ends: Ends, options: CopyOptions, plan: CopyPlan): Promise<void> {
  const output = copyOutput(options);
  const stop = new AbortController();
  // The notice is printed above the progress.
  if (isatty(1)) announce();
  const settings = { ...settingsOf(system, options), stop: stop.signal };
  settings.onProgress = output.progress;
  let signal: 'SIGINT' | 'SIGTERM' | null = null;
  const interrupt = (name: 'SIGINT' | 'SIGTERM') => {
    if (signal !== null) process.exit(EXIT[name]);
    signal = name;
    output.say(
      'stopping',
      'stopping: what was read is being written and flushed (press again to stop at once)',
    );
    stop.abort();
  };
  const show = (receipt: Receipt): void => {
    // Between the lines of progress on stderr, a receipt says what it is.
    if (options.json) tell(ownJson({ ...(ends.stdout ? { type: 'receipt' } : {}), ...receipt }));
    else if (!options.quiet) {
      const view = { colour: colours(voice()), width: columns(voice()) };
      const { source, destinations } = ends.names;
      tell(`${drawRoute(system, receipt, source, destinations, view).join('\n')}\n`);
      tell(printReceipt(receipt, options.verify ?? false, view));
    }
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  for (const name of ASKING) process.on(name, output.ask);
  try {
    if (plan.resume !== null)
      output.say('resuming', `resuming at byte ${plan.resume.done} of ${plan.bytes}`, plan.resume);
    if (ends.remark !== null) output.say('remark', ends.remark);
    const receipt = await pipeline(ends.source, ends.destinations, settings);
    output.end();
    show(receipt);
    const missing = shortfall(receipt, options, plan);
    if (signal !== null && missing !== null) {
      const again =
        options.resume === undefined ? '' : `; to continue, run the same command again (${options.resume})`;
      output.say('stopped', `stopped: ${missing.message}${again}`);
      process.exitCode = EXIT[signal];
    } else if (missing !== null) throw missing;
  } catch (error) {
    output.end();
    const done = receiptOf(error);
    if (done !== null) show(done);
    const fits = !(error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_JOURNAL'));
    if (fits && options.resume !== undefined && existsSync(options.resume)) {
      output.say(
        'kept',
        `what was copied is recorded in ${options.resume}; to continue, run the same command again`,
      );
    }
    throw pipeError(error, ends);
  } finally {
    output.end();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    for (const name of ASKING) process.off(name, output.ask);
  }
}

/**
 * How dd is asked how far it is: SIGINFO (Ctrl-T) where it exists, SIGUSR1 elsewhere. A listener for SIGUSR1 also keeps Node
 * from starting its inspector. A name that the system does not have is not listened for: Deno refuses it.
 */
const ASKING = (['SIGUSR1', 'SIGINFO'] as const).filter((name) => name in constants.signals);

const EXIT = { SIGINT: 130, SIGTERM: 143 };

const AGAIN = 'Look at the receipt, and copy again.';

/** Null, or what was requested but not done. */
function shortfall(receipt: Receipt, options: CopyOptions, plan: CopyPlan): CommandError | null {
  const done = receipt.bytes + (receipt.resumedFrom ?? 0);
  if (plan.resume !== null && receipt.resumedFrom === undefined) {
    return new CommandError('ERR_INCOMPLETE', 'what had been copied was not compared to its end', AGAIN);
  }
  if (plan.bytes !== null && done < plan.bytes && plan.source.kind === 'stream') {
    const message = `${plan.source.path} ended after ${done} of ${plan.bytes} bytes`;
    return new CommandError('ERR_INCOMPLETE', message, 'Look at whoever wrote into it: it may have failed.');
  }
  if (plan.bytes !== null && done < plan.bytes) {
    return new CommandError('ERR_INCOMPLETE', `${done} of ${plan.bytes} bytes were copied`, AGAIN);
  }
  if (options.verify && !receipt.verified) {
    return new CommandError('ERR_INCOMPLETE', `all ${done} bytes were copied, but not verified`, AGAIN);
  }
  const host = receipt.path.hostDram;
  if (options.requireP2p && receipt.bytes > 0 && (receipt.transport === 'host-memory' || host > 0)) {
    return new CommandError(
      'ERR_P2P_REQUIRED',
      `${host} bytes went through host memory: ${receipt.reason}`,
      'Drop --require-p2p to allow a fallback to host memory, or fix what the message names.',
    );
  }
  return null;
}

export function settingsOf(system: System, options: CopyOptions): PipelineOptions {
  const settings: PipelineOptions = {
    system,
    provider: options.provider,
    verify: options.verify ?? false,
    requireP2p: options.requireP2p ?? false,
    allowUnproven: options.allowUnproven ?? false,
    force: options.force ?? false,
    sparse: options.sparse ?? false,
    engine: options.engine,
  };
  if (options.chunk !== undefined) settings.highWaterMark = options.chunk;
  if (options.depth !== undefined) settings.queueDepth = options.depth;
  if (options.start !== undefined) settings.start = options.start;
  if (options.end !== undefined) settings.end = options.end;
  if (options.bytes !== undefined) settings.end = (options.start ?? 0) + options.bytes - 1;
  if (options.destinationStart !== undefined) settings.destinationStart = options.destinationStart;
  if (options.keep) settings.flags = 'r+';
  if (options.bwlimit !== undefined) settings.bandwidth = options.bwlimit;
  if (options.resume !== undefined) settings.journal = options.resume;
  return settings;
}
