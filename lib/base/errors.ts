import * as E from './errno.js';

/** What an error code means, and what to do about it in general. */
export interface ErrorAdvice {
  /** Why a call ends with it. */
  readonly cause: string;
  /** What helps; an error's own `hint` may say it more precisely. */
  readonly remedy: string;
}

const unreachable: ErrorAdvice = {
  cause: 'The server or fabric that holds the data could not be reached, or ended the connection.',
  remedy: 'See whether it is up and the network carries it; then open it again.',
};
const network = {
  ENETDOWN: unreachable,
  ENETUNREACH: unreachable,
  ECONNABORTED: unreachable,
  ECONNRESET: unreachable,
  ENOBUFS: {
    cause: 'The network had no memory for the request.',
    remedy: 'Try again, with fewer transfers in flight.',
  },
  ENOTCONN: unreachable,
  ESHUTDOWN: unreachable,
  ECONNREFUSED: unreachable,
  EHOSTDOWN: unreachable,
  EHOSTUNREACH: unreachable,
} as const satisfies Record<string, ErrorAdvice>;

const keyNeeded: ErrorAdvice = {
  cause: 'The file is encrypted, and its key is missing, expired, revoked or wrong.',
  remedy: 'Add the key (`fscryptctl`, `keyctl`), then open the file again.',
};
const keys = {
  ENOKEY: keyNeeded,
  EKEYEXPIRED: keyNeeded,
  EKEYREVOKED: keyNeeded,
  EKEYREJECTED: keyNeeded,
} as const satisfies Record<string, ErrorAdvice>;

/**
 * Every code a P2pdmaError can carry, with its cause and remedy. A closed set: callers may switch over it. Kernel
 * results keep the kernel's names (as `node:fs` errors do), bad arguments keep Node's, the rest are ours.
 */
