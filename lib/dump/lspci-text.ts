/** Reads the text of lspci, its words, its bytes and its tree, as facts about functions. */
import { type LspciFunction, looksLikeLspci, parseLspci } from './lspci.js';
import { looksLikeTree, parseTree } from './lspci-tree.js';
import { type Depth, deniedIn, depthOf, readWords, textFacts } from './lspci-words.js';
import type { FunctionFacts, Gathered, Reader, SentText } from './sent.js';

const STANDARD = 64;
const CONVENTIONAL = 256;
const EXPRESS = 4096;

export const lspciText: Reader = {
  fits: ({ start }) => looksLikeLspci(start) || looksLikeTree(start),
  read: readLspci,
};

function readLspci({ name, text }: SentText, into: Gathered): void {
  const functions = parseLspci(text);
  const facts = textFacts(functions);
  const asRoot = functions.some((fn) => fn.bytes.length === EXPRESS);
  for (const [index, fn] of functions.entries()) {
    const last = index === functions.length - 1;
    into.add(factsOf(fn, readWords(fn, facts), asRoot && !last));
  }
  if (functions.length > 0) into.recognised(kindOf(functions));
  const last = functions.at(-1);
  if (last !== undefined && last.words.length > 0 && !last.ended) {
    into.notKnown(`functions after ${last.bdf}`, 'the text may be cut there');
    into.cutAfter ??= last.bdf;
  }
  if (!looksLikeTree(text)) return;
  const tree = parseTree(text);
  if (tree === null)
    into.notKnown(`what lspci -t shows in '${name}'`, 'its columns are lost: send it as a file');
  else {
    for (const one of tree) into.add(one);
    into.recognised(`lspci -t, ${count(tree)}`);
  }
}

/** The bytes say more than the words, as far as there are any. */
function factsOf(fn: LspciFunction, words: FunctionFacts, wholeIfShort: boolean): FunctionFacts {
  const { bytes } = fn;
  if (bytes.length === 0) return words;
  if (bytes.length < STANDARD) return { ...words, lacks: lackOfBytes(bytes.length) };
  const lacks =
    depthOf(fn) === 'heading' || words.acs === undefined ? lackOfBytes(bytes.length) : words.lacks;
  const config = wholeIfShort && bytes.length === CONVENTIONAL ? withoutExtended(bytes) : bytes;
  return { ...words, config, ...(lacks === undefined ? {} : { lacks }) };
}

function lackOfBytes(length: number): string {
  if (length === STANDARD) return 'only root sees more than 64 bytes: sudo lspci -xxxx';
  if (length === CONVENTIONAL) return 'it lies beyond byte 256: sudo lspci -xxxx';
  return 'their bytes are cut: sudo lspci -xxxx';
}

/**
 * If 4096 bytes of other functions were readable, they would have been readable here too. So this function has no extended
 * space, and the kernel sees no ACS.
 */
function withoutExtended(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(EXPRESS - bytes.length)]);
}

function kindOf(functions: readonly LspciFunction[]): string {
  const options = `${wordsOption(functions)}${numbersOption(functions)}${bytesOption(functions)}`;
  const denied = functions.some(deniedIn) ? ' not as root' : '';
  return `lspci ${options === '' ? '' : `-${options}`}`.trimEnd().concat(denied, `, ${count(functions)}`);
}

const WORDS: Readonly<Record<Depth, string>> = { heading: '', v: 'v', vv: 'vv' };

function wordsOption(functions: readonly LspciFunction[]): string {
  const depths = functions.map(depthOf);
  return WORDS[depths.includes('vv') ? 'vv' : depths.includes('v') ? 'v' : 'heading'];
}

function numbersOption(functions: readonly LspciFunction[]): string {
  if (functions.some(({ heading }) => /\[[0-9a-f]{4}\]: /.test(heading))) return 'nn';
  const bare = functions.every(({ heading }) => /^[0-9a-f]{4}: /.test(heading));
  return bare && functions.every(({ bytes }) => bytes.length < STANDARD) ? 'n' : '';
}

function bytesOption(functions: readonly LspciFunction[]): string {
  const most = Math.max(0, ...functions.map(({ bytes }) => bytes.length));
  return most >= EXPRESS ? 'xxxx' : most >= CONVENTIONAL ? 'xxx' : most >= STANDARD ? 'x' : '';
}

function count(functions: readonly { readonly bdf: string }[]): string {
  const { size: number } = new Set(functions.map(({ bdf }) => bdf));
  return `${number} function${number === 1 ? '' : 's'}`;
}
