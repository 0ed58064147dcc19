/**
 * Errors of the public functions for an argument that they do not accept, with Node's codes. A message names the function, the
 * argument, what it must be, and what was received instead.
 */
import { builtin } from './builtin.js';
import { type ErrorCode, P2pdmaError, type P2pdmaErrorOptions } from './errors.js';
import { type Sentence, said } from './sentence.js';

const SHOWN = 60;

/** A value as it is quoted in a message, in one line: an error without its stack, long lists without their columns. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  const { inspect } = builtin('node:util');
  const whole =
    value instanceof Error
      ? String(value)
      : inspect(value, { depth: 0, breakLength: Number.POSITIVE_INFINITY, compact: true });
  const text = whole.replaceAll(/\s*\n\s*/g, ' ');
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}

/** `explain: clients must be an array of names (received 'nvme0n1')` */
export function wrongArgument(call: string, name: string, mustBe: string, value: unknown): P2pdmaError {
  return new P2pdmaError(
    'ERR_INVALID_ARG_TYPE',
    `${call}: ${name} must be ${mustBe} (received ${shown(value)})`,
    { received: value, demand: mustBe },
  );
}

/** `option queueDepth: must be 1 or more (received 0)`, with the same facts as properties. */
export function wrongOption(
  option: string,
  { code, demand, received, hint }: { code: ErrorCode; demand: string; received: unknown; hint?: Sentence },
): P2pdmaError {
  const what = `must be ${demand} (received ${shown(received)})`;
  return optionError(code, option, what, { demand, received, hint });
}

/** `option start: 4096 is beyond the end of 'a' (512 bytes)` */
export function optionError(
  code: ErrorCode,
  option: string,
  what: Sentence,
  facts: P2pdmaErrorOptions = {},
): P2pdmaError {
  return new P2pdmaError(code, (name) => `option ${name(option)}: ${said(what, name)}`, { option, ...facts });
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE */
export function assertName(call: string, name: string, value: unknown, mustBe = 'a string'): void {
  if (typeof value !== 'string') throw wrongArgument(call, name, mustBe, value);
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE */
export function assertObject(call: string, name: string, value: unknown, mustBe = 'an object'): void {
  if (typeof value !== 'object' || value === null) throw wrongArgument(call, name, mustBe, value);
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE */
export function assertEach(
  call: string,
  name: string,
  value: unknown,
  { mustBe, fits }: { readonly mustBe: string; readonly fits: (one: unknown) => boolean },
): void {
  if (!Array.isArray(value)) throw wrongArgument(call, name, `an array of ${mustBe}`, value);
  const wrong = value.findIndex((one) => !fits(one));
  if (wrong >= 0) throw wrongArgument(call, `${name}[${wrong}]`, `one of ${mustBe}`, value[wrong]);
}

/** @throws P2pdmaError ERR_INVALID_ARG_TYPE (not a number), ERR_OUT_OF_RANGE (out of range, or not an integer) */
export function assertWhole(call: string, name: string, value: unknown, ...range: WholeRange): void {
  const wrong = wrongWhole(call, name, value, ...range);
  if (wrong !== null) throw wrong;
}

type WholeRange = readonly [least: number, most?: number];

/** Same as `assertWhole`, for callers that reject with the error. */
export function wrongWhole(
  call: string,
  name: string,
  value: unknown,
  ...[least, most = Number.MAX_SAFE_INTEGER]: WholeRange
): P2pdmaError | null {
  if (typeof value !== 'number') return wrongArgument(call, name, 'a number', value);
  if (Number.isSafeInteger(value) && value >= least && value <= most) return null;
  const range = most === Number.MAX_SAFE_INTEGER ? `>= ${least}` : `from ${least} to ${most}`;
  return new P2pdmaError(
    'ERR_OUT_OF_RANGE',
    `${call}: ${name} must be a whole number ${range} (received ${value})`,
    { received: value, demand: `a whole number ${range}` },
  );
}