export const ERROR_CODES = {
  // Bad arguments: Node's own codes, so that code written for node:fs keeps working.
  ERR_INVALID_ARG_TYPE: {
    cause: 'An argument or option has another type than it takes.',
    remedy: 'Pass the type that the message names.',
  },
  ERR_INVALID_ARG_VALUE: {
    cause: 'An argument or option is none of what it may be, or contradicts another.',
    remedy: 'Pass one of the values that the message names.',
  },
  ERR_UNKNOWN_ENCODING: {
    cause: 'The encoding is none that text can have.',
    remedy: 'Name one that Buffer.isEncoding() knows, or leave it out for bytes.',
  },
  ERR_OUT_OF_RANGE: {
    cause: 'A number lies outside the range that it may have here.',
    remedy: 'Pass a value inside the range that the message names.',
  },
  ERR_STREAM_DESTROYED: {
    cause: 'The stream, target or system was closed before this was asked of it.',
    remedy: 'Open a new one.',
  },
  ABORT_ERR: {
    cause: 'The AbortSignal given in the options was aborted.',
    remedy: 'Nothing to mend; the error’s cause is the signal’s reason.',
  },

  // The kernel's answers, by the name of their errno.
  EPERM: {
    cause: 'The kernel wants a capability for this (raw commands, io_uring where it is restricted).',
    remedy: 'Run with the needed capability, or as root.',
  },
  ENOENT: {
    cause: 'There is no file, device or namespace of that name.',
    remedy: 'Check the name; `p2pdma list` shows the namespaces there are.',
  },
  EIO: { cause: 'The drive reported an error.', remedy: 'See the status in the message and the kernel log.' },
  ENXIO: {
    cause: 'The device is gone or was never there, or the offset lies beyond it.',
    remedy: 'Check that the drive is still there: `p2pdma list`.',
  },
  EBADF: {
    cause: 'The target is closed, or not open for this direction.',
    remedy: 'Open it again, for writing if it is to be written.',
  },
  EAGAIN: {
    cause: 'The kernel had no room for the request, even after many tries.',
    remedy: 'Try again, with fewer transfers in flight.',
  },
  ENOMEM: {
    cause: 'The CMB pool is exhausted, or the machine’s memory.',
    remedy: 'Use smaller or fewer chunks, or another provider.',
  },
  EACCES: {
    cause: 'A file may not be opened: the device, or the provider’s p2pmem/allocate.',
    remedy:
      'Run as the owner of the file that the message names, or as root; a device may be given to a group.',
  },
  EFAULT: {
    cause: 'The memory cannot be used for this: it is gone, or is CMB memory that would be pinned for long.',
    remedy: 'Use memory that is still mapped; for registered buffers, host memory.',
  },
  EBUSY: {
    cause: 'The device is mounted or held by something else.',
    remedy: 'Unmount it, or pass force if you are sure.',
  },
  EEXIST: { cause: 'The file exists, and was to be made.', remedy: 'Choose another name or other flags.' },
  ENODEV: {
    cause: 'The function has no peer-to-peer memory, or the device was removed.',
    remedy: 'See `p2pdma list` for what has some.',
  },
  ENOTDIR: { cause: 'A part of the path is not a directory.', remedy: 'Check the path.' },
  EISDIR: { cause: 'The path is a directory.', remedy: 'Name a file or a device.' },
  EINVAL: {
    cause:
      'The device does not take this address, offset or length; or, with a peer’s memory from Linux 6.17 on, the kernel allows no peer-to-peer DMA for this pair.',
    remedy: 'Align them as the message says; for a peer’s memory see `p2pdma explain`.',
  },
  EMFILE: { cause: 'Too many files are open.', remedy: 'Close some, or raise the limit (`ulimit -n`).' },
  ENOTTY: {
    cause: 'The device does not know this ioctl: it is not an NVMe namespace.',
    remedy: 'Name an NVMe namespace or its generic device.',
  },
  EFBIG: {
    cause: 'The file would become larger than its filesystem or a limit allows.',
    remedy: 'Write less, or elsewhere.',
  },
  ENOSPC: {
    cause: 'The destination is full, or ends before the data does.',
    remedy: 'Make room, or copy less (`end`).',
  },
  EROFS: {
    cause: 'The target is read-only.',
    remedy: 'Make it writable (a device: `blockdev --setrw`; a filesystem: remount it), or write elsewhere.',
  },
  ERANGE: {
    cause: 'The value is outside what the device accepts.',
    remedy: 'Use a value that the device reports as possible.',
  },
  ENAMETOOLONG: {
    cause: 'A name in the path, or the whole path, is longer than the filesystem takes.',
    remedy: 'Use a shorter one.',
  },
  ELOOP: {
    cause: 'The path leads through symbolic links that point at each other.',
    remedy: 'Mend the links: `namei` shows them.',
  },
  ENOSYS: { cause: 'This kernel does not have the call.', remedy: 'Choose another engine.' },
  EINTR: {
    cause: 'A signal, or the reset of a controller, ended the call before it was done.',
    remedy: 'Try again; after a reset see the kernel log.',
  },
  ENOTBLK: { cause: 'The path is not a block device, and one is needed.', remedy: 'Name a block device.' },
  EXDEV: {
    cause: 'The operation would cross from one filesystem, or quota project, to another.',
    remedy: 'Keep both ends on one filesystem.',
  },
  ENFILE: {
    cause: 'The system has no room for another open file.',
    remedy: 'Close files, or raise the limit (`sysctl fs.file-max`).',
  },
  ETXTBSY: {
    cause: 'The file is in use as a program or as swap.',
    remedy: 'Stop the program or the swap, or write to another file and rename it.',
  },
  ESPIPE: {
    cause: 'The file has no positions: it is a pipe or a socket.',
    remedy: 'Name a file or a device.',
  },
  EPIPE: { cause: 'Nobody reads the other end any more.', remedy: 'Look at why the reader ended.' },
  EDEADLK: {
    cause: 'Waiting for this lock would wait for ever.',
    remedy: 'Let the other one who holds a lock on the file end first.',
  },
  ENOLCK: {
    cause: 'The filesystem has no lock to give; a network filesystem’s lock service may be down.',
    remedy: 'Look at the lock service of its server, or use a local filesystem.',
  },
  EBADE: {
    cause: 'The drive is reserved by another host (reservation conflict).',
    remedy: 'Release the reservation on the other host: `nvme resv-report` shows whose it is.',
  },
  ENOLINK: {
    cause: 'The way to the device is interrupted (transport error).',
    remedy: 'See the kernel log and the state of the link or path: `nvme list-subsys`.',
  },
  EPROTO: {
    cause: 'The device or server answered what the protocol does not allow.',
    remedy: 'See the kernel log; the firmware or the server may be faulty.',
  },
  EBADMSG: {
    cause: 'The filesystem found the data not to be what its checksum says.',
    remedy:
      'Restore the file from a copy, and check the filesystem (`btrfs scrub`, `xfs_repair -n`, `e2fsck -n`).',
  },
  EOVERFLOW: {
    cause: 'A value is larger than the call can say, or a zoned device has no active zone to give.',
    remedy: 'On a zoned device finish or reset zones; else use a smaller offset or length.',
  },
  EREMCHG: {
    cause: 'A mapped device changed its table while the transfer was under way.',
    remedy: 'Try again when the change is done: `dmsetup info` shows it.',
  },
  ETOOMANYREFS: {
    cause: 'A zoned device has no open zone to give.',
    remedy: 'Finish, close or reset zones first.',
  },
  ...network,
  ESTALE: {
    cause: 'The file was removed or replaced on the server that holds it.',
    remedy: 'Open it again; if that fails too, mount the filesystem anew.',
  },
  EUCLEAN: {
    cause: 'The filesystem is damaged: its own structures do not make sense.',
    remedy: 'Unmount it and have it checked (fsck, xfs_repair, btrfs check); copy what can be read first.',
  },
  EDQUOT: {
    cause: 'The quota of the user, group, project or subvolume is used up.',
    remedy: 'Remove something, or have the quota raised: `quota -s` shows it.',
  },
  ENOMEDIUM: { cause: 'The device has no medium in it.', remedy: 'Insert one.' },
  EMEDIUMTYPE: {
    cause: 'The medium in the device is of the wrong kind.',
    remedy: 'Insert one that the device can use.',
  },
  ...keys,
  ENODATA: {
    cause:
      'The media could not deliver this block: it is damaged or was never written with valid protection.',
    remedy: 'Restore the block from a copy; see the drive’s health log.',
  },
  ETIME: {
    cause: 'The device did not answer in time.',
    remedy: 'See the kernel log; the drive may need a reset.',
  },
  EILSEQ: {
    cause: 'The drive found the data or its protection information wrong.',
    remedy: 'Read it again; then treat the block as lost.',
  },
  EOPNOTSUPP: {
    cause: 'The target cannot do this operation.',
    remedy: 'Leave the option out that asks for it.',
  },
  ETIMEDOUT: {
    cause: 'The device did not answer in time; the controller was reset.',
    remedy: 'See the kernel log, and try again.',
  },
  EHWPOISON: {
    cause: 'A page of memory failed in hardware.',
    remedy: 'Do not use this memory; restart the machine soon.',
  },
  ECANCELED: {
    cause: 'The transfer was cancelled, because its target or system was closed.',
    remedy: 'Close after the last transfer.',
  },
  EREMOTEIO: {
    cause:
      'With a peer’s memory: the kernel allows no peer-to-peer DMA for this pair. With host memory: the drive ended the command with a target error (“critical target error” in the kernel log).',
    remedy:
      'With a peer’s memory: `p2pdma explain` says why and what would help. With host memory: see the kernel log and the drive’s error log.',
  },

  // Ours.
  ERR_P2P_REQUIRED: {
    cause: 'Peer to peer was required, and is not possible here.',
    remedy: 'Drop requireP2p to fall back to host memory, or mend what the message names.',
  },
  ERR_CHUNK_TOO_LARGE: {
    cause: 'One chunk alone is larger than the provider’s CMB.',
    remedy: 'Make highWaterMark smaller than the CMB, or name another provider.',
  },
  ERR_OVERLAP: {
    cause: 'Source and destination overlap: what is to be read would be overwritten.',
    remedy: 'Copy to another place.',
  },
  ERR_MACHINE_INVALID: {
    cause: 'The machine description contradicts its schema or itself.',
    remedy: 'Mend it where the message points; the schema is in schema/.',
  },
  ERR_BACKEND_UNAVAILABLE: {
    cause: 'The backend cannot work here.',
    remedy:
      'Mend what the message names. To try it without, name an emulated machine: nothing emulated takes its place unasked.',
  },
  ERR_SHORT_TRANSFER: {
    cause: 'The device moved fewer bytes than asked and would not go on; it may have been removed.',
    remedy: 'Check that the drive is still there; what was moved is in the receipt.',
  },
  ERR_VERIFY_MISMATCH: {
    cause: 'The destination does not hold what was sent.',
    remedy: 'Do not trust this route: copy with provider none.',
  },
  ERR_HOLDS_DATA: {
    cause: 'The destination holds what the message names.',
    remedy: 'Confirm on a terminal, or pass --force if it may be destroyed.',
  },
  ERR_INCOMPLETE: { cause: 'Less was done than asked.', remedy: 'Look at the receipt, and copy again.' },
  ERR_JOURNAL_DAMAGED: {
    cause: 'The journal cannot be trusted: its lines do not add up.',
    remedy: 'Remove it and copy from the beginning.',
  },
  ERR_JOURNAL_MISMATCH: {
    cause: 'The journal belongs to another copy.',
    remedy: 'Name the one of this copy, or remove it to copy from the beginning.',
  },
  ERR_NOT_LENT: {
    cause: 'What was released is no chunk that a stream lent, or was released before.',
    remedy: 'Release only lent chunks, each once.',
  },
  ERR_TARGET_CLOSED: { cause: 'The target was closed.', remedy: 'Open it again.' },
} as const satisfies Record<string, ErrorAdvice>;

