/** The inputs that were sent, and the result: files as the kernel shows them, and an account of what is known. */
import { isDeepStrictEqual } from 'node:util';
import type { Evidence } from '../backend/evidence.js';
import type { Bdf } from '../backend/topology.js';
import { Drives } from './drive-facts.js';
import { MemoryFiles } from './files.js';

/** One file that was sent. */
export interface Sent {
  /** Its name, used in messages and to recognise its kind. */
  readonly name: string;
  readonly bytes: Buffer;
  /** Nothing is said if it is not recognised: it came with many others. */
  readonly optional?: boolean;
}

/** So much of a text is looked at to recognise what it contains. */
export const START = 16 * 2 ** 20;

/** A sent file as text. Some shells write what a command prints as UTF-16. */
export class SentText implements Sent {
  readonly name: string;
  readonly bytes: Buffer;
  readonly start: string;

  constructor({ name, bytes }: Sent) {
    this.name = name;
    this.bytes = bytes;
    this.start = this.#decoded(START);
  }

  get text(): string {
    return this.bytes.length <= START ? this.start : this.#decoded(this.bytes.length);
  }

  #decoded(end: number): string {
    const encoding = this.bytes[0] === 0xff && this.bytes[1] === 0xfe ? 'utf16le' : 'utf8';
    return this.bytes.toString(encoding, 0, end);
  }
}

/** Takes what was unpacked, piece by piece. */
export type Sink = (chunk: Buffer) => void;

/** A memory BAR as the kernel shows it. */
export interface Bar {
  readonly index: number;
  readonly address: number;
  readonly size: number;
  readonly prefetchable: boolean;
  /** 64-bit. */
  readonly wide: boolean;
}

/**
 * Facts about one PCI function whose own directory in /sys is not available. Undefined: nobody told; null: it was told twice, and
 * differently. Neither is known.
 */
export interface FunctionFacts {
  readonly bdf: Bdf;
  /** The known part of its configuration space, from offset 0; empty: none. */
  readonly config: Buffer;
  /** 24 bits. */
  readonly class?: number | null;
  readonly vendor?: number | null;
  readonly device?: number | null;
  /** The buses below it: it is a bridge. */
  readonly buses?: { readonly secondary: number; readonly subordinate: number } | null;
  /** Device/Port Type of its PCI Express capability; `'none'`: it has no such capability. */
  readonly express?: number | 'none' | null;
  /** ACS Control. */
  readonly acs?: number | 'none' | null;
  readonly bars?: readonly Bar[] | null;
  readonly numaNode?: number | null;
  readonly iommuGroup?: number | null;
  /** Why its capabilities are not known, as far as they are not, and what would show them. */
  readonly lacks?: string;
}

/** What two texts say of one function. */
function together(a: FunctionFacts, b: FunctionFacts): FunctionFacts {
  const both: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) {
    if (value === undefined) continue;
    const before = both[key];
    if (before === undefined) both[key] = value;
    else if (key !== 'config' && key !== 'lacks' && !isDeepStrictEqual(before, value)) both[key] = null;
  }
  const longer = a.config.length >= b.config.length ? a : b;
  return { ...(both as unknown as FunctionFacts), config: longer.config };
}

/** A pair of which the kernel said something. */
export interface LoggedPair {
  readonly client: string;
  readonly provider: string;
  readonly said: 'refused' | 'redirected';
}

export class Gathered {
  readonly files: MemoryFiles;
  readonly functions = new Map<Bdf, FunctionFacts>();
  /** The functions whose directories in /sys were captured; true: whole, so that what is missing does not exist. */
  readonly captured = new Map<Bdf, boolean>();
  readonly drives = new Drives((words) => this.contradiction(words));
  /** The namespaces that are known by the words of other programs only. */
  readonly toldNamespaces: string[] = [];
  /** The function after which a text may be cut, so that there may be others. */
  cutAfter: Bdf | null = null;
  /** The kernel that runs there, by the first text that told. */
  release: { readonly text: string; readonly from: string } | null = null;
  /** What the kernel's log says of pairs. */
  readonly logged = new Map<string, LoggedPair>();
  /** The functions that registered peer-to-peer memory, as the kernel's log says. */
  readonly registered = new Set<Bdf>();
  readonly #contradictions = new Set<string>();
  readonly #recognised: string[] = [];
  readonly #notKnown = new Map<string, string>();

  constructor(name: string) {
    this.files = new MemoryFiles(name);
  }

  /** Add what is told of a function to what has been told of it. */
  add(facts: FunctionFacts): void {
    const before = this.functions.get(facts.bdf);
    this.functions.set(facts.bdf, before === undefined ? facts : together(before, facts));
  }

  recognised(what: string): void {
    this.#recognised.push(what);
  }

  /** Every function that is known has its own directory here, in whole. */
  get wholeFunctions(): boolean {
    const known = [...this.captured.keys(), ...this.functions.keys()];
    return known.length > 0 && known.every((bdf) => this.captured.get(bdf) === true);
  }

  /** Record once that `what` is not known; `why` says what would show it. */
  notKnown(what: string, why: string): void {
    if (!this.#notKnown.has(what)) this.#notKnown.set(what, why);
  }

  /** Two things that were sent exclude each other. */
  contradiction(words: string): void {
    this.#contradictions.add(words);
  }

  evidence(): Evidence {
    return {
      recognised: this.#recognised,
      contradictions: [...this.#contradictions],
      notKnown: [...this.#notKnown].map(([what, why]) => ({ what, why })),
    };
  }
}

/** The reader of one kind of input. */
export interface Reader {
  fits(sent: SentText): boolean;
  read(sent: SentText, into: Gathered): void;
}
