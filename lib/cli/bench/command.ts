import { closeSync, ftruncateSync, openSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import * as z from '../../base/zod.js';
import {
  type CopyPlan,
  ERROR_CODES,
  type ErrorCode,
  P2pdmaError,
  planCopy,
  type System,
  type Target,
} from '../../index.js';
import { refuseHeld } from '../copy/held.js';
import { CommandError, resolving } from '../errors.js';
import { bytes, colours, columns, printable, wrap } from '../format.js';
import { LOOKS, type Manual, manual } from '../help.js';
import { flag, type OptionsOf, row, withOptions } from '../option-table.js';
import {
  atLeastOne,
  BYTES_OFFERED,
  DEPTH_OFFERED,
  type MachineOptions,
  openMachine,
  PROVIDER_OFFERED,
  purpose,
  SIZES,
  size,
  withMachine,
} from '../options.js';
import { fits, type RemarkedRow, remarkedTable, type View } from '../table.js';
import { ownJson, reminder, tell } from '../whose.js';
import { type BenchRow, compare, copyJob, type Job, readJob, type WayResult } from './run.js';
import { benchSvg, words } from './svg.js';

const CHUNKS = [64 * 1024, 1024 * 1024];
const BYTES = 256 * 1024 * 1024;
const DEPTH = 8;
const ROUNDS = 5;

const MEASURED = {
  chunks: row(
    z._default(
      z.pipe(
        z.pipe(
          z.string(),
          z.transform((text) => text.split(',')),
        ),
        z.array(size),
      ),
      CHUNKS,
    ),
    {
      takes: '<sizes>',
      text: 'chunk sizes in bytes',
      shown: (sizes: readonly number[]) => sizes.map(bytes).join(', '),
      offers: [{ words: ['64KiB,1MiB', '4KiB,64KiB,1MiB'] }],
    },
  ),
  bytes: row(z._default(size, BYTES), {
    takes: '<size>',
    text: 'bytes per round, at most',
    shown: bytes,
    offers: BYTES_OFFERED,
  }),
  depth: row(z._default(atLeastOne, DEPTH), {
    takes: '<n>',
    text: purpose('queueDepth'),
    offers: DEPTH_OFFERED,
  }),
  rounds: row(z._default(atLeastOne, ROUNDS), {
    takes: '<n>',
    text: 'rounds that count',
    offers: [{ words: ['3', '5', '9'] }],
  }),
  provider: row(z._default(z.string(), 'auto'), {
    takes: '<name>',
    text: "whose CMB: 'auto', a PCI address or a controller's name",
    offers: PROVIDER_OFFERED,
  }),
};

const SAFETY = {
  write: row(flag, { text: 'copy the first device over the others, which DESTROYS what they hold' }),
  force: row(flag, { text: 'with --write: also what is in use or holds data' }),
};

const OUTPUT = {
  svg: row(z.optional(z.string()), {
    takes: '<file>',
    text: 'draw the result into this file',
    offers: ['files'],
  }),
};

interface BenchOptions extends MachineOptions, OptionsOf<typeof MEASURED & typeof SAFETY & typeof OUTPUT> {}

const MANUAL: Manual = {
  about: [
    'Moves the same bytes through CMB memory and through host memory, in turn, and says which is faster and by how much, ' +
      'with the CPU time of each. It reads only, unless --write says that the first device may be copied over the others.',
    'Each figure is the median of several rounds; the way that begins changes with each. CPU time is that of this process, ' +
      'kernel included. One way is called faster when four rounds in five agree; how much faster is the median of the rounds’ own ' +
      'ratios, which need not be that of the two figures. On an emulated machine the figures say ' +
      'nothing about drives: they show what would be run.',
  ],
  sections: [SIZES],
  environment: LOOKS,
  examples: [
    ['Reads only.', 'p2pdma bench nvme0n1'],
    ['Several chunk sizes, and a plot.', 'p2pdma bench nvme0n1 nvme1n1 --chunks 4K,64K,1M --svg bench.svg'],
    ['Copies; the second drive is OVERWRITTEN.', 'p2pdma bench nvme0n1 nvme1n1 --write'],
    ['For a program.', 'p2pdma bench nvme0n1 --machine switch --bytes 8MiB --rounds 3 --json'],
  ],
};

export function addBench(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'What is measured:', MEASURED);
  withOptions(command, 'Safety:', SAFETY);
  withMachine(command);
  withOptions(command, 'Output:', OUTPUT).action(async (devices: string[], options: BenchOptions) => {
    const system = await openMachine(options);
    try {
      await bench(system, devices, options);
    } finally {
      await system.close();
    }
  });
}

