/**
 * bzip2, decoded by the package seek-bzip. It checks the sums of blocks and streams, but takes a file that ends after a whole
 * block for complete. So the end is looked for here: a stream ends with a magic number and a checksum, which begin at any bit.
 */
import type { Sink } from './sent.js';

const END_OF_STREAM = 0x177245385090n;
/** The magic and the checksum: 48 and 32 bits, then up to 7 bits of padding. */
const END_BYTES = 11;
const CHUNK = 64 * 1024;

/** What is used of the package, which has no types. */
interface Bzip2 {
  /** Throws if the data is damaged. `multistream`: several streams may follow each other, as pbzip2 writes them. */
  decode(input: Input, output: Output, multistream: boolean): void;
}

export async function bunzip2(bytes: Buffer, sink: Sink): Promise<void> {
  if (!endsWhole(bytes)) throw new Error('no end of stream');
  // @ts-expect-error It has no types.
  const untyped: { default: Bzip2 } = await import('seek-bzip');
  const output = new Output(sink);
  untyped.default.decode(new Input(bytes), output, true);
  output.flush();
}

function endsWhole(bytes: Buffer): boolean {
  let tail = 0n;
  for (const byte of bytes.subarray(-END_BYTES)) tail = (tail << 8n) | BigInt(byte);
  for (let padding = 0n; padding < 8n; padding++) {
    if (BigInt.asUintN(48, tail >> (32n + padding)) === END_OF_STREAM) return true;
  }
  return false;
}

class Input {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  readByte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new Error('unexpected end');
    return byte;
  }

  read(into: Uint8Array, offset: number, length: number): number {
    for (let i = 0; i < length; i++) into[offset + i] = this.readByte();
    return length;
  }

  eof(): boolean {
    return this.#at >= this.#bytes.length;
  }
}

class Output {
  readonly #sink: Sink;
  #chunk = Buffer.alloc(CHUNK);
  #used = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  writeByte(byte: number): void {
    this.#chunk[this.#used++] = byte;
    if (this.#used === CHUNK) this.flush();
  }

  flush(): void {
    const full = this.#chunk.subarray(0, this.#used);
    this.#chunk = Buffer.alloc(CHUNK);
    this.#used = 0;
    if (full.length > 0) this.#sink(full);
  }
}
