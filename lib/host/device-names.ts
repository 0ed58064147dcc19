/** Names that devices have, where no device is. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Controller, knownNamespaces } from '../backend/backend.js';
import { ENOENT } from '../base/errno.js';
import { errnoError } from '../base/errors.js';

/** Bare names that devices have. */
const DEVICE_NAME =
  /^(nvme\d+(c\d+)?n\d+(p\d+)?|nvme\d+|(sd|vd|xvd|hd)[a-z]+\d*|(md|dm-|loop|ram|zram|pmem|nbd)\d+)$/;

/**
 * A file in the place of a device, made by a slip of the keyboard, would take a whole disk's bytes (in /dev: in memory) and
 * look like a copy that was done. So what has a device's name and is not there is refused, whether to be read or to be
 * made. /dev/shm is a file system.
 * @throws P2pdmaError ENOENT
 */
export function assertNoDeviceName(
  path: string,
  controllers: readonly Controller[],
  { create }: { readonly create: boolean },
): void {
  const inDev = /^\/dev\/(?!shm\/)/.test(resolve(path));
  if ((!inDev && !DEVICE_NAME.test(path)) || existsSync(path)) return;
  const file = create && !path.includes('/') ? ' For a file of this name, put ./ before it.' : '';
  throw errnoError(-ENOENT, 'open', path, { hint: `${knownNamespaces(controllers, path)}${file}` });
}
