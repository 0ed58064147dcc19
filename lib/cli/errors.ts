/**
 * How an error ends a command: as text or, whenever --json is on the command line, as one JSON line, which is the last
 * line on stderr; and with an exit code. In both forms the library's option names are replaced by those of the running
 * command.
 */
import { type Command, CommanderError } from 'commander';
import { type ErrorCode, P2pdmaError } from '../base/errors.js';
import { libraryNames, type Naming, speakWith } from '../base/sentence.js';
import { colours, columns, dashed, printable, wrap } from './format.js';
import { ownJson, reminder } from './whose.js';

/** 1: it failed while running. 2: usage error, or something that was named cannot be used; nothing was started. */
export const FAILED = 1;
export const MISUSED = 2;

/** An error of the command line. `code` is one of the library's codes, or one that exists only here. */
export class CommandError extends Error {
  readonly code: ErrorCode | 'ERR_HOLDS_DATA' | 'ERR_INCOMPLETE' | 'EPIPE' | 'EEXIST';
  readonly hint: string;

  constructor(code: CommandError['code'], message: string, hint: string) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

/** Errors that were thrown while the line was parsed or the things that it names were looked up. */
const misuses = new WeakSet<object>();

/** Returns the same error, marked so that the command exits with 2. */
export function misuse<E extends Error>(error: E): E {
  misuses.add(error);
  return error;
}

/** Parse the line, or look up what it names: an error thrown by `step` makes the command exit with 2. */
export async function resolving<T>(step: () => T | Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw error instanceof Error ? misuse(error) : error;
  }
}

/** Whether --json is on the line, even if the rest of the line is invalid. */
export function jsonAsked(words: readonly string[] = process.argv.slice(2)): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes('--json');
}

/**
 * Options that have a different name on the command line. If there are several names, the one that the running command
 * has is used. All other options have the library's name in dashes (`requireP2p`, `--require-p2p`).
 */
export const ALIASES: Readonly<Record<string, readonly string[]>> = {
  highWaterMark: ['--chunk', '--chunks'],
  queueDepth: ['--depth'],
  bandwidth: ['--bwlimit'],
  journal: ['--resume'],
  destinationStart: ['--destination-start', '--start'],
  end: ['--end', '--bytes'],
};

/** The command's name for an option of the library; undefined: the command does not have it. */
export function flagOf({ options }: Command, option: string): string | undefined {
  const has = options.map(({ long }) => long);
  return (ALIASES[option] ?? [dashed(option)]).find((flag) => has.includes(flag));
}

/** Sets the command whose option names are used in messages; null: it is not known yet. */
export function speaksOf(command: Command | null): void {
  speakWith(command === null ? libraryNames : onTheLineOf(command));
}

/** An option of the library as written on the command line. If the command does not have it, the library's name is kept. */
function onTheLineOf(command: Command): Naming {
  return (option, value) => {
    const name = flagOf(command, option);
    if (name === undefined) return libraryNames(option, value);
    // A string is written without its quotes: `machine: 'switch'` becomes `--machine switch`.
    return value === undefined ? name : `${name} ${value.replace(/^'(.*)'$/, '$1')}`;
  };
}

/** Code, message and hint, with the option names of the command line. */
export function inWords(error: P2pdmaError | CommandError): Said {
  const { code } = error;
  const { message, hint } = error instanceof P2pdmaError ? P2pdmaError.told(error) : error;
  return { code, message, hint };
}

export interface Said {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** Print the error on stderr. @returns the exit code */
export function report(error: unknown): number {
  if (error instanceof P2pdmaError || error instanceof CommandError) {
    say(inWords(error));
    return misuses.has(error) ? MISUSED : FAILED;
  }
  if (error instanceof CommanderError) return helped(error);
  const hint = 'This is a bug in p2pdma; please report it.';
  const { stack, message } = error as Error;
  if (jsonAsked()) say({ code: 'ERR_INTERNAL', message: message ?? String(error), hint });
  else {
    const lines = (stack ?? String(error)).split('\n').map(printable);
    process.stderr.write(
      `${reminder()}${colours(process.stderr).red('error')} ${lines.join('\n')}\n${hint}\n`,
    );
  }
  return FAILED;
}

/** Handles help, which commander has printed already. An invalid line is a CommandError (line.ts). */
function helped({ exitCode }: CommanderError): number {
  if (exitCode === 0) return 0;
  // The line names no command.
  if (jsonAsked())
    say({
      code: 'ERR_INVALID_ARG_VALUE',
      message: 'there is no command on the line',
      hint: 'See `p2pdma help`.',
    });
  return MISUSED;
}

/** Two lines, which a narrow terminal wraps (the error, and what to do), or one line of JSON. */
export function say({ code, message, hint }: Said): void {
  if (jsonAsked()) {
    process.stderr.write(`${ownJson({ type: 'error', code, message, hint })}\n`);
    return;
  }
  const width = columns(process.stderr);
  const lines = [
    ...wrap(`${code}: ${printable(message)}`, width, `${colours(process.stderr).red('error')} `, ''),
    ...wrap(printable(hint), width),
  ];
  process.stderr.write(`${reminder()}${lines.join('\n')}\n`);
}