/** The codes of this package; `ERROR_CODES` has the cause and remedy of each. */
export type ErrorCode = keyof typeof ERROR_CODES;

export interface P2pdmaErrorOptions {
  /** A negative Linux errno, if the kernel (or the emulated one) gave it. */
  errno?: number | undefined;
  /** What was being done, as in node:fs errors: `'read'`, `'write'`, `'mmap'`, … */
  syscall?: string | undefined;
  /** What it was done to. */
  path?: string | undefined;
  /** Where in it, in bytes: the transfer that failed began there, or the first byte that differs is there. */
  offset?: number | undefined;
  /** What to do next; default: the code's general remedy. */
  hint?: string | undefined;
  cause?: unknown;
}

/**
 * The codes that are Node's own, and the class and name that such an error has there:
 *
 *     error instanceof TypeError     // by its prototype, which is TypeError's own
 *     error instanceof P2pdmaError   // by what the constructor put into it
 */
const AS_IN_NODE = {
  ERR_INVALID_ARG_TYPE: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_INVALID_ARG_VALUE: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_UNKNOWN_ENCODING: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_OUT_OF_RANGE: { name: 'RangeError', prototype: RangeError.prototype },
  ABORT_ERR: { name: 'AbortError', prototype: null },
} as const satisfies Partial<Record<ErrorCode, { name: string; prototype: Error | null }>>;

