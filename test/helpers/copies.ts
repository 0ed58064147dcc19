import type { LeakReport, System } from '../../lib/index.js';

/** The report that `System.close()` must return. */
export const NOTHING_LEFT: LeakReport = { iovas: 0, pages: 0, slots: 0, requests: 0, handles: 0 };

/** `length` bytes that differ for each seed and do not repeat with a short period. */
export function bytesOf(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state >>> 8;
  }
  return bytes;
}

/** Reads or writes whole blocks of a namespace directly, through host memory and without a stream. */
async function blocks(
  system: System,
  path: string,
  { start, length, bytes }: { start: number; length: number; bytes: Buffer | null },
): Promise<Buffer> {
  const target = await system.target(path, { write: bytes !== null });
  const from = start - (start % 4096);
  const memory = system.allocate(null, Math.ceil((start + length - from) / 4096) * 4096);
  try {
    await target.read(memory.buffer, from);
    if (bytes !== null) {
      memory.buffer.set(bytes, start - from);
      await target.write(memory.buffer, from);
    }
    return Buffer.from(memory.buffer.subarray(start - from, start - from + length));
  } finally {
    memory.free();
    await target.close();
  }
}

/** Reads bytes of a namespace. */
export function peek(system: System, path: string, start: number, length: number): Promise<Buffer> {
  return blocks(system, path, { start, length, bytes: null });
}

/** Writes bytes to a namespace. */
export async function poke(system: System, path: string, start: number, bytes: Buffer): Promise<void> {
  await blocks(system, path, { start, length: bytes.length, bytes });
}
