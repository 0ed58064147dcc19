/**
 * What a byte may be. Contents are a function of a generation and a position, so that bytes from another place, from another
 * file, or from memory that was used for something else are recognised:
 *
 *     byte(generation, position)        generation 0: zeros        sparse: some 64 KiB are holes
 */
const HOLE_BYTES = 65_536;

export interface Content {
  readonly generation: number;
  readonly size: number;
  readonly sparse: boolean;
}

export const zeros = (size: number): Content => ({ generation: 0, size, sparse: false });

function word(generation: number, index: number): number {
  return mixed(Math.imul(generation, 0x9e3779b1) + index);
}

function mixed(n: number): number {
  let x = n | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

export function isHoleAt({ generation, sparse }: Content, position: number): boolean {
  return sparse && word(generation ^ 0x5a5a, Math.floor(position / HOLE_BYTES)) % 2 === 1;
}

/** The bytes of `[start, end)`; what lies behind the content's size reads as zeros. */
export function bytesOfContent(content: Content, start: number, end: number): Buffer {
  const first = start - (start % 4);
  const last = Math.ceil(end / 4) * 4;
  const words = new Uint32Array(Math.max(0, last - first) / 4);
  const salt = Math.imul(content.generation, 0x9e3779b1);
  for (let i = 0, at = first; content.generation !== 0 && at < last; at += HOLE_BYTES - (at % HOLE_BYTES)) {
    const behind = Math.min(last, at + HOLE_BYTES - (at % HOLE_BYTES));
    if (isHoleAt(content, at)) i += (behind - at) / 4;
    else for (let position = at; position < behind; position += 4) words[i++] = mixed(salt + position / 4);
  }
  const bytes = Buffer.from(words.buffer);
  const part = bytes.subarray(start - first, start - first + Math.max(0, end - start));
  if (end > content.size) part.fill(0, Math.max(0, content.size - start));
  return part;
}

/** Positions where a sparse content has data, as ranges. */
export function* dataOf(content: Content): Generator<readonly [start: number, end: number]> {
  for (let at = 0; at < content.size; at += HOLE_BYTES) {
    if (!isHoleAt(content, at)) yield [at, Math.min(at + HOLE_BYTES, content.size)];
  }
}

/** The first position in `[start, …)` whose byte is in none of the contents (shifted by their offset), or −1. */
export function firstForeign(
  bytes: Uint8Array,
  start: number,
  allowed: readonly { readonly content: Content; readonly offset: number }[],
): number {
  const versions = allowed.map(({ content, offset }) => ({
    bytes: bytesOfContent(content, Math.max(0, start + offset), Math.max(0, start + offset + bytes.length)),
    // No byte of the content is before its own beginning.
    from: Math.max(0, -(start + offset)),
    to: content.size - start - offset,
  }));
  const [first] = versions;
  if (first !== undefined && first.from === 0 && first.to >= bytes.length && first.bytes.equals(bytes))
    return -1;
  for (let i = 0; i < bytes.length; i++) {
    const fits = versions.some(({ bytes: b, from, to }) => i >= from && i < to && b[i - from] === bytes[i]);
    if (!fits) return start + i;
  }
  return -1;
}
