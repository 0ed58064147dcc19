/**
 * Zstandard, decoded by the package fzstd. It reserves the window that a frame asks for, up to 2 GiB, and moves all of it for
 * each block. So the frames are walked here first: magic, descriptor, window or size, blocks with 3 bytes of header each. fzstd
 * does not compare checksums; like a plain tar, whose contents have none, changed contents are not noticed.
 */
import { size } from '../base/words.js';
import { damaged, notRead } from './bounds.js';
import type { Sent, Sink } from './sent.js';

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const MIB = 2 ** 20;
/** `zstd -19` needs 8 MiB; only --ultra and --long ask for more. */
const MOST_WINDOW = 32 * MIB;
/** Input is passed on in pieces, so that output is counted while it comes out. */
const PIECE = 16 * 1024;

export async function unzstd(sent: Sent, sink: Sink): Promise<void> {
  const frames = framesOf(sent);
  const { Decompress } = await import('fzstd');
  for (const frame of frames) {
    const decoder = new Decompress((chunk) => {
      // The decoder goes on using the memory of some chunks.
      if (chunk.length > 0) sink(Buffer.from(chunk));
    });
    for (let at = 0; at < frame.length; at += PIECE) {
      decoder.push(frame.subarray(at, at + PIECE), at + PIECE >= frame.length);
    }
  }
}

/** The frames with data, each in whole and with a window that is small enough. */
function framesOf(sent: Sent): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < sent.bytes.length; ) {
    const rest = sent.bytes.subarray(at);
    const magic = readLE(rest, 0, 4);
    if ((magic & ~0xf) >>> 0 === SKIPPABLE) {
      at += 8 + readLE(rest, 4, 4);
      if (at > sent.bytes.length) throw new Error('unexpected end');
      continue;
    }
    if (magic !== MAGIC) throw damaged(sent.name, `what begins at its byte ${at} is no zstd frame`);
    const length = frameLength(sent, rest);
    frames.push(rest.subarray(0, length));
    at += length;
  }
  return frames;
}

function frameLength(sent: Sent, frame: Buffer): number {
  const descriptor = readLE(frame, 4, 1);
  const single = (descriptor & 0x20) !== 0;
  const idBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const sizeAt = 5 + (single ? 0 : 1) + idBytes;
  const window = single ? readLE(frame, sizeAt, Math.min(sizeBytes, 6)) : windowOf(readLE(frame, 5, 1));
  const huge = single && sizeBytes === 8 && readLE(frame, sizeAt + 6, 2) !== 0;
  if (huge || window > MOST_WINDOW) {
    const what = `was compressed with a window of more than ${size(MOST_WINDOW)}, which is not read`;
    throw notRead(sent.name, what, 'Unpack it with zstd -d --long=31, and send what comes out.');
  }
  let at = sizeAt + sizeBytes;
  for (let last = false; !last; ) {
    const header = readLE(frame, at, 3);
    last = (header & 1) !== 0;
    const repeated = ((header >> 1) & 3) === 1;
    at += 3 + (repeated ? 1 : header >> 3);
  }
  at += (descriptor & 4) === 0 ? 0 : 4;
  if (at > frame.length) throw new Error('unexpected end');
  return at;
}

function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function readLE(bytes: Buffer, at: number, count: number): number {
  if (at + count > bytes.length) throw new Error('unexpected end');
  return bytes.readUIntLE(at, count);
}
