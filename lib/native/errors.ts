/** Errors of the native backend: the kernel's errno, with what a user can do about it. */

import { EACCES, EPERM, EROFS } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';
import type { Sentence } from '../base/sentence.js';
import * as whatIs from '../host/path-advice.js';

/** Same as errnoError(), but with `hint` only if there is one. */
export function nativeError(
  errno: number,
  syscall: string,
  path: string,
  hint: Sentence | null = null,
): P2pdmaError {
  return errnoError(errno, syscall, path, hint === null ? {} : { hint });
}

/** The hint for EACCES, EPERM and EROFS: which file it is, who owns it, and how to get access. Null for other errors. */
export function accessHint(errno: number, path: string): string | null {
  if (errno === -EROFS) return whatIs.readOnlyHint(path);
  return errno === -EACCES || errno === -EPERM ? whatIs.accessHint(path) : null;
}
