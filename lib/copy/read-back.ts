/** What the bytes of a stream that has ended are read back from. */
import type { BlockTarget } from '../backend/backend.js';
import type { P2pReadStream } from '../streams/read-stream.js';
import type { StreamContext } from '../streams/session.js';
import type { P2pWriteStream } from '../streams/write-stream.js';

/** Give `use` a target that it leaves open. */
export type ReadBack = <T>(
  stream: P2pReadStream | P2pWriteStream,
  use: (target: BlockTarget) => Promise<T>,
) => Promise<T>;

/** Opened once more, for as long as it is used. */
export async function readAgain<T>(
  { context, path }: { readonly context: StreamContext; readonly path: string },
  use: (target: BlockTarget) => Promise<T>,
): Promise<T> {
  const target = await context.openTarget(path, {});
  try {
    return await use(target);
  } finally {
    await context.closeTarget(target);
  }
}

/** Whatever is at the stream's path by now. */
export const pathAgain: ReadBack = ({ attachment, path }, use) =>
  readAgain({ context: attachment.context!, path }, use);
