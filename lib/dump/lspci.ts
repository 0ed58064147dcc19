/**
 * The text of lspci, split into functions:
 *
 *     0000:03:00.0 Non-Volatile memory controller [0108]: … [1b36:0010] (rev 02) (prog-if 02 [NVM Express])   its heading
 *     <tab>Capabilities: [60] Express (v2) Endpoint, …                                             -v: decoded
 *     00: 36 1b 10 00 07 05 10 00 02 02 08 01 08 00 00 00                                           -x: the bytes
 *
 * Only the bytes are read. Such texts arrive by mail: quoted, with carriage returns, with parts missing. Bytes after a missing
 * part are not mistaken for the missing part.
 */
import { normalizeBdf, PCI_ADDRESS } from '../backend/names.js';
import type { Bdf } from '../backend/topology.js';

export interface LspciFunction {
  readonly bdf: Bdf;
  /** The bytes that -x shows, from offset 0 without a gap; empty: none. */
  readonly bytes: Buffer;
}

const HEX = /^\s*([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*$/i;
const QUOTE = /^(?:> ?)+/;
const CONFIG_SIZE = 4096;
/** No machine has more functions than this. */
const MAX_FUNCTIONS = 65_536;

/** A function's first line: its address, and the text after it. */
function headingOf(line: string): { readonly bdf: Bdf; readonly text: string } | null {
  const [, address, text] = /^(\S+)\s+(\S.*)$/.exec(line) ?? [];
  if (address === undefined || text === undefined || !PCI_ADDRESS.test(address)) return null;
  return { bdf: normalizeBdf(address), text };
}

function plain(line: string): string {
  return line.replace(/\r$/, '').replace(QUOTE, '');
}

/** Functions in the order of the text. A function that appears twice, once as text and once as bytes, is returned once. */
export function parseLspci(text: string): LspciFunction[] {
  const found = new Map<Bdf, number[]>();
  let now: number[] | null = null;
  for (const raw of text.split('\n')) {
    const line = plain(raw);
    const heading = headingOf(line);
    if (heading !== null) {
      if (found.size >= MAX_FUNCTIONS) break;
      now = found.get(heading.bdf) ?? [];
      found.set(heading.bdf, now);
    } else if (now !== null) addBytes(now, line);
  }
  return [...found].map(([bdf, bytes]) => ({ bdf, bytes: Buffer.from(bytes) }));
}

function addBytes(to: number[], line: string): void {
  const hex = HEX.exec(line);
  if (hex === null) return;
  const at = Number.parseInt(hex[1]!, 16);
  // Bytes after a gap are ignored, because their offset would be wrong.
  if (at !== to.length || at >= CONFIG_SIZE) return;
  for (const byte of hex[2]!.trim().split(' ')) to.push(Number.parseInt(byte, 16));
}

/** Is this a text of lspci at all? */
export function looksLikeLspci(text: string): boolean {
  return text
    .slice(0, 64 * 1024)
    .split('\n')
    .some((line) => {
      const heading = headingOf(plain(line))?.text;
      return heading !== undefined && (/^[^:]+: \S/.test(heading) || /^[0-9a-f]{4}: /i.test(heading));
    });
}
