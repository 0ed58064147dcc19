/**
 * The text of lspci, split into functions:
 *
 *     0000:03:00.0 Non-Volatile memory controller [0108]: … [1b36:0010] (rev 02) (prog-if 02 [NVM Express])   its heading
 *     <tab>Capabilities: [60] Express (v2) Endpoint, …                                             -v: words
 *     00: 36 1b 10 00 07 05 10 00 02 02 08 01 08 00 00 00                                           -x: the bytes
 *
 * Such texts arrive by mail: quoted, with carriage returns, without tabs, with long lines wrapped, with parts missing. A line
 * that does not begin as one of lspci's lines does is the rest of the line before it. Bytes after a missing part are not mistaken
 * for the missing part.
 */
import { normalizeBdf, PCI_ADDRESS } from '../backend/names.js';
import type { Bdf } from '../backend/topology.js';
import { readHeading } from './lspci-heading.js';

/** One function's part of the text. A function may have several. */
export interface LspciFunction {
  readonly bdf: Bdf;
  /** What follows the address in its first line. */
  readonly heading: string;
  /** Its other lines, without the bytes. */
  readonly words: readonly string[];
  /** The bytes that -x shows, from offset 0 without a gap; empty: none. */
  readonly bytes: Buffer;
  /** The text goes on after it, or it ends as a function ends: its last lines are not cut off. */
  readonly ended: boolean;
  /** Somebody left something out of it, and said so. */
  readonly elided: boolean;
}

const HEX = /^\s*([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*$/i;
const QUOTE = /^(?:> ?)+/;
const CONFIG_SIZE = 4096;
/** No machine has more functions than this. */
const MAX_FUNCTIONS = 65_536;
/** No line of lspci is longer than this. */
const MAX_LINE = 4096;

const FIRST_WORDS = [
  '[A-Z][\\w.+-]*:',
  'Physical Slot:',
  'Device tree node:',
  'NUMA node:',
  'IOMMU group:',
  'BIST (?:result:|is running)',
  '(?:Region|Memory window|I/O window) \\d+:',
  '(?:\\[(?:virtual|enhanced)\\] )?(?:Memory at|I/O ports at|Expansion ROM at)',
  '(?:I/O|Memory|Prefetchable memory) behind bridge:',
  'Secondary status:',
  'Kernel (?:driver in use|modules):',
  '!!!',
];
/** Registers of a capability; some mail programs leave no blank after the colon. */
const REGISTER = '[A-Z][A-Za-z]*(?:Cap|Ctl|Sta)\\d?:';
const FIRST = new RegExp(`^(?:${REGISTER}|(?:${FIRST_WORDS.join('|')})(?=\\s|$))`);
/** `…`, `[...]`, `(SNIP)`, `<snip>`, `[8<]`. */
const ELISION = /^[[(<{]*\s*(?:\.{2,}|…|snip(?:ped)?|cut|-*8<-*)[\s.…]*[\])>}]*$/i;
const LAST_WORDS = /^Kernel (?:driver in use|modules): \S/;

/** A line without what mail programs add to it. */
export function plainLine(line: string): string {
  return line.replace(/\r$/, '').replaceAll('\u00a0', ' ').replace(QUOTE, '');
}

/** A function's first line: its address, and the text after it. */
function headingOf(line: string): { readonly bdf: Bdf; readonly text: string } | null {
  const [, address, text] = /^\s*(\S{7,16})\s+(\S.*)$/.exec(line) ?? [];
  if (address === undefined || text === undefined || !PCI_ADDRESS.test(address)) return null;
  return { bdf: normalizeBdf(address), text };
}

/** `Host bridge: …` or `0600: …`: a sentence that begins with an address does not go on like this. */
const NAMES_CLASS = /^[^:]+: \S|^[^:]+ \[[0-9a-f]{4}\]:$/;

class Part {
  readonly bdf: Bdf;
  heading: string;
  readonly words: string[] = [];
  readonly bytes: number[] = [];
  ended = false;
  elided = false;
  /** Its last line may go on in the next one. */
  #open = true;
  #blankSince = false;

  constructor(bdf: Bdf, heading: string) {
    this.bdf = bdf;
    this.heading = heading;
  }

  /** True: there was a blank line between two of its lines. */
  add(line: string): boolean {
    const hex = HEX.exec(line);
    const text = line.trim();
    if (hex !== null) this.#addBytes(hex);
    else if (ELISION.test(text)) this.elided = true;
    else if (FIRST.test(text)) {
      this.words.push(text.slice(0, MAX_LINE));
      this.#open = true;
      const spread = this.#blankSince;
      this.#blankSince = false;
      return spread;
    } else if (this.#open) this.#goOn(text);
    return false;
  }

  blank(): void {
    this.#open = false;
    this.#blankSince = true;
  }

  /** After the last line of the text. */
  close(blankLinesSeparate: boolean): void {
    this.ended = LAST_WORDS.test(this.words.at(-1) ?? '') || (blankLinesSeparate && this.#blankSince);
  }

  /** What begins here is a function, and not a remark that begins with an address. */
  get isFunction(): boolean {
    return readHeading(this.heading).class !== undefined;
  }

  #goOn(text: string): void {
    const before = this.words.pop();
    const all = `${before ?? this.heading} ${text}`.slice(0, MAX_LINE);
    if (before === undefined) this.heading = all;
    else this.words.push(all);
  }

  #addBytes(hex: RegExpExecArray): void {
    this.#open = false;
    const at = Number.parseInt(hex[1]!, 16);
    // Bytes after a gap are ignored, because their offset would be wrong.
    if (at !== this.bytes.length || at >= CONFIG_SIZE) return;
    for (const byte of hex[2]!.trim().split(' ')) this.bytes.push(Number.parseInt(byte, 16));
  }
}

/** The parts in the order of the text. */
export function parseLspci(text: string): LspciFunction[] {
  const parts: Part[] = [];
  let spread = false;
  // The end of the last line is no blank line.
  for (const raw of text.replace(/\r?\n$/, '').split('\n')) {
    const line = plainLine(raw);
    const now = parts.at(-1);
    if (line.trim() === '') {
      now?.blank();
      continue;
    }
    const heading = headingOf(line);
    if (heading === null) {
      if (now?.add(line)) spread = true;
      continue;
    }
    if (parts.length >= MAX_FUNCTIONS) break;
    parts.push(new Part(heading.bdf, heading.text));
  }
  return parts.map((part, index) => {
    const next = parts[index + 1];
    part.close(!spread);
    const ended = next === undefined || !next.isFunction ? part.ended : true;
    const { bdf, heading, words, bytes, elided } = part;
    return { bdf, heading, words, bytes: Buffer.from(bytes), ended, elided };
  });
}

/** Is this a text of lspci at all? */
export function looksLikeLspci(text: string): boolean {
  return text.split('\n').some((line) => {
    const heading = headingOf(plainLine(line))?.text;
    return heading !== undefined && NAMES_CLASS.test(heading);
  });
}
