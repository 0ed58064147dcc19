import { PAGE_SIZE } from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import { chunkSize } from './options.js';
import { hostRoute, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { assertChunkFits, SlotPool } from './slot-pool.js';

/** A pool for a reader's chunks, and the route that this pool allows. */
export interface ChunkPool {
  readonly route: Route;
  /** Size of one chunk in bytes. */
  readonly chunk: number;
  /** Null: peer-to-peer is required, and it is not possible. */
  readonly pool: SlotPool | null;
}

interface Wanted {
  readonly highWaterMark: number | undefined;
  readonly queueDepth: number;
  /** The largest logical block of all ends. */
  readonly block: number;
  /** The number of bytes to read, as far as it is known, counted from the start of the block that contains the first one. */
  readonly bytes: number;
  /** The number of writers that get the chunks. */
  readonly writers: number;
  /** Fail rather than use host memory. */
  readonly required: boolean;
}

/** Get a pool for this route. If its CMB has no room left, get a pool in host memory, and state this in the route. */
export function takeChunkPool(context: StreamContext, route: Route, wanted: Wanted): ChunkPool {
  const { highWaterMark, block, required } = wanted;
  const { provider } = route;
  // Reading one byte beyond the known end shows whether a file has grown.
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

/** If there is room for one chunk but not for the pages that are kept free, make the chunk shorter by what is missing. */
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
