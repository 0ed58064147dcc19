import cliProgress from 'cli-progress';
import type { Command } from 'commander';
import { type PipelineOptions, pipeline, type System } from '../index.js';
import { drawRoute } from './draw-route.js';
import { bytes, colours } from './format.js';
import { type MachineOptions, openMachine, withMachine, withTransfer } from './options.js';
import { printReceipt } from './print-receipt.js';

interface CopyOptions extends MachineOptions {
  provider: string;
  chunk?: number;
  depth?: number;
  start?: number;
  end?: number;
  verify?: boolean;
  requireP2p?: boolean;
  force?: boolean;
  quiet?: boolean;
}

export function addCopy(program: Command): void {
  const command = program
    .command('copy')
    .description(
      'copy a namespace, device or file to one or several others, drive to drive where the machine can',
    )
    .argument('<src>', 'namespace (nvme0n1), device or file')
    .argument('<dst...>', 'one or several; the source is read once for all of them');
  withTransfer(withMachine(command)).action(
    async (source: string, destinations: string[], options: CopyOptions) => {
      const system = await openMachine(options);
      try {
        await copy(system, source, destinations, options);
      } finally {
        await system.close();
      }
    },
  );
}

/** Copy, with a progress bar on a terminal's stderr, and say how the bytes went. */
export async function copy(
  system: System,
  source: string,
  destinations: readonly string[],
  options: CopyOptions,
): Promise<void> {
  const bar = options.quiet || options.json || !process.stderr.isTTY ? null : progressBar();
  const settings: PipelineOptions = {
    system,
    provider: options.provider,
    verify: options.verify ?? false,
    requireP2p: options.requireP2p ?? false,
    force: options.force ?? false,
  };
  if (options.chunk !== undefined) settings.highWaterMark = options.chunk;
  if (options.depth !== undefined) settings.queueDepth = options.depth;
  if (options.start !== undefined) settings.start = options.start;
  if (options.end !== undefined) settings.end = options.end;
  if (bar !== null) settings.onProgress = bar.update;
  try {
    const receipt = await pipeline(source, destinations, settings);
    bar?.stop();
    if (options.json) process.stdout.write(`${JSON.stringify(receipt)}\n`);
    else if (!options.quiet) {
      const colour = colours(process.stdout);
      process.stdout.write(`${drawRoute(system, receipt, source, destinations, colour)}\n\n`);
      process.stdout.write(`${printReceipt(receipt, options.verify ?? false, colour)}\n`);
    }
  } finally {
    bar?.stop();
  }
}

function progressBar() {
  const bar = new cliProgress.SingleBar(
    {
      format: '{bar} {percentage}%  {done} of {all}  {rate}/s  ETA {eta_formatted}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  );
  const began = performance.now();
  let started = false;
  return {
    update(done: number, total: number | null): void {
      const fields = {
        done: bytes(done),
        all: total === null ? '?' : bytes(total),
        rate: bytes(Math.round(done / ((performance.now() - began) / 1000 || 1))),
      };
      if (!started) bar.start(total ?? 0, 0, fields);
      started = true;
      bar.update(done, fields);
    },
    stop(): void {
      if (started) bar.stop();
      started = false;
    },
  };
}
