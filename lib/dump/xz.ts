/**
 * xz, decoded by the package xz-decompress (XZ Embedded as WebAssembly). It reads one stream and does not say whether something
 * follows. So the streams of a file are found here first, from its end: each ends with a footer, before it the index with the
 * length of every block, before it the blocks and a header.
 *
 *     header 12 | blocks, each padded to 4 | index | footer 12: CRC32, size of the index, flags, 'YZ' | padding, 4 zeros each
 */
import { ReadableStream } from 'node:stream/web';
import { notRead } from './bounds.js';
import type { Sent, Sink } from './sent.js';

const HEADER = 12;
const FOOTER = 12;
/** The check of a stream, in the second byte of its flags, if XZ Embedded knows it: none, CRC32, CRC64. */
const CHECKS: ReadonlySet<number> = new Set([0, 1, 4]);
const LZMA2 = 0x21;
/** The dictionary as LZMA2 gives it: 64 MiB. */
const MOST_DICTIONARY = 28;

export async function unxz(sent: Sent, sink: Sink): Promise<void> {
  const streams = streamsOf(sent.bytes);
  for (const stream of streams) assertKnown(sent.name, stream);
  const { default: xz } = await import('xz-decompress');
  for (const stream of streams) {
    const input = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(stream);
        controller.close();
      },
    });
    for await (const chunk of new xz.XzReadableStream(input as never)) sink(Buffer.from(chunk));
  }
}

/** Looks at the flags of a stream, and at the header of its first block: size, flags, lengths if given, filters. */
function assertKnown(path: string, stream: Buffer): void {
  const hint = 'Unpack it with xz -d, and send what comes out.';
  const header = new Numbers(stream.subarray(HEADER));
  if (header.byte() === 0) return;
  const flags = header.byte();
  if ((flags & 0x40) !== 0) header.next();
  if ((flags & 0x80) !== 0) header.next();
  const filter = header.next();
  if (!CHECKS.has(stream[7]!) || (flags & 3) !== 0 || filter !== LZMA2) {
    throw notRead(path, 'was compressed with a filter or a check of xz that is not read', hint);
  }
  header.next();
  if (header.byte() > MOST_DICTIONARY) {
    throw notRead(path, 'was compressed with a dictionary of more than 64 MiB, which is not read', hint);
  }
}

function streamsOf(bytes: Buffer): Buffer[] {
  const streams: Buffer[] = [];
  for (let end = bytes.length; end > 0; ) {
    if (end >= 4 && bytes.readUInt32LE(end - 4) === 0) {
      end -= 4;
      continue;
    }
    const start = end - streamLength(bytes, end);
    if (start < 0) throw new Error('the index does not fit');
    streams.unshift(bytes.subarray(start, end));
    end = start;
  }
  return streams;
}

/** The length of the stream that ends at `end`. */
function streamLength(bytes: Buffer, end: number): number {
  if (end < HEADER + FOOTER || bytes.toString('latin1', end - 2, end) !== 'YZ') throw new Error('no footer');
  const indexLength = (bytes.readUInt32LE(end - 8) + 1) * 4;
  const indexAt = end - FOOTER - indexLength;
  if (indexAt < HEADER || bytes[indexAt] !== 0) throw new Error('no index');
  const index = new Numbers(bytes.subarray(indexAt + 1, end - FOOTER));
  let blocks = 0;
  for (let left = index.next(); left > 0; left--) {
    blocks += Math.ceil(index.next() / 4) * 4;
    index.next();
  }
  return HEADER + blocks + indexLength + FOOTER;
}

/** Integers of 7 bits a byte, the lowest first; each byte but the last has bit 7. */
class Numbers {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new Error('unexpected end');
    return byte;
  }

  next(): number {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = this.byte();
      if (shift > 2 ** 49) throw new Error('a number is too long');
      value += (byte & 0x7f) * shift;
      if (byte < 0x80) return value;
    }
  }
}
