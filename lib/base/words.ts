/** Formats numbers and lists for every text of this package, and reads sizes. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `268435456` → `256 MiB`. */
export function size(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Number.isInteger(value) ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A size as a person wrote it. */
export interface ReadSize {
  readonly bytes: number;
  /** For KB, MB, …, which are powers of 1000 to some people: what it would be then, and the unit that is not ambiguous. */
  readonly ambiguous: { readonly decimal: number; readonly clear: string } | null;
}

/** `'4096'`, `'64k'`, `'1 MiB'`: bytes, or units of powers of 1024. Null: it is not a size. */
export function readSize(text: string): ReadSize | null {
  const match = /^(\d+)\s*(?:([kmgt])(i?b)?|b)?$/i.exec(text.trim());
  if (match === null) return null;
  const [, digits, unit = '', suffix] = match;
  const power = UNITS.indexOf(unit === '' ? 'B' : `${unit.toUpperCase()}iB`);
  const ambiguous =
    suffix?.toLowerCase() === 'b'
      ? { decimal: Number(digits) * 1000 ** power, clear: `${digits}${UNITS[power]}` }
      : null;
  return { bytes: Number(digits) * 1024 ** power, ambiguous };
}

/** Hexadecimal digits, without `0x`: `hex(255, 4)` is `00ff`. */
export function hex(value: number | bigint, digits = 0): string {
  return value.toString(16).padStart(digits, '0');
}

/** A hexadecimal number with its prefix: `hexNumber(255, 4)` is `0x00ff`. */
export function hexNumber(value: number | bigint, digits = 0): string {
  return `0x${hex(value, digits)}`;
}

/** `a`, `a and b`, `a, b and c`, `a, b, c and 4 more`. */
export function list(names: readonly string[], most = 8): string {
  if (names.length > most)
    return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
  if (names.length < 2) return names.join('');
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