/**
 * The one error class of this package. `code` is stable; `hint` says what to do next. Errors about arguments are
 * instances of `TypeError` or `RangeError` too, as Node's are.
 */
export class P2pdmaError extends Error {
  /** `'P2pdmaError'`; of bad arguments `'TypeError'` or `'RangeError'`, of an abort `'AbortError'`: Node's names. */
  declare readonly name: 'P2pdmaError' | 'TypeError' | 'RangeError' | 'AbortError';
  /** What went wrong, by a name that does not change. */
  readonly code: ErrorCode;
  /** The negative Linux errno, where the kernel (or the emulated one) gave one. */
  declare readonly errno?: number;
  /** What was being done: `'read'`, `'write'`, `'mmap'`, `'open'` … */
  declare readonly syscall?: string;
  /** What it was done to. */
  declare readonly path?: string;
  /** Where in it, in bytes: the failed transfer began there, or the first difference is there. */
  declare readonly offset?: number;
  /** What to do next. */
  readonly hint: string;
  /** Only this constructor makes it: the mark of a P2pdmaError, whatever its prototype. */
  readonly #hint: string;

  /** @internal */
  constructor(code: ErrorCode, message: string, options: P2pdmaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const { name, prototype } = AS_IN_NODE[code as keyof typeof AS_IN_NODE] ?? OURS;
    this.name = name;
    this.code = code;
    if (options.errno !== undefined) this.errno = options.errno;
    if (options.syscall !== undefined) this.syscall = options.syscall;
    if (options.path !== undefined) this.path = options.path;
    if (options.offset !== undefined) this.offset = options.offset;
    this.#hint = options.hint ?? ERROR_CODES[code].remedy;
    this.hint = this.#hint;
    if (prototype === null) return;
    Object.setPrototypeOf(this, prototype);
    // Node's stacks of such errors begin `TypeError [ERR_INVALID_ARG_TYPE]: `.
    const { stack } = this;
    if (stack !== undefined) this.stack = stack.replace(`${name}: `, () => `${name} [${code}]: `);
  }

