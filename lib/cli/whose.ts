/**
 * The machine that the output is about. A command has one machine. Once it is open, all output names it: text and
 * pictures by the machine's notice at the top, JSON by `backend` and `machine`. A real machine has no notice.
 */
import type { Evidence, Origin } from '../index.js';
import { colours, columns, json, printable, wrap } from './format.js';

/** A System, or an object that describes one. */
export interface Speaker extends Origin {
  readonly notice: string | null;
  /** Only for a machine that is known from captured data. */
  readonly evidence: Evidence | null;
}

/** `text`: for people, on stdout. `data`: JSON, a picture, or nothing; these name the machine in their own form. */
export type Says = 'text' | 'data';

const NOBODY: { [key in keyof Speaker]: Speaker[key] | null } = {
  backend: null,
  machine: null,
  notice: null,
  evidence: null,
};
let speaker = NOBODY;
let says: Says = 'data';
let out: NodeJS.WriteStream = process.stdout;
let onStdout = false;
let onStderr = false;
let onTerminal = false;

/** A new command line begins: no machine is open yet. */
export function nobodySpeaks(): void {
  speaker = NOBODY;
  says = 'data';
  out = process.stdout;
  onStdout = onStderr = onTerminal = false;
}

/** From here on the output is about this machine. */
export function speaksFor({ backend, machine, notice, evidence }: Speaker, how: Says): void {
  speaker = { backend, machine, notice, evidence };
  says = how;
}

/** From here on stdout carries the data of a copy, so texts and JSON go to stderr. */
export function stdoutIsData(): void {
  out = process.stderr;
}

/** Where texts and JSON go. */
export function voice(): NodeJS.WriteStream {
  return out;
}

/** Print a text on stdout (on stderr, if stdout carries data), after the notice. */
export function tell(output: string): void {
  announce();
  out.write(`${output}\n`);
}

/** Print the notice, if the output is text and it has not been printed yet. */
export function announce(): void {
  if (says !== 'text' || onStdout || (out === process.stderr && onStderr)) return;
  if (out === process.stderr) onStderr = true;
  else onStdout = true;
  if (speaker.notice !== null) out.write(heading(speaker.notice, out));
  if (speaker.evidence !== null) out.write(account(speaker.evidence));
}

/** What the captured data contains, and what it does not show. */
function account({ recognised, notKnown, contradictions }: Evidence): string {
  const colour = colours(process.stdout);
  const width = columns(process.stdout);
  const lines = [
    ...wrap(printable(`read from: ${recognised.join('; ')}`), width).map(colour.dim),
    ...contradictions.flatMap((words) =>
      wrap(printable(words), width, colour.red('contradiction: '), '               '),
    ),
    ...notKnown.flatMap(({ what, why }) =>
      wrap(printable(`${what}: ${why}`), width, colour.yellow('not known: '), '           '),
    ),
  ];
  return lines
    .map((line) => `${line}\n`)
    .join('')
    .concat('\n');
}

/** The notice for the first text on stderr, unless it has been shown on this terminal already. */
export function reminder(): string {
  if (speaker.notice === null || onTerminal || onStderr) return '';
  onStderr = true;
  return heading(speaker.notice, process.stderr);
}

/** One JSON object that names its machine; nulls: no machine is open. */
export function ownJson(value: object): string {
  const { backend, machine, evidence } = speaker;
  return json({ backend, machine, ...(evidence === null ? {} : { evidence }), ...value });
}

function heading(notice: string, stream: NodeJS.WriteStream): string {
  onTerminal ||= stream.isTTY === true;
  return `${colours(stream).yellow(printable(notice))}\n`;
}