/** @throws CommandError ENOENT, EACCES, EISDIR, … */
function openPicture(path: string): number {
  try {
    return openSync(path, 'a');
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'EIO';
    throw new CommandError(
      known,
      `option --svg: '${path}' cannot be opened for writing (${code})`,
      'Name a file for --svg that can be written.',
    );
  }
}

/** One thing to measure, and why it cannot be done peer to peer (or null). */
interface Prepared {
  readonly job: Job;
  readonly provider: string | null;
  readonly reason: string | null;
  /** The plan of a copy, which shows what it would overwrite. */
  readonly plan: CopyPlan | null;
}

async function bench(system: System, devices: readonly string[], options: BenchOptions): Promise<void> {
  // The file is opened first, so that an error does not appear only after minutes of measuring.
  const { svg } = options;
  const picture = svg === undefined ? null : await resolving(() => openPicture(svg));
  const targets: Target[] = [];
  const prepared = await resolving(async () => {
    if (options.write) return [await prepareCopy(system, devices, options)];
    for (const device of devices) targets.push(await system.target(device));
    return targets.map((target) => prepareRead(system, target, options));
  });
  await resolving(() => {
    for (const { job } of prepared) checkLength(job, options);
  });
  for (const { plan } of prepared) if (plan !== null && !options.force) refuseHeld(plan);
  const rows: BenchRow[] = [];
  for (const { job, provider } of prepared) {
    for (const chunk of options.chunks) {
      if (!options.json && process.stderr.isTTY)
        process.stderr.write(`${reminder()}${printable(job.what)}, ${bytes(chunk)} …\n`);
      rows.push(await compare(job, chunk, provider !== null, options));
    }
  }
  for (const target of targets) await target.close();
  const title = `p2pdma bench, ${system.backend === 'native' ? 'native' : 'emulated'}, depth ${options.depth}`;
  if (picture !== null) {
    ftruncateSync(picture);
    writeFileSync(picture, benchSvg(rows, title, system.notice));
    closeSync(picture);
  }
  const providers = prepared.map(({ job, provider, reason }) => ({ what: job.what, provider, reason }));
  if (options.json) {
    tell(ownJson({ queueDepth: options.depth, providers, rows }));
  } else {
    const view = { colour: colours(process.stdout), width: columns(process.stdout) };
    tell(report(system, rows, providers, view).join('\n'));
  }
}

function prepareRead(
  system: System,
  target: Target,
  { provider: wanted, depth, chunks }: BenchOptions,
): Prepared {
  for (const chunk of chunks) checkChunk(chunk, target);
  const largest = Math.max(...chunks) * depth;
  let provider = wanted === 'auto' ? system.findProvider([target]) : wanted;
  let reason =
    provider === null
      ? (target.noP2pReason ?? 'no provider with a published CMB can be reached by it')
      : null;
  if (provider !== null) {
    try {
      system.allocate(provider, largest).free();
    } catch (error) {
      if (wanted !== 'auto' || !(error instanceof P2pdmaError)) throw error;
      reason = `${error.message} (${bytes(largest)} for ${depth} transfers in flight)`;
      provider = null;
    }
  }
  return { job: readJob(system, target, provider, depth), provider, reason, plan: null };
}

function checkChunk(chunk: number, { logicalBlockSize, path }: Target): void {
  if (chunk > 0 && chunk % logicalBlockSize === 0) return;
  throw new CommandError(
    'ERR_OUT_OF_RANGE',
    `option --chunks: ${chunk} is not a multiple of the block size of '${path}' (${logicalBlockSize})`,
    `Name multiples of ${logicalBlockSize}.`,
  );
}

