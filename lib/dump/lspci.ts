/**
 * The text of lspci, split into functions:
 *
 *     0000:03:00.0 Non-Volatile memory controller [0108]: … [1b36:0010] (rev 02) (prog-if 02 [NVM Express])   its heading
 *     <tab>Capabilities: [60] Express (v2) Endpoint, …                                             -v: decoded
 *     00: 36 1b 10 00 07 05 10 00 02 02 08 01 08 00 00 00                                           -x: the bytes
 *
 * Such texts arrive by mail: quoted, with carriage returns, with long lines wrapped, with parts missing. Text after a
 * missing part is not mistaken for the missing part.
 */
import { normalizeBdf } from '../backend/names.js';
import type { Bdf } from '../backend/topology.js';

export interface LspciFunction {
  readonly bdf: Bdf;
  /** The text after the address. */
  readonly head: string;
  /** Lines of -v without their leading blanks; wrapped lines are joined. */
  readonly lines: string[];
  /** The bytes that -x shows, from offset 0 without a gap; empty: none. */
  readonly bytes: Buffer;
}

const HEAD = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7])\s+(\S.*)$/i;
const HEX = /^\s*([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*$/i;
const QUOTE = /^(?:> ?)+/;
const CONFIG_SIZE = 4096;
/** No machine has more functions than this. */
const MAX_FUNCTIONS = 65_536;

interface Cut {
  readonly bdf: Bdf;
  head: string;
  readonly lines: string[];
  readonly bytes: number[];
}

/** Functions in the order of the text. A function that appears twice, once as text and once as bytes, is returned once. */
export function parseLspci(text: string): LspciFunction[] {
  const found = new Map<Bdf, Cut>();
  let now: Cut | null = null;
  for (const raw of text.split('\n')) {
    const line = raw.replace(/\r$/, '').replace(QUOTE, '');
    const head = HEAD.exec(line);
    if (head !== null) {
      if (found.size >= MAX_FUNCTIONS) break;
      const bdf = normalizeBdf(head[1]!);
      now = found.get(bdf) ?? { bdf, head: head[2]!.trim(), lines: [], bytes: [] };
      found.set(bdf, now);
    } else if (line.trim() === '') {
      // lspci ends a function with an empty line; quoted text may have more of them.
    } else if (now !== null) addLine(now, line);
  }
  return [...found.values()].map(({ bytes, ...rest }) => ({ ...rest, bytes: Buffer.from(bytes) }));
}

function addLine(to: Cut, line: string): void {
  const hex = HEX.exec(line);
  if (hex !== null) {
    const at = Number.parseInt(hex[1]!, 16);
    // Bytes after a gap are ignored, because their offset would be wrong.
    if (at !== to.bytes.length || at >= CONFIG_SIZE) return;
    for (const byte of hex[2]!.trim().split(' ')) to.bytes.push(Number.parseInt(byte, 16));
  } else if (/^\s/.test(line)) {
    to.lines.push(line.trim());
  } else if (to.lines.length > 0) {
    // A mail client wrapped the line: its continuation begins in the first column.
    to.lines.push(`${to.lines.pop()} ${line.trim()}`);
  } else if (to.bytes.length === 0) {
    to.head += ` ${line.trim()}`;
  }
}

/** Is this a text of lspci at all? */
export function looksLikeLspci(text: string): boolean {
  return text
    .slice(0, 64 * 1024)
    .split('\n')
    .some((line) => {
      const head = HEAD.exec(line.replace(/\r$/, '').replace(QUOTE, ''))?.[2];
      return head !== undefined && (/^[^:]+: \S/.test(head) || /^[0-9a-f]{4}: /i.test(head));
    });
}
