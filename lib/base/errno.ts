/**
 * Linux error numbers (include/uapi/asm-generic/errno*.h), one row each: the number, the first words of a message, what it
 * means, and what helps. They are fixed here and not taken from `os.constants`, because the emulator returns Linux's errors on
 * every platform.
 */
import type { Sentence } from './sentence.js';

interface ErrnoRow {
  readonly errno: number;
  readonly text: string;
  readonly cause: string;
  readonly remedy: Sentence;
}

const unreachable = {
  cause: 'The server or fabric that holds the data could not be reached, or it closed the connection.',
  remedy: 'Check that the server is running and the network reaches it, then open the target again.',
};
const keyNeeded = {
  cause: 'The file is encrypted, and its key is missing, expired, revoked or wrong.',
  remedy: 'Add the key (`fscryptctl`, `keyctl`), then open the file again.',
};

/** All errors that a filesystem, a block device or this package's own calls can return. */
export const ERRNO_ROWS = {
  EPERM: {
    errno: 1,
    text: 'operation not permitted',
    cause:
      'The kernel requires a capability for this operation (raw commands, io_uring where it is restricted).',
    remedy: 'Run with the needed capability, or as root.',
  },
  ENOENT: {
    errno: 2,
    text: 'no such file or directory',
    cause: 'There is no file, device or namespace with this name.',
    remedy: 'Check the name; `p2pdma list` shows the namespaces that exist.',
  },
  EINTR: {
    errno: 4,
    text: 'interrupted',
    cause: 'A signal or the reset of a controller interrupted the call.',
    remedy: 'Try again; after a reset, look at the kernel log.',
  },
  EIO: {
    errno: 5,
    text: 'input/output error',
    cause: 'The drive reported an error.',
    remedy: 'Look at the status in the message, and at the kernel log.',
  },
  ENXIO: {
    errno: 6,
    text: 'no such device or address',
    cause: 'The device does not exist (any more), or the offset is beyond its end.',
    remedy: 'Check that the drive is still there: `p2pdma list`.',
  },
  EBADF: {
    errno: 9,
    text: 'bad file descriptor',
    cause: 'The target is closed, or was not opened for this kind of access (reading or writing).',
    remedy: 'Open it again; to write to it, open it for writing.',
  },
  EAGAIN: {
    errno: 11,
    text: 'try again',
    cause: 'The kernel could not accept the request, even after many attempts.',
    remedy: 'Try again, with fewer transfers in flight.',
  },
  ENOMEM: {
    errno: 12,
    text: 'out of memory',
    cause: 'There is not enough free memory, in the CMB pool or in the machine.',
    remedy: 'Use smaller chunks, fewer chunks or another provider.',
  },
  EACCES: {
    errno: 13,
    text: 'permission denied',
    cause: 'You have no permission to open a file: the device, or the provider’s p2pmem/allocate.',
    remedy:
      'Run as root or as the owner of the file that the message names; for a device, you can also give a group access.',
  },
  EFAULT: {
    errno: 14,
    text: 'bad memory for this operation',
    cause:
      'The memory cannot be used for this operation: it is no longer mapped, or it is CMB memory that would stay pinned for a long time.',
    remedy: 'Use memory that is still mapped; for registered buffers, use host memory.',
  },
  ENOTBLK: {
    errno: 15,
    text: 'block device required',
    cause: 'The path is not a block device, but the operation needs one.',
    remedy: 'Name a block device.',
  },
  EBUSY: {
    errno: 16,
    text: 'device or resource busy',
    cause: 'The device is mounted, or something else is using it.',
    remedy: (option) => `Unmount it, or pass ${option('force')} if you are sure.`,
  },
  EEXIST: {
    errno: 17,
    text: 'file already exists',
    cause: 'The file was to be created, but it already exists.',
    remedy: 'Choose another name, or other flags.',
  },
  EXDEV: {
    errno: 18,
    text: 'crosses filesystems',
    cause: 'The operation would cross from one filesystem or quota project to another.',
    remedy: 'Use a source and a destination on the same filesystem.',
  },
  ENODEV: {
    errno: 19,
    text: 'no such device',
    cause: 'The function has no peer-to-peer memory, or the device was removed.',
    remedy: '`p2pdma list` shows which functions have such memory.',
  },
  ENOTDIR: {
    errno: 20,
    text: 'not a directory',
    cause: 'A component of the path is not a directory.',
    remedy: 'Check the path.',
  },
  EISDIR: {
    errno: 21,
    text: 'illegal operation on a directory',
    cause: 'The path is a directory.',
    remedy: 'Name a file or a device.',
  },
  EINVAL: {
    errno: 22,
    text: 'invalid argument',
    cause:
      'The device does not accept this address, offset or length. With a peer’s memory, from Linux 6.17 on: the kernel does not allow peer-to-peer DMA for this pair.',
    remedy:
      'Align them as the message says. With a peer’s memory, `p2pdma explain` says why and what would help.',
  },
  ENFILE: {
    errno: 23,
    text: 'too many open files in the system',
    cause: 'The system has reached its limit of open files.',
    remedy: 'Close files, or raise the limit (`sysctl fs.file-max`).',
  },
  EMFILE: {
    errno: 24,
    text: 'too many open files',
    cause: 'The process has reached its limit of open files.',
    remedy: 'Close some, or raise the limit (`ulimit -n`).',
  },
  ENOTTY: {
    errno: 25,
    text: 'not an NVMe device',
    cause: 'The device does not support this ioctl, because it is not an NVMe namespace.',
    remedy: 'Name an NVMe namespace or its generic device.',
  },
  ETXTBSY: {
    errno: 26,
    text: 'in use as a program or swap',
    cause: 'The file is in use as a running program or as swap.',
    remedy: 'Stop the program or turn off the swap; or write to another file and rename that.',
  },
  EFBIG: {
    errno: 27,
    text: 'file too large',
    cause: 'The file would become larger than its filesystem or a resource limit allows.',
    remedy: 'Write less, or write to another filesystem.',
  },
  ENOSPC: {
    errno: 28,
    text: 'no space left on device',
    cause: 'The destination is full, or it is smaller than the data.',
    remedy: (option) => `Make room, or copy less (option ${option('end')}).`,
  },
  ESPIPE: {
    errno: 29,
    text: 'invalid seek',
    cause: 'The file is a pipe or a socket, which has no positions.',
    remedy: 'Name a file or a device.',
  },
  EROFS: {
    errno: 30,
    text: 'read-only file system',
    cause: 'The target is read-only.',
    remedy: 'Make it writable (a device: `blockdev --setrw`; a filesystem: remount it), or write elsewhere.',
  },
  EPIPE: {
    errno: 32,
    text: 'broken pipe',
    cause: 'The process that read the other end is gone or has closed it.',
    remedy: 'Find out why the reader ended.',
  },
  ERANGE: {
    errno: 34,
    text: 'out of range',
    cause: 'The value is outside the range that the device accepts.',
    remedy: 'Use a value in the range that the device reports.',
  },
  EDEADLK: {
    errno: 35,
    text: 'would deadlock',
    cause: 'Waiting for this lock would never end.',
    remedy: 'Wait until the other process that holds a lock on the file has ended.',
  },
  ENAMETOOLONG: {
    errno: 36,
    text: 'name too long',
    cause: 'A name in the path, or the whole path, is longer than the filesystem allows.',
    remedy: 'Use a shorter name.',
  },
  ENOLCK: {
    errno: 37,
    text: 'no locks available',
    cause: 'The filesystem has no locks available; on a network filesystem, the lock service may be down.',
    remedy: 'Check the lock service of the server, or use a local filesystem.',
  },
  ENOSYS: {
    errno: 38,
    text: 'this kernel does not have the call',
    cause: 'This kernel does not have this system call.',
    remedy: 'Choose another engine.',
  },
  ELOOP: {
    errno: 40,
    text: 'too many symbolic links encountered',
    cause: 'The path leads through symbolic links that point at each other.',
    remedy: 'Correct the links: `namei` shows them.',
  },
  EBADE: {
    errno: 52,
    text: 'reservation conflict',
    cause: 'The drive is reserved by another host (reservation conflict).',
    remedy: 'Release the reservation on the other host: `nvme resv-report` shows whose it is.',
  },
  ENODATA: {
    errno: 61,
    text: 'unrecoverable media error',
    cause:
      'The medium could not deliver this block: it is damaged, or it was never written with valid protection information. For a write: the drive could not store the block.',
    remedy:
      'For a read, restore the block from a copy; for a write, write elsewhere or replace the drive. Look at its health log.',
  },
  ETIME: {
    errno: 62,
    text: 'timer expired',
    cause: 'The device did not answer in time.',
    remedy: 'Look at the kernel log; the drive may need a reset.',
  },
  ENOLINK: {
    errno: 67,
    text: 'transport error',
    cause: 'The connection to the device is interrupted (transport error).',
    remedy: 'Look at the kernel log, and at the state of the link or path: `nvme list-subsys`.',
  },
  EPROTO: {
    errno: 71,
    text: 'protocol error',
    cause: 'The device or server gave an answer that the protocol does not allow.',
    remedy: 'Look at the kernel log; the firmware or the server may be faulty.',
  },
  EBADMSG: {
    errno: 74,
    text: 'checksum or integrity error',
    cause: 'The filesystem found that the data does not match its checksum.',
    remedy:
      'Restore the file from a copy, and check the filesystem (`btrfs scrub`, `xfs_repair -n`, `e2fsck -n`).',
  },
  EOVERFLOW: {
    errno: 75,
    text: 'value too large, or no zone resources',
    cause: 'A value is too large for the system call, or no active zone is available on a zoned device.',
    remedy: 'On a zoned device, finish or reset zones; otherwise use a smaller offset or length.',
  },
  EREMCHG: {
    errno: 78,
    text: 'mapped device changed',
    cause: 'A mapped device changed its table during the transfer.',
    remedy: 'Try again when the change is complete: `dmsetup info` shows it.',
  },
  EILSEQ: {
    errno: 84,
    text: 'data protection error',
    cause: 'The drive found that the data or its protection information is wrong.',
    remedy: 'Read the block again; if that fails too, treat it as lost.',
  },
  EOPNOTSUPP: {
    errno: 95,
    text: 'operation not supported',
    cause: 'The target does not support this operation.',
    remedy: 'Leave out the option that asks for it.',
  },
  ENETDOWN: { errno: 100, text: 'network is down', ...unreachable },
  ENETUNREACH: { errno: 101, text: 'network is unreachable', ...unreachable },
  ECONNABORTED: { errno: 103, text: 'connection aborted', ...unreachable },
  ECONNRESET: { errno: 104, text: 'connection reset', ...unreachable },
  ENOBUFS: {
    errno: 105,
    text: 'no buffer space',
    cause: 'The network layer had no memory for the request.',
    remedy: 'Try again, with fewer transfers in flight.',
  },
  ENOTCONN: { errno: 107, text: 'not connected', ...unreachable },
  ESHUTDOWN: { errno: 108, text: 'connection shut down', ...unreachable },
  ETOOMANYREFS: {
    errno: 109,
    text: 'too many open zones',
    cause: 'No open zone is available on a zoned device.',
    remedy: 'Finish, close or reset some zones first.',
  },
  ETIMEDOUT: {
    errno: 110,
    text: 'timed out',
    cause: 'The device did not answer in time; the controller was reset.',
    remedy: 'Look at the kernel log, and try again.',
  },
  ECONNREFUSED: { errno: 111, text: 'connection refused', ...unreachable },
  EHOSTDOWN: { errno: 112, text: 'host is down', ...unreachable },
  EHOSTUNREACH: { errno: 113, text: 'no route to host', ...unreachable },
  ESTALE: {
    errno: 116,
    text: 'stale file handle',
    cause: 'The file was removed or replaced on the server that holds it.',
    remedy: 'Open it again; if that fails too, remount the filesystem.',
  },
  EUCLEAN: {
    errno: 117,
    text: 'filesystem is damaged',
    cause: 'The filesystem is damaged: its internal structures are inconsistent.',
    remedy:
      'Copy what can still be read, then unmount the filesystem and check it (fsck, xfs_repair, btrfs check).',
  },
  EREMOTEIO: {
    errno: 121,
    text: 'remote I/O error',
    cause:
      'With a peer’s memory: the kernel does not allow peer-to-peer DMA for this pair. With host memory: the drive ended the command with a target error (“critical target error” in the kernel log).',
    remedy:
      'With a peer’s memory: `p2pdma explain` says why and what would help. With host memory: look at the kernel log and the drive’s error log.',
  },
  EDQUOT: {
    errno: 122,
    text: 'quota exceeded',
    cause: 'The quota of the user, group, project or subvolume is used up.',
    remedy: 'Remove files, or have the quota raised: `quota -s` shows it.',
  },
  ENOMEDIUM: {
    errno: 123,
    text: 'no medium',
    cause: 'The device has no medium in it.',
    remedy: 'Insert a medium.',
  },
  EMEDIUMTYPE: {
    errno: 124,
    text: 'wrong medium type',
    cause: 'The medium in the device is of the wrong kind.',
    remedy: 'Insert a medium that the device supports.',
  },
  ECANCELED: {
    errno: 125,
    text: 'cancelled',
    cause: 'The transfer was cancelled, because its target or system was closed.',
    remedy: 'Close it after the last transfer.',
  },
  ENOKEY: { errno: 126, text: 'required key not available', ...keyNeeded },
  EKEYEXPIRED: { errno: 127, text: 'key has expired', ...keyNeeded },
  EKEYREVOKED: { errno: 128, text: 'key has been revoked', ...keyNeeded },
  EKEYREJECTED: { errno: 129, text: 'key was rejected', ...keyNeeded },
  EHWPOISON: {
    errno: 133,
    text: 'memory page has a hardware error',
    cause: 'A page of memory has a hardware error.',
    remedy: 'Do not use this memory; restart the machine soon.',
  },
} as const satisfies Record<string, ErrnoRow>;

