import { PAGE_SIZE } from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import { chunkSize } from './options.js';
import { hostRoute, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { assertChunkFits, SlotPool } from './slot-pool.js';

/** A pool for a reader's chunks, and the route that it is good for. */
export interface ChunkPool {
  readonly route: Route;
  /** Bytes of one chunk. */
  readonly chunk: number;
  /** Null: only peer-to-peer would do, and there is none. */
  readonly pool: SlotPool | null;
}

interface Wanted {
  readonly highWaterMark: number | undefined;
  readonly queueDepth: number;
  /** The largest logical block of all ends. */
  readonly block: number;
  /** How many bytes are to be read, from the beginning of the first one's block, as far as is known. */
  readonly bytes: number;
  /** How many writers the chunks are given to. */
  readonly writers: number;
  /** Peer-to-peer or nothing. */
  readonly required: boolean;
}

/** Get a pool for this route; where its CMB has nothing left, one in host memory, and say so. */
export function takeChunkPool(context: StreamContext, route: Route, wanted: Wanted): ChunkPool {
  const { highWaterMark, block, required } = wanted;
  const { provider } = route;
  // One byte more than is known to be there shows whether a file has grown.
  const most = Math.ceil((Math.max(0, wanted.bytes) + 1) / block) * block;
  const largest = chunkSize(highWaterMark, block, provider?.p2pmem?.size);
  if (provider !== null) assertChunkFits(largest, provider);
  const chunk = Math.min(largest, most);
  const count = Math.min(2 * wanted.queueDepth, Math.ceil(most / chunk));
  if (provider === null) {
    return { route, chunk, pool: required ? null : new SlotPool(context, null, chunk, count) };
  }
  // The writers' tails and heads (read-modify-write of part of a block) need a page each.
  const kept = 2 * PAGE_SIZE * wanted.writers;
  const available = context.backend.memory.available(provider);
  const room = Math.min(count, Math.floor((available - kept) / chunk));
  const { bytes, fitting } = fit(chunk, room, { available, kept, block });
  let why = `its pool has ${available} bytes free, a chunk needs ${chunk}`;
  try {
    if (fitting >= 1) return { route, chunk: bytes, pool: new SlotPool(context, provider, bytes, fitting) };
  } catch (error) {
    if (!(error instanceof P2pdmaError) || required) throw error;
    why = error.message;
  }
  return takeChunkPool(context, hostRoute(`provider ${provider.bdf}: ${why}`), wanted);
}

/** Where there is room for one chunk and not for what is kept besides, the chunk is by so much shorter. */
function fit(
  chunk: number,
  fitting: number,
  pool: { readonly available: number; readonly kept: number; readonly block: number },
): { readonly bytes: number; readonly fitting: number } {
  const { available, kept, block } = pool;
  if (fitting >= 1 || available < chunk) return { bytes: chunk, fitting };
  const left = available - kept;
  const bytes = left - (left % block);
  return bytes >= block ? { bytes, fitting: 1 } : { bytes: chunk, fitting: 0 };
}
