import type { Command } from 'commander';
import * as z from '../../base/zod.js';
import {
  optionHelp,
  type PipelineOptions,
  pipeline,
  planCopy,
  type System,
  type TraceEvent,
} from '../../index.js';
import { refuseHeld } from '../copy/held.js';
import { resolving } from '../errors.js';
import { bytes, colours, columns, printable, wrap } from '../format.js';
import { LOOKS, type Manual, manual } from '../help.js';
import { flag, type OptionsOf, orElse, row, withOptions } from '../option-table.js';
import {
  atLeastOne,
  CHUNK_OFFERED,
  type MachineOptions,
  openMachine,
  P2P,
  PROVIDER,
  SIZES,
  size,
  withMachine,
} from '../options.js';
import { ownJson, tell } from '../whose.js';
import { cutRequests, drawLadder } from './ladder.js';

const CHUNK = 64 * 1024;

const COPIED = {
  chunk: row(z._default(size, CHUNK), {
    takes: '<size>',
    text: 'bytes in the chunk',
    shown: bytes,
    offers: CHUNK_OFFERED,
  }),
  requests: row(z._default(atLeastOne, 1), {
    takes: '<n>',
    text: 'how many chunks, one after the other',
    offers: [{ words: ['1', '2', '4'] }],
  }),
  start: row(z.optional(size), {
    takes: '<byte>',
    text: orElse('first byte, of the source and of the destinations', optionHelp.start.byDefault),
    offers: [],
  }),
};

const WAY = { provider: PROVIDER, ...P2P };

const SAFETY = { force: row(flag, { text: 'write to what is in use or holds data' }) };

interface TraceOptions extends MachineOptions, OptionsOf<typeof COPIED & typeof WAY & typeof SAFETY> {}

const MANUAL: Manual = {
  about: [
    'Copies one chunk and shows what each layer did with it, as a ladder: iov_iter, bio, scatterlist, DMA mapping, PRP or ' +
      'SGL, doorbell, completion, with addresses. Only the bytes of the chunk are written; files are not truncated.',
    'Natively the kernel’s own layers cannot be seen from here: submission and completion are shown.',
  ],
  sections: [
    SIZES,
    [
      'The ladder',
      [
        ['▼', 'down to the device'],
        ['◆', 'what the hardware does'],
        ['▲', 'back up; addresses are hexadecimal'],
      ],
    ],
  ],
  environment: LOOKS,
  examples: [
    ['One chunk of 64 KiB.', 'p2pdma trace copy nvme0n1 nvme1n1 --machine switch'],
    [
      'An IOMMU, and a chunk that has to be split.',
      'p2pdma trace copy nvme0n1 nvme1n1 --machine iommu --chunk 2MiB',
    ],
    ['Files, for a program.', 'p2pdma trace copy a.img b.img --machine switch --json'],
  ],
};

export function addTrace(trace: Command): void {
  trace.helpCommand(false);
  manual(trace, {
    about: ['Shows what each layer did with a request. `p2pdma trace copy --help` says more.'],
    examples: [['One chunk of 64 KiB.', 'p2pdma trace copy nvme0n1 nvme1n1 --machine switch']],
  });
  const copy = trace
    .command('copy')
    .summary('copy one chunk, and draw its way through the layers')
    .argument('<src>', 'namespace (nvme0n1), device or file')
    .argument('<dst...>', 'one or several; only the bytes of the chunk are written, files are not truncated');
  manual(copy, MANUAL);
  withOptions(copy, 'What is copied:', COPIED);
  withOptions(copy, 'Which way:', WAY);
  withOptions(copy, 'Safety:', SAFETY);
  withMachine(copy).action(async (source: string, destinations: string[], options: TraceOptions) => {
    const system = await openMachine(options);
    try {
      await traceCopy(system, source, destinations, options);
    } finally {
      await system.close();
    }
  });
}

async function traceCopy(
  system: System,
  source: string,
  destinations: readonly string[],
  options: TraceOptions,
): Promise<void> {
  const { chunk, provider, start = 0, requests } = options;
  const settings: PipelineOptions = {
    system,
    provider,
    start,
    destinationStart: start,
    end: start + chunk * requests - 1,
    highWaterMark: chunk,
    queueDepth: 1,
    flags: 'w',
    requireP2p: options.requireP2p ?? false,
    allowUnproven: options.allowUnproven ?? false,
    force: options.force ?? false,
  };
  const plan = await resolving(() => planCopy(source, destinations, settings));
  if (!options.force) refuseHeld(plan);
  // An existing file keeps the data around the chunk.
  const flags = plan.destinations.some(({ effect }) => effect === 'create') ? 'w' : 'r+';
  const events: TraceEvent[] = [];
  const stream = system.trace();
  stream.on('data', (event: TraceEvent) => events.push(event));
  try {
    // Each chunk is a separate copy: otherwise the requests of several chunks would be in flight together, and their
    // events mixed.
    const last = Math.min(start + chunk * requests, plan.source.size);
    for (let at = start; at === start || at < last; at += chunk) {
      await pipeline(source, destinations, {
        ...settings,
        ...{ start: at, destinationStart: at, end: at + chunk - 1 },
        flags: at === start ? flags : 'r+',
        flush: false,
      });
    }
    await new Promise(setImmediate);
  } finally {
    stream.destroy();
  }
  const traced = cutRequests(events);
  if (options.json) {
    tell(ownJson(traced));
    return;
  }
  const view = { colour: colours(process.stdout), width: columns(process.stdout) };
  const route = traced.around.find(({ layer, event }) => layer === 'streams' && event === 'route');
  const ends = `${printable(source)} ──▶ ${destinations.map(printable).join(', ')}`;
  const lines = wrap(ends, view.width, '', '  ');
  if (route !== undefined) {
    const by = route.provider === undefined ? '' : ` by the CMB of ${route.provider}`;
    const how = printable(`${route.transport}${by}: ${route.reason}`);
    lines.push(...wrap(how, view.width, '', '  ').map(view.colour.dim));
  }
  for (const request of traced.requests) lines.push('', ...drawLadder(request, view));
  tell(lines.join('\n'));
}
