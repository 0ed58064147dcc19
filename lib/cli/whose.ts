/**
 * Whose word the output is. A command has one machine; once that is open, everything that is said carries it: text and
 * pictures by the machine's notice at the top, JSON by `backend` and `machine`. A real machine has no notice.
 */
import type { Origin } from '../index.js';
import { colours, json, printable } from './format.js';

/** A System, or what says of one. */
export interface Speaker extends Origin {
  readonly notice: string | null;
}

/** `text`: for people, on stdout. `data`: JSON, a picture, or nothing, which carry the machine in their own way. */
export type Says = 'text' | 'data';

const NOBODY: { [key in keyof Speaker]: Speaker[key] | null } = {
  backend: null,
  machine: null,
  notice: null,
};
let speaker = NOBODY;
let says: Says = 'data';
let onStdout = false;
let onStderr = false;
let onTerminal = false;

/** A line of the command begins: no machine is open yet. */
export function nobodySpeaks(): void {
  speaker = NOBODY;
  says = 'data';
  onStdout = onStderr = onTerminal = false;
}

/** From here on it is this machine that speaks. */
export function speaksFor({ backend, machine, notice }: Speaker, how: Says): void {
  speaker = { backend, machine, notice };
  says = how;
}

/** On stdout, a text behind the notice. */
export function tell(output: string): void {
  announce();
  process.stdout.write(`${output}\n`);
}

/** The notice, if it is a text that has not begun yet. */
export function announce(): void {
  if (speaker.notice === null || says !== 'text' || onStdout) return;
  onStdout = true;
  process.stdout.write(heading(speaker.notice, process.stdout));
}

/** What the first text on stderr begins with, if who reads it has not been told on this terminal. */
export function reminder(): string {
  if (speaker.notice === null || onTerminal || onStderr) return '';
  onStderr = true;
  return heading(speaker.notice, process.stderr);
}

/** One JSON object with whose it is; nulls: no machine is open. */
export function ownJson(value: object): string {
  const { backend, machine } = speaker;
  return json({ backend, machine, ...value });
}

function heading(notice: string, stream: NodeJS.WriteStream): string {
  onTerminal ||= stream.isTTY === true;
  return `${colours(stream).yellow(printable(notice))}\n`;
}