export type ErrnoName = keyof typeof ERRNO_ROWS;

const names = Object.keys(ERRNO_ROWS) as ErrnoName[];

type Numbers = { readonly [Name in ErrnoName]: (typeof ERRNO_ROWS)[Name]['errno'] };

/** The numbers that this package's own code uses. */
export const {
  EACCES,
  EAGAIN,
  EBADE,
  EBADF,
  ECANCELED,
  EBUSY,
  EEXIST,
  EFAULT,
  EHWPOISON,
  EILSEQ,
  EINTR,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENAMETOOLONG,
  ENODATA,
  ENODEV,
  ENOENT,
  ENOLINK,
  ENOMEM,
  ENOSPC,
  ENOTTY,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  EREMOTEIO,
  EROFS,
  ESPIPE,
} = Object.fromEntries(names.map((name) => [name, ERRNO_ROWS[name].errno])) as Numbers;

const byNumber = new Map<number, ErrnoName>(names.map((name) => [ERRNO_ROWS[name].errno, name]));

/** The name of a Linux error number, of either sign, if it has a row. */
export function knownErrno(errno: number): ErrnoName | null {
  return byNumber.get(Math.abs(errno)) ?? null;
}

/**
 * The (positive) Linux error number of an error from the host's node:fs. It is found by the error's code: Deno's write errors
 * have no number, and other systems use other numbers.
 */
export function errnoOf({ code, errno }: NodeJS.ErrnoException): number {
  const named = code !== undefined && Object.hasOwn(ERRNO_ROWS, code);
  return named ? ERRNO_ROWS[code as ErrnoName].errno : Math.abs(errno ?? EIO);
}

/** The name of a Linux error number, of either sign: `errnoName(-121)` is `'EREMOTEIO'`. */
export function errnoName(errno: number): string {
  return knownErrno(errno) ?? `errno ${Math.abs(errno)}`;
}
