/**
 * Text in an SVG that is laid out here but rendered elsewhere, with whatever fonts are installed: how wide it can get,
 * and how it is escaped. Widths are upper bounds: those of DejaVu Sans, the widest of the common system fonts.
 */
import { printable } from './format.js';

export const MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
export const SANS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif";

export interface Font {
  readonly size: number;
  readonly mono?: boolean;
  readonly bold?: boolean;
}

const NARROW = new Set(" .,:;'|iIjl");
const SLIM = new Set('!()[]ftr-/\\"`');
const BROAD = new Set('mwMW@%—…✓✗→⇄◀');

/** The maximum width in pixels. */
export function textWidth(text: string, { size, mono = false, bold = false }: Font): number {
  let em = 0;
  for (const character of text) em += mono ? monoEm(character) : sansEm(character) * (bold ? 1.12 : 1);
  return Math.ceil(em * size);
}

function monoEm(character: string): number {
  return isWide(character) ? 1.3 : 0.61;
}

function sansEm(character: string): number {
  if (isWide(character)) return 1.3;
  if (NARROW.has(character)) return 0.36;
  if (SLIM.has(character)) return 0.46;
  if (BROAD.has(character)) return 1.02;
  if (/[A-Z]/.test(character)) return 0.79;
  return character < '\u0080' ? 0.65 : 0.85;
}

/** East Asian wide characters, and all beyond the basic plane. */
function isWide(character: string): boolean {
  const code = character.codePointAt(0)!;
  return code >= 0x1100 && !(code >= 0x1e00 && code < 0x2e80);
}

/** At most `limit` characters, with control characters made visible. */
export function clip(text: string, limit: number): string {
  const shown = [...printable(text)];
  return shown.length <= limit ? shown.join('') : `${shown.slice(0, limit - 1).join('')}…`;
}

/** Wraps the text into lines of at most `width` pixels. A word that is longer is cut. */
export function wrap(text: string, width: number, font: Font): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of printable(text)
    .split(/\s+/)
    .flatMap((w) => pieces(w, width, font))) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (textWidth(longer, font) <= width) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  return line === '' ? lines : [...lines, line];
}

function pieces(word: string, width: number, font: Font): string[] {
  if (textWidth(word, font) <= width) return [word];
  const cut: string[] = [];
  let piece = '';
  for (const character of word) {
    if (textWidth(piece + character, font) > width) {
      cut.push(piece);
      piece = '';
    }
    piece += character;
  }
  return [...cut, piece];
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Escapes text for element content and attributes; characters that XML does not allow are made visible or replaced. */
export function xml(text: string): string {
  return printable(text)
    .replace(/[\ud800-\udfff\ufffe\uffff]/gu, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
