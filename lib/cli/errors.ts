/**
 * How an error ends a command: in words or, whenever --json is on the line, as one JSON line, the last on stderr; and the
 * exit code. The library's names of options become those of the command line, the same for both.
 */
import { CommanderError } from 'commander';
import { type ErrorCode, P2pdmaError } from '../index.js';
import { colours, printable } from './format.js';
import { ownJson, reminder } from './whose.js';

/** 1: it failed while it was done. 2: the words on the line were wrong, and nothing was started. */
export const FAILED = 1;
export const MISUSED = 2;

/** Complaints about words, whenever they come. */
const WRONG_WORDS: ReadonlySet<ErrorCode> = new Set([
  'ERR_INVALID_ARG_TYPE',
  'ERR_INVALID_ARG_VALUE',
  'ERR_OUT_OF_RANGE',
  'ERR_CHUNK_TOO_LARGE',
  'ERR_OVERLAP',
]);

/** While names are looked up these say that one is wrong; later, that something went away. */
const WRONG_NAMES: ReadonlySet<ErrorCode> = new Set([
  'ERR_MACHINE_INVALID',
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'ELOOP',
  'ENAMETOOLONG',
  'EINVAL',
  'ENOTTY',
]);

let namesAreFound = false;

/** A line of the command begins. */
export function namesAreSought(): void {
  namesAreFound = false;
}

/** Everything that was named has been found and suits: what fails from here on fails while it is done. */
export function namesFound(): void {
  namesAreFound = true;
}

export function exitCodeOf({ code, message }: Pick<P2pdmaError, 'code' | 'message'>): number {
  if (WRONG_WORDS.has(code)) return MISUSED;
  if (namesAreFound) return FAILED;
  if (message.startsWith('option root:')) return MISUSED;
  // What was named is nothing that can be opened so.
  const opening = (code !== 'EINVAL' && code !== 'ENOTTY') || message.includes(", open '");
  return WRONG_NAMES.has(code) && opening ? MISUSED : FAILED;
}

/** Is --json on the line, whatever else is wrong with it? */
export function jsonAsked(words: readonly string[] = process.argv.slice(2)): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes('--json');
}

/** Options that have another name in the library. */
const OPTIONS: Record<string, string> = {
  highWaterMark: '--chunk',
  queueDepth: '--depth',
  requireP2p: '--require-p2p',
  allowUnproven: '--allow-unproven',
  bandwidth: '--bwlimit',
  get destinationStart() {
    return process.argv[2] === 'trace' ? '--start' : '--destination-start';
  },
};
const SAME = 'start|end|root|machine|provider|verify|sparse|force|engine|backend|chunks';

const PHRASES: readonly (readonly [pattern: RegExp, words: string])[] = [
  [new RegExp(`\\boption (${SAME})\\b`, 'g'), 'option --$1'],
  [/\b([Pp])ass force\b/g, '$1ass --force'],
  [/\b([Dd])rop (machine|root|verify|engine)\b/g, '$1rop --$2'],
  [/(?<!-)\bprovider:? none\b/g, '--provider none'],
  [/(?<!-)\bbackend (is )?(?=')/g, '--backend '],
  [/^provider: there is no PCI function or/, 'option --provider: there is no PCI function or'],
  [/\boption journal\b/g, 'option --resume'],
  [/^machine: /, 'option --machine: '],
  // In front of a preset's name.
  [/(?<=\S )machine: $/g, '--machine '],
  [/\(`end`\)/g, '(--end)'],
  [/\breceived start (\d+), end (\d+)/g, 'received --start $1, --end $2'],
  [/must be <= end\b/g, 'must be <= --end'],
];

/** The library's words in those of the command line; what is quoted stays. */
export function inOptions(text: string): string {
  return text
    .split(/('[^']*')/)
    .map((part, i) =>
      i % 2 === 1 ? part : PHRASES.reduce((said, [from, to]) => said.replace(from, to), part),
    )
    .map((part, i) => (i % 2 === 1 ? part : part.replace(LIBRARY_NAMES, (name) => OPTIONS[name]!)))
    .join('');
}

const LIBRARY_NAMES = new RegExp(`\\b(?:${Object.keys(OPTIONS).join('|')})\\b`, 'g');

interface Said {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** Say it on stderr; the exit code. */
export function report(error: unknown): number {
  if (error instanceof P2pdmaError) {
    const { code, message, hint } = error;
    say({ code, message: inOptions(stripCode(code, message)), hint: inOptions(hint) });
    return exitCodeOf(error);
  }
  if (error instanceof CommanderError) return misused(error);
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

/** Commander has said it by now, unless JSON is asked for. */
function misused({ exitCode, message }: CommanderError): number {
  if (exitCode === 0) return 0;
  if (jsonAsked()) {
    const [what = '', ...more] = message.replace(/^error: /, '').split('\n');
    const hint = more.join(' ').replace(/^\((.*)\)$/, '$1');
    say({
      code: 'ERR_INVALID_ARG_VALUE',
      message: what.startsWith('(') ? 'there is no command on the line' : what,
      hint: hint === '' ? 'See `p2pdma help`.' : hint,
    });
  }
  return MISUSED;
}

/** Two lines: what, and what to do; or one of JSON. */
export function say({ code, message, hint }: Said): void {
  process.stderr.write(
    jsonAsked()
      ? `${ownJson({ type: 'error', code, message, hint })}\n`
      : `${reminder()}${colours(process.stderr).red('error')} ${code}: ${printable(message)}\n${printable(hint)}\n`,
  );
}

function stripCode(code: string, message: string): string {
  return message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message;
}
