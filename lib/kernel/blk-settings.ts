/**
 * Mirrors blk_stack_limits() of block/blk-settings.c (7.2): a stacked device accepts only what every device below it
 * accepts. Before 7.2 this function did not handle peer memory, and a stacked device never took it.
 */
import type { BlkQueueLimits } from './bio.js';

/** `pciP2pdma`: the stacked device passes peer memory on. */
export function blkStackLimits(
  below: readonly BlkQueueLimits[],
  { pciP2pdma }: { readonly pciP2pdma: boolean },
): BlkQueueLimits {
  const least = (of: (limits: BlkQueueLimits) => number): number => Math.min(...below.map(of));
  const most = (of: (limits: BlkQueueLimits) => number): number => Math.max(...below.map(of));
  const chunks = below.map(({ chunk = 0 }) => chunk).filter((chunk) => chunk > 0);
  return {
    logicalBlockSize: most((limits) => limits.logicalBlockSize),
    dmaAlignment: most((limits) => limits.dmaAlignment),
    maxTransfer: least((limits) => limits.maxTransfer),
    maxSegments: least((limits) => limits.maxSegments),
    maxSegmentSize: least((limits) => limits.maxSegmentSize),
    virtBoundary: most((limits) => limits.virtBoundary),
    chunk: chunks.length === 0 ? 0 : Math.min(...chunks),
    pciP2pdma: pciP2pdma && below.every((limits) => limits.pciP2pdma),
  };
}
