/**
 * Reads the text of lspci with the bytes of -x as facts about functions. Text without bytes (-v, -vvv) is recognised and
 * rejected: it is not parsed yet, and a machine about which nothing is known would look like one without drives.
 */
import { optionError } from '../base/arguments.js';
import type { P2pdmaError } from '../base/errors.js';
import { list } from '../base/words.js';
import { type LspciFunction, looksLikeLspci, parseLspci } from './lspci.js';
import type { FunctionFacts, Gathered, Reader, Sent } from './sent.js';

const STANDARD = 64;
const CONVENTIONAL = 256;
const EXPRESS = 4096;

export const lspciText: Reader = {
  fits: ({ bytes }) => looksLikeLspci(bytes.toString('latin1', 0, 256 * 1024)),
  read: readLspci,
};

function readLspci({ name, bytes }: Sent, into: Gathered): void {
  const functions = parseLspci(bytes.toString('utf8'));
  const bare = functions.filter((fn) => fn.bytes.length < STANDARD);
  if (bare.length === functions.length) throw wordsAlone(name);
  if (bare.length > 0) {
    into.notKnown(`the kind of ${list(bare.map(({ bdf }) => bdf))}`, 'the first 64 bytes were not sent');
  }
  const asRoot = functions.some((fn) => fn.bytes.length === EXPRESS);
  for (const [index, fn] of functions.entries()) {
    const last = index === functions.length - 1;
    into.functions.set(fn.bdf, fromBytes(fn, asRoot && !last));
  }
  into.recognised(kindOf(functions));
  account(functions, into);
}

function fromBytes({ bdf, bytes }: LspciFunction, wholeIfShort: boolean): FunctionFacts {
  return { bdf, config: wholeIfShort && bytes.length === CONVENTIONAL ? withoutExtended(bytes) : bytes };
}

/**
 * If 4096 bytes of other functions were readable, they would have been readable here too. So this function has no extended
 * space, and the kernel sees no ACS.
 */
function withoutExtended(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(EXPRESS - bytes.length)]);
}

function kindOf(functions: readonly LspciFunction[]): string {
  const most = Math.max(0, ...functions.map(({ bytes }) => bytes.length));
  const how = most >= EXPRESS ? '-xxxx' : most >= CONVENTIONAL ? '-xxx' : most >= STANDARD ? '-x' : '';
  return `lspci ${how}`
    .trimEnd()
    .concat(`, ${functions.length} function${functions.length === 1 ? '' : 's'}`);
}

function wordsAlone(name: string): P2pdmaError {
  return optionError(
    'ERR_INVALID_ARG_VALUE',
    'from',
    `'${name}' is the text of lspci without the bytes of configuration space, and its words are not read`,
    { path: name, hint: 'Send the output of `sudo lspci -xxxx`, which has the bytes.' },
  );
}

/** Records what such a text cannot show. */
function account(functions: readonly LspciFunction[], into: Gathered): void {
  const short = functions.filter(({ bytes }) => bytes.length > 0 && bytes.length < CONVENTIONAL);
  if (short.length === functions.length && short.length > 0) {
    into.notKnown('ACS and PCIe port types', 'only root sees more than 64 bytes: sudo lspci -xxxx');
  } else if (functions.every(({ bytes }) => bytes.length <= CONVENTIONAL)) {
    into.notKnown('ACS', 'it lies beyond byte 256: sudo lspci -xxxx');
  } else if (short.length > 0) {
    into.notKnown(`ACS of ${list(short.map(({ bdf }) => bdf))}`, 'their bytes are cut');
  }
}
