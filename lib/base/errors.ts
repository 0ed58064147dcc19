import { EIO, ERRNO_ROWS, type ErrnoName, errnoName, knownErrno } from './errno.js';
import { type Sentence, said } from './sentence.js';

/** What an error code means, and what to do about it in general. @inline */
export interface ErrorAdvice {
  /** Why a call fails with it. */
  readonly cause: string;
  /** What helps; an error's own `hint` may say it more precisely. */
  readonly remedy: string;
}

interface CodeRow {
  readonly cause: string;
  readonly remedy: Sentence;
}

/** Bad arguments use Node's own codes, so that code written for node:fs keeps working. */
const ARGUMENT_ROWS = {
  ERR_INVALID_ARG_TYPE: {
    cause: 'An argument or option has the wrong type.',
    remedy: 'Pass a value of the type that the message names.',
  },
  ERR_INVALID_ARG_VALUE: {
    cause: 'An argument or option is not an allowed value, or contradicts another one.',
    remedy: 'Pass one of the values that the message names.',
  },
  ERR_UNKNOWN_ENCODING: {
    cause: 'The encoding is not a text encoding that Node supports.',
    remedy: 'Use an encoding that Buffer.isEncoding() accepts, or leave the option out to get bytes.',
  },
  ERR_OUT_OF_RANGE: {
    cause: 'A number is outside the allowed range.',
    remedy: 'Pass a value inside the range that the message names.',
  },
  ERR_INVALID_URL_SCHEME: {
    cause: 'A URL was given as a path, and it does not begin with file:.',
    remedy: 'Pass a path, or a URL that begins with file:.',
  },
  ERR_INVALID_STATE: {
    cause: 'The handle is closed, or its only web stream was created before.',
    remedy: 'Keep the web stream that readableWebStream() returned first, or open another handle.',
  },
  ERR_STREAM_DESTROYED: {
    cause: 'The stream, target or system was already closed when the call was made.',
    remedy: 'Open a new one.',
  },
  ABORT_ERR: {
    cause: 'The AbortSignal given in the options was aborted.',
    remedy: 'There is nothing to fix; the error’s cause is the signal’s reason.',
  },
} as const satisfies Record<string, CodeRow>;

const OUR_ROWS = {
  ERR_P2P_REQUIRED: {
    cause: 'Peer-to-peer was required, but is not possible here.',
    remedy: (option) =>
      `Drop ${option('requireP2p')} to allow a fallback to host memory, or fix what the message names.`,
  },
  ERR_CHUNK_TOO_LARGE: {
    cause: 'A single chunk is larger than the provider’s CMB.',
    remedy: (option) => `Make ${option('highWaterMark')} smaller than the CMB, or name another provider.`,
  },
  ERR_OVERLAP: {
    cause: 'Source and destination overlap, so that data would be overwritten before it is read.',
    remedy: 'Choose a destination that does not overlap the source.',
  },
  ERR_MACHINE_INVALID: {
    cause: 'The machine description does not follow its schema, or contradicts itself.',
    remedy: 'Correct it at the place that the message names; the schema is in schema/.',
  },
  ERR_BACKEND_UNAVAILABLE: {
    cause: 'The backend cannot be used on this computer.',
    remedy:
      'Fix what the message names. To try it out without this backend, name an emulated machine; it is never used unless you ask for it.',
  },
  ERR_SHORT_TRANSFER: {
    cause: 'The device transferred fewer bytes than requested and then stopped; it may have been removed.',
    remedy: 'Check that the drive is still there; the receipt says how much was transferred.',
  },
  ERR_VERIFY_MISMATCH: {
    cause: 'The destination does not contain the data that was sent.',
    remedy: (option) =>
      `Do not trust this route; copy with ${option('provider', 'none')}. If you used that already, suspect the memory, the cable or the drive.`,
  },
  ERR_JOURNAL_DAMAGED: {
    cause: 'The journal is damaged: its lines are not consistent.',
    remedy: 'Remove it, and copy from the beginning.',
  },
  ERR_JOURNAL_MISMATCH: {
    cause: 'The journal belongs to another copy.',
    remedy: 'Use the journal of this copy, or remove it to copy from the beginning.',
  },
  ERR_NOT_LENT: {
    cause: 'The value that was released is not a chunk lent by a stream, or was already released.',
    remedy: 'Release only lent chunks, and each of them once.',
  },
  ERR_TARGET_CLOSED: { cause: 'The target was closed.', remedy: 'Open it again.' },
} as const satisfies Record<string, CodeRow>;

