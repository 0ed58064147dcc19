/** `p2pdma top`: what the copies on this machine move, by provider and client. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import * as z from '../base/zod.js';
import { openSystem, type System } from '../index.js';
import { type Answer, type AnsweredFlow, askAll, folders, type Observed } from '../observe/ask.js';
import { bytes, colours, columns, printable, wrap } from './format.js';
import { LOOKS, manual } from './help.js';
import { flag, type OptionsOf, row, withOptions } from './option-table.js';
import { table, type View } from './table.js';
import { ownJson, tell } from './whose.js';

const seconds = z
  .pipe(z.string(), z.transform(Number))
  .check(z.refine((value) => value >= 0.1 && value <= 3600, 'Give a number of seconds from 0.1 to 3600.'));

const OPTIONS = {
  once: row(flag, { text: 'print it once, and end' }),
  interval: row(z._default(seconds, 1), {
    takes: '<seconds>',
    text: 'how long to wait between two looks',
    offers: [{ words: ['0.5', '1', '5'] }],
  }),
  json: row(flag, { text: 'one JSON object a line on stdout, for each look' }),
};

export function addTop(command: Command): void {
  manual(command, {
    about: [
      'Shows, while copies run on this machine, how many bytes went which way, for each provider (whose CMB, or host memory) and ' +
        'each client (the PCI function that does the DMA), with the rate since the last look; and how much of each provider’s ' +
        'memory is free, from sysfs.',
      'A process is shown if it asks to be: `p2pdma copy --observe`, or any program that uses this package with ' +
        'P2PDMA_OBSERVE=1 in its environment. It then listens on a Unix socket that only its user may use, in ' +
        '$XDG_RUNTIME_DIR/p2pdma or else /tmp/p2pdma-<uid>. Without that, nothing is opened.',
      'Ctrl-C ends it.',
    ],
    environment: LOOKS,
    examples: [
      ['What is going on now?', 'p2pdma top --once'],
      ['The same for a program.', 'p2pdma top --once --json'],
    ],
  });
  withOptions(command, 'Output:', OPTIONS).action(top);
}

/** One look, and when it was. */
interface Moment extends Observed {
  readonly at: number;
  readonly memory: readonly MemoryRow[];
}

const OTHER_VERSION = 'it runs another version of p2pdma';

const WAYS: readonly string[] = ['internal', 'peerBus', 'hostBridge', 'hostDram', 'unproven'];

interface MemoryRow {
  readonly backend: string;
  readonly machine: string | null;
  readonly provider: string;
  readonly size: number;
  readonly available: number;
}

async function top({ once = false, interval, json = false }: OptionsOf<typeof OPTIONS>): Promise<void> {
  const here = await thisMachine();
  let gone = false;
  process.stdout.once('error', () => {
    gone = true;
  });
  try {
    let before: Moment | null = null;
    for (;;) {
      const now = await look(here);
      show(now, before, { once, json });
      if (once || gone) return;
      before = now;
      await pause(interval * 1000);
    }
  } finally {
    await here?.close();
  }
}

/** Null: this is no Linux, or its sysfs cannot be read. */
async function thisMachine(): Promise<System | null> {
  return openSystem({ inspect: true }).catch(() => null);
}

async function look(here: System | null): Promise<Moment> {
  const observed = await askAll();
  const own = (here?.metrics().p2pmem ?? []).map((use) => ({
    backend: 'native' as const,
    machine: null,
    ...use,
  }));
  return {
    ...observed,
    at: performance.now(),
    memory: [...own, ...observed.processes.flatMap(({ memory }) => memory ?? [])],
  };
}

function show(now: Moment, before: Moment | null, { once, json }: { once: boolean; json: boolean }): void {
  if (json) {
    const processes = now.processes.map((one) => ({
      ...one,
      flows: one.flows.map((flow) => ({ ...flow, bytesPerSecond: rateOf(one, flow, now, before) })),
    }));
    tell(ownJson({ type: 'top', processes, silent: now.silent, memory: now.memory }));
    return;
  }
  const clear = !once && process.stdout.isTTY ? '\x1b[H\x1b[J' : '';
  const view = { colour: colours(process.stdout), width: columns(process.stdout) };
  tell(`${clear}${drawn(now, before, view).join('\n')}${once || clear !== '' ? '' : '\n'}`);
}

