/** Texts about a path that cannot be used: what it is, who owns it, and what can be done about it. For all backends. */
import { readFileSync, type Stats, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { EINVAL } from '../base/errno.js';
import { errnoError, hostError, type P2pdmaError } from '../base/errors.js';

const STREAMS =
  'For a pipe or a character device, use a p2pdma stream at one end and a Node stream at the other: examples/gzip-backup.ts.';

/** Filesystems whose files report no size and are generated when they are read. */
const MADE_WHEN_READ = new Set([
  ...['bpf', 'cgroup', 'cgroup2', 'configfs', 'debugfs', 'efivarfs', 'fusectl', 'proc', 'pstore'],
  ...['resctrl', 'securityfs', 'selinuxfs', 'sysfs', 'tracefs'],
]);

/** If it has no offsets and no size, what it is, in words; otherwise null. */
export function specialFile(stats: Stats): string | null {
  if (stats.isCharacterDevice()) return 'a character device';
  if (stats.isFIFO()) return 'a pipe (FIFO)';
  return stats.isSocket() ? 'a socket' : null;
}

/** Null if bytes can be copied from and to it at any offset: regular files and block devices. */
export function notCopyable(path: string, stats: Stats): P2pdmaError | null {
  const what = specialFile(stats);
  if (what === null) return null;
  return errnoError(-EINVAL, 'open', path, {
    what: `it is ${what}, which has no offsets and no size`,
    hint: `Name a namespace, a block device or a regular file. ${STREAMS}`,
  });
}

/**
 * For a file of size 0: null if it is really empty.
 * @param peek  reads a byte at 0 and checks the size again: true if there is a byte and the size is still 0
 */
export function notEmpty(path: string, fileSystem: string | null, peek: () => boolean): P2pdmaError | null {
  const made = fileSystem !== null && MADE_WHEN_READ.has(fileSystem);
  if (!made && !peek()) return null;
  const of = fileSystem === null ? '' : ` of ${fileSystem}`;
  return errnoError(-EINVAL, 'open', path, {
    what: `a file${of} that says size 0 and is made when it is read`,
    hint: `Copy it to a regular file first: cat '${path}' > file.`,
  });
}

/** stat(); null if nothing is there. @throws P2pdmaError ENOTDIR, EACCES, ELOOP, ENAMETOOLONG */
export function statOrNull(path: string): Stats | null {
  try {
    return statSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    const hint = code === 'EACCES' ? accessHint(path) : undefined;
    throw hostError(error as NodeJS.ErrnoException, 'open', path, { hint });
  }
}

/** The hint for EACCES and EPERM on `path`: what it is, who owns it, and how this user can get access. */
export function accessHint(path: string, who = process.geteuid?.() ?? 0): string {
  let stats: Stats;
  let seen = path;
  try {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there === undefined) seen = dirname(resolve(path));
    stats = there ?? statSync(seen);
  } catch {
    return `'${path}' cannot be looked at: a directory above it is closed to this user.`;
  }
  const { uid, gid, mode } = stats;
  const device = stats.isBlockDevice() || stats.isCharacterDevice() || path.endsWith('/p2pmem/allocate');
  const owner = nameOf('/etc/passwd', uid);
  const group = nameOf('/etc/group', gid);
  const bits = (mode & 0o777).toString(8).padStart(4, '0');
  const what = stats.isDirectory() ? `the directory '${seen}'` : `'${seen}'`;
  const whose = `${what} belongs to ${owner}:${group} with mode ${bits}`;
  if (who === 0) {
    return device
      ? `${whose}, and root is refused: the device rules of a container (docker run --device, DeviceAllow=), a mount with nodev, or kernel lockdown.`
      : `${whose}, and root is refused: it is immutable (lsattr), on a network filesystem that squashes root, or a security module forbids it.`;
  }
  if (!device) {
    return uid === 0 ? `${whose}: run as root.` : `${whose}: run as ${owner} or as root.`;
  }
  const groupMay = (mode & 0o060) === 0o060 && gid !== 0;
  const way = groupMay
    ? `join group ${group} (usermod -aG ${group} <user>)`
    : 'add a udev rule that gives it to a group';
  return `${whose}: ${way}, or run as root.`;
}

/** The hint for EROFS. */
export function readOnlyHint(path: string): string {
  let device = false;
  try {
    device = statSync(path).isBlockDevice();
  } catch {
    // The file does not exist: it was going to be created.
  }
  return device
    ? `The device is set read-only: \`blockdev --setrw ${path}\` if it may be written (not if the drive is write-protected).`
    : 'Its filesystem is mounted read-only: remount it, or write elsewhere.';
}

/** The name of a user or group id. */
function nameOf(table: string, id: number): string {
  try {
    for (const line of readFileSync(table, 'utf8').split('\n')) {
      const [name, , number] = line.split(':');
      if (Number(number) === id && name) return name;
    }
  } catch {
    // Without the table, the number is used.
  }
  return String(id);
}
