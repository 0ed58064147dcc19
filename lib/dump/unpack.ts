/**
 * Unpacks what is compressed. The kind is recognised by the first bytes, not by the name. Each package is loaded when a file of
 * its kind was sent; gzip is Node's own.
 *
 * Data of every kind is checked for its end: a part is not taken for the whole.
 */
import { Readable } from 'node:stream';
import { P2pdmaError } from '../base/errors.js';
import { type Bounds, damaged } from './bounds.js';
import type { Sent, Sink } from './sent.js';

export interface Packing {
  /** As in the names of files: `'gz'`. */
  readonly name: 'gz' | 'bz2' | 'xz' | 'zst';
  readonly magic: Buffer;
  /** Pass everything to the sink, in pieces. Throws an Error if the data is damaged. */
  readonly unpack: (sent: Sent, sink: Sink) => Promise<void>;
}

const PACKINGS: readonly Packing[] = [
  { name: 'gz', magic: Buffer.from([0x1f, 0x8b, 0x08]), unpack: gunzip },
  {
    name: 'bz2',
    magic: Buffer.from('BZh'),
    unpack: async (sent, sink) => (await import('./bzip2.js')).bunzip2(sent.bytes, sink),
  },
  {
    name: 'xz',
    magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]),
    unpack: async (sent, sink) => (await import('./xz.js')).unxz(sent, sink),
  },
  {
    name: 'zst',
    magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]),
    unpack: async (sent, sink) => (await import('./zstd.js')).unzstd(sent, sink),
  },
];

/** Null: the data is not compressed. */
export function packingOf(bytes: Buffer): Packing | null {
  return PACKINGS.find(({ magic }) => bytes.subarray(0, magic.length).equals(magic)) ?? null;
}

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE: damaged, of a kind that is not read, or more than is read */
export async function unpackInto(sent: Sent, packing: Packing, bounds: Bounds, sink: Sink): Promise<void> {
  try {
    await packing.unpack(sent, (chunk) => {
      bounds.unpacked(chunk.length);
      sink(chunk);
    });
  } catch (error) {
    if (error instanceof P2pdmaError) throw error;
    throw damaged(sent.name, `its ${packing.name} data ends early or was changed (${wordsOf(error)})`);
  }
}

function wordsOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).toLowerCase();
}

async function gunzip({ bytes }: Sent, sink: Sink): Promise<void> {
  const { createGunzip } = await import('node:zlib');
  const source = Readable.from([bytes], { objectMode: false });
  const gunzipped = createGunzip();
  source.pipe(gunzipped);
  try {
    for await (const chunk of gunzipped) sink(chunk as Buffer);
  } finally {
    source.destroy();
    gunzipped.destroy();
  }
}
