/**
 * How an error ends a command: in words or, whenever --json is on the line, as one JSON line, the last on stderr; and the
 * exit code. The library's names of options become those of the command that runs, the same for both.
 */
import { type Command, CommanderError } from 'commander';
import { type ErrorCode, P2pdmaError } from '../base/errors.js';
import { libraryNames, speakWith } from '../base/sentence.js';
import { colours, columns, dashed, printable, wrap } from './format.js';
import { ownJson, reminder } from './whose.js';

/** 1: it failed while running. 2: usage error, or what is named cannot be used; nothing was started. */
export const FAILED = 1;
export const MISUSED = 2;

/** The command's own; `code` is one of the library's, or one that only the command has. */
export class CommandError extends Error {
  readonly code: ErrorCode | 'ERR_HOLDS_DATA' | 'ERR_INCOMPLETE';
  readonly hint: string;

  constructor(code: CommandError['code'], message: string, hint: string) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

/** What was thrown while the line was read and what it names was looked for. */
const misuses = new WeakSet<object>();

/** The same error: it ends the command with 2. */
export function misuse<E extends Error>(error: E): E {
  misuses.add(error);
  return error;
}

/** Read the line, or find what it names: what this throws ends the command with 2. */
export async function resolving<T>(step: () => T | Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw error instanceof Error ? misuse(error) : error;
  }
}

/** Is --json on the line, whatever else is wrong with it? */
export function jsonAsked(words: readonly string[] = process.argv.slice(2)): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes('--json');
}

/**
 * Options that the command calls otherwise: of these the one that the command that runs has. Of all others the name is the
 * library's with dashes (`requireP2p`, `--require-p2p`).
 */
export const ALIASES: Readonly<Record<string, readonly string[]>> = {
  highWaterMark: ['--chunk', '--chunks'],
  queueDepth: ['--depth'],
  bandwidth: ['--bwlimit'],
  journal: ['--resume'],
  destinationStart: ['--destination-start', '--start'],
  end: ['--end', '--bytes'],
};

/** What a command calls an option of the library; undefined: it does not have it. */
export function flagOf({ options }: Command, option: string): string | undefined {
  const has = options.map(({ long }) => long);
  return (ALIASES[option] ?? [dashed(option)]).find((flag) => has.includes(flag));
}

let running: Command | null = null;

/** This is the command whose options are spoken of; null: none is known yet. */
export function speaksOf(command: Command | null): void {
  running = command;
  speakWith(command === null ? libraryNames : onTheLine);
}

/** An option of the library as the line has it; what the line cannot say keeps the library's name. */
function onTheLine(option: string, value?: string): string {
  const name = running === null ? undefined : flagOf(running, option);
  if (name === undefined) return value === undefined ? option : `${option}: ${value}`;
  // Of a string, the words alone: `machine: 'switch'`, `--machine switch`.
  return value === undefined ? name : `${name} ${value.replace(/^'(.*)'$/, '$1')}`;
}

/** Code, message and hint, in the words of the line. */
export function inWords(error: P2pdmaError | CommandError): Said {
  const { code } = error;
  const { message, hint } = error instanceof P2pdmaError ? P2pdmaError.told(error, onTheLine) : error;
  return { code, message, hint };
}

export interface Said {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** Say it on stderr; the exit code. */
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

/** Help, which commander has printed by now; what is wrong with a line is a CommandError (line.ts). */
function helped({ exitCode }: CommanderError): number {
  if (exitCode === 0) return 0;
  // A line without a command.
  if (jsonAsked())
    say({
      code: 'ERR_INVALID_ARG_VALUE',
      message: 'there is no command on the line',
      hint: 'See `p2pdma help`.',
    });
  return MISUSED;
}

/** Two lines, which a narrow terminal wraps: what, and what to do; or one of JSON. */
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
