import { stripVTControlCharacters } from 'node:util';
import picocolors from 'picocolors';
import { hex } from '../base/words.js';

type When = 'auto' | 'always' | 'never';

let when: When = 'auto';

/** What --color says. */
export function setColour(wanted: When): void {
  when = wanted;
}

/** Unless --color says otherwise: for a terminal only, and never against NO_COLOR. */
export function colours(stream: NodeJS.WriteStream) {
  const suits = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return picocolors.createColors(when === 'auto' ? suits : when === 'always');
}

export type Colours = ReturnType<typeof colours>;

export { size as bytes } from '../base/words.js';

// Control characters (C0, DEL, C1), and those that turn the direction of text around or end a line.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text from outside (device names, paths) with its control characters made visible. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.charCodeAt(0);
    return code > 0xff ? `\\u{${hex(code)}}` : `\\x${hex(code, 2)}`;
  });
}

/** JSON that a terminal shows as it is: JSON.stringify leaves DEL, C1 and bidirectional controls alone. */
export function json(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(UNPRINTABLE, (character) =>
    character === '\n' ? character : `\\u${hex(character.charCodeAt(0), 4)}`,
  );
}

/** How wide to write: the terminal's columns, or what COLUMNS says; otherwise without a limit, so that lines can be searched. */
export function columns(stream: NodeJS.WriteStream): number {
  const wanted = stream.isTTY === true ? stream.columns : Number(process.env.COLUMNS);
  return wanted >= 40 ? wanted : stream.isTTY === true ? 80 : Number.POSITIVE_INFINITY;
}

/** The columns a coloured text takes. */
export function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** `first` and the text behind it, broken between words; further lines begin with `rest`. */
export function wrap(
  text: string,
  width: number,
  first = '',
  rest = ' '.repeat(visibleLength(first)),
): string[] {
  const lines: string[] = [];
  let line = first;
  let empty = true;
  // A number keeps its unit.
  for (const word of text.split(/ (?![KMGTP]?i?B\b)/)) {
    if (!empty && visibleLength(line) + 1 + visibleLength(word) > width) {
      lines.push(line);
      line = rest;
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  lines.push(line);
  return lines;
}

/** `requireP2p` → `--require-p2p`. */
export function dashed(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
