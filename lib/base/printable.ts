import { hex } from './words.js';

// Control characters (C0, DEL, C1), and those that change the text direction or end a line.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
export const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text from outside (device names, paths) with its control characters made visible. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.charCodeAt(0);
    return code > 0xff ? `\\u{${hex(code)}}` : `\\x${hex(code, 2)}`;
  });
}
