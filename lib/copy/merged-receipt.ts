import { addPath, zeroPath } from '../backend/path-bytes.js';
import { P2pdmaError } from '../base/errors.js';
import { type Receipt, worse } from '../streams/receipt.js';
import { hostRoute } from '../streams/route.js';

/** What one destination of a copy did. */
export interface Written {
  readonly receipt: Receipt;
  /** Bytes that the kernel has, from the start without a gap. */
  readonly bytesWritten: number;
  /** What could not take the route of the rest, in words; null: nothing. */
  readonly aside: string | null;
}

/**
 * The receipt of a copy, from those of its ends.
 * @param read  null: the source is a stream of another kind
 * @param foreign  an end is a stream of another kind, so all data goes through host memory
 */
export function mergedReceipt(
  read: Receipt | null,
  written: readonly Written[],
  { foreign }: { readonly foreign: boolean },
): Receipt {
  const parts = [...(read === null ? [] : [read]), ...written.map(({ receipt }) => receipt)];
  const first = parts[0];
  if (first === undefined) {
    throw new P2pdmaError(
      'ERR_INVALID_ARG_VALUE',
      'pipeline: neither source nor destination is a p2pdma stream',
    );
  }
  const transport = foreign ? 'host-memory' : parts.map((part) => part.transport).reduce(worse);
  const decisive = parts.find((part) => part.transport === transport) ?? first;
  const why =
    foreign && decisive.transport !== 'host-memory'
      ? hostRoute('an end is not a p2pdma stream').reason
      : decisive.reason;
  // A writer's remark on what it could not do is included once, even if several writers have it. Its own reason ends with it.
  const asides = new Set(written.map(({ aside }) => aside).filter((aside) => aside !== null));
  const told = why === decisive.reason && written.find(({ receipt }) => receipt === decisive)?.aside;
  if (told) asides.delete(told);
  const path = zeroPath();
  for (const part of parts) addPath(path, part.path);
  return {
    // If several destinations ended early, the number of bytes that all of them have.
    bytes: written.length > 0 ? Math.min(...written.map((end) => end.bytesWritten)) : first.bytes,
    seconds: Math.max(...parts.map((part) => part.seconds)),
    backend: first.backend,
    machine: first.machine,
    provider: transport === 'host-memory' ? null : decisive.provider,
    transport,
    reason: [why, ...asides].join('; '),
    unproven: parts.map((part) => part.unproven).find((u) => u !== null) ?? null,
    path,
    verified: false,
    digest: null,
  };
}