function drawn(now: Moment, before: Moment | null, view: View): string[] {
  const { colour, width } = view;
  const lines = now.processes.flatMap((one) => [...processLines(one, now, before, view), '']);
  if (now.processes.length === 0) {
    lines.push(
      ...wrap(
        `No observed process in ${folders().map(printable).join(' or ')}. Start one with \`p2pdma copy --observe\`, or with ` +
          'P2PDMA_OBSERVE=1 in its environment.',
        width,
      ),
      '',
    );
  }
  for (const path of now.silent)
    lines.push(...wrap(`${colour.yellow('no answer:')} ${printable(path)}`, width));
  if (now.memory.length === 0) lines.push(colour.dim('no provider of peer memory in sysfs'));
  for (const { pid, memory } of now.processes) {
    if (memory === null)
      lines.push(
        ...wrap(`memory of emulated machines of process ${pid}: not known, ${OTHER_VERSION}`, width),
      );
  }
  for (const { machine, provider, size, available } of now.memory) {
    const whose = machine === null ? '' : ` of the emulated machine '${printable(machine)}'`;
    lines.push(
      ...wrap(`memory of ${printable(provider)}${whose}: ${bytes(size)}, ${bytes(available)} free`, width),
    );
  }
  return lines;
}

function processLines(one: Answer, now: Moment, before: Moment | null, { colour, width }: View): string[] {
  const machines = [...new Set(one.flows.map(({ machine }) => machine))].filter((name) => name !== null);
  const emulated = machines.map((name) => `, emulated machine '${printable(name)}'`).join('');
  const thread = one.thread === 0 ? '' : `, thread ${one.thread}`;
  const command = one.command === null ? `(command not known, ${OTHER_VERSION})` : printable(one.command);
  const inFlight = one.inFlight === null ? 'in flight: not known' : `${one.inFlight} in flight`;
  const head = `${one.pid}${thread} ${command}${emulated}, ${inFlight}`;
  if (one.flows.length === 0) return [...wrap(head, width, '', '  '), colour.dim('  nothing yet')];
  const rows = one.flows.map((flow) => {
    const { internal, peerBus, hostBridge, hostDram, unproven = 0 } = flow.path;
    const dram = hostDram === undefined ? undefined : hostDram + unproven;
    const rate = rateOf(one, flow, now, before);
    return [
      flow.provider === null ? 'host memory' : printable(flow.provider),
      flow.client === null ? 'not known' : printable(flow.client),
      ...[internal, peerBus, hostBridge, dram].map((count) =>
        count === undefined ? 'not known' : count === 0 ? '-' : bytes(count),
      ),
      rate === null ? '-' : `${bytes(rate)}/s`,
    ];
  });
  const titles = ['provider', 'client', 'in drive', 'bus', 'bridge', 'DRAM', 'rate'];
  const unproven = one.flows.reduce((sum, { path }) => sum + (path.unproven ?? 0), 0);
  return [
    ...wrap(head, width, '', '  '),
    ...table(titles, rows, colour).split('\n'),
    ...(unproven === 0
      ? []
      : wrap(`${bytes(unproven)} of DRAM are not proven: they may have gone directly`, width)),
    ...otherWays(one).flatMap(([way, count]) =>
      wrap(
        `${bytes(count)} more by '${printable(way)}', a route that this version of p2pdma does not know`,
        width,
      ),
    ),
  ];
}

/** Bytes by routes for which the table has no column. */
function otherWays({ flows }: Answer): [string, number][] {
  const sums = new Map<string, number>();
  for (const { path } of flows) {
    for (const [way, count] of Object.entries(path)) {
      if (!WAYS.includes(way)) sums.set(way, (sums.get(way) ?? 0) + count);
    }
  }
  return [...sums];
}

/** Bytes per second of a flow since the last look; null: there was none. */
function rateOf(
  { pid, thread }: Answer,
  flow: AnsweredFlow,
  now: Moment,
  before: Moment | null,
): number | null {
  const then = before?.processes.find((one) => one.pid === pid && one.thread === thread);
  if (before === null || then === undefined) return null;
  const same = then.flows.find((other) => keyOf(other) === keyOf(flow));
  const moved = sumOf(flow) - (same === undefined ? 0 : sumOf(same));
  return Math.max(0, Math.round((moved * 1000) / (now.at - before.at)));
}

function keyOf({ backend, machine, provider, client }: AnsweredFlow): string {
  return JSON.stringify([backend, machine, provider, client]);
}

function sumOf({ path }: AnsweredFlow): number {
  return Object.values(path).reduce((sum, count) => sum + count, 0);
}
