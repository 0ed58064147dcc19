/**
 * What `--help` prints for a command besides its options: description, exit codes, environment, examples. A test runs
 * every example on an emulated machine, and checks that it exits with 0, or with the code in its comment.
 */
import type { Command } from 'commander';
import { wrap } from './format.js';

/** The table of contents has this width on every terminal: narrower ones are rare. */
const WIDTH = 80;

export interface Manual {
  /** What the command does, in one or a few paragraphs. */
  readonly about: readonly string[];
  /** Printed after the options: titled sections, each a paragraph or a table of terms. */
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

/** The environment variables that affect colours and widths. */
export const LOOKS: readonly Term[] = [
  ['NO_COLOR', 'if it is set, no colours are used (nor when stdout is not a terminal, or TERM is dumb)'],
  ['COLUMNS', 'line width when stdout is not a terminal; default: lines are not wrapped'],
];

export function manual(
  command: Command,
  { about, sections, exitCodes, environment, examples }: Manual,
): void {
  command.description(about.join('\n\n'));
  command.addHelpText('after', () => {
    const parts = [
      ...(sections ?? []).map(([title, body]) => section(title, body)),
      section('Exit codes', exitCodes ?? EXIT_CODES),
      ...(environment === undefined ? [] : [section('Environment', environment)]),
      ['Examples:', ...examples.flatMap(example)].join('\n'),
    ];
    return `\n${parts.join('\n\n')}`;
  });
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
