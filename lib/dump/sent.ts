/** The inputs that were sent, and the result: files as the kernel shows them, and an account of what is known. */
import type { Evidence } from '../backend/evidence.js';
import type { Bdf } from '../backend/topology.js';
import { MemoryFiles } from './files.js';

/** One file that was sent. */
export interface Sent {
  /** Its name, used in messages and to recognise its kind. */
  readonly name: string;
  readonly bytes: Buffer;
}

/** Facts about one PCI function whose own directory in /sys is not available. */
export interface FunctionFacts {
  readonly bdf: Bdf;
  /** The known part of its configuration space. */
  readonly config: Buffer;
}

export class Gathered {
  readonly files: MemoryFiles;
  readonly functions = new Map<Bdf, FunctionFacts>();
  readonly #recognised: string[] = [];
  readonly #notKnown = new Map<string, string>();

  constructor(name: string) {
    this.files = new MemoryFiles(name);
  }

  recognised(what: string): void {
    this.#recognised.push(what);
  }

  get nothing(): boolean {
    return this.#recognised.length === 0;
  }

  /** Record once that `what` is not known; `why` says what would show it. */
  notKnown(what: string, why: string): void {
    if (!this.#notKnown.has(what)) this.#notKnown.set(what, why);
  }

  evidence(): Evidence {
    return {
      recognised: this.#recognised,
      notKnown: [...this.#notKnown].map(([what, why]) => ({ what, why })),
    };
  }
}

/** The reader of one kind of input. */
export interface Reader {
  fits(sent: Sent): boolean;
  read(sent: Sent, into: Gathered): void;
}
