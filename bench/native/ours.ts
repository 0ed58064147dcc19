import { finished } from 'node:stream/promises';
import type { System } from 'p2pdma';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';

export interface Ours {
  /** Undefined: our own default. */
  readonly chunk?: number;
  readonly depth?: number;
  /** Pipes at the same time, each over its part of the devices. */
  readonly pipes?: number;
  /** Default: true. */
  readonly flush?: boolean;
}

function words({ chunk, depth, pipes }: Ours): string {
  const parts = [chunk === undefined ? 'default' : `${chunk / 1024} KiB`];
  if (depth !== undefined) parts.push(`depth ${depth}`);
  if (pipes !== undefined) parts.push(`${pipes} at once`);
  return parts.join(', ');
}

function transferOptions({ chunk, depth, flush = true }: Ours) {
  const options: { highWaterMark?: number; queueDepth?: number; flush?: boolean } = {};
  if (chunk !== undefined) options.highWaterMark = chunk;
  if (depth !== undefined) options.queueDepth = depth;
  if (!flush) options.flush = false;
  return options;
}

/** `createReadStream().pipe(createWriteStream())`, its flush included. */
export function ourPipe(system: System, devices: Devices, wanted: Ours = {}): Competitor {
  const options = transferOptions(wanted);
  const pipes = wanted.pipes ?? 1;
  const share = devices.bytes / pipes;
  const copy = (i: number) => {
    const start = i * share;
    // Several writers of one device cannot each have it exclusively.
    const writing = { start, flags: 'r+', force: pipes > 1, ...options } as const;
    return finished(
      system
        .createReadStream(devices.source, { start, end: start + share - 1, ...options })
        .pipe(system.createWriteStream(devices.destination, writing)),
    );
  };
  return {
    name: `p2pdma pipe, ${words(wanted)}`,
    run: async () => {
      await Promise.all(Array.from({ length: pipes }, (_, i) => copy(i)));
    },
  };
}

/** `pipeline()`, which makes both streams and returns the receipt. */
export function ourPipeline(
  system: System,
  { source, destination, bytes }: Devices,
  wanted: Ours = {},
): Competitor {
  return {
    name: `p2pdma pipeline, ${words(wanted)}`,
    run: async () => {
      const options = { flags: 'r+', end: bytes - 1, ...transferOptions(wanted) } as const;
      const receipt = await system.pipeline(source, destination, options);
      if (receipt.bytes !== bytes) throw new Error(`copied ${receipt.bytes} of ${bytes} bytes`);
    },
  };
}
