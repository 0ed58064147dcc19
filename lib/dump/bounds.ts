/** How much of an archive is read. Everything stops at a bound, and the error states it. */
import { optionError } from '../base/arguments.js';
import type { P2pdmaError } from '../base/errors.js';
import { size } from '../base/words.js';

const MIB = 2 ** 20;

/** What comes out of a compressed file; the BARs that `tar` copies out of /sys as zeros count too. */
const MOST_UNPACKED = 8192 * MIB;
/** What comes out for each byte that goes in. The padding that `tar` writes for sysfs compresses by up to some hundred. */
const MOST_RATIO = 4000;
/** Until so much has come out, the ratio does not count. */
const RATIO_COUNTS_FROM = 8 * MIB;
const MOST_ENTRIES = 2_000_000;
const MOST_KEPT_ENTRIES = 300_000;
/** The largest that anything in /sys and /proc is whose content matters: a kernel's configuration. */
const MOST_OF_ONE = 16 * MIB;
const MOST_KEPT = 256 * MIB;

/** The bounds of one archive. */
export class Bounds {
  readonly #name: string;
  readonly #packed: number;
  #unpacked = 0;
  #entries = 0;
  #keptEntries = 0;
  #kept = 0;

  /** @param packed its size as it was sent */
  constructor(name: string, packed: number) {
    this.#name = name;
    this.#packed = packed;
  }

  /** @throws P2pdmaError ERR_INVALID_ARG_VALUE */
  unpacked(bytes: number): void {
    this.#unpacked += bytes;
    if (this.#unpacked > MOST_UNPACKED) throw this.#over(`more than ${size(MOST_UNPACKED)} when unpacked`);
    if (this.#unpacked > RATIO_COUNTS_FROM && this.#unpacked > this.#packed * MOST_RATIO) {
      throw this.#over(`more than ${MOST_RATIO} times its size when unpacked`);
    }
  }

  entry(): void {
    if (++this.#entries > MOST_ENTRIES) throw this.#over(`more than ${MOST_ENTRIES} entries`);
  }

  /** A file whose content matters, before it is read. */
  file(path: string, bytes: number): void {
    if (bytes > MOST_OF_ONE) throw this.#over(`'${path}', which has more than ${size(MOST_OF_ONE)}`);
  }

  kept(bytes: number): void {
    this.#kept += bytes;
    if (++this.#keptEntries > MOST_KEPT_ENTRIES) {
      throw this.#over(`more than ${MOST_KEPT_ENTRIES} entries that say something of the machine`);
    }
    if (this.#kept > MOST_KEPT) {
      throw this.#over(`more than ${size(MOST_KEPT)} that say something of the machine`);
    }
  }

  #over(what: string): P2pdmaError {
    return tooMuch(this.#name, what);
  }
}

/** An input exceeds a limit. */
export function tooMuch(path: string, what: string): P2pdmaError {
  return optionError('ERR_INVALID_ARG_VALUE', 'from', `'${path}' holds ${what}, and no more is read`, {
    path,
    hint: 'Send /sys and /proc, or the text of lspci, alone.',
  });
}

/** An archive or a compressed file that cannot be read to its end: part of a machine would look like a whole one. */
export function damaged(path: string, what: string): P2pdmaError {
  return optionError('ERR_INVALID_ARG_VALUE', 'from', `'${path}' is damaged: ${what}`, {
    path,
    hint: 'Have it sent again, and compare the checksums of both copies.',
  });
}

/** Sound, but of a kind that is not read. */
export function notRead(path: string, what: string, hint: string): P2pdmaError {
  return optionError('ERR_INVALID_ARG_VALUE', 'from', `'${path}' ${what}`, { path, hint });
}
