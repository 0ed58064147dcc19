/**
 * Writes a part of a device's block: the block is read, changed and written back, while nothing else in this process writes
 * to it. (For files there is a better method: the page cache accepts any byte range.)
 */
import type { BlockTarget, PathBytes } from '../backend/backend.js';
import { Canary } from './canary.js';
import { providerOf } from './refusal.js';
import { memoryGone, transfer } from './transfer.js';

/**
 * If hardware drops the peer write that reads the block, what was in the memory before would replace the bytes beside the
 * part, which nobody wanted to change. So peer memory is always watched here.
 *
 * `part` fits in the block that contains `offset`. `block` is memory for this block, which the drive can reach.
 * @throws P2pdmaError ERR_VERIFY_MISMATCH: the peer write was dropped; EFAULT: the memory of the part or of the block went away
 */
export async function mergeIntoBlock(
  target: BlockTarget,
  part: Uint8Array,
  offset: number,
  block: Uint8Array,
  path: PathBytes,
): Promise<void> {
  const bytes = part.length;
  const within = offset % block.length;
  const place = { view: block, offset: offset - within };
  const canary = providerOf(block) === null ? null : new Canary();
  canary?.poison(block);
  await transfer(target, { op: 'read', ...place }, path);
  const lost = canary?.check(block, target.path, place.offset) ?? null;
  if (lost !== null) throw lost;
  if (block.length === 0 || part.length < bytes) throw memoryGone(target, part, offset);
  block.set(part, within);
  await transfer(target, { op: 'write', ...place }, path);
}
