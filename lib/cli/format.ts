import { stripVTControlCharacters } from 'node:util';
import picocolors from 'picocolors';
import { UNPRINTABLE } from '../base/printable.js';
import { hex } from '../base/words.js';

type When = 'auto' | 'always' | 'never';

let when: When = 'auto';

/** Sets the value of --color. */
export function setColour(wanted: When): void {
  when = wanted;
}

/** Unless --color says otherwise, colours are used on a terminal only, and never if NO_COLOR is set. */
export function colours(stream: NodeJS.WriteStream) {
  const suits = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return picocolors.createColors(when === 'auto' ? suits : when === 'always');
}

export const uncoloured = picocolors.createColors(false);

export type Colours = ReturnType<typeof colours>;

export { printable } from '../base/printable.js';
export { size as bytes } from '../base/words.js';

/** JSON that is safe to print on a terminal: JSON.stringify does not escape DEL, C1 and bidirectional controls. */
export function json(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(UNPRINTABLE, (character) =>
    character === '\n' ? character : `\\u${hex(character.charCodeAt(0), 4)}`,
  );
}

/** The output width: the terminal's columns, or the value of COLUMNS; otherwise unlimited, so that lines can be searched. */
export function columns(stream: NodeJS.WriteStream): number {
  const wanted = stream.isTTY === true ? stream.columns : Number(process.env.COLUMNS);
  return wanted >= 40 ? wanted : stream.isTTY === true ? 80 : Number.POSITIVE_INFINITY;
}

/** The columns of a text in a page. */
export const PAGE_WIDTH = 110;

/** The number of columns that a coloured text takes. */
export function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Wraps `first` and the text after it between words; further lines begin with `rest`. */
export function wrap(
  text: string,
  width: number,
  first = '',
  rest = ' '.repeat(visibleLength(first)),
): string[] {
  const lines: string[] = [];
  let line = first;
  let empty = true;
  // A number is kept together with its unit.
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

/** Converts `requireP2p` to `--require-p2p`. */
export function dashed(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
