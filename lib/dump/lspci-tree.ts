/**
 * The drawing of `lspci -t`, which shows the buses below each bridge, to be read beside a text that lacks them:
 *
 *     -+-[0000:40]-+-00.0
 *      |           \-01.0-[41]----00.0
 *      \-[0000:00]-+-00.0
 *                  \-01.0-[01-04]----00.0-[02-04]--+-00.0-[03]----00.0
 *                                                  \-01.0-[04]----00.0
 *
 * A branch belongs to the bus that has begun to branch in the same column above. Where the columns are lost, nothing is read.
 */
import { isBdf } from '../backend/names.js';
import { hex } from '../base/words.js';
import { plainLine } from './lspci.js';
import type { FunctionFacts } from './sent.js';

const ROOT = /\[([0-9a-f]{4,8}):([0-9a-f]{2})\]-/y;
const FUNCTION = /([0-9a-f]{2}\.[0-7])/y;
/** Before 3.1, with the domain. */
const BUSES = /-\[(?:[0-9a-f]{4,8}:)?([0-9a-f]{2})(?:-([0-9a-f]{2}))?\]-/y;
/** With -tv the name, with -nn the IDs after it, with -n the IDs alone. */
const IDS = / {2}(?:.*\[)?([0-9a-f]{4}):([0-9a-f]{4})\]?$/;
const FIRST_LINE = /^ ?-(?:\+-)?\[[0-9a-f]{4,8}:[0-9a-f]{2}\]-/;

/** lspci itself has room for 256 characters and a name. */
const MAX_LINE = 1024;

export function looksLikeTree(text: string): boolean {
  return text
    .slice(0, 64 * 1024)
    .split('\n')
    .some((line) => FIRST_LINE.test(plainLine(line)));
}

/** Null: the columns of the drawing are lost. */
export function parseTree(text: string): FunctionFacts[] | null {
  const lines = text.split('\n').map((line) => plainLine(line).trimEnd().slice(0, MAX_LINE));
  const first = lines.findIndex((line) => FIRST_LINE.test(line));
  const drawing = new Drawing();
  for (const line of lines.slice(first)) {
    if (line === '') break;
    if (!drawing.read(line)) return null;
  }
  return drawing.functions;
}

interface Bus {
  readonly domain: string;
  readonly number: string;
}

class Drawing {
  readonly functions: FunctionFacts[] = [];
  /** The buses that branch, from the left; null: the root buses themselves. */
  readonly #branching: { readonly column: number; readonly bus: Bus | null }[] = [];
  #line = '';
  #at = 0;

  /** False: it does not fit to the lines above. */
  read(line: string): boolean {
    this.#line = line;
    this.#at = line.search(/[^ |]/);
    if (this.#at < 0) return true;
    const sign = line[this.#at];
    if (sign === '-' && this.functions.length === 0) {
      this.#at++;
      this.#children(null);
      return true;
    }
    // Regions of -tvv, or the wrapped end of a name.
    if (sign !== '+' && sign !== '\\') return true;
    while ((this.#branching.at(-1)?.column ?? -1) > this.#at) this.#branching.pop();
    const found = this.#branching.at(-1);
    if (found?.column !== this.#at || line[this.#at + 1] !== '-') return false;
    this.#at += 2;
    this.#one(found.bus);
    return true;
  }

  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#line);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  /** What hangs on a bus, at the place where it begins. */
  #children(bus: Bus | null): void {
    while (this.#line[this.#at] === '-') this.#at++;
    if (this.#line.startsWith('+-', this.#at)) {
      this.#branching.push({ column: this.#at, bus });
      this.#at += 2;
    }
    if (this.#at < this.#line.length) this.#one(bus);
  }

  /** A root bus, a bus whose bridge is missing, or a function of this bus. */
  #one(bus: Bus | null): void {
    const root = this.#take(ROOT);
    if (root !== null) this.#children({ domain: root[1]!, number: root[2]! });
    else if (bus !== null) this.#function(bus);
  }

  #function({ domain, number }: Bus): void {
    const found = this.#take(FUNCTION);
    const bdf = `${domain}:${number}:${found?.[1]}`;
    if (!isBdf(bdf)) return;
    const facts = { bdf, config: Buffer.alloc(0), lacks: LACKS };
    const range = this.#take(BUSES);
    if (range === null) {
      const [, vendor, device] = IDS.exec(this.#line.slice(this.#at)) ?? [];
      const ids = vendor === undefined ? {} : { vendor: hexOf(vendor), device: hexOf(device!) };
      this.functions.push({ ...facts, ...ids });
      return;
    }
    const secondary = hexOf(range[1]!);
    this.functions.push({ ...facts, buses: { secondary, subordinate: hexOf(range[2] ?? range[1]!) } });
    this.#children({ domain, number: hex(secondary, 2) });
  }
}

const LACKS = 'lspci -t shows the buses alone: sudo lspci -vvvnn';

function hexOf(digits: string): number {
  return Number.parseInt(digits, 16);
}
