/** Errors of the native backend: the kernel's errno with what a user can do about it here. */

import { EACCES, EPERM, EROFS } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';
import type { Sentence } from '../base/sentence.js';
import * as whatIs from '../host/path-advice.js';

/** As errnoError(), with `hint` only if there is one. */
export function nativeError(
  errno: number,
  syscall: string,
  path: string,
  hint: Sentence | null = null,
): P2pdmaError {
  return errnoError(errno, syscall, path, hint === null ? {} : { hint });
}

/** For EACCES, EPERM and EROFS: which file, whose, and how to get at it. Null for others. */
export function accessHint(errno: number, path: string): string | null {
  if (errno === -EROFS) return whatIs.readOnlyHint(path);
  return errno === -EACCES || errno === -EPERM ? whatIs.accessHint(path) : null;
}
