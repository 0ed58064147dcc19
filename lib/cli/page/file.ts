/** Writes a page into a file that does not exist yet. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { hostError } from '../../base/errors.js';
import { CommandError } from '../errors.js';

/**
 * The file is taken first, so that nothing is computed in vain; if the content cannot be had or written, it is removed again.
 * @throws CommandError EEXIST; P2pdmaError ENOENT, EACCES, ENOSPC, …
 */
export async function createFile(path: string, content: () => Promise<string>): Promise<void> {
  const file = await take(path);
  let whole = false;
  try {
    const text = await content();
    await file.writeFile(text).catch((error: Error) => {
      throw hostError(error, 'write', path);
    });
    whole = true;
  } finally {
    await file.close();
    if (!whole) await rm(path, { force: true });
  }
}

async function take(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw hostError(error as Error, 'open', path);
    throw new CommandError(
      'EEXIST',
      `'${path}' exists, and is not overwritten`,
      'Name another file, or remove it.',
    );
  }
}