  /** @internal */
  static override [Symbol.hasInstance](value: unknown): value is P2pdmaError {
    return typeof value === 'object' && value !== null && #hint in value;
  }
}

const OURS = { name: 'P2pdmaError', prototype: null } as const;

/**
 * The error for a negative errno of `syscall` on `path`: `EREMOTEIO: remote I/O error, write '/dev/nvme1n1'`.
 * An errno outside the table becomes EIO with the number in the message.
 */
export function errnoError(
  errno: number,
  syscall: string,
  path: string,
  options: P2pdmaErrorOptions = {},
): P2pdmaError {
  const name = E.errnoName(errno);
  const code: ErrorCode = name in ERROR_CODES ? (name as ErrorCode) : 'EIO';
  const detail = errnoText[name] ?? `system error ${Math.abs(errno)}`;
  const where = options.offset === undefined ? '' : ` at offset ${options.offset}`;
  return new P2pdmaError(code, `${name}: ${detail}, ${syscall} '${path}'${where}`, {
    errno: -Math.abs(errno),
    syscall,
    path,
    ...options,
  });
}

/** The first words of an errno's message; the test of errno.ts wants one for each. */
const errnoText: Record<string, string> = {
  EPERM: 'operation not permitted',
  ENOENT: 'no such file, device or namespace',
  EIO: 'input/output error',
  ENXIO: 'no such device or address',
  EBADF: 'not open for this',
  EAGAIN: 'try again',
  ENOMEM: 'out of memory',
  EACCES: 'permission denied',
  EFAULT: 'bad memory for this operation',
  EBUSY: 'device or resource busy',
  EEXIST: 'file already exists',
  ENODEV: 'no such device',
  ENOTDIR: 'not a directory',
  EISDIR: 'illegal operation on a directory',
  EINVAL: 'invalid argument',
  EMFILE: 'too many open files',
  ENOTTY: 'not an NVMe device',
  EFBIG: 'file too large',
  ENOSPC: 'no space left on device',
  EROFS: 'read-only',
  ERANGE: 'out of range',
  ENAMETOOLONG: 'name too long',
  ELOOP: 'too many symbolic links',
  ENOSYS: 'this kernel does not have the call',
  ENODATA: 'unrecoverable media error',
  ETIME: 'timer expired',
  EILSEQ: 'data protection error',
  EOPNOTSUPP: 'operation not supported',
  ETIMEDOUT: 'timed out',
  EHWPOISON: 'memory page has a hardware error',
  ECANCELED: 'cancelled',
  EREMOTEIO: 'remote I/O error',
  EINTR: 'interrupted',
  ENOTBLK: 'block device required',
  EXDEV: 'crosses filesystems',
  ENFILE: 'too many open files in the system',
  ETXTBSY: 'in use as a program or swap',
  ESPIPE: 'illegal seek',
  EPIPE: 'broken pipe',
  EDEADLK: 'would deadlock',
  ENOLCK: 'no locks available',
  EBADE: 'reservation conflict',
  ENOLINK: 'transport error',
  EPROTO: 'protocol error',
  EBADMSG: 'checksum or integrity error',
  EOVERFLOW: 'value too large, or no zone resources',
  EREMCHG: 'mapped device changed',
  ETOOMANYREFS: 'too many open zones',
  ENETDOWN: 'network is down',
  ENETUNREACH: 'network is unreachable',
  ECONNABORTED: 'connection aborted',
  ECONNRESET: 'connection reset',
  ENOBUFS: 'no buffer space',
  ENOTCONN: 'not connected',
  ESHUTDOWN: 'connection shut down',
  ECONNREFUSED: 'connection refused',
  EHOSTDOWN: 'host is down',
  EHOSTUNREACH: 'no route to host',
  ESTALE: 'stale file handle',
  EUCLEAN: 'filesystem is damaged',
  EDQUOT: 'quota exceeded',
  ENOMEDIUM: 'no medium',
  EMEDIUMTYPE: 'wrong medium type',
  ENOKEY: 'required key not available',
  EKEYEXPIRED: 'key has expired',
  EKEYREVOKED: 'key has been revoked',
  EKEYREJECTED: 'key was rejected',
};
