/** `p2pdma sim`: plays random programs and faults on an emulated machine, and checks everything that must hold. */
import { inspect } from 'node:util';
import type { Command } from 'commander';
import * as z from '../base/zod.js';
import { MACHINE_PRESETS } from '../index.js';
import { type Failure, playSeeds, type Run, stageOf } from '../sim/play.js';
import { FAILED, resolving } from './errors.js';
import { type Colours, colours, columns, printable, wrap } from './format.js';
import { LOOKS, type Manual, manual } from './help.js';
import { flag, type OptionsOf, row, withOptions } from './option-table.js';
import { atLeastOne, count } from './options.js';
import { ownJson, speaksFor, tell } from './whose.js';

const LARGEST_FIRST = 2 ** 32 - 1;
const firstSeed = count.check(z.refine((value) => value <= LARGEST_FIRST, `Give at most ${LARGEST_FIRST}.`));

const WHICH_MACHINE = {
  machine: row(z.optional(z.string()), {
    takes: '<preset|file>',
    text: `play on this one, with small drives: a JSON file (see snapshot), or ${MACHINE_PRESETS.join(', ')} (default: each seed draws one)`,
    offers: ['presets', 'files'],
  }),
};

const WHICH_SEEDS = {
  seed: row(z.optional(count), { takes: '<n>', text: 'play this one only', offers: [] }),
  first: row(z._default(firstSeed, 1), {
    takes: '<n>',
    text: 'the first seed',
    offers: [],
    conflicts: 'seed',
  }),
  seeds: row(z._default(atLeastOne, 100), {
    takes: '<n>',
    text: 'how many seeds, counted up from the first',
    offers: [{ words: ['100', '1000', '10000'] }],
    conflicts: 'seed',
  }),
};

const OUTPUT = { json: row(flag, { text: 'one JSON object on stdout' }) };

type SimOptions = OptionsOf<typeof WHICH_MACHINE & typeof WHICH_SEEDS & typeof OUTPUT>;

export function addSim(command: Command): void {
  manual(command, MANUAL);
  withOptions(command, 'Which machine:', WHICH_MACHINE);
  withOptions(command, 'Which seeds:', WHICH_SEEDS);
  withOptions(command, 'Output:', OUTPUT).action(sim);
}

async function sim({ machine: spec, seed, first, seeds, json = false }: SimOptions): Promise<void> {
  const stage = await resolving(() => stageOf(spec));
  const { machine, notice } = stage;
  speaksFor(
    { backend: 'emulator', machine: machine?.name ?? null, notice, evidence: null },
    json ? 'data' : 'text',
  );
  const run = await (seed === undefined ? playSeeds(stage, first, seeds) : playSeeds(stage, seed, 1));
  if (json) tell(ownJson({ type: 'sim', ...run }));
  else tell(drawn(run, spec).join('\n'));
  if (run.failure !== null) process.exitCode = FAILED;
}

function drawn(run: Run, spec: string | undefined): string[] {
  const [colour, width] = [colours(process.stdout), columns(process.stdout)];
  const { first, seeds, operations, troubles, events, hash, seconds, failure } = run;
  const last = first + seeds - 1;
  const facts: readonly (readonly [title: string, text: string])[] = [
    ['seeds', seeds === 1 ? `${first}` : `${first} to ${last}`],
    ...byKind(operations),
    ['troubles', Object.keys(troubles).length === 0 ? 'none' : listed(troubles)],
    ['events', `${events}`],
    ['hash', hash],
    ['speed', `${(seeds / seconds).toFixed(0)} seeds per second`],
  ];
  const lines = facts.flatMap(([title, text]) =>
    wrap(text, width, colour.bold(title.padEnd(12)), ' '.repeat(12)),
  );
  if (failure === null) return [...lines, colour.green('nothing failed')];
  return [...lines, '', ...failed(failure, spec, { colour, width })];
}

/** `copy`, and how the copies ended. */
function byKind(operations: Run['operations']): [kind: string, text: string][] {
  const kinds = new Map<string, Record<string, number>>();
  for (const [key, n] of Object.entries(operations)) {
    const [kind = key, how = ''] = key.split(' ');
    kinds.set(kind, { ...kinds.get(kind), [how]: n });
  }
  return [...kinds].map(([kind, counts]) => [kind, listed(counts)]);
}

function listed(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([key, n]) => `${n} ${key}`)
    .join(', ');
}

function failed(
  { seed, wrong, scenario }: Failure,
  spec: string | undefined,
  { colour, width }: { readonly colour: Colours; readonly width: number },
): string[] {
  const machine = spec === undefined ? '' : ` --machine ${printable(spec)}`;
  const { files, pace, short, lanes, troubles } = scenario;
  // The machine is long, and the seed draws it again; --json prints it.
  const program = inspect(
    { files, pace, short, lanes, troubles },
    { depth: null, compact: 3, breakLength: Math.min(width, 100), maxArrayLength: null },
  );
  return [
    colour.red(`seed ${seed} failed`),
    // What comes after the first line of an error is its stack.
    ...wrong.flatMap((words) => wrap(printable(words.split('\n', 1)[0]!), width, '  ', '    ')),
    '',
    colour.bold('What was played on the machine, as it was drawn:'),
    ...program.split('\n'),
    '',
    ...wrap(
      'The fault is one of this package, or of its simulation. Please report it, with the output of the line below and, if the ' +
        'machine is a file, with the file:',
      width,
    ),
    `  p2pdma sim${machine} --seed ${seed} --json`,
  ];
}

const MANUAL: Manual = {
  about: [
    'Plays random programs on an emulated machine: copies, pipes, reads, writes, journals and aborts, while drives fail, are reset ' +
      'or removed, and the power goes off. After each operation and at the end, every byte, receipt and journal is checked, as ' +
      'are memory and files that were not given back. An operation may end with an error only if something explains it. No drive and no file is touched, and no real time passes.',
    'A seed decides everything: the programs, the troubles, the order of all events and, without --machine, the machine. The same ' +
      'seeds on the same version end in the same hash. The first seed that fails ends the run.',
  ],
  environment: LOOKS,
  exitCodes: [
    ['0', 'nothing failed'],
    ['1', 'a seed failed'],
    ['2', 'usage error: the command line, or the machine that it names, is wrong; nothing was played'],
  ],
  examples: [
    ['A hundred seeds on a machine that is built in.', 'p2pdma sim --machine multipath'],
    ['Your own topology.', 'p2pdma sim --machine machine.json --seeds 20'],
    ['One seed again, with all that it stands for.', 'p2pdma sim --seed 7 --json'],
  ],
};
