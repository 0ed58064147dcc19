import { PAGE_SIZE } from '../backend/backend.js';
import { P2pdmaError } from '../base/errors.js';
import { chunkSize } from './options.js';
import { hostRoute, type Route } from './route.js';
import type { StreamContext } from './session.js';
import { assertChunkFits, SlotPool } from './slot-pool.js';

/** The most memory for chunks that wait, in bytes. */
const MOST_STOCK = 2 * 1024 * 1024;

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
  // Chunks that are lent wait with their consumer.
  const stock = wanted.writers === 0 ? 0 : stockFor(wanted.queueDepth, chunk);
  const count = (stock: number) => Math.min(2 * wanted.queueDepth + stock, Math.ceil(most / chunk));
  if (provider === null) {
    const spare = wanted.writers === 0 ? null : context.spare;
    return { route, chunk, pool: required ? null : new SlotPool(context, null, chunk, count(stock), spare) };
  }
  // The writers' tails and heads (read-modify-write of part of a block) need a page each.
  const kept = 2 * PAGE_SIZE * wanted.writers;
  const available = context.backend.memory.available(provider);
  const room = Math.floor((available - kept) / chunk);
  // A CMB is small and shared, so half of it is left to others.
  const slots = Math.min(count(0), room);
  const { bytes, fitting } = fit(chunk, Math.max(slots, Math.min(count(stock), Math.floor(room / 2))), {
    available,
    kept,
    block,
  });
  let why = `its pool has ${available} bytes free, a chunk needs ${chunk}`;
  try {
    if (fitting >= 1) return { route, chunk: bytes, pool: new SlotPool(context, provider, bytes, fitting) };
  } catch (error) {
    if (!(error instanceof P2pdmaError) || required) throw error;
    why = error.message;
  }
  return takeChunkPool(context, hostRoute(`provider ${provider.bdf}: ${why}`), wanted);
}

/**
 * How many chunks may wait between being read and being written. Devices complete their transfers in bunches: without a stock,
 * one of them would be idle while the other works. Large chunks keep a device busy for long enough.
 */
function stockFor(queueDepth: number, chunk: number): number {
  return Math.min(2 * queueDepth, Math.floor(MOST_STOCK / chunk));
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
