/**
 * What `--help` says of a command besides its options: what it does, exit codes, environment, examples. Every example is
 * run by a test, on an emulated machine, and exits with 0, or with what its comment says.
 */
import type { Command } from 'commander';
import { wrap } from './format.js';

/** The table of contents has this width whatever the terminal: of narrower ones there are few. */
const WIDTH = 80;

export interface Manual {
  /** What it does, in a paragraph or a few. */
  readonly about: readonly string[];
  /** Behind the options: titled sections, a paragraph or a table of terms each. */
  readonly sections?: readonly (readonly [title: string, body: string | readonly Term[]])[];
  /** Default: 0 done, 1 not done, 2 usage error. */
  readonly exitCodes?: readonly Term[];
  readonly environment?: readonly Term[];
  readonly examples: readonly Example[];
}

type Term = readonly [term: string, meaning: string];
type Example = readonly [comment: string, line: string];

const EXIT_CODES: readonly Term[] = [
  ['0', 'done'],
  ['1', 'it failed on the way; stderr says why, and what to do'],
  ['2', 'usage error: the command line, or something that it names, is wrong; nothing was started'],
];

/** What colours and widths heed. */
export const LOOKS: readonly Term[] = [
  ['NO_COLOR', 'if it is set, no colours are used (nor when stdout is not a terminal, or TERM is dumb)'],
  ['COLUMNS', 'line width when stdout is not a terminal; default: lines are not wrapped'],
];

export function manual(
  command: Command,
  { about, sections, exitCodes, environment, examples }: Manual,
): void {
  command.description(about.join('\n\n'));
  const parts = [
    ...(sections ?? []).map(([title, body]) => section(title, body)),
    section('Exit codes', exitCodes ?? EXIT_CODES),
    ...(environment === undefined ? [] : [section('Environment', environment)]),
    ['Examples:', ...examples.flatMap(example)].join('\n'),
  ];
  command.addHelpText('after', `\n${parts.join('\n\n')}`);
}

function section(title: string, body: string | readonly Term[]): string {
  if (typeof body === 'string') return [`${title}:`, ...wrap(body, WIDTH, '  ')].join('\n');
  const width = Math.max(...body.map(([term]) => term.length));
  const lines = body.flatMap(([term, meaning]) => wrap(meaning, WIDTH, `  ${term.padEnd(width)}  `));
  return [`${title}:`, ...lines].join('\n');
}

function example([comment, line]: Example): string[] {
  return [...wrap(comment, WIDTH, '  # ', '  # '), `  ${line}`];
}
