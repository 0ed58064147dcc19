/**
 * Archives: tar, alone or compressed, of /sys and /proc, of sosreport, of hwloc-gather-topology, or of texts. And compressed
 * texts. Nothing is unpacked to disk.
 */
import { Bounds } from './bounds.js';
import { Captured } from './captured.js';
import type { Gathered, Sent } from './sent.js';
import { looksLikeTar, readTar, type TarReader } from './tar.js';
import { packingOf, unpackInto } from './unpack.js';

/** The size of a tar header. */
const HEAD = 512;
const PIECE = 64 * 1024;

/**
 * The texts in an archive or a compressed file; a captured tree in it goes to `into`. Anything else is returned as it is.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE: damaged, of a kind that is not read, or more than is read
 */
export async function openArchive(sent: Sent, into: Gathered): Promise<readonly Sent[]> {
  const packing = packingOf(sent.bytes);
  if (packing === null && !looksLikeTar(sent.bytes)) return [sent];
  const bounds = new Bounds(sent.name, sent.bytes.length);
  const captured = new Captured(sent.name, bounds);
  const tar = await readTar(sent.name, bounds, (entry) => captured.take(entry));
  const content = new TarOrText(tar, sent.name, bounds);
  if (packing === null) {
    for (let at = 0; at < sent.bytes.length; at += PIECE) content.write(sent.bytes.subarray(at, at + PIECE));
  } else {
    await unpackInto(sent, packing, bounds, (chunk) => content.write(chunk));
  }
  const text = content.end();
  if (text !== null) return [{ name: sent.name, bytes: text }];
  captured.putInto(into, packing === null ? 'tar' : `tar.${packing.name}`);
  return captured.texts();
}

/** What was compressed: an archive, which is passed on, or a text, which is kept. */
class TarOrText {
  readonly #tar: TarReader;
  readonly #name: string;
  readonly #bounds: Bounds;
  #isTar: boolean | null = null;
  readonly #chunks: Buffer[] = [];
  #size = 0;

  constructor(tar: TarReader, name: string, bounds: Bounds) {
    this.#tar = tar;
    this.#name = name;
    this.#bounds = bounds;
  }

  write(chunk: Buffer): void {
    if (this.#isTar) {
      this.#tar.write(chunk);
      return;
    }
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    this.#bounds.file(this.#name, this.#size);
    if (this.#isTar === null && this.#size >= HEAD) this.#decide();
  }

  #decide(): void {
    const head = Buffer.concat(this.#chunks);
    this.#isTar = looksLikeTar(head);
    if (!this.#isTar) return;
    this.#chunks.length = 0;
    this.#tar.write(head);
  }

  /** The text; null: it was an archive. */
  end(): Buffer | null {
    if (!this.#isTar) return Buffer.concat(this.#chunks);
    this.#tar.end();
    return null;
  }
}