const ROWS = { ...ARGUMENT_ROWS, ...ERRNO_ROWS, ...OUR_ROWS } as const satisfies Record<string, CodeRow>;

/**
 * Every code that a P2pdmaError can carry, with its cause (why a call fails with it) and remedy (what helps; an error's own
 * `hint` may be more precise). The set is closed: callers may switch over it. Kernel errors keep the kernel's names (as
 * `node:fs` errors do), bad arguments keep Node's, and the rest are this package's.
 */
export const ERROR_CODES = Object.fromEntries(
  Object.entries(ROWS).map(([code, { cause, remedy }]) => [code, { cause, remedy: said(remedy) }]),
) as { readonly [Code in keyof typeof ROWS]: ErrorAdvice };

/** The codes of this package; `ERROR_CODES` has the cause and remedy of each. */
export type ErrorCode = keyof typeof ERROR_CODES;

export interface P2pdmaErrorOptions {
  /** A negative Linux errno, if the kernel (or the emulated one) gave it. */
  errno?: number | undefined;
  /** The operation that failed, as in node:fs errors: `'read'`, `'write'`, `'mmap'`, … */
  syscall?: string | undefined;
  /** The path or name that it concerned. */
  path?: string | undefined;
  /** Offset in `path`, in bytes: where the failed transfer began, or where the first difference is. */
  offset?: number | undefined;
  /** The name of the errno with which the message begins. */
  begins?: string | undefined;
  /** The option that was rejected, by its name in the library. */
  option?: string | undefined;
  /** The value that was received instead. */
  received?: unknown;
  /** What it must be, in words that follow "must be". */
  demand?: string | undefined;
  /** What to do next; default: the code's general remedy. */
  hint?: Sentence | undefined;
  cause?: unknown;
}

/**
 * The codes that are Node's own, with the class and name that an error with such a code has in Node:
 *
 *     error instanceof TypeError     // because its prototype is that of TypeError
 *     error instanceof P2pdmaError   // because of the private field that the constructor adds
 */
const AS_IN_NODE = {
  ERR_INVALID_ARG_TYPE: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_INVALID_ARG_VALUE: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_UNKNOWN_ENCODING: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_INVALID_URL_SCHEME: { name: 'TypeError', prototype: TypeError.prototype },
  ERR_OUT_OF_RANGE: { name: 'RangeError', prototype: RangeError.prototype },
  ABORT_ERR: { name: 'AbortError', prototype: null },
} as const satisfies Partial<Record<ErrorCode, { name: string; prototype: Error | null }>>;

/**
 * The only error class of this package. `code` is stable; `hint` says what to do next. As in Node, errors about arguments are
 * also instances of `TypeError` or `RangeError`.
 */
export class P2pdmaError extends Error {
  /** `'P2pdmaError'`; for bad arguments `'TypeError'` or `'RangeError'`, for an abort `'AbortError'`, as in Node. */
  declare readonly name: 'P2pdmaError' | 'TypeError' | 'RangeError' | 'AbortError';
  /** What went wrong, as a stable name. */
  readonly code: ErrorCode;
  /** The negative Linux errno, where the kernel (or the emulated one) gave one. */
  declare readonly errno?: number;
  /** The operation that failed: `'read'`, `'write'`, `'mmap'`, `'open'` … */
  declare readonly syscall?: string;
  /** The path or name that it concerned. */
  declare readonly path?: string;
  /** Offset in `path`, in bytes: where the failed transfer began, or where the first difference is. */
  declare readonly offset?: number;
  /** The option that was rejected, by its name in the library: `'highWaterMark'`. */
  declare readonly option?: string;
  /** The value that was given. */
  declare readonly received?: unknown;
  /** What it has to be, in words: `'a whole number'`. */
  declare readonly demand?: string;
  /** What to do next. */
  readonly hint: string;
  /** Code, message, hint and facts, but not `received`, which JSON may not be able to represent. */
  declare readonly toJSON: () => Record<string, unknown>;
  readonly #message: Sentence;
  readonly #begins: string | undefined;
  /** Only this constructor sets it. It marks a P2pdmaError, whatever the prototype is. */
  readonly #hint: Sentence;

