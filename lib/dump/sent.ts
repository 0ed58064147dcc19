/** What was sent, piece by piece, and what is made of it: files as the kernel shows them, and an account of it. */
import type { Evidence } from '../backend/evidence.js';
import type { Bdf } from '../backend/topology.js';
import { MemoryFiles } from './files.js';

/** One file that was sent, or that was in an archive. */
export interface Sent {
  /** As it is called, for messages and to tell what it is. */
  readonly name: string;
  readonly bytes: Buffer;
}

/** What is known of one PCI function without its own directory in /sys. */
export interface FunctionFacts {
  readonly bdf: Bdf;
  /** Its configuration space, as far as it is known. */
  readonly config: Buffer;
  /** `resource` of sysfs; null: sizes of BARs are not known. */
  readonly resource: string | null;
  readonly iommuGroup: number | null;
  readonly numaNode: number | null;
}

export class Gathered {
  readonly files: MemoryFiles;
  readonly functions = new Map<Bdf, FunctionFacts>();
  readonly #recognised: string[] = [];
  readonly #notKnown = new Map<string, string>();
  readonly disagreements: string[] = [];

  constructor(name: string) {
    this.files = new MemoryFiles(name);
  }

  recognised(what: string): void {
    this.#recognised.push(what);
  }

  get nothing(): boolean {
    return this.#recognised.length === 0;
  }

  /** Say once that `what` is not known; `why` says what would tell it. */
  notKnown(what: string, why: string): void {
    if (!this.#notKnown.has(what)) this.#notKnown.set(what, why);
  }

  evidence(): Evidence {
    return {
      recognised: this.#recognised,
      notKnown: [...this.#notKnown].map(([what, why]) => ({ what, why })),
      disagreements: this.disagreements,
    };
  }
}

/** One kind of thing that people send. */
export interface Reader {
  fits(sent: Sent): boolean;
  read(sent: Sent, into: Gathered): void;
}
