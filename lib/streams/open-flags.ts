/** The flags of node:fs: text such as `'wx+'`, or a number for open(2). */
import { constants } from 'node:fs';
import { wrongOption } from '../base/arguments.js';

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants;
/** The bits that say whether to read, write or do both; node:fs has no name for them. */
const ACCESS = 3;
const OURS = ACCESS | O_CREAT | O_EXCL | O_TRUNC | (constants.O_DIRECT ?? 0);

const BASE = new Map([
  ['r', { only: O_RDONLY, more: 0 }],
  ['w', { only: O_WRONLY, more: O_TRUNC | O_CREAT }],
  ['a', { only: O_WRONLY, more: O_APPEND | O_CREAT }],
]);
/** `x` goes with `w` and `a`, `s` with `r` and `a`. */
const WORD = /^(?:([xs]?)([rwa])|([rwa])([xs]))(\+?)$/;

/**
 * As node:fs reads them; null is `'r'`, as there. The option tables let any value through to here.
 * @throws P2pdmaError ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE
 */
export function openFlags(flags: string | number | null): number {
  if (flags === null) return O_RDONLY;
  if (typeof flags === 'number') return bitsOf(flags);
  const match = typeof flags === 'string' ? WORD.exec(flags) : null;
  const [, before = '', second = '', first = '', after = '', plus] = match ?? [];
  const letter = second || first;
  const extra = before || after;
  const base = BASE.get(letter);
  if (base === undefined || (extra === 'x' && letter === 'r') || (extra === 's' && letter === 'w')) {
    throw wrongOption('flags', { code: 'ERR_INVALID_ARG_VALUE', demand: KNOWN, received: flags });
  }
  const also = extra === 'x' ? O_EXCL : extra === 's' ? (constants.O_SYNC ?? 0) : 0;
  return (plus === '+' ? O_RDWR : base.only) | base.more | also;
}

function bitsOf(flags: number): number {
  if (Number.isInteger(flags) && Math.abs(flags) < 2 ** 31) return flags;
  const demand = 'a whole number of 32 bits';
  throw wrongOption('flags', { code: 'ERR_OUT_OF_RANGE', demand, received: flags });
}

const KNOWN = "flags of node:fs: 'r', 'w' or 'a', with 'x', 's' or '+'";

/** What a stream asks of open(2), and whether this package's own I/O can serve it. */
export interface Opening {
  /** For open(2). */
  readonly bits: number;
  readonly read: boolean;
  /** As the backend opens it. */
  readonly write: boolean;
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly truncate: boolean;
  /** Why node:fs itself has to open and use it, in words; null: there is no such reason. */
  readonly plain: string | null;
}

type Role = 'reader' | 'writer' | 'both';

/** What flags in words mean, which are the same for most streams. */
const known: Record<Role, Map<string, Opening>> = { reader: new Map(), writer: new Map(), both: new Map() };

/** @throws P2pdmaError ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE */
export function openingOf(flags: string | number | null, role: Role): Opening {
  if (typeof flags !== 'string') return meaningOf(openFlags(flags), role);
  const before = known[role].get(flags);
  if (before !== undefined) return before;
  const opening = meaningOf(openFlags(flags), role);
  known[role].set(flags, opening);
  return opening;
}

function meaningOf(bits: number, role: Role): Opening {
  const access = bits & ACCESS;
  return {
    bits,
    read: access !== O_WRONLY,
    write: access !== O_RDONLY,
    create: (bits & O_CREAT) !== 0,
    exclusive: (bits & O_EXCL) !== 0,
    truncate: (bits & O_TRUNC) !== 0,
    plain: whyPlain(bits, access, role),
  };
}

function whyPlain(bits: number, access: number, role: Role): string | null {
  if ((bits & O_APPEND) !== 0) {
    return 'it appends: only the kernel knows where the file ends when bytes arrive, so they go through the page cache';
  }
  if ((bits & ~OURS) !== 0) return 'its flags have more bits than this package’s own I/O knows';
  const cannot = role === 'reader' ? access === O_WRONLY : access === O_RDONLY;
  if (role !== 'both' && cannot) return `its flags do not let a ${role} do its work`;
  if (access === O_RDONLY && (bits & (O_CREAT | O_EXCL | O_TRUNC)) !== 0) {
    return 'its flags create or empty a file that they open only for reading';
  }
  return null;
}
