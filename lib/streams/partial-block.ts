/**
 * A part of a block of a device: the block is read, changed and written back, while nobody else in this process writes
 * to it. (Files have a better way: the page cache writes any bytes.)
 */
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { transfer } from './transfer.js';

/** `part` lies within the block that `offset` lies in; `block` is memory for it, which the drive can reach. */
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
