/**
 * Writes a part of a device's block: the block is read, changed and written back, while nothing else in this process writes
 * to it. (For files there is a better method: the page cache accepts any byte range.)
 */
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { transfer } from './transfer.js';

/** `part` fits in the block that contains `offset`. `block` is memory for this block, which the drive can reach. */
export async function mergeIntoBlock(
  target: BlockTarget,
  part: Uint8Array,
  offset: number,
  block: Uint8Array,
  path: PathBytes,
): Promise<void> {
  const within = offset % block.length;
  const place = { view: block, offset: offset - within };
  await transfer(target, { op: 'read', ...place }, path);
  block.set(part, within);
  await transfer(target, { op: 'write', ...place }, path);
}
