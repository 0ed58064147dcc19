/** How the data of a stream that has ended is read back. */
import type { BlockTarget } from '../backend/backend.js';
import type { P2pReadStream } from '../streams/read-stream.js';
import type { StreamContext } from '../streams/session.js';
import type { P2pWriteStream } from '../streams/write-stream.js';

/** Calls `use` with a target, which `use` must not close. */
export type ReadBack = <T>(
  stream: P2pReadStream | P2pWriteStream,
  use: (target: BlockTarget) => Promise<T>,
) => Promise<T>;

/** Opens the path again, and closes it when `use` is done. */
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

/** Reads back whatever the stream's path leads to now. */
export const pathAgain: ReadBack = ({ attachment, meteredPath }, use) =>
  readAgain({ context: attachment.context!, path: meteredPath }, use);
