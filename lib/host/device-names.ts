/** Rejects names that look like devices but do not exist. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Controller, knownNamespaces } from '../backend/backend.js';
import { ENOENT } from '../base/errno.js';
import { errnoError } from '../base/errors.js';

/** Device names without a directory. */
const DEVICE_NAME =
  /^(nvme\d+(c\d+)?n\d+(p\d+)?|nvme\d+|(sd|vd|xvd|hd)[a-z]+\d*|(md|dm-|loop|ram|zram|pmem|nbd)\d+)$/;

/**
 * After a typing error, a file created under a device's name would receive a whole disk's bytes (in /dev: in memory), and the
 * copy would look successful. So a name that looks like a device's and does not exist is rejected, for reading and for
 * creating. /dev/shm is a file system, so it is allowed.
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