  /** For tests of code that handles such an error. */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions);
  /** @internal */
  constructor(code: ErrorCode, message: Sentence, options?: P2pdmaErrorOptions);
  constructor(code: ErrorCode, message: Sentence, options: P2pdmaErrorOptions = {}) {
    super(
      `${options.begins === undefined ? '' : `${options.begins}: `}${said(message)}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    const { name, prototype } = AS_IN_NODE[code as keyof typeof AS_IN_NODE] ?? OURS;
    this.name = name;
    this.code = code;
    for (const fact of FACTS) {
      if (options[fact] !== undefined) Object.assign(this, { [fact]: options[fact] });
    }
    this.#message = message;
    this.#begins = options.begins;
    this.#hint = options.hint ?? ROWS[code].remedy;
    this.hint = said(this.#hint);
    Object.defineProperty(this, 'toJSON', { value: asJson });
    if (prototype === null) return;
    Object.setPrototypeOf(this, prototype);
    // In Node, the stack of such an error begins with `TypeError [ERR_INVALID_ARG_TYPE]: `.
    const { stack } = this;
    if (stack !== undefined) this.stack = stack.replace(`${name}: `, () => `${name} [${code}]: `);
  }

  /**
   * The message (without the errno's name) and the hint, generated again with the names that options have now. @internal
   */
  static told(error: P2pdmaError): { readonly message: string; readonly hint: string } {
    return { message: said(error.#message), hint: said(error.#hint) };
  }

  /** The same error with another hint. @internal */
  static withHint(error: P2pdmaError, hint: Sentence): P2pdmaError {
    const facts = Object.fromEntries(FACTS.map((fact) => [fact, error[fact]]));
    const { code, cause } = error;
    return new P2pdmaError(code, error.#message, { ...facts, begins: error.#begins, cause, hint });
  }

  /** @internal */
  static override [Symbol.hasInstance](value: unknown): value is P2pdmaError {
    return typeof value === 'object' && value !== null && #hint in value;
  }
}

function asJson(this: P2pdmaError): Record<string, unknown> {
  const { code, message, hint } = this;
  const facts = FACTS.filter((fact) => fact !== 'received' && this[fact] !== undefined);
  return { code, message, hint, ...Object.fromEntries(facts.map((fact) => [fact, this[fact]])) };
}

/** The properties that are set only where they apply. */
export const FACTS = ['errno', 'syscall', 'path', 'offset', 'option', 'received', 'demand'] as const;

const OURS = { name: 'P2pdmaError', prototype: null } as const;

/** How an error differs from the row of its errno. */
export interface ErrnoErrorOptions extends P2pdmaErrorOptions {
  /** Replaces the row's text. */
  what?: string | undefined;
  /** The reason, placed after the path. */
  because?: string | null | undefined;
}

const NOT_STORED =
  'The drive could not store these blocks: see its health log; write elsewhere, or replace it.';

/**
 * The error for a negative errno of `syscall` on `path`: `EREMOTEIO: remote I/O error, write '/dev/nvme1n1'`.
 * An errno without a row becomes EIO with the number in the message.
 */
export function errnoError(
  errno: number,
  syscall: string,
  path: string | null,
  { what, because, ...options }: ErrnoErrorOptions = {},
): P2pdmaError {
  if (!(errno < 0)) throw new RangeError(`${errno} is not a negative errno`);
  const name = knownErrno(errno);
  const text = what ?? (name === null ? `system error ${-errno}` : ERRNO_ROWS[name].text);
  const where = path === null ? '' : ` '${path}'`;
  const at = options.offset === undefined ? '' : ` at offset ${options.offset}`;
  const why = because ? `: ${because}` : '';
  // A drive's flush ends with it as well, for what was written before.
  const written = name === 'ENODATA' && (syscall === 'write' || syscall === 'fsync');
  return new P2pdmaError(name ?? 'EIO', `${text}, ${syscall}${where}${at}${why}`, {
    ...{ errno, begins: errnoName(errno) },
    syscall,
    path: path ?? undefined,
    ...options,
    hint: options.hint ?? (written ? NOT_STORED : undefined),
  });
}

/** As in Node: the signal's reason, if there is a signal, is the cause. */
export function abortError(signal?: AbortSignal): P2pdmaError {
  return new P2pdmaError('ABORT_ERR', 'The operation was aborted', signal && { cause: signal.reason });
}

/** A node:fs error converted to this package's error class, whatever number the platform gives it. */
export function hostError(
  error: { readonly code?: string | undefined; readonly message?: string | undefined },
  syscall: string,
  path: string,
  options: ErrnoErrorOptions = {},
): P2pdmaError {
  const { code, message } = error;
  return code !== undefined && Object.hasOwn(ERRNO_ROWS, code)
    ? errnoError(-ERRNO_ROWS[code as ErrnoName].errno, syscall, path, { cause: error, ...options })
    : errnoError(-EIO, syscall, path, { what: message ?? code, cause: error, ...options });
}