/** What is shorter than a chunk has no speed at this chunk size. */
function checkLength({ what, size: length }: Job, options: BenchOptions): void {
  const largest = Math.max(...options.chunks);
  if (options.bytes < largest) {
    throw new CommandError(
      'ERR_OUT_OF_RANGE',
      `option --bytes: ${bytes(options.bytes)} is less than a chunk of ${bytes(largest)}`,
      'Name more bytes, or smaller chunks with --chunks.',
    );
  }
  if (length < largest) {
    throw new CommandError(
      'ERR_OUT_OF_RANGE',
      `${what}: there are ${length} bytes, which is less than a chunk of ${bytes(largest)}`,
      'Name a source that holds a chunk at least, or smaller chunks with --chunks.',
    );
  }
}

async function prepareCopy(
  system: System,
  devices: readonly string[],
  options: BenchOptions,
): Promise<Prepared> {
  if (devices.length < 2) {
    throw new CommandError(
      'ERR_INVALID_ARG_VALUE',
      `bench --write: one device was named ('${devices[0]}')`,
      'Name the device to read, and then one or several to write over.',
    );
  }
  const force = options.force ?? false;
  const [source, ...destinations] = devices;
  const plan = await planCopy(source!, destinations, {
    system,
    provider: options.provider,
    flags: 'r+',
    end: options.bytes - 1,
    highWaterMark: Math.max(...options.chunks),
    queueDepth: options.depth,
    force,
  });
  const { provider, bytes: length } = plan;
  return {
    job: copyJob(system, devices, provider, length, { depth: options.depth, force }),
    provider,
    reason: provider === null ? plan.reason : null,
    plan,
  };
}

function report(
  system: System,
  rows: readonly BenchRow[],
  providers: readonly { what: string; provider: string | null; reason: string | null }[],
  view: View,
): string[] {
  const notes = providers.map(({ what, provider, reason }) =>
    printable(
      provider === null ? `${what}: no peer to peer: ${reason}` : `${what}: by the CMB of ${provider}`,
    ),
  );
  if (system.backend === 'emulator')
    notes.push('This machine is emulated: these figures say nothing about drives.');
  return [
    ...drawRows(rows, view),
    '',
    ...notes.flatMap((note) => wrap(note, view.width, '', '  ')).map(view.colour.dim),
  ];
}

/** What is compared, the figures, and what they say: beside each other, or, if that is too wide, one below the other. */
function drawRows(rows: readonly BenchRow[], view: View): string[] {
  const { colour, width } = view;
  const head = ['what', 'chunk', 'peer to peer', 'CPU', 'host memory', 'CPU'];
  const lines = rows.map((row) => {
    const verdict = words(row.faster, row.ratio);
    const remark = verdict === '' ? '' : colour[row.faster === 'p2p' ? 'green' : 'yellow'](verdict);
    const remarks = remark === '' ? [] : [remark];
    return { what: printable(row.what), figures: figures(row), remark, remarks };
  });
  const beside: RemarkedRow[] = lines.map(({ what, figures, remark }) => ({
    cells: [what, ...figures, remark],
    remarks: [],
  }));
  const remarksBelow = lines.map(({ what, figures, remarks }) => ({ cells: [what, ...figures], remarks }));
  const whatAbove = lines.map(({ what, figures, remarks }, i) => ({
    ...(what === lines[i - 1]?.what ? {} : { above: what }),
    cells: ['', ...figures],
    remarks,
  }));
  const whole = remarkedTable([...head, ''], beside, view);
  if (fits(whole, width)) return whole;
  const below = remarkedTable(head, remarksBelow, view);
  return fits(below, width) ? below : remarkedTable(head, whatAbove, view);
}

function figures({ highWaterMark, p2p, host }: BenchRow): string[] {
  const speed = (result: WayResult | null) =>
    result === null ? 'not possible' : `${bytes(Math.round(result.bytesPerSecond))}/s`;
  const cpu = (result: WayResult | null) =>
    result === null ? '' : `${(result.cpuSecondsPerGiB * 1000).toFixed(0)} ms/GiB`;
  return [bytes(highWaterMark), speed(p2p), cpu(p2p), speed(host), cpu(host)];
}
