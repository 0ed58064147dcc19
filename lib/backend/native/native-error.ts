/** Errors of the native backend: the kernel's errno with what a user can do about it here. */
import { readFileSync, statSync } from 'node:fs';
import { EACCES, EPERM } from '../../errno.js';
import { errnoError, type P2pdmaError } from '../../errors.js';

/** As errnoError(), with `hint` only if there is one. */
export function nativeError(
  errno: number,
  syscall: string,
  path: string,
  hint: string | null = null,
): P2pdmaError {
  return errnoError(errno, syscall, path, hint === null ? {} : { hint });
}

/** For EACCES and EPERM: which file, whose, and how to get at it. Null for others. */
export function accessHint(errno: number, path: string): string | null {
  if (errno !== -EACCES && errno !== -EPERM) return null;
  try {
    const { mode, uid, gid } = statSync(path);
    const bits = (mode & 0o777).toString(8).padStart(4, '0');
    const group = nameOf('/etc/group', gid);
    const groupMay = (mode & 0o060) === 0o060 && gid !== 0;
    return (
      `'${path}' belongs to ${nameOf('/etc/passwd', uid)}:${group} with mode ${bits}: ` +
      (groupMay
        ? `join group ${group} (usermod -aG ${group} <user>), `
        : 'add a udev rule that gives it to a group, ') +
      'or run as root.'
    );
  } catch {
    return `'${path}' cannot be looked at: a directory above it is closed to this user.`;
  }
}

/** The name of a user or group id. */
function nameOf(table: string, id: number): string {
  try {
    for (const line of readFileSync(table, 'utf8').split('\n')) {
      const [name, , number] = line.split(':');
      if (Number(number) === id && name) return name;
    }
  } catch {
    // Without the table the number has to do.
  }
  return String(id);
}
