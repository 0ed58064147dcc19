import type { BlockTarget, IoRequest, PathBytes } from '../../lib/backend/backend.js';

export interface Moved {
  readonly result: number;
  readonly path: PathBytes;
}

export function noBytes(): PathBytes {
  return { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
}

/** One raw transfer, like pread or pwrite with O_DIRECT. The result is a number of bytes or a negative errno. */
export function io(
  target: BlockTarget,
  op: 'read' | 'write',
  offset: number,
  ...segments: Uint8Array[]
): Promise<Moved> {
  return new Promise((resolve) => {
    const request: IoRequest = {
      op,
      offset,
      segments,
      result: Number.NaN,
      path: noBytes(),
      done: ({ result, path }) => resolve({ result, path }),
    };
    target.submit(request);
  });
}

/** Bytes that do not repeat within a megabyte. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const out = new Uint8Array(bytes);
  let x = seed * 2654435761;
  for (let i = 0; i < bytes; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    out[i] = x >>> 24;
  }
  return out;
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
