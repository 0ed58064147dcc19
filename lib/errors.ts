import * as E from './errno.js';

/**
 * Every code a P2pdmaError can carry, each with what it means and what to do in general. A closed set:
 * callers may switch over it. Kernel results keep the kernel's names (as `node:fs` errors do), bad
 * arguments keep Node's, the rest are ours.
 */
export const ERROR_CODES = {
  // Bad arguments: Node's own codes, so that code written for node:fs keeps working.
  ERR_INVALID_ARG_TYPE: 'Pass the type that the message names.',
  ERR_INVALID_ARG_VALUE: 'Pass one of the values that the message names.',
  ERR_OUT_OF_RANGE: 'Pass a value inside the range that the message names.',
  ERR_STREAM_DESTROYED: 'The stream, target or system was closed; open a new one.',
  ABORT_ERR: 'The AbortSignal given in the options was aborted.',

  // The kernel's answers, by the name of their errno.
  EPERM: 'Run with the needed capability, or as root.',
  ENOENT: 'Check the name; `p2pdma list` shows the namespaces there are.',
  EIO: 'The drive reported an error; see the status in the message and the kernel log.',
  ENXIO: 'The device is gone or was never there.',
  EBADF: 'The target is closed, or not open for this direction.',
  EAGAIN: 'Try again.',
  ENOMEM: 'The CMB pool is exhausted: use smaller or fewer chunks, or another provider.',
  EACCES: 'Get access to the file that the message names (its group, or a udev rule), or run as root.',
  EFAULT: 'The memory cannot be used for this: CMB memory cannot be pinned for long.',
  EBUSY: 'The device is mounted or held by something else. Unmount it, or pass force if you are sure.',
  EEXIST: 'The file exists; choose another name or other flags.',
  ENODEV: 'The function has no peer-to-peer memory, or the device was removed.',
  ENOTDIR: 'A part of the path is not a directory.',
  EISDIR: 'Name a file or a device, not a directory.',
  EINVAL: 'Align the address, offset and length as the message says.',
  EMFILE: 'Too many open files: close some, or raise the limit.',
  ENOTTY: 'The device does not know this ioctl: it is not an NVMe namespace.',
  EFBIG: 'The file would become larger than its filesystem allows.',
  ENOSPC: 'The destination is full.',
  EROFS: 'The target is read-only.',
  ERANGE: 'The value is outside what the device accepts.',
  ENOSYS: 'This kernel does not have the call; choose another engine.',
  ENODATA:
    'The media could not deliver this block: it is damaged or was never written with valid protection.',
  ETIME: 'The device did not answer in time.',
  EILSEQ: 'The drive found the data or its protection information wrong.',
  EOPNOTSUPP: 'The target cannot do this operation.',
  ETIMEDOUT: 'The device did not answer in time; the controller was reset.',
  EHWPOISON: 'The memory page failed in hardware and must not be used.',
  ECANCELED: 'The transfer was cancelled.',
  EREMOTEIO: 'This pair cannot do peer-to-peer DMA: `p2pdma explain` says why and what would help.',

  // Ours.
  ERR_P2P_REQUIRED: 'Drop requireP2p to fall back to host memory, or mend what the message names.',
  ERR_CHUNK_TOO_LARGE: 'Make the chunk (highWaterMark × queueDepth) fit the provider’s CMB.',
  ERR_OVERLAP: 'Source and destination overlap; copy to another place.',
  ERR_MACHINE_INVALID: 'Mend the machine description where the message points; the schema is in schema/.',
  ERR_BACKEND_UNAVAILABLE: 'Use another backend, or mend what the message names.',
  ERR_SHORT_TRANSFER:
    'The device moved fewer bytes than asked and would not go on; it may have been removed.',
  ERR_VERIFY_MISMATCH:
    'The destination does not hold what was sent. Do not trust this route: copy with provider none.',
  ERR_HOLDS_DATA:
    'The destination holds what the message names. Confirm on a terminal, or pass --force if it may be destroyed.',
  ERR_INCOMPLETE: 'Less was done than asked: look at the receipt, and copy again.',
  ERR_JOURNAL_DAMAGED: 'The journal cannot be trusted: remove it and copy from the beginning.',
  ERR_JOURNAL_MISMATCH:
    'The journal belongs to another copy: name the one of this copy, or remove it to copy from the beginning.',
  ERR_NOT_LENT: 'Only chunks that a stream lent may be released, and each only once.',
  ERR_TARGET_CLOSED: 'Open the target again.',
} as const;

/** The codes of this package, each with its advice in `ERROR_CODES`. */
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
  /** What to do next; default: the code's general advice. */
  hint?: string | undefined;
  cause?: unknown;
}

/** The one error class of this package. `code` is stable; `hint` says what to do next. */
export class P2pdmaError extends Error {
  /** Always `'P2pdmaError'`. */
  override readonly name = 'P2pdmaError';
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

  /** @internal */
  constructor(code: ErrorCode, message: string, options: P2pdmaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.errno !== undefined) this.errno = options.errno;
    if (options.syscall !== undefined) this.syscall = options.syscall;
    if (options.path !== undefined) this.path = options.path;
    if (options.offset !== undefined) this.offset = options.offset;
    this.hint = options.hint ?? ERROR_CODES[code];
  }
}

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
  ENOSYS: 'not implemented by this kernel',
  ENODATA: 'unrecoverable media error',
  ETIME: 'timer expired',
  EILSEQ: 'data protection error',
  EOPNOTSUPP: 'operation not supported',
  ETIMEDOUT: 'timed out',
  EHWPOISON: 'memory page has a hardware error',
  ECANCELED: 'cancelled',
  EREMOTEIO: 'remote I/O error (memory and device cannot do peer-to-peer DMA)',
};
